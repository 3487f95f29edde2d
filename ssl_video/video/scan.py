"""Finding out what is in a video file, by decoding it once from end to end.

FFmpeg can crash or hang on a hostile file, so ``scan`` works in child processes with a time limit; a child that dies
or is late is one bad file. What was found is kept in the user's cache folder, so that an interrupted scan resumes where
it was, and training can scan on the fly.

``python -m ssl_video.video.scan`` is the child: a path a line on stdin, a JSON reply a line on stdout.
"""

import contextlib
import json
import os
import select
import sqlite3
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from av.video.frame import VideoFrame

from ssl_video.files import cache_dir
from ssl_video.progress import Bar, bar
from ssl_video.video.content import content_of
from ssl_video.video.info import Problem, VideoInfo
from ssl_video.video.pictures import scan_folder
from ssl_video.video.rate import true_rate
from ssl_video.video.reader import QUICK, Misfit, VideoError, by_time, decoded, opened

R = TypeVar("R")

VERSION = 4
"""Raised when what a scan finds changes, so that what older versions kept is not used."""

CHILD = (sys.executable, "-m", "ssl_video.video.scan")
PLACES_CHECKED = 12
"""Places of a file where seeking is compared with counting."""


def scan_one(path: str) -> VideoInfo:
    """Decode a file from end to end, in this process. Raises VideoError with the reason if it cannot be used."""
    info = scan_folder(path) if Path(path).is_dir() else _scan_file(path)
    return replace(info, content=content_of(path))


def _scan_file(path: str) -> VideoInfo:
    try:
        info, times, checksums = _survey(path, {"err_detect": "explode"})
        whole = True
    except VideoError:  # damage; what can be decoded around it is counted, and only counting numbers it
        info, times, checksums = _survey(path, {})
        whole = False
    if whole and info.frames > 2 * PLACES_CHECKED and (line := _line(times)):
        seekable = replace(info, pts_start=line[0], pts_step=line[1])
        if _seeking_is_exact(path, seekable, checksums):
            return seekable
    return info


def _survey(path: str, options: dict[str, str]) -> tuple[VideoInfo, list[int | None], list[int]]:
    """Facts, times and checksums of all frames; no times at all where frames are more than their packets say."""
    times: list[int | None] = []
    checksums: list[int] = []
    size, plain = (0, 0), True
    strict = bool(options)
    with opened(path, options) as (container, stream):
        for frame in decoded(container, stream, strict):
            if not times:
                size = (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)
            # two fields may come in two packets, and then a packet is not a frame
            plain = plain and not frame.interlaced_frame and not frame.is_corrupt
            times.append(frame.pts)
            checksums.append(_checksum(frame))
        if not times:
            raise VideoError("it has no frame that decodes")
        stated = stream.average_rate or stream.guessed_rate
        fps = float(true_rate(times, stream.time_base, Fraction(stated) if stated else None))
        codec = stream.codec_context.name
    info = VideoInfo(len(times), fps, *size, round(len(times) / fps, 6), codec)
    return info, times if plain else [], checksums


def _checksum(frame: VideoFrame) -> int:
    """Of the first plane without the padding of its rows, which is never written."""
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)  # pyright: ignore
    return zlib.crc32(rows[:, : frame.width].tobytes())


def _line(times: Sequence[int | None]) -> tuple[int, float] | None:
    """(start, step) if the time of frame n is nearer to start + n * step than 0.4 steps, for every n."""
    known = np.array([t for t in times if t is not None], np.float64)
    if not 1 < len(known) == len(times):
        return None
    step = (known[-1] - known[0]) / (len(known) - 1)
    off = np.abs(known - known[0] - step * np.arange(len(known))).max()
    return (int(known[0]), float(step)) if step > 0 and off < 0.4 * step else None


def _seeking_is_exact(path: str, info: VideoInfo, checksums: Sequence[int]) -> bool:
    """Compare frames reached by seeking with those of the decode from the start: after key frames, and between."""
    places = {round(n) for n in np.linspace(0, info.frames - 1, 4)}
    keys = _key_frames(path, info) or [round(n) for n in np.linspace(0, info.frames - 1, PLACES_CHECKED)]
    places |= set(keys[:: -(-len(keys) // PLACES_CHECKED)])
    for place in sorted(places):
        wanted = [n for n in (place, place + 1, place + 4, place + 5, place + 11) if n < info.frames]
        try:
            with opened(path, QUICK) as (container, stream):
                found = [_checksum(frame) for _, frame in by_time(container, stream, wanted, info)]
        except (Misfit, VideoError):
            return False
        if found != [checksums[n] for n in wanted]:
            return False
    return True


def _key_frames(path: str, info: VideoInfo) -> list[int]:
    """Numbers of the frames where decoding can start, as far as the index of the container tells."""
    with opened(path) as (container, stream):
        container.seek(info.pts_start, stream=stream)  # Matroska reads its index when it seeks
        entries = list(stream.index_entries)
    if len(entries) == info.frames:  # one entry a frame, in the order of decoding; before a key frame the orders agree
        return [number for number, entry in enumerate(entries) if entry.is_keyframe]
    numbers = (round((e.timestamp - info.pts_start) / info.pts_step) for e in entries if e.is_keyframe)
    return [n for n in numbers if 0 <= n < info.frames]


def scan(
    paths: Iterable[str], workers: int | None = None, time_limit_s: float = 60.0, progress: bool = False
) -> Iterator[tuple[str, VideoInfo | Problem]]:
    """Scan files in child processes; results come in the order of ``paths``.

    Args:
        paths: the files.
        workers: children at work at a time; by default one a core.
        time_limit_s: for one file, plus one second a megabyte.
        progress: show a bar, on a terminal.
    """
    paths = list(paths)
    memory = _Memory()
    known = {path: found for path in paths if (found := memory.get(path)) is not None}
    workers = max(1, min(len(os.sched_getaffinity(0)) if workers is None else workers, len(paths) - len(known)))
    children = Children(CHILD, time_limit_s)
    with ThreadPoolExecutor(workers) as pool, Bar("scan", len(paths), "file", progress) as done:
        pending = {path: pool.submit(_scanned, children, path) for path in paths if path not in known}
        try:
            for path in paths:
                if path in known:
                    found = known[path]
                else:
                    found = pending[path].result()
                    memory.put(path, found)
                done.update()
                yield path, found
        finally:
            for future in pending.values():
                future.cancel()
            children.end()
            memory.close()


def _scanned(children: "Children", path: str) -> VideoInfo | Problem:
    found = children.request(path, path)
    return found if isinstance(found, Problem) else VideoInfo(**found)


class Children:
    """Child processes that work on files, one a thread, started when needed and replaced when they die or are late."""

    def __init__(self, command: Sequence[str], time_limit_s: float):
        self.command = command
        self.time_limit_s = time_limit_s
        self.local = threading.local()
        self.alive: list[subprocess.Popen[str]] = []

    def request(self, path: str, request: Any) -> dict[str, Any] | Problem:
        """The reply of this thread's child to a request about the file ``path``."""
        try:
            size = Path(path).stat().st_size
        except OSError as error:
            return Problem(path, error.strerror or "it cannot be opened")
        if size == 0:
            return Problem(path, "it is empty")
        limit = self.time_limit_s + size / 1e6
        child = self._child()
        try:
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write(json.dumps(request) + "\n")
            child.stdin.flush()
            ready, _, _ = select.select([child.stdout], [], [], limit)
            reply = child.stdout.readline() if ready else None
        except (BrokenPipeError, ValueError):
            reply = ""
        if reply is None:
            self._bury(child)
            return Problem(path, f"decoding it took longer than {limit:.0f} s")
        if not reply.endswith("\n"):
            code = self._bury(child)
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            return Problem(path, f"the decoder crashed on it ({how})")
        found = json.loads(reply)
        return Problem(path, found["reason"]) if "reason" in found else found

    def work(
        self, do: Callable[[Any], R], things: Sequence[Any], *, workers: int | None, what: str, progress: bool
    ) -> Iterator[R]:
        """``do``, which may ``request``, on every thing, by ``workers`` threads (one a core); the children end with it.

        Results come in order; ``progress`` shows a bar that says ``what``, on a terminal.
        """
        workers = max(1, min(len(os.sched_getaffinity(0)) if workers is None else workers, len(things)))
        try:
            with ThreadPoolExecutor(workers) as pool:
                yield from bar(pool.map(do, things), what, "file", progress, len(things))
        finally:
            self.end()

    def _child(self) -> subprocess.Popen[str]:
        child = getattr(self.local, "child", None)
        if child is None or child.poll() is not None:
            child = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            self.local.child = child
            self.alive.append(child)
        return child

    def _bury(self, child: subprocess.Popen[str]) -> int:
        self.local.child = None
        self.alive.remove(child)
        dead = child.poll()
        child.kill()
        code = child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError, ValueError):
                    pipe.close()
        return code if dead is None else dead

    def end(self) -> None:
        """End all children."""
        for child in list(self.alive):
            self._bury(child)


class _Memory:
    """What earlier scans found, by path, size and time of change; only in memory where the cache cannot be written."""

    def __init__(self) -> None:
        try:
            cache_dir().mkdir(parents=True, exist_ok=True)
            self.base = sqlite3.connect(cache_dir() / "probes.sqlite", timeout=30)
            self.base.execute("PRAGMA synchronous = OFF")  # losing the last entries costs a second look, no more
            self._create()
        except (sqlite3.Error, OSError):
            self.base = sqlite3.connect(":memory:")
            self._create()

    def _create(self) -> None:
        self.base.execute("CREATE TABLE IF NOT EXISTS probes (path BLOB PRIMARY KEY, state TEXT, found TEXT)")

    def get(self, path: str) -> VideoInfo | Problem | None:
        """What is known of the file as it is now."""
        row = self.base.execute("SELECT state, found FROM probes WHERE path = ?", (_key(path),)).fetchone()
        if row is None or row[0] != _state(path):
            return None
        found = json.loads(row[1])
        return Problem(path, found["reason"]) if "reason" in found else VideoInfo(**found)

    def put(self, path: str, found: VideoInfo | Problem) -> None:
        """Keep it. A time-out is not kept: the machine may have been busy."""
        if (state := _state(path)) is None or (isinstance(found, Problem) and "took longer" in found.reason):
            return
        entry = {"reason": found.reason} if isinstance(found, Problem) else asdict(found)
        try:
            with self.base:
                row = (_key(path), state, json.dumps(entry))
                self.base.execute("INSERT OR REPLACE INTO probes VALUES (?, ?, ?)", row)
        except sqlite3.Error:
            return  # a full disk or a locked base: this scan still has its answer

    def close(self) -> None:
        self.base.close()


def _key(path: str) -> bytes:
    """The bytes of the name, since not every name is text that a database takes."""
    return os.fsencode(os.path.abspath(path))  # noqa: PTH100  (a link is a file of its own here)


def _state(path: str) -> str | None:
    try:
        stat = Path(path).stat()
    except OSError:
        return None
    return f"{VERSION}|{stat.st_size}|{stat.st_mtime_ns}"


def answer_requests(reply: Callable[[Any], dict[str, Any]]) -> None:
    """What a child does: a JSON request a line on stdin, a JSON reply, or the reason for none, a line on stdout."""
    for line in sys.stdin:
        try:
            found = reply(json.loads(line))
        except VideoError as error:
            found = {"reason": str(error)}
        except Exception as error:  # whatever a hostile file brings about is a reason, too
            found = {"reason": f"it cannot be decoded ({type(error).__name__}: {' '.join(str(error).split())[:200]})"}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    answer_requests(lambda path: asdict(scan_one(path)))
