"""Finding out what is in a video file, by decoding it once from end to end.

FFmpeg can crash or hang on a hostile file, so ``scan`` works in child processes (``children``); one that dies or hangs
is one bad file. What was found is kept in the user's cache folder (``known``), so that an interrupted scan resumes
where it was, and training can scan on the fly.

``python -m ssl_video.video.scan`` is the child: a path a line on stdin, a JSON reply a line on stdout.
"""

import sys
import zlib
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from ssl_video import processes
from ssl_video.progress import Bar
from ssl_video.remote import is_remote
from ssl_video.video.children import Children, answer_requests
from ssl_video.video.content import content_of, state_of
from ssl_video.video.info import FileChanged, Problem, VideoInfo, behind
from ssl_video.video.known import Known
from ssl_video.video.pictures import of_pictures, scan_folder
from ssl_video.video.rate import true_rate
from ssl_video.video.reader import QUICK, Misfit, VideoError, by_time, decoded, opened
from ssl_video.video.upright import upright_size

CHILD = (sys.executable, "-m", "ssl_video.video.scan")
TIME_LIMIT_S = 60.0
"""Seconds that a file may take without getting on, unless told."""
REMEDY = "'ssl-video data scan --time-limit' takes more seconds"
AT_A_TIME = 4096
"""Files that are known or waited for at a time: what is found of a million is not held at once."""
PLACES_CHECKED = 12
"""Places of a file where seeking is compared with counting."""


def scan_one(path: str) -> VideoInfo:
    """Decode a file from end to end, in this process. Raises VideoError with the reason if it cannot be used."""
    state = state_of(path)
    info = scan_folder(path) if of_pictures(path) else _scan_file(path)
    info = replace(info, content=content_of(path), state=state)
    if state_of(path) != state:
        raise FileChanged
    return info


def _scan_file(path: str) -> VideoInfo:
    try:
        info, times, checksums = _survey(path, {"err_detect": "explode"})
        whole = True
    except VideoError as error:  # damage; what can be decoded around it is counted, and only counting numbers it
        if behind(error):
            raise
        info, times, checksums = _survey(path, {})
        whole = False
    if whole and info.frames > 2 * PLACES_CHECKED and (line := _line(times)):
        seekable = replace(info, pts_start=line[0], pts_step=line[1])
        if _seeking_is_exact(path, seekable, checksums):
            return seekable
    return info


def _survey(path: str, options: dict[str, str]) -> tuple[VideoInfo, list[int | None], list[int]]:
    """Facts, times and checksums of all frames; no times at all where these might not tell one frame from another."""
    times: list[int | None] = []
    checksums: list[int] = []
    size = (0, 0)
    strict = bool(options)
    with opened(path, options) as (container, stream):
        plain = len(container.streams.video) == 1  # which of several it is, a quick look does not tell
        for frame in decoded(container, stream, strict):
            if not times:
                size = upright_size(frame)
                VideoReformatter().reformat(frame, 16, 16, "rgb24")  # raises where its pixels are none that we read
            plain = plain and upright_size(frame) == size
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
    if plane.line_size <= 0:  # stored from the last row to the first
        plane = (frame := frame.reformat(format="gray")).planes[0]
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
        # read while the container is open: they lie in its memory
        entries = [(entry.is_keyframe, entry.timestamp) for entry in stream.index_entries]
    if len(entries) == info.frames:  # one entry a frame, in the order of decoding; before a key frame the orders agree
        return [number for number, (is_key, _) in enumerate(entries) if is_key]
    numbers = (round((time - info.pts_start) / info.pts_step) for is_key, time in entries if is_key)
    return [n for n in numbers if 0 <= n < info.frames]


def scan(
    paths: Sequence[str], workers: int | None = None, time_limit_s: float = TIME_LIMIT_S, progress: bool = False
) -> Generator[tuple[str, VideoInfo | Problem], None, None]:
    """Scan files in child processes; results come in the order of ``paths``.

    What is found is kept, with the state that the file had before, if it has it still afterwards and the reason for
    nothing comes from its bytes.

    Args:
        paths: the files.
        workers: children at work at a time; by default one a core.
        time_limit_s: seconds that a file may take without a packet more of it being decoded.
        progress: show a bar, on a terminal.
    """
    memory = Known()
    workers = max(1, min(processes.cores() if workers is None else workers, len(paths)))
    children = Children(CHILD, time_limit_s, REMEDY)
    pending: dict[str, Future[tuple[VideoInfo | Problem, str]]] = {}
    with ThreadPoolExecutor(workers) as pool, Bar("scan", len(paths), "file", progress) as done:
        try:
            for first in range(0, len(paths), AT_A_TIME):
                some = list(paths[first : first + AT_A_TIME])
                known = {path: found for path in some if (found := _known(memory, path)) is not None}
                pending = {path: pool.submit(_scanned, children, path) for path in some if path not in known}
                for path in some:
                    if path in known:
                        found = known[path]
                    else:
                        found, state = pending[path].result()
                        memory.put(path, state, found)
                    done.update()
                    yield path, found
        finally:
            for future in pending.values():
                future.cancel()
            children.end()
            memory.close()


def _known(memory: Known, path: str) -> VideoInfo | Problem | None:
    state = _state(path)
    return memory.get(path, state) if state else None


def _scanned(children: Children, path: str) -> tuple[VideoInfo | Problem, str]:
    """What a child finds, and the state of the file before and after."""
    state = _state(path)
    reply = children.request(path, path)
    found = reply if isinstance(reply, Problem) else VideoInfo(**reply)
    if state == _state(path):
        return found, state
    return Problem(path, str(FileChanged()), passing=True), state


def _state(path: str) -> str:
    """As ``state_of``, "" where there is no telling, as for what lies elsewhere."""
    if is_remote(path):
        return ""
    try:
        return state_of(path)
    except (OSError, ValueError):
        return ""


if __name__ == "__main__":
    answer_requests(lambda path: asdict(scan_one(path)))
