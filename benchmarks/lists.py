"""What does a large list of videos cost? Processor time and memory, from a list to the first step of a training.

    OMP_NUM_THREADS=1 python benchmarks/lists.py [--folder FOLDER] [--rows 1000000] [--huge 20000000] [PART ...]

``training``: a training of 1,000 videos beside one of as many as --rows whose list becomes columns, and has become them
before. Processor time is that of all processes up to the first record, the least of two trainings; memory is the peak
of what the main process shares with no other and no file holds (Private_Dirty of /proc/PID/smaps_rollup): Linux only.
``workers``: the same memory of the processes that read, of trainings of 20,000 and of --rows videos.
``huge``: seconds to open --huge videos, to make one, and to find the order of a training at step 10,000,000.

The lists name a few drawn videos again and again, each row with facts and a content of its own. Ends with 1 if a bound
is missed: 15 s and 150 MB above the training of 1,000; a worker's memory the same to 4 MB; 0.1 s and 3 s.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssl_video.datasets.base import PATHS, VideoList, VideoRows
from ssl_video.datasets.columns import Column, ColumnsWriter, open_columns
from ssl_video.datasets.drawing.config import SyntheticConfig
from ssl_video.datasets.manifest import write_manifest
from ssl_video.datasets.spec import one_video
from ssl_video.datasets.synthetic import synthesize
from ssl_video.train.data import BatchKeys

FEW, SOME, TIMES = 1000, 20_000, 2
PAGE_S, TICKS = 0.05, os.sysconf("SC_CLK_TCK")
LINE = "pretrain --data LIST --out OUT --steps 100000 --batch-size 8 --workers 2 --device cpu --log-every 1"
SMALL = " --pretext clip_order --monitor-every 100000"


@dataclass
class Cost:
    """Processor seconds of all processes, and MB that are private: of the first, and on average of its workers."""

    cpu_s: float = 0.0
    peak_mb: float = 0.0
    worker_mb: float = 0.0


def drawn(folder: Path) -> list[dict[str, Any]]:
    """Rows of a few videos."""
    manifest = synthesize(folder / "videos", SyntheticConfig(train=8, test=0, size=64, frames=64))
    videos = [one_video(path) for path in sorted(manifest.parent.rglob("*.mp4"))]
    return [{"path": v.path, "label": f"class {n % 4}", **asdict(v.info)} for n, v in enumerate(videos)]


def listed(folder: Path, rows: int) -> Path:
    """A manifest of so many rows."""
    path = folder / f"{rows}.csv"
    if not path.exists():
        few = drawn(folder)

        def all_rows() -> Iterator[dict[str, Any]]:
            for n in range(rows):
                yield few[n % len(few)] | {"content": hashlib.md5(str(n).encode()).hexdigest()[:16]}

        write_manifest(path, all_rows())
    return path


def trained(folder: Path, rows: int) -> Cost:
    """What a training has cost when its first record is written; then it is ended."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        words = LINE.replace("LIST", str(listed(folder, rows))).replace("OUT", f"{out}/run") + SMALL
        environment = os.environ | {"SSL_VIDEO_CACHE": str(folder / "cache")}
        command = [sys.executable, "-m", "ssl_video", *words.split()]
        with (folder / "log.txt").open("w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        cost, record = Cost(), Path(out) / "run" / "metrics.jsonl"
        try:
            while process.poll() is None and not (record.is_file() and record.stat().st_size):
                cost.peak_mb = max(cost.peak_mb, private_mb(process.pid))
                time.sleep(PAGE_S)
            if process.poll() is not None:
                raise SystemExit((folder / "log.txt").read_text())
            workers = children(process.pid)
            cost.cpu_s = sum(map(cpu_s, [process.pid, *workers]))
            cost.worker_mb = float(np.mean([private_mb(worker) for worker in workers]))
        finally:
            process.kill()
            process.wait()
    return cost


def private_mb(pid: int) -> float:
    """Of a process, the memory that is its own; 0 if it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_Dirty"):
                return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid: int) -> float:
    """Of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def children(pid: int) -> list[int]:
    """Processes that it has started and that live."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def training(folder: Path, rows: int) -> bool:
    """Print what the first steps cost."""
    print(f"{'rows':>12} {'list':<18} {'CPU s':>8} {'above':>8} {'MB':>8} {'above':>8}")
    base, good = None, True
    for count in (FEW, rows):
        for said in ("becomes columns", "has become columns") if count >= SOME else ("in memory",):
            costs = []
            for _ in range(TIMES):
                if said == "becomes columns":
                    shutil.rmtree(folder / "cache" / "lists", ignore_errors=True)
                costs.append(trained(folder, count))
            cost = Cost(min(c.cpu_s for c in costs), max(c.peak_mb for c in costs))
            base = base or cost
            more_s, more_mb = cost.cpu_s - base.cpu_s, cost.peak_mb - base.peak_mb
            good &= more_s <= 15 and more_mb <= 150
            columns = sum(p.stat().st_size for p in (folder / "cache" / "lists").rglob("*.npy")) if count >= SOME else 0
            print(f"{count:>12} {said:<18} {cost.cpu_s:>8.1f} {more_s:>8.1f} {cost.peak_mb:>8.0f} {more_mb:>8.0f}")
            if columns:
                print(f"{'':>12} {columns / count:.0f} bytes a video in columns")
    return good


def workers(folder: Path, rows: int) -> bool:
    """Print the memory of the processes that read."""
    found = {count: trained(folder, count).worker_mb for count in (SOME, rows)}
    for count, mb in found.items():
        print(f"{count:>12} a worker's memory: {mb:.1f} MB")
    return abs(found[rows] - found[SOME]) <= 4


def huge(folder: Path, rows: int) -> bool:
    """Print how long a list takes that is too large for a csv here."""
    where = folder / f"{rows}-columns"
    if not where.exists():
        write_huge(where, rows)
    since = time.perf_counter()
    videos = VideoList("huge", VideoRows(open_columns(where)))
    opened = time.perf_counter() - since
    video = videos.videos[rows // 3]
    made = time.perf_counter() - since - opened
    since = time.perf_counter()
    keys = next(iter(BatchKeys(len(videos.videos), 1, 32, seed=0, start=10_000_000)))
    ordered = time.perf_counter() - since
    print(f"{rows:>12} rows opened in {opened:.3f} s, one video of it in {made:.4f} s ({video.path})")
    print(f"{'':>12} order at step 10,000,000 in {ordered:.3f} s (the first key: {keys[0]})")
    return opened <= 0.1 and ordered <= 3


def write_huge(where: Path, rows: int) -> None:
    """Columns of a scanned list, each path and each content another one."""
    with ColumnsWriter(where) as writer:
        for first in range(0, rows, 1 << 18):
            number = np.arange(first, min(first + (1 << 18), rows))
            digits = (number[:, None] // 10 ** np.arange(7, -1, -1) % 10 + ord("0")).astype(np.uint8)
            name = np.concatenate([digits, np.tile(np.frombuffer(b".mp4", np.uint8), (len(number), 1))], 1)
            block = {"path": _equal(name), "content": _equal(np.tile(digits, 2)), "codec": _equal(name[:, -3:])}
            block |= {n: Column(np.full(len(number), 64)) for n in ("frames", "width", "height")}
            block |= {n: Column(np.full(len(number), 25.0)) for n in ("fps", "duration_s")}
            block["labels"] = _equal(number[:, None] % 400)
            writer.add(len(number), {**block, "scanned": Column(np.ones(len(number), np.uint8))})
        writer.close({"folder": "/videos", "paths": PATHS})


def _equal(values_NK: np.ndarray) -> Column:
    """A column of rows of one length."""
    return Column(values_NK.ravel(), np.arange(1, len(values_NK) + 1) * values_NK.shape[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["training", "workers", "huge", []], help="all, if none is named")
    parser.add_argument("--folder", type=Path, help="where lists are kept; by default a temporary folder")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--huge", type=int, default=20_000_000)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (a.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        parts = {"training": (training, a.rows), "workers": (workers, a.rows), "huge": (huge, a.huge)}
        good = [function(folder, rows) for n, (function, rows) in parts.items() if n in (a.parts or parts)]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
