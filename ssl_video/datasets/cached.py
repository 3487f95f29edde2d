"""A set of videos that is read from copies made once."""

from dataclasses import replace
from pathlib import Path

from ssl_video.datasets.base import VideoList, VideoSet
from ssl_video.datasets.spec import scanned
from ssl_video.errors import UserError
from ssl_video.files import cache_dir
from ssl_video.video.cache import build_clip_cache
from ssl_video.video.info import Problem
from ssl_video.video.kinds import CacheKind, CopyKind


def read_from(videos: VideoList, cache: CacheKind, short_side: int, *, progress: bool = False) -> VideoSet:
    """The usable videos of a set that need not be scanned yet, or with a ``cache`` their copies of that kind.

    ``short_side`` of the copies in pixels, 0 for the videos' own. Raises UserError if no video can be used.
    """
    usable = scanned(videos, progress=progress)
    return usable if cache == "none" else cached(usable, cache, short_side or None, progress=progress)


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
    in the user's cache folder. Raises UserError if no video can be copied.
    """
    out = out or cache_dir() / "clips" / f"{kind}-{short_side or 'full'}"
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
            f"None of the {len(videos.videos)} videos of {videos.name} could be copied: {problems[-1].reason}."
        )
    return VideoSet(videos.name, tuple(kept), videos.classes, tuple(problems))
