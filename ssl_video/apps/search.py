"""Searching an index of videos: which are nearest to a video, or to a range of it, by what the network sees in them.

A clip's features are standardised over the clips of the index's first build and scaled to length 1, so that the inner
product of two is a cosine. ``index_update`` makes an index, ``index_folder`` says what lies on disk, ``nearest`` how
vectors are found, ``ranking`` how near a video is, ``picking`` what is shown.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ssl_video.apps import nearest
from ssl_video.apps.index_folder import open_index
from ssl_video.apps.index_segments import AGAIN
from ssl_video.apps.index_stored import Stored
from ssl_video.apps.options import SearchOptions
from ssl_video.apps.picking import Neighbour, find, fps_of, merged
from ssl_video.apps.queries import ListedQuery, Query, query_of
from ssl_video.apps.ranking import thinned
from ssl_video.datasets.base import Video, VideoList, VideoSet
from ssl_video.datasets.spec import scanned
from ssl_video.errors import UserError
from ssl_video.eval.features import Extraction, extract
from ssl_video.eval.knn import unit
from ssl_video.eval.shards import made_by
from ssl_video.model import Model, load_model
from ssl_video.video.info import Problem
from ssl_video.video.reader import VideoError


@dataclass(frozen=True)
class Found:
    """A query and its neighbours, best first."""

    query: Query
    neighbours: tuple[Neighbour, ...]


class Index:
    """An index, opened once for many searches: ``Index("index").search("a.mp4", k=5)``.

    Several folders are searched as one index: parts of a library that were indexed apart, by one network and with one
    standardisation (``IndexOptions.like``).

    ``model`` is the network that made it, or the name of a copy of it; None: the one that the index names. It is loaded
    on ``device`` by the first search. ``parts`` is what lies on disk, as it was when the index was opened, and
    ``stored`` the first of them.

    Raises:
        UserError: if there is no index, it is damaged or of another format, a part is given twice or made otherwise
            than the first or, with the first search, it is of another model.
    """

    def __init__(
        self,
        folder: Path | str | Sequence[Path | str],
        model: Model | Path | str | None = None,
        device: torch.device | str = "cpu",
    ):
        folders = [folder] if isinstance(folder, Path | str) else list(folder)
        if not folders:
            raise UserError("Name an index to search in; make one with 'ssl-video index'.")
        self.parts = [open_index(Path(part)) for part in folders]
        check_parts(self.parts)
        self._given, self._device = model, device
        if isinstance(model, Model):
            check_model(self.stored, model)

    @property
    def stored(self) -> Stored:
        """The index, or the first of several."""
        return self.parts[0]

    def __len__(self) -> int:
        return sum(len(part.entries) for part in self.parts)

    @property
    def videos(self) -> list[str]:
        """The paths of its videos."""
        return [path for part in self.parts for path in part.paths()]

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
                yield Found(query, tuple(self._nearest(query, options)))
            except VideoError as error:
                if len(queries) == 1:
                    raise UserError(f"{query.name} cannot be used as a query: {error}.") from None
                yield Problem(query.name, str(error))

    def _nearest(self, query: Query, options: SearchOptions) -> list[Neighbour]:
        if len(self.parts) == 1:
            return search(self.stored, self.model, query, options)
        queries_QD = _vectors_of(query, self.stored, self.model)
        found = [find(part, queries_QD, query, options) for part in self.parts]
        return merged(found, options.top_k, moments=options.moments, identical_first=query.within_s is None)


def check_parts(parts: Sequence[Stored]) -> None:
    """Raise UserError if indices cannot be searched as one: one is given twice, or made otherwise than the first."""
    seen: dict[str, Path] = {}
    for part in parts:
        digests = {note.sha256 for note in part.header.segments} or {part.header.digest or str(part.folder.resolve())}
        for digest in digests:
            if digest in seen:
                raise UserError(f"{part.folder} is {seen[digest]}, or a copy of it; name each index once.")
        seen |= dict.fromkeys(digests, part.folder)
        check_like(part, parts[0])


def check_like(stored: Stored, other: Stored) -> None:
    """Raise UserError if the scores of two indices cannot be compared."""
    mine, theirs = stored.header, other.header
    if mine.weights != theirs.weights:
        raise UserError(
            f"{stored.folder} was built by another model than {other.folder} ({mine.model} and {theirs.model}); search "
            "in each by itself."
        )
    for name in ("readout", "clips", "dim", "mean", "scale"):
        if getattr(mine, name) != getattr(theirs, name):
            what = f"--{name}" if name in ("readout", "clips") else "standardisation"
            raise UserError(
                f"{stored.folder} was made with another {what} than {other.folder}, so that their scores cannot be "
                f"compared; make it with 'ssl-video index --like {other.folder}'."
            )


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
    if stored is not None and not made_by(model, stored.header.weights):
        raise UserError(
            f"{stored.folder} was built by another model than {model.name} as it is now (it says: "
            f"{stored.header.model}); name that one by --model, or {AGAIN}."
        )


def search(stored: Stored, model: Model, query: Query, options: SearchOptions = SearchOptions()) -> list[Neighbour]:
    """What is nearest to a scanned video in one index, best first; see ``picking.find``.

    Raises:
        VideoError: if the video cannot be read, or the range lies outside it.
        UserError: if the index turns out to be damaged.
    """
    return find(stored, _vectors_of(query, stored, model), query, options)


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


def _frames(video: Video, within_s: tuple[float, float]) -> tuple[int, int]:
    fps = fps_of(video)
    first, end = (round(t * fps) for t in within_s)
    if first >= video.frames:
        raise VideoError(f"it ends after {video.frames / fps:.2f} s")
    return first, max(first + 1, min(end, video.frames))
