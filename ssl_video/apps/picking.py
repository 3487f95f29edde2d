"""What is shown of a ranking: each video once or moments that do not overlap, never the query's own file.

``find`` searches one index, and ``merged`` makes one answer of those of several indices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssl_video.apps.index_rows import Entry
from ssl_video.apps.index_segments import AGAIN
from ssl_video.apps.index_stored import Stored
from ssl_video.apps.options import SearchOptions
from ssl_video.apps.queries import Query
from ssl_video.apps.ranking import Ranking, best_clip, lists_of, rank_moments, rank_videos
from ssl_video.apps.ranking_exact import ROUNDED
from ssl_video.datasets.base import ListedVideo, Video
from ssl_video.errors import UserError
from ssl_video.files import as_named
from ssl_video.remote import is_remote
from ssl_video.video.content import content_of


@dataclass(frozen=True)
class Neighbour:
    """A video found, the time in it that matches best, and its score, 1 for a copy of the query.

    The score is the mean over the query's clips of the cosine of the clip of this video that is nearest to each; of a
    moment, the highest cosine. ``identical``: its file has the content of the query's.
    """

    path: str
    start_s: float
    end_s: float
    score: float
    identical: bool = False


def find(
    stored: Stored, queries_QD: np.ndarray, query: Query, options: SearchOptions = SearchOptions()
) -> list[Neighbour]:
    """What is nearest to the clips of a scanned video, best first; see ``ranking``.

    A video of the index is found once, and the query's own file, under whatever name, is left out; with ``moments``
    every clip counts, but for those that overlap a better one or the query's range.

    Args:
        stored: the index.
        queries_QD: the query's clips, standardised and of length 1.
        query: which video they are of.
        options: how many, and how they are searched.

    Raises:
        UserError: if the index turns out to be damaged.
    """
    header, lists = stored.header, lists_of(stored)
    fetch = max(4 * options.top_k * (1 if options.moments else 8), options.rerank)
    nprobe = min(options.nprobe or header.nprobe, lists)
    rank, pick = (rank_moments, _pick_moments) if options.moments else (rank_videos, _pick_videos)
    try:
        same = stored.same_content(query.video.info.content)
        while True:  # look further as long as too few are found: clips of one video crowd each other out
            fetch = min(fetch, header.rows)
            ranked = rank(stored, queries_QD, fetch, options.rerank, nprobe, same)
            found = pick(stored, ranked, query, options.top_k)
            if len(found) == options.top_k or (fetch == header.rows and nprobe == lists):
                break
            fetch, nprobe = 4 * fetch, min(4 * nprobe, lists)
        return [_neighbour(stored, queries_QD, query, *one) for one in found]
    except ValueError:
        raise UserError(f"The vectors of {stored.folder} were changed since it was made; {AGAIN}.") from None


def merged(
    answers: Sequence[Sequence[Neighbour]], top_k: int = 5, *, moments: bool = False, identical_first: bool = True
) -> list[Neighbour]:
    """The best of what several indices found for one query: what one index of all their videos finds.

    The indices are of one network and one standardisation, and hold different videos; of a video that several hold the
    first one counts. Equal scores come in the order of the indices.

    Args:
        answers: of each index, best first, and as many as are wanted of all.
        top_k: how many are wanted.
        moments: they are moments, of which those that differ by less than a hundred-thousandth are equal.
        identical_first: videos of the query's content come before all others, as they do where the query is a whole
            video.
    """

    def before(neighbour: Neighbour) -> tuple[float, ...]:
        last = not (neighbour.identical and identical_first)
        score = np.float32(neighbour.score)
        return (-float(score.round(ROUNDED)), last) if moments else (last, -float(score))

    found: dict[object, Neighbour] = {}
    for neighbour in sorted((n for answer in answers for n in answer), key=before):
        found.setdefault((neighbour.path, neighbour.start_s) if moments else neighbour.path, neighbour)
    return list(found.values())[:top_k]


Picked = tuple[int, int | None, float]
"""The number of a video, the number of its clip (None: the nearest one), and the score."""


def _pick_videos(stored: Stored, ranked: Ranking, query: Query, count: int) -> list[Picked]:
    """The first videos but the query's own; of a whole query, those of its content come before all others."""
    same = stored.same_content(query.video.info.content) if query.within_s is None else []
    scores, numbers = ranked
    first = np.isin(numbers, same)
    order = np.argsort(~first, kind="stable") if first.any() else np.arange(len(numbers))
    found: list[Picked] = []
    for place in order.tolist():
        number = int(numbers[place])
        if not same_file(stored.entry(number).path, indexed_path(query.video)):
            found.append((number, None, float(scores[place])))
        if len(found) == count:
            break
    return found


def _pick_moments(stored: Stored, ranked: Ranking, query: Query, count: int) -> list[Picked]:
    found: list[Picked] = []
    taken: dict[int, list[tuple[float, float]]] = {}
    owner_N = stored.owner(ranked[1])
    for score, row, number in zip(ranked[0].tolist(), ranked[1].tolist(), owner_N.tolist(), strict=True):
        if number < 0:  # a video that was removed
            continue
        entry = stored.entry(number)
        if number not in taken:
            own = same_file(entry.path, indexed_path(query.video))
            taken[number] = [query.within_s or (0.0, float("inf"))] if own else []
        start, end = entry.times_s[row - entry.first]
        if any(start < e and s < end for s, e in taken[number]):
            continue
        taken[number].append((start, end))
        found.append((number, row - entry.first, score))
        if len(found) == count:
            break
    return found


def _neighbour(
    stored: Stored, queries_QD: np.ndarray, query: Query, number: int, clip: int | None, score: float
) -> Neighbour:
    entry = stored.entry(number)
    start, end = entry.times_s[best_clip(stored, queries_QD, number) if clip is None else clip]
    return Neighbour(entry.path, start, end, score, _identical(entry, query.video))


def _identical(entry: Entry, video: Video) -> bool:
    """Has the entry's file, as it was, the content of the video? Version 0.1 noted none, so that it is read."""
    if entry.content or not video.info.content:
        return bool(entry.content) and entry.content == video.info.content
    try:
        return Path(entry.path).stat().st_size == entry.size and content_of(entry.path) == video.info.content
    except OSError:
        return False


def same_file(path: str, other: str) -> bool:
    """Are these two names of one file?"""
    try:
        return path == other or Path(path).samefile(other)
    except OSError:
        return False


def seconds(video: Video, frame: int) -> float:
    """The time at which a frame of a scanned video begins, or the video ends."""
    return round(min(frame, video.frames) / fps_of(video), 3)


def fps_of(video: Video) -> float:
    """Frames a second of a scanned video."""
    return video.info.fps or 25.0


def indexed_path(video: ListedVideo) -> str:
    """What an index calls a video: the whole path of the user's file as named, or of a copy that outlived it."""
    return video.at_hand if is_remote(video.at_hand) else str(as_named(video.at_hand))
