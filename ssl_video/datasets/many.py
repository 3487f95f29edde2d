"""What is asked of all videos of a list at once: of its columns where it has them, else of one video after another."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar, cast

import numpy as np

from ssl_video.datasets.base import COLUMNS_FROM, FACTS, ListedVideo, Video, VideoRows
from ssl_video.video.info import VideoInfo

V = TypeVar("V", bound=ListedVideo)


def compact(videos: Sequence[V]) -> Sequence[V]:
    """The same videos: in columns if there are ``COLUMNS_FROM`` or more and room for temporary files, else a tuple."""
    if isinstance(videos, VideoRows):
        return cast(Sequence[V], videos)
    try:
        return tuple(videos) if len(videos) < COLUMNS_FROM else cast(Sequence[V], VideoRows.of(videos))
    except OSError:
        return tuple(videos)


def some(videos: Sequence[V], places_N: np.ndarray) -> Sequence[V]:
    """Those at these places."""
    if isinstance(videos, VideoRows):
        return cast(Sequence[V], videos.take(places_N))
    return tuple(videos[n] for n in places_N.tolist())


def numbers(videos: Sequence[Video], name: str) -> np.ndarray:
    """(N,) a fact (``frames``, ``fps``) of each scanned video."""
    if isinstance(videos, VideoRows):
        return videos.numbers(name)
    return np.array([getattr(v.info, name) for v in videos], FACTS[name].type)


def sizes_of(videos: Sequence[Video]) -> Iterator[tuple[VideoInfo, int]]:
    """Facts that say frames, width and height alone, and how many scanned videos are as large."""
    size_N3 = np.stack([numbers(videos, name).astype(np.int64) for name in ("frames", "width", "height")], 1)
    found, times = np.unique(size_N3, axis=0, return_counts=True)
    for (frames, width, height), many in zip(found.tolist(), times.tolist(), strict=True):
        yield VideoInfo(frames, 0.0, width, height, 0.0, ""), many


def first_labels(videos: Sequence[ListedVideo]) -> np.ndarray:
    """(N,) the first label of each, -1 where there is none."""
    if isinstance(videos, VideoRows):
        return videos.firsts("labels")
    return np.array([v.labels[0] if v.labels else -1 for v in videos], np.int64)


def labels_of(videos: Sequence[ListedVideo]) -> set[int]:
    """All labels that a video has."""
    if isinstance(videos, VideoRows):
        found: set[int] = set()
        for places_N in videos.blocks():
            column = videos.columns.take("labels", places_N)
            found.update(() if column is None else np.unique(column.values).tolist())
        return found
    return {label for v in videos for label in v.labels}


def in_both(one: Sequence[ListedVideo], other: Sequence[ListedVideo], name: str) -> set[str]:
    """The paths, or groups, that videos of both lists have; "" is none."""
    if not (isinstance(one, VideoRows) and isinstance(other, VideoRows)):
        return {getattr(v, name) for v in one} & {getattr(v, name) for v in other} - {""}
    if not (one.has(name) and other.has(name)):
        return set()
    shared_N = np.isin(other.digests(name), one.digests(name)) & (other.lengths(name) > 0)
    return set(other.take(np.flatnonzero(shared_N)).texts(name))


def distinct(videos: Sequence[ListedVideo], name: str) -> int:
    """How many groups, or paths, there are; "" is none."""
    if isinstance(videos, VideoRows):
        return len(np.unique(videos.digests(name)[videos.lengths(name) > 0]))
    return len({getattr(v, name) for v in videos} - {""})


def labelled_twice(videos: Sequence[ListedVideo]) -> set[str]:
    """The files that are listed with different labels."""
    if not isinstance(videos, VideoRows):
        seen: dict[str, tuple[int, ...]] = {}
        return {v.source for v in videos if seen.setdefault(v.source, v.labels) != v.labels}
    if not videos.has("labels"):
        return set()
    several = bool((videos.lengths("labels") > 1).any())
    labels_N = videos.digests("labels") if several else videos.firsts("labels")
    paths_N = np.where(videos.lengths("copy_of") > 0, videos.digests("copy_of"), videos.digests("path"))
    order = np.lexsort((labels_N, paths_N))
    same_file = paths_N[order[1:]] == paths_N[order[:-1]]
    other_label = labels_N[order[1:]] != labels_N[order[:-1]]
    return {v.source for v in videos.take(order[1:][same_file & other_label])}


def with_codec(videos: Sequence[Video], codec: str) -> np.ndarray:
    """(N,) whether a video has this codec."""
    if isinstance(videos, VideoRows):
        return videos.text_is("codec", codec)
    return np.array([v.info.codec == codec for v in videos], bool)


def resized(videos: Sequence[V], short_side: int) -> Sequence[V]:
    """The videos, whose frames are resized to this shorter side in pixels as they are read."""
    if isinstance(videos, VideoRows):
        return cast(Sequence[V], videos.having(resized_to=short_side))
    return tuple(replace(v, resized_to=short_side) for v in videos)


def same_labels(videos: Sequence[ListedVideo], labels: tuple[int, ...]) -> Sequence[int]:
    """The numbers of the videos that have just these labels."""
    if not isinstance(videos, VideoRows):
        return [n for n, other in enumerate(videos) if other.labels == labels]
    first = labels[0] if labels else -1
    places_N = np.flatnonzero((videos.firsts("labels") == first) & (videos.lengths("labels") == len(labels)))
    return places_N.tolist() if len(labels) < 2 else [n for n in places_N.tolist() if videos[n].labels == labels]


def units(videos: Sequence[ListedVideo]) -> np.ndarray:
    """(N,) numbers, the same for videos of one group; they count up by the first video of each."""
    if isinstance(videos, VideoRows):
        if not videos.has("group"):
            return np.arange(len(videos))
        places_N = np.arange(len(videos), dtype=np.uint64)  # no digest of 64 bits is as small
        keys_N = np.where(videos.lengths("group") > 0, videos.digests("group"), places_N)
        _, firsts, numbers_N = np.unique(keys_N, return_index=True, return_inverse=True)
        counted = np.empty(len(firsts), np.int64)
        counted[np.argsort(firsts)] = np.arange(len(firsts))
        return counted[numbers_N]
    seen: dict[str, int] = {}
    keys = (f"group {v.group}" if v.group else f"video {n}" for n, v in enumerate(videos))
    return np.array([seen.setdefault(key, len(seen)) for key in keys], np.int64)


def in_fixed_order(videos: Sequence[Video]) -> Sequence[Video]:
    """The videos in an order that is as good as shuffled, and the same however they were listed."""
    if not isinstance(videos, VideoRows):
        return tuple(sorted(videos, key=_fixed))
    numbers_N = np.fromiter(_numbers(videos), np.int64, len(videos))
    order = np.argsort(numbers_N, kind="stable")
    ordered_N = numbers_N[order]
    ties = np.flatnonzero(ordered_N[1:] == ordered_N[:-1])  # copies of one video, as a rule few
    runs = np.split(ties, np.flatnonzero(np.diff(ties) > 1) + 1) if len(ties) else []
    for run in runs:
        places = slice(int(run[0]), int(run[-1]) + 2)
        order[places] = sorted(order[places], key=lambda n: _fixed(cast(Video, videos[int(n)])))
    return cast(Sequence[Video], videos.take(order))


def _fixed(video: Video) -> tuple[int, str, tuple[int, ...], str]:
    return video.number, video.key, video.labels, video.source


def _numbers(videos: VideoRows) -> Iterator[int]:
    """``Video.number`` of each."""
    for places_N in videos.blocks():
        contents = videos.texts_at("content", places_N)
        if not all(contents):
            yield from (cast(Video, video).number for video in videos.made(places_N))
            continue
        for content in contents:
            yield int.from_bytes(hashlib.sha256(content.encode(errors="surrogateescape")).digest()[:8], "big") >> 1
