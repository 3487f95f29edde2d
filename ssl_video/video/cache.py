"""Copies of videos that read fast: small h264 files, raw frames, or their optical flow."""

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
from ssl_video.files import copies_dir, cut, write_text, written_aside
from ssl_video.progress import announce, size
from ssl_video.video.content import content_of
from ssl_video.video.flow import check_flow, encode, flow_method
from ssl_video.video.info import Problem, VideoInfo
from ssl_video.video.kinds import CopyKind
from ssl_video.video.pictures import READING
from ssl_video.video.reader import VideoError, iterate_frames
from ssl_video.video.scan import Children, scan_one
from ssl_video.video.writer import Encoding, write_video

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
        UserError: if there is no such flow, what it needs is not installed, or the disk has no room for the copies.
    """
    time_limit_s = 600.0
    if kind not in get_args(CopyKind):
        check_flow(kind)
        time_limit_s += 5.0 * max((info.frames for _, info in videos), default=0)  # RAFT on a slow core
    out.mkdir(parents=True, exist_ok=True)
    children = Children((sys.executable, "-m", "ssl_video.video.cache"), time_limit_s)

    _check_room(videos, out, kind, short_side, reversed, progress)

    def copied(video: tuple[str, VideoInfo]) -> tuple[str, VideoInfo] | Problem:
        path, info = video
        copy = copy_path(path, out, kind, short_side, reversed)
        found = finished(path, copy)
        if found is None:
            request = {"path": path, "frames": info.frames, "copy": str(copy), "kind": kind, "short_side": short_side}
            reply = children.request(path, request | {"reversed": reversed})
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
    scale = 1.0 if short_side is None else short_side / min(info.height, info.width)
    pixels = round(info.height * scale) * round(info.width * scale)
    return int(info.frames * pixels * {"raw": 3.0, "h264": 0.05}.get(kind, 2.0))


def _check_room(
    videos: Sequence[tuple[str, VideoInfo]], out: Path, kind: str, short_side: int | None, reversed: bool, shown: bool
) -> None:
    """Announce how many bytes will be written where. Raises UserError if the disk has no room for them."""
    wanted = [info for path, info in videos if finished(path, copy_path(path, out, kind, short_side, reversed)) is None]
    needed, free = sum(copy_bytes(info, kind, short_side) for info in wanted), shutil.disk_usage(out).free
    if needed > free:
        ways = "name another --out"
        if out.is_relative_to(copies_dir("clips")):
            ways = "use --cache none, or name another place by SSL_VIDEO_CACHE"
        elif out.is_relative_to(copies_dir("flow")):
            ways = "name another place by SSL_VIDEO_CACHE"
        raise UserError(f"{out} has {size(free)} free, the copies need {size(needed)}: {ways}.")
    if wanted:
        what = "copies" if kind in get_args(CopyKind) else "flow"
        about = "" if kind == "raw" else "about "
        announce(f"Writing {what} of {len(wanted)} videos, {about}{size(needed)}, to {out}.", shown)


def copy_path(path: str, out: Path, kind: str, short_side: int | None, reversed: bool = False) -> Path:
    """Where the copy of a source lies: equal names in different folders must not meet."""
    what = f"{Path(path).absolute()}|{kind}|{short_side}{'|reversed' if reversed else ''}"
    key = hashlib.sha256(os.fsencode(what)).hexdigest()[:16]
    return out / f"{cut(Path(path).stem, 80)}-{key}{'.mp4' if kind == 'h264' else '.npy'}"


def finished(path: str, copy: Path) -> VideoInfo | None:
    """What the copy holds, if it is finished and its source has not changed since."""
    try:
        note = json.loads(copy.with_suffix(".json").read_text(encoding="utf-8"))
        whole = note["source"] == _state(path) and note["size"] == copy.stat().st_size
        return VideoInfo(**note["info"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def make_copy(
    path: str, frames: int, copy: Path, kind: str, short_side: int | None, reversed: bool = False
) -> VideoInfo:
    """Make, verify and sign one copy, in this process. Raises VideoError."""
    pictures = _resized(path, short_side, even=kind == "h264")
    expected = frames if kind in get_args(CopyKind) else frames - 1
    if expected < 1:
        raise VideoError("it has one frame only, and flow needs two")
    if kind == "h264":
        # fastdecode leaves out what costs a decoder most; no B-frames, so that times are numbers
        options = {"preset": "veryfast", "tune": "fastdecode", "crf": "20", "bf": "0", "sc_threshold": "0"}
        written = write_video(copy, pictures, encoding=Encoding(options, gop=GOP))
        info = scan_one(str(copy))
    elif kind == "raw":
        written, info = _write_array(copy, pictures, expected, "raw")
    else:
        written, info = _write_array(copy, _fields(pictures, kind, reversed), expected, FLOW_CODEC, reversed)
    if not info.frames == written == expected:
        copy.unlink(missing_ok=True)
        raise VideoError(f"{written} frames were read and {info.frames} copied, but the scan found {frames}")
    info = replace(info, content=content_of(path))
    note = {"source": _state(path), "size": copy.stat().st_size, "info": asdict(info)}
    write_text(copy.with_suffix(".json"), json.dumps(note))
    return info


def _write_array(
    copy: Path, pictures: Iterator[np.ndarray], expected: int, codec: str, backwards: bool = False
) -> tuple[int, VideoInfo]:
    """One picture after the other into an array, from its end with ``backwards``; returns how many came."""
    first = next(pictures)
    with written_aside(copy) as aside:
        array = np.lib.format.open_memmap(aside, "w+", np.uint8, (expected, *first.shape))
        written = 0
        for picture in itertools.chain([first], pictures):
            if written < expected:
                array[expected - 1 - written if backwards else written] = picture
            written += 1
        array.flush()
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

    for picture_HWC in iterate_frames(path):
        picture_THWC = picture_HWC[None]
        if short_side is not None:
            picture_THWC = resize_short_side(picture_THWC, short_side)
        if even:
            h, w = picture_THWC.shape[1:3]
            picture_THWC = resize(picture_THWC, (h + h % 2, w + w % 2))
        yield picture_THWC[0]


def _state(path: str) -> str:
    stat = Path(path).stat()
    of_pictures = f"|{READING}" if Path(path).is_dir() else ""
    return f"{stat.st_size}|{stat.st_mtime_ns}{of_pictures}"


if __name__ == "__main__":
    from ssl_video.video.scan import answer_requests

    answer_requests(lambda q: asdict(make_copy(**q | {"copy": Path(q["copy"])})))
