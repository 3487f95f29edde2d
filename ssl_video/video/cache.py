"""Copies of videos that read fast: small h264 files, raw frames, or their optical flow."""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import numpy as np

from ssl_video.errors import UserError
from ssl_video.files import clear_dead, copies_dir, cut, write_text, written_aside
from ssl_video.progress import announce, count, size
from ssl_video.readback import DAMAGE
from ssl_video.video.children import Children, OutputError, answer_requests, to_disk
from ssl_video.video.content import content_of, state_of
from ssl_video.video.flow import check_flow, encode, flow_method
from ssl_video.video.info import FileChanged, Problem, VideoError, VideoInfo, reason_of
from ssl_video.video.kinds import CopyKind
from ssl_video.video.pictures import READING
from ssl_video.video.reader import iterate_frames
from ssl_video.video.scan import scan_one
from ssl_video.video.upright import scaled_size
from ssl_video.video.writer import Encoding, write_video

VERSION = 2
"""Raised when copies are made otherwise, so that those of older versions are made again."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CHILD = (sys.executable, "-m", "ssl_video.video.cache")
TIME_LIMIT_S = 600.0
"""Seconds that a copy may be made without getting on: a field of RAFT on a slow core, or a frame of 8K."""
FLOW_CODEC = "flow"
"""The codec of a copy that holds optical flow."""
GOP = 4
"""A key frame every so often: a clip decodes few frames in vain, at twice the size of a gop of 12."""


def build_clip_cache(
    videos: Sequence[tuple[str, VideoInfo]],
    out: Path,
    kind: str = "h264",
    short_side: int | None = 128,
    *,
    reversed: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> Mapping[str, tuple[str, VideoInfo] | Problem]:
    """Copy scanned videos; frame n of a copy shows frame n of its source, or the flow from it to frame n + 1.

    A copy is finished when its ``.json`` lies beside it, which is written after the copy was decoded and its frames
    counted; finished copies of unchanged sources are kept, so that an interrupted build resumes where it was. Sources
    are decoded in child processes: a file that crashes the decoder is one problem.

    Args:
        videos: paths and what the scan found.
        out: folder of the copies.
        kind: ``h264``: short side as given, a key frame every 4 frames; ``raw``: uint8 arrays (T, H, W, 3); else a
            flow (``ssl_video.video.flow.flow_method``), computed at that size: encoded arrays (T - 1, H, W, 2).
        short_side: in pixels; None keeps the size.
        reversed: flow of the video played backwards: field n is from frame n of that video to its frame n + 1.
        workers: child processes; by default one a core.
        progress: show a bar, on a terminal.

    Returns:
        source path -> (path of the copy, its VideoInfo), or the problem.

    Raises:
        UserError: if there is no such flow, what it needs is not installed, or ``out`` is full or cannot be written.
    """
    if kind not in get_args(CopyKind):
        check_flow(kind)
    try:
        out.mkdir(parents=True, exist_ok=True)
        clear_dead(out)
        _check_room(videos, out, kind, short_side, reversed, progress)
    except OSError as error:
        raise _refused(out, error.errno, error.strerror or str(error)) from None
    children = Children(CHILD, TIME_LIMIT_S)

    def copied(video: tuple[str, VideoInfo]) -> tuple[str, VideoInfo] | Problem:
        path, info = video
        copy = copy_path(path, out, kind, short_side, reversed)
        found = finished(path, copy)
        if found is None:
            request = {"path": path, "frames": info.frames, "copy": str(copy), "kind": kind, "short_side": short_side}
            try:
                reply = children.request(path, request | {"reversed": reversed})
            except OutputError as error:
                raise _refused(out, error.errno, str(error)) from None
            if isinstance(reply, Problem):
                return reply
            found = VideoInfo(**reply)
        content = info.content or found.content
        # the copy counts frames, not time, and is known as the video that it shows
        return str(copy), replace(found, fps=info.fps, duration_s=info.duration_s, content=content)

    what = "copy" if kind in get_args(CopyKind) else "flow"
    done = children.work(copied, videos, workers=workers, what=what, progress=progress)
    return {path: found for (path, _), found in zip(videos, done, strict=True)}


def copy_bytes(info: VideoInfo, kind: str, short_side: int | None) -> int:
    """Bytes of the copy of a video, exact for raw frames; of an h264 file about as many as most have."""
    height, width = info.height, info.width
    if short_side is not None:
        height, width = scaled_size(height, width, short_side)
    return int(info.frames * height * width * {"raw": 3.0, "h264": 0.05}.get(kind, 2.0))


def _check_room(
    videos: Sequence[tuple[str, VideoInfo]], out: Path, kind: str, short_side: int | None, reversed: bool, shown: bool
) -> None:
    """Announce how many bytes will be written where. Raises UserError if the disk has no room for them."""
    wanted = [info for path, info in videos if finished(path, copy_path(path, out, kind, short_side, reversed)) is None]
    needed, free = sum(copy_bytes(info, kind, short_side) for info in wanted), shutil.disk_usage(out).free
    if needed > free:
        raise UserError(f"{out} has {size(free)} free, the copies need {size(needed)}: {_ways(out)}.")
    if wanted:
        what = "copies" if kind in get_args(CopyKind) else "flow"
        about = "" if kind == "raw" else "about "
        announce(f"Writing {what} of {count(len(wanted), 'video')}, {about}{size(needed)}, to {out}.", shown)


def _ways(out: Path) -> str:
    """Which option names another place for what is written to ``out``."""
    if out.is_relative_to(copies_dir("clips")):
        return "use --cache none, or name another place by SSL_VIDEO_CACHE"
    return "name another place by SSL_VIDEO_CACHE" if out.is_relative_to(copies_dir("flow")) else "name another --out"


def _refused(out: Path, number: int | None, reason: str) -> UserError:
    """The error for a folder of copies that the system does not write: every further copy would meet it, too."""
    return UserError(f"{out} {'is full' if number in FULL else 'cannot be written'} ({reason}): {_ways(out)}.")


def copy_path(path: str, out: Path, kind: str, short_side: int | None, reversed: bool = False) -> Path:
    """Where the copy of a source lies: equal names in different folders must not meet."""
    what = f"{Path(path).absolute()}|{kind}|{short_side}{'|reversed' if reversed else ''}"
    key = hashlib.sha256(os.fsencode(what)).hexdigest()[:16]
    return out / f"{cut(Path(path).stem, 80)}-{key}{'.mp4' if kind == 'h264' else '.npy'}"


def finished(path: str, copy: Path) -> VideoInfo | None:
    """What the copy holds, if it is finished, as this version makes it, and neither it nor its source has changed."""
    try:
        note = json.loads(copy.with_suffix(".json").read_text(encoding="utf-8"))
        whole = note["version"] == VERSION and note["source"] == _source(path) and note["digest"] == content_of(copy)
        return replace(VideoInfo(**note["info"]), state=state_of(copy)) if whole else None
    except (OSError, VideoError, *DAMAGE):
        return None


def make_copy(
    path: str, frames: int, copy: Path, kind: str, short_side: int | None, reversed: bool = False
) -> VideoInfo:
    """Make, verify and sign one copy, in this process.

    It is verified under another name, so that nobody sees one that is wrong, and processes that make the same copy at
    once do not meet.

    Raises:
        VideoError: if the video cannot be read, has other frames than ``frames``, or changes meanwhile.
        OutputError: if the copy cannot be written.
    """
    source = _source(path)
    pictures = _resized(path, short_side, even=kind == "h264")
    expected = frames if kind in get_args(CopyKind) else frames - 1
    if expected < 1:
        raise VideoError("it has one frame only, and flow needs two")
    with to_disk(), written_aside(copy) as aside:
        written, info = _write(aside, pictures, expected, kind, reversed)
        if not info.frames == written == expected:
            raise VideoError(f"{written} frames were read and {info.frames} copied, but the scan found {frames}")
        with _reading():
            content, after = content_of(path), _source(path)
        if after != source:
            raise FileChanged
        info = replace(info, content=content, state=state_of(aside))
        digest = content_of(aside)
    note = {"version": VERSION, "source": source, "digest": digest, "info": asdict(info)}
    with to_disk():
        write_text(copy.with_suffix(".json"), json.dumps(note))
    return info


def _write(
    file: Path, pictures: Iterator[np.ndarray], expected: int, kind: str, reversed: bool
) -> tuple[int, VideoInfo]:
    """Write a copy of ``expected`` frames; how many came, and what it holds."""
    if kind == "h264":
        # fastdecode leaves out what costs a decoder most; no B-frames, so that times are numbers
        options = {"preset": "veryfast", "tune": "fastdecode", "crf": "20", "bf": "0", "sc_threshold": "0"}
        written = write_video(file, pictures, encoding=Encoding(options, gop=GOP))
        return written, scan_one(str(file))
    if kind == "raw":
        return _write_array(file, pictures, expected, "raw")
    return _write_array(file, _fields(pictures, kind, reversed), expected, FLOW_CODEC, reversed)


def _write_array(
    file: Path, pictures: Iterator[np.ndarray], expected: int, codec: str, backwards: bool = False
) -> tuple[int, VideoInfo]:
    """One picture after the other into an array, from its end with ``backwards``; returns how many came."""
    first, written = next(pictures), 0
    with file.open("wb") as array:  # not through a map: on a full disk that kills the process
        head = {"descr": "|u1", "fortran_order": False, "shape": (expected, *first.shape)}
        np.lib.format.write_array_header_1_0(array, head)
        start = array.tell()
        for picture in itertools.chain([first], pictures):
            if written < expected:
                array.seek(start + picture.nbytes * (expected - 1 - written if backwards else written))
                array.write(np.ascontiguousarray(picture).data)
            written += 1
    h, w = first.shape[:2]
    return written, VideoInfo(expected, 25.0, w, h, expected / 25.0, codec)


def _fields(pictures: Iterator[np.ndarray], method: str, backwards: bool) -> Iterator[np.ndarray]:
    """The encoded flow between neighbours, two pictures in memory; ``backwards``: from each to the one before it."""
    flow = flow_method(method)
    for pair in itertools.pairwise(pictures):
        yield encode(flow(np.stack(pair[::-1] if backwards else pair))[0])


def _resized(path: str, short_side: int | None, even: bool) -> Iterator[np.ndarray]:
    """``even`` rounds both sides up to what chroma at half the size needs, by resizing: a border would be content."""
    from ssl_video.video.augment import resize, resize_short_side  # torch is imported only where it is needed

    for picture_HWC in _frames(path):
        picture_THWC = picture_HWC[None]
        if short_side is not None:
            picture_THWC = resize_short_side(picture_THWC, short_side)
        if even:
            h, w = picture_THWC.shape[1:3]
            picture_THWC = resize(picture_THWC, (h + h % 2, w + w % 2))
        yield picture_THWC[0]


def _frames(path: str) -> Iterator[np.ndarray]:
    with _reading():
        yield from iterate_frames(path)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """What the system refuses in this context is trouble with the video, not with its copy."""
    try:
        yield
    except OSError as error:
        raise VideoError(reason_of(error)) from error


def _source(path: str) -> str:
    """The state of what is copied, and in which way it is read."""
    with _reading():
        return f"{state_of(path)}{f'|{READING}' if Path(path).is_dir() else ''}"


if __name__ == "__main__":
    answer_requests(lambda q: asdict(make_copy(**q | {"copy": Path(q["copy"])})))
