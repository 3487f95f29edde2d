"""The videos of an index as columns: what is noted of each, and by which digests it is found again.

A segment holds a column each of paths, sizes, times of change, contents, labels (JSON, "" for none) and the times of
all clips, whose ends say which vectors are whose. ``NAME.keys.npy`` holds the digests of what ``LOOKED_UP`` names,
sorted, and ``NAME.order.npy`` the videos that they are of, so that a video is found among millions by a few readings.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from ssl_video.datasets.columns import Column, Columns, digests, number_column, text_column
from ssl_video.readback import parsed, texts

State = tuple[int, int]
"""Size and time of change (ns) of a file."""
LOOKED_UP = ("path", "state", "content")

Keys = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Of each of ``LOOKED_UP``: (V,) sorted digests and (V,) the videos that they are of."""


@dataclass(frozen=True)
class Entry:
    """A video of the index: its file as it was, the row of its first clip, and where each clip lies, in seconds.

    ``path`` is the file as the user named it; version 0.1 resolved links. ``content`` is the digest of its bytes
    (``VideoInfo.content``), "" where version 0.1 wrote the entry. ``labels`` are names of classes, if it had any.
    """

    path: str
    size: int
    mtime_ns: int
    first: int
    times_s: tuple[tuple[float, float], ...]
    content: str = ""
    labels: tuple[str, ...] = ()

    @property
    def end(self) -> int:
        """The row behind that of its last clip."""
        return self.first + len(self.times_s)

    def known_by(self, name: str) -> str | State:
        """One of ``LOOKED_UP``."""
        return (self.size, self.mtime_ns) if name == "state" else self.path if name == "path" else self.content


def columns_of(entries: Sequence[Entry]) -> dict[str, Column]:
    """The columns of some videos."""
    times = np.fromiter(chain.from_iterable(chain.from_iterable(e.times_s for e in entries)), np.float64)
    ends = np.cumsum(np.fromiter((2 * len(e.times_s) for e in entries), np.int64, len(entries)))
    return {
        "path": text_column([e.path for e in entries]),
        "size": number_column((e.size for e in entries), True),
        "mtime_ns": number_column((e.mtime_ns for e in entries), True),
        "content": text_column([e.content for e in entries]),
        "labels": text_column([json.dumps(e.labels) if e.labels else "" for e in entries]),
        "times": Column(times, ends),
    }


def entries_at(columns: Columns, places_N: np.ndarray, before: int = 0) -> list[Entry]:
    """The videos at these places; ``before``: rows of vectors that lie before the first one's.

    Raises:
        one of ``readback.DAMAGE``: if the columns are not as they were written.
    """
    none = [0] * len(places_N)
    numbers = {name: columns.take(name, places_N) for name in ("size", "mtime_ns")}
    size, mtime_ns = (none if column is None else column.as_list() for column in numbers.values())
    path, content, labels = (columns.texts(name, places_N) for name in ("path", "content", "labels"))
    times = columns.arrays["times"]
    assert times.ends is not None
    begins = before + times.bounds(places_N)[0] // 2
    return [
        Entry(path[n], size[n], mtime_ns[n], first, _pairs(flat), content[n], _labels(labels[n]))
        for n, (first, flat) in enumerate(zip(begins.tolist(), times.take(places_N).as_list(), strict=True))
    ]


def _pairs(flat: Sequence[float]) -> tuple[tuple[float, float], ...]:
    return tuple(zip(flat[::2], flat[1::2], strict=True))


def _labels(text: str) -> tuple[str, ...]:
    return tuple(texts(parsed(text))) if text else ()


def digests_of(values: Sequence[str | State]) -> np.ndarray:
    """(N,) 64 bits of each path, content or state."""
    return digests((str(value).encode("utf-8", "surrogateescape") for value in values), len(values))


def keys_of(entries: Sequence[Entry]) -> dict[str, np.ndarray]:
    """(V,) digests of each of ``LOOKED_UP``, in the order of the videos."""
    return {name: digests_of([e.known_by(name) for e in entries]) for name in LOOKED_UP}


def in_order(keys: Mapping[str, np.ndarray]) -> Keys:
    """Digests as they are looked up."""
    orders = {name: np.argsort(keys_V, kind="stable") for name, keys_V in keys.items()}
    return {name: (keys[name][order_V], order_V.astype(np.uint32)) for name, order_V in orders.items()}


def places_with(
    keys: tuple[np.ndarray, np.ndarray], wanted_N: np.ndarray, most: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Which of the digests have videos, and these videos, ``most`` of each.

    A digest may be that of another value, though hardly ever.
    """
    keys_V, order_V = keys
    first_N = np.searchsorted(keys_V, wanted_N)
    count_N = np.searchsorted(keys_V, wanted_N, side="right") - first_N
    count_N = count_N if most is None else np.minimum(count_N, most)
    asked_M = np.repeat(np.arange(len(wanted_N)), count_N)
    within_M = np.arange(len(asked_M)) - np.repeat(np.cumsum(count_N) - count_N, count_N)
    return asked_M, order_V[first_N[asked_M] + within_M].astype(np.int64)


def write_keys(folder: Path, keys: Keys) -> list[Path]:
    """Write them into the folder of a segment. Raises OSError."""
    written = []
    for name, pair in keys.items():
        for kind, values in zip(("keys", "order"), pair, strict=True):
            written.append(folder / f"{name}.{kind}.npy")
            np.save(written[-1], values, allow_pickle=False)
    return written
