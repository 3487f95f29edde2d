"""Copies of videos that read fast: small h264 files, or raw frames."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from ssl_video.files import write_text, written_aside
from ssl_video.video.info import Problem, VideoInfo
from ssl_video.video.probe import Children, probe
from ssl_video.video.reader import VideoError, iterate_frames
from ssl_video.video.writer import write_video

Kind = Literal["h264", "raw"]
GOP = 4
"""A key frame every so often: a clip decodes few frames in vain, at twice the size of a gop of 12."""


def build_clip_cache(
    videos: Sequence[tuple[str, VideoInfo]],
    out: Path,
    kind: Kind = "h264",
    short_side: int | None = 128,
    *,
    workers: int | None = None,
    progress: bool = False,
) -> Mapping[str, tuple[str, VideoInfo] | Problem]:
    """Copy scanned videos; frame n of a copy shows frame n of its source.

    A copy is finished when its ``.json`` lies beside it, which is written after the copy was decoded and its frames
    counted; finished copies of unchanged sources are kept, so that an interrupted build goes on where it was. Sources
    are decoded in child processes: a file that crashes the decoder is one problem.

    Args:
        videos: paths and what the scan found.
        out: folder of the copies.
        kind: ``h264``: short side as asked, a key frame every 4 frames; ``raw``: uint8 arrays (T, H, W, 3).
        short_side: in pixels; None keeps the size.
        workers: child processes; by default one a core.
        progress: show a bar, on a terminal.

    Returns:
        source path -> (path of the copy, its VideoInfo), or the problem.
    """
    out.mkdir(parents=True, exist_ok=True)
    workers = max(1, min(workers or len(os.sched_getaffinity(0)), len(videos)))
    children = Children((sys.executable, "-m", "ssl_video.video.cache"), time_limit_s=600.0)

    def copied(video: tuple[str, VideoInfo]) -> tuple[str, VideoInfo] | Problem:
        path, info = video
        copy = copy_path(path, out, kind, short_side)
        found = finished(path, copy)
        if found is None:
            question = {"path": path, "frames": info.frames, "copy": str(copy), "kind": kind, "short_side": short_side}
            answer = children.ask(path, question)
            if isinstance(answer, Problem):
                return answer
            found = VideoInfo(**answer)
        return str(copy), replace(found, fps=info.fps, duration_s=info.duration_s)  # the copy counts frames, not time

    hidden = not (progress and sys.stderr.isatty())
    try:
        with ThreadPoolExecutor(workers) as pool:
            done: Iterator = pool.map(copied, videos)
            bar = tqdm(done, total=len(videos), unit="file", desc="copy", disable=hidden)
            return {path: found for (path, _), found in zip(videos, bar, strict=True)}
    finally:
        children.end()


def copy_path(path: str, out: Path, kind: Kind, short_side: int | None) -> Path:
    """Where the copy of a source lies: equal names in different folders must not meet."""
    key = hashlib.sha256(f"{Path(path).absolute()}|{kind}|{short_side}".encode()).hexdigest()[:16]
    return out / f"{Path(path).stem[:80]}-{key}{'.mp4' if kind == 'h264' else '.npy'}"


def finished(path: str, copy: Path) -> VideoInfo | None:
    """What the copy holds, if it is finished and its source has not changed since."""
    try:
        note = json.loads(copy.with_suffix(".json").read_text(encoding="utf-8"))
        whole = note["source"] == _state(path) and note["size"] == copy.stat().st_size
        return VideoInfo(**note["info"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def make_copy(path: str, frames: int, copy: Path, kind: Kind, short_side: int | None) -> VideoInfo:
    """Make, verify and sign one copy, in this process. Raises VideoError."""
    pictures = _resized(path, short_side, even=kind == "h264")
    if kind == "h264":
        # fastdecode leaves out what costs a decoder most; no B-frames, so that times are numbers
        options = {"preset": "veryfast", "tune": "fastdecode", "crf": "20", "bf": "0", "sc_threshold": "0"}
        written = write_video(copy, pictures, options=options, gop=GOP)
        info = probe(str(copy))
    else:
        first = next(pictures)
        with written_aside(copy) as aside:
            array = np.lib.format.open_memmap(aside, "w+", np.uint8, (frames, *first.shape))
            array[0], written = first, 1
            for picture in pictures:
                if written < frames:
                    array[written] = picture
                written += 1
            array.flush()
        h, w = first.shape[:2]
        info = VideoInfo(frames, 25.0, w, h, frames / 25.0, "raw")
    if not info.frames == written == frames:
        copy.unlink(missing_ok=True)
        raise VideoError(f"{written} frames were read and {info.frames} copied, but the scan found {frames}")
    note = {"source": _state(path), "size": copy.stat().st_size, "info": asdict(info)}
    write_text(copy.with_suffix(".json"), json.dumps(note))
    return info


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
    return f"{stat.st_size}|{stat.st_mtime_ns}"


if __name__ == "__main__":
    from ssl_video.video.probe import answer_questions

    answer_questions(lambda q: asdict(make_copy(q["path"], q["frames"], Path(q["copy"]), q["kind"], q["short_side"])))
