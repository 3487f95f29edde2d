"""What do shards cost beside files? Processor time of the same clips, read from both.

    OMP_NUM_THREADS=1 python benchmarks/shards.py [--data SPEC] [--rounds 15] [--clips 200]

Clips of 16 frames at random places, of the videos themselves and of their h264 copies (short side 128), from files and
from the shards that 'data pack' makes of them, in turn; the frames are compared first. A round is the quotient of two
processor times; the median of the rounds is printed. Ends with 1 if a shard costs more than 1.05 times its files.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssl_video.datasets.base import Video
from ssl_video.datasets.drawing.config import SyntheticConfig
from ssl_video.datasets.pack import pack_videos
from ssl_video.datasets.prepare import copy_videos
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.datasets.synthetic import synthesize
from ssl_video.train.data import read_video

FRAMES, BOUND = 16, 1.05


def videos_of(spec: str) -> Sequence[Video]:
    return [v for v in scanned(load_splits(spec).train).videos if v.frames >= FRAMES]


def clips(videos: Sequence[Video], count: int) -> list[tuple[int, list[int]]]:
    """(video, frames) of random clips."""
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(videos), size=count).tolist()
    starts = [int(rng.integers(videos[n].frames - FRAMES + 1)) for n in chosen]
    return [(n, list(range(start, start + FRAMES))) for n, start in zip(chosen, starts, strict=True)]


def cpu_s(videos: Sequence[Video], wanted: list[tuple[int, list[int]]]) -> float:
    start = time.process_time()
    for number, frames in wanted:
        read_video(videos[number], frames)
    return time.process_time() - start


def compare(name: str, files: str, shards: str, rounds: int, count: int) -> float:
    one, other = videos_of(files), videos_of(shards)
    wanted = clips(one, count)
    for number, frames in wanted[:20]:
        assert np.array_equal(read_video(one[number], frames), read_video(other[number], frames))
    quotients, ms = [], []
    for n in range(rounds + 1):
        order = (one, other) if n % 2 else (other, one)
        times = {id(videos): cpu_s(videos, wanted) for videos in order}
        if n:  # the first warms up
            quotients.append(times[id(other)] / times[id(one)])
            ms.append(1000 * times[id(one)] / count)
    found = statistics.median(quotients)
    spread = f"{min(quotients):.3f} to {max(quotients):.3f}"
    print(f"{name}: {statistics.median(ms):.2f} ms a clip from files, from shards {found:.3f} times that ({spread})")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="by default videos are drawn")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clips", type=int, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        os.environ["SSL_VIDEO_CACHE"] = str(folder / "cache")
        drawn = SyntheticConfig(train=16, test=0, size=128, frames=128)
        data = args.data or str(synthesize(folder / "videos", drawn, workers=1))
        copies = copy_videos(data, folder / "copies", workers=1)
        found = []
        for name, spec in (("videos", data), ("copies", str(copies.manifest))):
            pack_videos(spec, folder / f"{name}-shards", workers=1)
            found.append(compare(name, spec, str(folder / f"{name}-shards"), args.rounds, args.clips))
    return int(max(found) > BOUND)


if __name__ == "__main__":
    sys.exit(main())
