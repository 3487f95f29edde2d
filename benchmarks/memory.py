"""How much memory do commands take on large and long videos? Prints a table of the largest process of each.

    OMP_NUM_THREADS=1 python benchmarks/memory.py [--folder FOLDER] [--minutes 10] [--hour 60] [NAME ...]

The videos are drawn into the folder (a temporary one unless told), and kept there. A row says the peak of the resident
memory of one process, Python, torch and shared pages included (VmHWM of /proc): Linux only.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from ssl_video.video.writer import Encoding, write_video

FAST = Encoding({"preset": "ultrafast", "crf": "30"}, gop=50)
FPS = 25
NETWORK = "random:r2plus1d_4?width=2"
TRAINING = "--steps 2 --batch-size 2 --held-out 0 --cache none --device cpu"
LINES = {
    "4k": f"index --data 4k --model {NETWORK} --workers 1 --out OUT",
    "4k training": f"pretrain --data 4k {TRAINING} --workers 1 --out OUT",
    "minutes": f"index --data minutes --model {NETWORK} --clips 0 --workers 1 --out OUT",
    "hour": f"align short/short.mp4 hour/hour.mp4 --model {NETWORK} --out OUT-aligned.mp4",
}
"""Name -> a line of ``ssl-video``."""


def frames(width: int, height: int, count: int) -> Iterator[np.ndarray]:
    """A square that moves over noise, (H, W, 3) uint8."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    still = np.kron(noise, np.ones((8, 8, 1), np.uint8))
    side = height // 4
    for number in range(count):
        frame = still.copy()
        left = (number * 7) % (width - side)
        frame[side : 2 * side, left : left + side] = 255
        yield frame


def draw(folder: Path, minutes: float, hour: float) -> None:
    """Write the videos that are not there yet."""
    sizes = {
        "4k": (3840, 2160, 7 * FPS),
        "minutes": (1920, 1080, round(minutes * 60 * FPS)),
        "short": (320, 240, 10 * FPS),
        "hour": (320, 240, round(hour * 60 * FPS)),
    }
    for name, (width, height, count) in sizes.items():
        path = folder / name / f"{name}.mp4"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, frames(width, height, count), FPS, FAST)


def peaks(line: str, folder: Path) -> tuple[int, dict[int, int]]:
    """The exit code of a line, and the peak of each of its processes in bytes, by its number."""
    words = [sys.executable, "-m", "ssl_video", *line.split()]
    found: dict[int, int] = {}
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
        while process.poll() is None:
            for number in family(process.pid):
                with suppress(OSError, ValueError, StopIteration):
                    status = Path(f"/proc/{number}/status").read_text().splitlines()
                    found[number] = int(next(x for x in status if x.startswith("VmHWM")).split()[1]) * 1024
            time.sleep(0.05)
    return process.returncode, found


def family(number: int) -> Iterator[int]:
    """A process and all those that it started, or these."""
    yield number
    for children in Path(f"/proc/{number}/task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                yield from family(int(child))


def main() -> None:
    """Draw, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"some of: {', '.join(LINES)}")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--hour", type=float, default=60, help="minutes of the video that is aligned")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (a.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        draw(folder, a.minutes, a.hour)
        print("| command | largest process, MB | all that lived, MB | s |\n|---|---|---|---|")
        for name, line in LINES.items():
            if a.names and name not in a.names:
                continue
            since = time.perf_counter()
            out = folder / "out" / name.replace(" ", "-")
            out.parent.mkdir(exist_ok=True)
            code, found = peaks(line.replace("OUT", str(out)), folder)
            sizes = sorted((size >> 20 for size in found.values()), reverse=True)
            said = f"`{line}`" if code == 0 else f"`{line}` FAILED ({code}, see log.txt)"
            print(f"| {said} | {sizes[0]} | {', '.join(map(str, sizes))} | {time.perf_counter() - since:.0f} |")


if __name__ == "__main__":
    main()
