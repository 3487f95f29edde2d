"""An index as it was opened: its segments side by side, as one list of videos and one array of vectors.

A video's *number* counts the videos of all segments in order, removed ones too, and so does a vector's *row*. Numbers
and rows stay what they are until segments are merged.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from ssl_video.apps.index_rows import Entry, State, digests_of, places_with
from ssl_video.apps.index_segments import Segment, SegmentNote

BLOCK = 4096
"""Videos that are made at a time."""


@dataclass(frozen=True)
class Described:
    """How the vectors of an index were made; indices that agree in ``comparable`` can be searched as one.

    ``weights`` is the fingerprint of the network, ``mean`` and ``scale`` standardise its features, and ``nprobe`` is 0
    where faiss has no lists.
    """

    model: str
    weights: str
    readout: str
    clips: int
    index_type: str
    nprobe: int
    dim: int
    mean: list[float]
    scale: list[float]


@dataclass(frozen=True)
class Header(Described):
    """What header.json says: how the vectors were made, and which files count.

    ``videos`` counts those that were not removed, ``rows`` all vectors, and ``segments`` are in the order of the
    videos. ``removed`` and ``trained`` are names of files, "" where there is none, and ``sha256`` maps them to their
    digests. ``digest`` is that of all else. An index of format 2 is one segment without a name.
    """

    format: int
    videos: int
    rows: int
    segments: tuple[SegmentNote, ...] = ()
    removed: str = ""
    trained: str = ""
    sha256: dict[str, str] | None = None
    digest: str = ""


class Vectors:
    """The vectors of all segments as one (R, D) array, of which some rows at a time are taken."""

    def __init__(self, parts: Sequence[np.ndarray]):
        self.parts = parts
        self.firsts = np.cumsum([0, *map(len, parts)])
        self.shape = int(self.firsts[-1]), parts[0].shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            return self._slice(*rows.indices(len(self)))
        if not isinstance(rows, np.ndarray):
            return self._slice(rows, rows + 1, 1)[0]
        part_N = np.searchsorted(self.firsts, rows, side="right") - 1
        taken_ND = np.empty((len(rows), self.shape[1]), np.float32)
        for part in np.unique(part_N).tolist():
            here_N = part_N == part
            taken_ND[here_N] = self.parts[part][rows[here_N] - self.firsts[part]]
        return taken_ND

    def _slice(self, first: int, end: int, step: int) -> np.ndarray:
        if step != 1:
            return self[np.arange(first, end, step)]
        some = [part[max(0, first - start) : max(0, end - start)]
                for part, start in zip(self.parts, self.firsts.tolist(), strict=False)]  # fmt: skip
        some = [part for part in some if len(part)] or some[:1]
        return some[0] if len(some) == 1 else np.concatenate(some)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[:], dtype)


class Entries(Sequence[Entry]):
    """The videos of an index that were not removed, in order; each is made when it is asked for."""

    def __init__(self, stored: "Stored"):
        self._stored = stored

    def __len__(self) -> int:
        return self._stored.header.videos

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> list[Entry]: ...
    def __getitem__(self, place: int | slice) -> Entry | list[Entry]:
        some = range(len(self))[place]
        if isinstance(some, int):
            return self._stored.entry(int(self._stored.numbers_at(np.array([some]))[0]))
        going_up = some if some.step > 0 else some[::-1]
        entries = self._stored.entries_of(self._stored.numbers_at(np.array(going_up, int)))
        return entries if some.step > 0 else entries[::-1]

    def __iter__(self) -> Iterator[Entry]:
        for first in range(0, len(self), BLOCK):
            yield from self[first : first + BLOCK]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(Entry.__eq__, self, other))

    __hash__ = None  # pyright: ignore[reportAssignmentType]


@dataclass(eq=False)
class Stored:
    """An index as it was opened: what it says of itself, its segments, and (V,) which of their videos were removed.

    Raises UserError wherever something is read that was changed.
    """

    folder: Path
    header: Header
    segments: tuple[Segment, ...]
    removed_V: np.ndarray

    @property
    def entries(self) -> Entries:
        """The videos that were not removed."""
        return Entries(self)

    @functools.cached_property
    def vectors_RD(self) -> Any:
        """``Vectors`` of all clips, those of removed videos among them."""
        return Vectors([segment.vectors_RD for segment in self.segments])

    @functools.cached_property
    def first_videos(self) -> np.ndarray:
        """(S + 1,) the number of the first video of each segment, and that of all."""
        return np.cumsum([0, *(segment.videos for segment in self.segments)])

    @functools.cached_property
    def first_rows(self) -> np.ndarray:
        """(S + 1,) the row of the first vector of each segment, and the number of all."""
        return np.cumsum([0, *(segment.rows for segment in self.segments)])

    @functools.cached_property
    def _alive_N(self) -> np.ndarray | None:
        """The numbers of the videos that were not removed, None if none was."""
        return np.flatnonzero(~self.removed_V) if self.removed_V.any() else None

    def numbers_at(self, places_N: np.ndarray) -> np.ndarray:
        """The numbers of the videos at these places among those that were not removed."""
        return places_N if self._alive_N is None else self._alive_N[places_N]

    def entry(self, number: int) -> Entry:
        """The video of a number, removed or not."""
        return self.entries_of(np.array([number]))[0]

    def entries_of(self, numbers_N: np.ndarray) -> list[Entry]:
        """The videos of some numbers, which go up."""
        found: list[Entry] = []
        part_N = np.searchsorted(self.first_videos, numbers_N, side="right") - 1
        for part in np.unique(part_N).tolist():
            places_N = numbers_N[part_N == part] - self.first_videos[part]
            found += self.segments[part].entries(places_N, int(self.first_rows[part]))
        return found

    def paths(self) -> Iterator[str]:
        """The paths of the videos that were not removed, without the rest of them."""
        for segment, first in zip(self.segments, self.first_videos.tolist(), strict=False):
            alive_N = np.flatnonzero(~self.removed_V[first : first + segment.videos])
            for start in range(0, len(alive_N), BLOCK):
                yield from segment.paths(alive_N[start : start + BLOCK])

    def owner(self, rows_N: np.ndarray) -> np.ndarray:
        """(N,) the number of the video that each vector belongs to, -1 if it was removed."""
        numbers_N = np.empty(rows_N.shape, np.int64)
        part_N = np.searchsorted(self.first_rows, rows_N, side="right") - 1
        for part in np.unique(part_N).tolist():
            here_N = part_N == part
            within = 2 * (rows_N[here_N] - self.first_rows[part])
            places = np.searchsorted(self.segments[part].ends_V, within, side="right")
            numbers_N[here_N] = self.first_videos[part] + places
        return np.where(self.removed_V[numbers_N], -1, numbers_N)

    @property
    def owner_R(self) -> np.ndarray:
        """(rows,) ``owner`` of every vector."""
        return self.owner(np.arange(self.header.rows))

    def rows_of(self, number: int) -> tuple[int, int]:
        """The row of a video's first vector, and that behind its last."""
        part = int(np.searchsorted(self.first_videos, number, side="right")) - 1
        place, ends_V = number - int(self.first_videos[part]), self.segments[part].ends_V
        begin, end = int(ends_V[place - 1]) // 2 if place else 0, int(ends_V[place]) // 2
        return int(self.first_rows[part]) + begin, int(self.first_rows[part]) + end

    def having(
        self, name: str, values: Sequence[str | State], most: int | None = None
    ) -> list[list[tuple[int, Entry]]]:
        """Of each of these paths, states or contents the videos that have it, with their numbers, in order; ``most`` of
        a segment."""
        found: list[list[tuple[int, Entry]]] = [[] for _ in values]
        wanted_N = digests_of(values)
        for number, segment in enumerate(self.segments):
            asked_N, places_N = places_with(segment.keys[name], wanted_N, most)
            numbers_N = self.first_videos[number] + places_N
            alive_N = ~self.removed_V[numbers_N]
            asked_N, places_N, numbers_N = asked_N[alive_N], places_N[alive_N], numbers_N[alive_N]
            entries = segment.entries(places_N, int(self.first_rows[number]))
            for asked, pair in zip(asked_N.tolist(), zip(numbers_N.tolist(), entries, strict=True), strict=True):
                if pair[1].known_by(name) == values[asked]:
                    found[asked].append(pair)
        return found

    def same_content(self, content: str) -> list[int]:
        """The numbers of the videos of this content; "" is that of none."""
        return [number for number, _ in self.having("content", [content])[0]] if content else []
