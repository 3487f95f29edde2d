"""What an index of a million videos costs to grow, to open and to search, and whether segments answer as one.

    OMP_NUM_THREADS=1 python benchmarks/index.py [--videos 1000000] [--dim 64] [--index-type exact]

Made vectors of length 1 around 1,000 centres, one a video. Adding is what ``ssl-video index`` does but for the
extraction: files are looked up, vectors standardised and written. Bytes are those that the system counts as written by
the process, seconds those of the processor; of opening, the least of five. Ten times as many videos are the same
segments under ten names.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ssl_video.apps import index_segments
from ssl_video.apps.index_build import Extracted, change, write_index
from ssl_video.apps.index_compact import compact
from ssl_video.apps.index_folder import commit, open_index
from ssl_video.apps.index_rows import Entry
from ssl_video.apps.index_segments import Block
from ssl_video.apps.index_stored import Described, Stored
from ssl_video.apps.index_todo import todo_of
from ssl_video.apps.options import SearchOptions
from ssl_video.apps.picking import find
from ssl_video.apps.queries import Query
from ssl_video.datasets.base import Video, VideoList
from ssl_video.eval.features import Features
from ssl_video.eval.knn import unit
from ssl_video.video.info import VideoInfo
from ssl_video.video.view import View

BLOCK = 8192
QUERIES, CLIPS = 20, 8
INFO = VideoInfo(64, 25.0, 64, 64, 2.56, "h264", content="f" * 16)


def made(rows: int, dim: int, seed: int) -> np.ndarray:
    """(rows, dim) of length 1."""
    centres_CD = np.random.default_rng(0).standard_normal((1000, dim), np.float32)
    rng = np.random.default_rng(seed)
    return unit(centres_CD[rng.integers(1000, size=rows)] + 0.5 * rng.standard_normal((rows, dim), np.float32))


def blocks(videos: int, dim: int) -> Iterator[Block]:
    """Videos that there are not, each with its own vector."""
    for first in range(0, videos, BLOCK):
        numbers = range(first, min(first + BLOCK, videos))
        entries = [Entry(f"/videos/{n // 1000}/{n}.mp4", n, n, 0, ((0.0, 2.56),), f"{n:016x}") for n in numbers]
        yield entries, made(len(numbers), dim, first + 1)


def build(folder: Path, videos: int, dim: int, index_type: str) -> Stored:
    """An index in segments of the size that is set."""
    folder.mkdir()
    about = Described("random:made", "0" * 16, "rich", 1, index_type, 0, dim, [0.0] * dim, [1.0] * dim)
    write_index(folder, about, blocks(videos, dim))
    return open_index(folder)


def count(name: str) -> int:
    """Bytes that this process has read (rchar) or written (wchar)."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def adding(index: Path, videos: Path, dim: int, number: int) -> bool:
    """Print what it costs to add so many videos."""
    videos.mkdir()
    for n in range(number):
        (videos / f"{n}.mp4").touch()
    vectors_ND = made(number, dim, 7)
    listed = [Video(str(videos / f"{n}.mp4"), info=INFO) for n in range(number)]
    clips = Features(listed, list(vectors_ND[:, None]), [np.array([0])] * number, [])
    model: Any = SimpleNamespace(view=View(16, 4, 64, 64))
    written, read, since = count("wchar"), count("rchar"), time.process_time()
    stored = open_index(index)
    todo = todo_of(VideoList("new", tuple(listed)), stored, [])
    assert len(todo.videos) == number
    change(stored, Extracted(model, clips, todo.states), set(), {})
    used, written, read = time.process_time() - since, count("wchar") - written, count("rchar") - read
    times = written / vectors_ND.nbytes
    print(
        f"adding {number:,} videos to {len(stored.entries):,}: {used:.2f} s of the processor, {written / 1e6:.2f} MB "
        f"written ({times:.2f} times their vectors), {read / 1e6:.2f} MB read"
    )
    return used <= 5 and times <= 2


def removing(index: Path, number: int) -> None:
    """Print what it costs to remove so many videos."""
    stored = open_index(index)
    none = Extracted(None, Features([], [], [], []), {})
    written, since = count("wchar"), time.process_time()
    change(stored, none, set(range(0, 10 * number, 10)), {})
    used, written = time.process_time() - since, count("wchar") - written
    print(f"removing {number:,} videos: {used:.2f} s, {written / 1e6:.2f} MB written")


def opening(index: Path, folder: Path) -> bool:
    """Print how long it takes to open the index, and ten times as many videos."""
    stored = open_index(index)
    folder.mkdir()
    notes = []
    for _ in range(10):
        for note in stored.header.segments:
            name = f"segment-{len(notes) + 1}"
            (folder / name).symlink_to(index / note.name)
            notes.append(replace(note, name=name))
    commit(folder, stored.header, notes, np.zeros(0, bool), "")
    good = True
    for where in (index, folder):
        took = []
        for _ in range(5):
            read, since = count("rchar"), time.process_time()
            opened = open_index(where)
            took.append(time.process_time() - since)
            read = count("rchar") - read
        rows, segments = opened.header.rows, len(opened.segments)
        print(f"opening {rows:,} rows in {segments} segments: {min(took):.4f} s, {read / 1e6:.2f} MB read")
        good &= min(took) < 0.1
    return good


def same(one: Stored, many: Stored, dim: int) -> bool:
    """Print whether both answer alike, and how long an answer takes."""
    alike, costs = True, []
    for n in range(QUERIES):
        queries_QD = made(CLIPS, dim, 10**6 + n)
        for options in (SearchOptions(10), SearchOptions(10, moments=True)):
            found = []
            for stored in (one, many):
                since = time.process_time()
                found.append(find(stored, queries_QD, Query(Video("/q.mp4", info=INFO)), options))
                costs.append(time.process_time() - since)
            alike &= found[0] == found[1]
    ms = 1e3 * np.median(costs)
    print(
        f"{len(costs) // 2} queries of {CLIPS} clips: {len(one.segments)} segment and {len(many.segments)} give "
        f"{'the same' if alike else 'other'} videos, moments and scores to the last bit ({ms:.0f} ms each)"
    )
    return alike


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--index-type", default="exact")
    a = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        since = time.process_time()
        one = build(folder / "one", a.videos, a.dim, a.index_type)
        print(f"{a.videos:,} videos of {a.dim} numbers, {a.index_type}: built in {time.process_time() - since:.0f} s")
        index_segments.MOST = a.videos // 7
        many = build(folder / "many", a.videos, a.dim, a.index_type)
        index_segments.MOST = 1_000_000
        good &= same(one, many, a.dim) or a.index_type != "exact"
        good &= opening(folder / "one", folder / "ten")
        good &= adding(folder / "one", folder / "videos", a.dim, a.videos // 100)
        removing(folder / "one", a.videos // 100)
        since = time.process_time()
        done = compact(open_index(folder / "many"))
        print(f"merging {done.before} segments into {done.after}: {time.process_time() - since:.1f} s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
