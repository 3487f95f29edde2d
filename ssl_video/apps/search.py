"""Searching an index of videos: which are nearest to a video, or to a range of it, by what the network sees in them.

A clip's features are standardised over the clips of the index's first build and scaled to length 1, so that the inner
product of two is a cosine. ``index_update`` makes an index, ``index_folder`` says what lies on disk, ``nearest`` how
vectors are found, ``ranking`` how near a video is.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ssl_video.apps import nearest
from ssl_video.apps.index_folder import AGAIN, Entry, Stored, open_index
from ssl_video.apps.options import SearchOptions
from ssl_video.apps.queries import ListedQuery, Query, query_of
from ssl_video.apps.ranking import Ranking, best_clip, rank_moments, rank_videos, thinned
from ssl_video.datasets.base import ListedVideo, Video, VideoList, VideoSet
from ssl_video.datasets.spec import scanned
from ssl_video.errors import UserError
from ssl_video.eval.features import Extraction, extract
from ssl_video.eval.knn import unit
from ssl_video.eval.shards import fingerprint
from ssl_video.files import as_named
from ssl_video.model import Model, load_model
from ssl_video.remote import is_remote
from ssl_video.video.content import content_of
from ssl_video.video.info import Problem
from ssl_video.video.reader import VideoError


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


@dataclass(frozen=True)
class Found:
    """A query and its neighbours, best first."""

    query: Query
    neighbours: tuple[Neighbour, ...]


class Index:
    """An index, opened once for many searches: ``Index("index").search("a.mp4", k=5)``.

    ``model`` is the network that made it, or the name of a copy of it; None: the one that the index names. It is loaded
    on ``device`` by the first search. ``stored`` is what lies on disk, as it was when the index was opened.

    Raises:
        UserError: if there is no index, it is damaged or of another format or, with the first search, of another model.
    """

    def __init__(self, folder: Path | str, model: Model | Path | str | None = None, device: torch.device | str = "cpu"):
        self.stored = open_index(Path(folder))
        self._given, self._device = model, device
        if isinstance(model, Model):
            check_model(self.stored, model)

    def __len__(self) -> int:
        return len(self.stored.entries)

    @property
    def videos(self) -> list[str]:
        """The paths of its videos."""
        return [entry.path for entry in self.stored.entries]

    @functools.cached_property
    def model(self) -> Model:
        """The network that made it."""
        if isinstance(self._given, Model):
            return self._given
        return load_search_model(self.stored, self._device, None if self._given is None else str(self._given))

    def search(
        self,
        video: Path | str | Video | ListedQuery,
        k: int = 5,
        *,
        moments: bool = False,
        rerank: int = nearest.RERANK,
        nprobe: int = 0,
    ) -> list[Neighbour]:
        """The ``k`` videos nearest to a video, best first; that file itself is left out, a copy of it is first.

        A range of it is named by ``"a.mp4@12.5-15"`` (seconds). For the options see ``SearchOptions``.

        Raises:
            UserError: if the video cannot be used.
        """
        options = SearchOptions(k, moments, rerank, nprobe)
        query = query_of(video)
        (found,) = self.search_all([query], options)
        assert isinstance(found, Found)  # of one query, a problem is an error
        return list(found.neighbours)

    def search_all(
        self, queries: Sequence[ListedQuery], options: SearchOptions = SearchOptions()
    ) -> Iterator[Found | Problem]:
        """What is found for each query in turn, or why it cannot be used; videos need not be scanned.

        Raises:
            UserError: if none can be used.
        """
        some = VideoList("the query", tuple(dict.fromkeys(query.video for query in queries)))
        usable = scanned(some)
        by_path = {video.path: video for video in usable.videos}
        yield from usable.problems
        for query in queries:
            if query.video.path not in by_path:
                continue
            query = Query(by_path[query.video.path], query.within_s)
            try:
                yield Found(query, tuple(search(self.stored, self.model, query, options)))
            except VideoError as error:
                if len(queries) == 1:
                    raise UserError(f"{query.name} cannot be used as a query: {error}.") from None
                yield Problem(query.name, str(error))


def load_search_model(stored: Stored | None, device: torch.device | str = "cpu", spec: str | None = None) -> Model:
    """The model of an index, or the one that ``spec`` names. A random network has the same weights every time.

    Raises:
        UserError: if it is not there, or not the one that the index was built by.
    """
    if spec is None:
        assert stored is not None
        spec = stored.header.model
        if not spec.startswith(("random:", "net:")) and not Path(spec).exists():
            raise UserError(
                f"{stored.folder} was built by {spec}, which is not there any more; name a copy of it by --model."
            )
    torch.manual_seed(0)
    model = load_model(spec, device)
    check_model(stored, model)
    return model


def check_model(stored: Stored | None, model: Model) -> None:
    """Raise UserError if the vectors of the index are not those of this network."""
    if stored is not None and fingerprint(model) != stored.header.weights:
        raise UserError(
            f"{stored.folder} was built by another model than {model.name} as it is now (it says: "
            f"{stored.header.model}); name that one by --model, or {AGAIN}."
        )


def search(stored: Stored, model: Model, query: Query, options: SearchOptions = SearchOptions()) -> list[Neighbour]:
    """What is nearest to a scanned video, best first; see ``ranking``.

    A video of the index is found once, and the query's own file, under whatever name, is left out; with ``moments``
    every clip counts, but for those that overlap a better one or the query's range.

    Raises:
        VideoError: if the video cannot be read, or the range lies outside it.
        UserError: if the index turns out to be damaged.
    """
    header = stored.header
    queries_QD = _vectors_of(query, stored, model)
    lists, fetch = nearest.count_lists(stored.faiss_index), 4 * options.top_k * (1 if options.moments else 8)
    fetch, nprobe = max(fetch, options.rerank), min(options.nprobe or header.nprobe, lists)
    same = stored.by_content.get(query.video.info.content, ())
    rank, pick = (rank_moments, _pick_moments) if options.moments else (rank_videos, _pick_videos)
    try:
        while True:  # look further as long as too few are found: clips of one video crowd each other out
            fetch = min(fetch, header.rows)
            ranked = rank(stored, queries_QD, fetch, options.rerank, nprobe, same)
            found = pick(stored, ranked, query, options.top_k)
            all_seen = fetch == header.rows and nprobe == lists
            if len(found) == options.top_k or all_seen or (stored.faiss_index is None and not options.moments):
                break
            fetch, nprobe = 4 * fetch, min(4 * nprobe, lists)
        return [_neighbour(stored, queries_QD, query, *one) for one in found]
    except ValueError:
        raise UserError(f"The vectors of {stored.folder} were changed since it was made; {AGAIN}.") from None


def _vectors_of(query: Query, stored: Stored, model: Model) -> np.ndarray:
    """(Q, D) the standardised clips of the query, of length 1. Raises VideoError."""
    header = stored.header
    within = None if query.within_s is None else _frames(query.video, query.within_s)
    one = VideoSet(query.name, (query.video,))
    what = Extraction(header.clips, header.readout, within=within)
    seen = extract(model, one, what, workers=0, none_is_an_error=False)
    if not seen.videos:
        raise VideoError(seen.problems[0].reason)
    mean, scale = np.array(header.mean, np.float32), np.array(header.scale, np.float32)
    return unit((thinned(seen.clips_KD[0]) - mean) * scale)


Picked = tuple[int, int | None, float]
"""The number of a video, the number of its clip (None: the nearest one), and the score."""


def _pick_videos(stored: Stored, ranked: Ranking, query: Query, count: int) -> list[Picked]:
    """The first videos but the query's own; of a whole query, those of its content come before all others."""
    same = stored.by_content.get(query.video.info.content, ()) if query.within_s is None else ()
    scores, numbers = ranked
    first = np.isin(numbers, same)
    order = np.argsort(~first, kind="stable") if first.any() else np.arange(len(numbers))
    found: list[Picked] = []
    for place in order.tolist():
        number = int(numbers[place])
        if not same_file(stored.entries[number].path, indexed_path(query.video)):
            found.append((number, None, float(scores[place])))
        if len(found) == count:
            break
    return found


def _pick_moments(stored: Stored, ranked: Ranking, query: Query, count: int) -> list[Picked]:
    found: list[Picked] = []
    taken: dict[int, list[tuple[float, float]]] = {}
    for score, row in zip(ranked[0].tolist(), ranked[1].tolist(), strict=True):
        number = int(stored.owner_R[row])
        if number < 0:  # a video that was removed
            continue
        entry = stored.entries[number]
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
    entry = stored.entries[number]
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


def _frames(video: Video, within_s: tuple[float, float]) -> tuple[int, int]:
    fps = _fps(video)
    first, end = (round(t * fps) for t in within_s)
    if first >= video.frames:
        raise VideoError(f"it ends after {video.frames / fps:.2f} s")
    return first, max(first + 1, min(end, video.frames))


def seconds(video: Video, frame: int) -> float:
    """The time at which a frame of a scanned video begins, or the video ends."""
    return round(min(frame, video.frames) / _fps(video), 3)


def _fps(video: Video) -> float:
    return video.info.fps or 25.0


def indexed_path(video: ListedVideo) -> str:
    """What an index calls a video: the whole path of the user's file as named, or of a copy that outlived it."""
    return video.at_hand if is_remote(video.at_hand) else str(as_named(video.at_hand))
