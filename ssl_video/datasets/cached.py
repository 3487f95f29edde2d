"""A set of videos that is read from copies made once."""

import math
from dataclasses import replace
from pathlib import Path

from ssl_video.datasets.base import VideoList, VideoSet
from ssl_video.datasets.kept import hold
from ssl_video.datasets.many import compact, resized, sizes_of
from ssl_video.datasets.spec import scanned
from ssl_video.errors import UserError
from ssl_video.files import copies_dir
from ssl_video.progress import announce, count, size
from ssl_video.video.cache import build_clip_cache, copy_bytes
from ssl_video.video.info import Problem
from ssl_video.video.kinds import CacheKind, CopyKind

COPIES_AT_MOST = 10e9
"""Bytes of copies that are made without being asked for one by one (``ssl-video data cache`` makes any)."""


def read_from(
    videos: VideoList, cache: CacheKind, short_side: int, draws: float = math.inf, *, progress: bool = False
) -> VideoSet:
    """The usable videos of a set that need not be scanned yet, or with a ``cache`` as copies of that kind show them.

    ``short_side`` of the copies in pixels, 0 for the videos' own; for ``draws`` see ``as_copied``. Raises UserError if
    no video can be used.
    """
    usable = scanned(videos, progress=progress)
    return usable if cache == "none" else as_copied(usable, cache, short_side or None, draws, progress=progress)


def as_copied(
    videos: VideoSet, kind: CopyKind, short_side: int | None, draws: float = math.inf, *, progress: bool = False
) -> VideoSet:
    """The videos read from copies, or from themselves with every frame as it would be in a raw copy.

    Copies cost a reading of every whole video, and place. So they are made only if there are samples enough to draw
    one of every video, ``draws`` of them, and if all together are at most ``COPIES_AT_MOST`` bytes.

    Raises:
        UserError: if the disk has no room for them, or no video can be copied.
    """
    if why := why_not_copied(videos, kind, short_side, draws):
        announce(why, progress)
        return replace(videos, videos=resized(videos.videos, short_side or 0))
    return cached(videos, kind, short_side, progress=progress)


def why_not_copied(videos: VideoSet, kind: CopyKind, short_side: int | None, draws: float) -> str:
    """Why ``as_copied`` makes no copies, in a sentence; empty if it makes them."""
    needed = sum(times * copy_bytes(info, kind, short_side) for info, times in sizes_of(videos.videos))
    if needed <= COPIES_AT_MOST and draws >= len(videos.videos):
        return ""
    about = "" if kind == "raw" else "about "
    whole = f"{kind} copies of the {count(len(videos.videos), 'video')} of {videos.name}, {about}{size(needed)},"
    why = f"above {size(COPIES_AT_MOST)}, which 'ssl-video data cache' makes"
    if draws < len(videos.videos):
        why = f"of which {draws:.0f} samples are drawn"
    return f"No copies are made ({whole} {why}): the videos themselves are read, at that size."


def cached(
    videos: VideoSet,
    kind: CopyKind,
    short_side: int | None,
    *,
    out: Path | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> VideoSet:
    """The same videos, each read from its copy, frame n of which shows frame n of the original.

    Copies that are there already are used; a video that cannot be copied joins ``problems``. By default the copies lie
    in ``files.copies_dir``. Raises UserError if no video can be copied.
    """
    if out is None:
        out = copies_dir("clips") / f"{kind}-{short_side or 'full'}"
        hold(out)
    return copied(videos, kind, short_side, out, workers=workers, progress=progress)


def copied(
    videos: VideoSet,
    kind: str,
    short_side: int | None,
    out: Path,
    *,
    reversed: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> VideoSet:
    """The videos read from copies in ``out``; see ``build_clip_cache``. Raises UserError if none can be copied."""
    pairs = [(v.path, v.info) for v in videos.videos]
    copies = build_clip_cache(pairs, out, kind, short_side, reversed=reversed, workers=workers, progress=progress)
    kept, problems = [], list(videos.problems)
    for video in videos.videos:
        copy = copies[video.path]
        if isinstance(copy, Problem):
            problems.append(copy)
        else:
            kept.append(replace(video, path=str(copy[0]), info=copy[1], copy_of=video.source))
    if not kept:
        raise UserError(
            f"None of the {count(len(videos.videos), 'video')} of {videos.name} could be copied: {problems[-1].reason}."
        )
    return VideoSet(videos.name, compact(kept), videos.classes, tuple(problems))
