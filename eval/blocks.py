"""Large sets of features, some rows at a time: what is made of their rows, standardisation, nearest neighbours.

A set of one block is computed as numpy would compute it whole, to the last bit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch

from ssl_video.eval.calibration import Moments

NUMBERS = 1 << 25
"""A set of so many numbers is one block, 134 MB in single precision; of more, blocks have an eighth of that."""
SPARE = 16
"""Candidates beyond the k nearest by single precision, among which the nearest are found in double."""
ROUNDING = 2e-6
"""How far inner products of vectors of length 1 in single precision may be from those in double."""

Function = Callable[[np.ndarray], np.ndarray]


class Rows:
    """The rows of several arrays, one array below the other; only those that are indexed are read from disk."""

    def __init__(self, parts: Sequence[np.ndarray]):
        self.parts = parts
        self.starts = np.cumsum([0, *map(len, parts)])
        self.shape = int(self.starts[-1]), parts[0].shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        wanted = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        parts = np.searchsorted(self.starts, wanted, "right") - 1
        out = np.empty((len(wanted), self.shape[1]), self.parts[0].dtype)
        for part in np.unique(parts):
            here = np.flatnonzero(parts == part)
            out[here] = self.parts[part][wanted[here] - self.starts[part]]
        return out


class Blocks:
    """The rows of an array, or of several in files, some at a time; ``prepare`` makes of each block what is used.

    Iterating gives pairs of a slice of the rows and what was made of these.
    """

    def __init__(self, rows: "np.ndarray | Rows | Blocks", prepare: Function = np.asarray):
        first = rows.prepare if isinstance(rows, Blocks) else np.asarray
        self.rows: np.ndarray | Rows = rows.rows if isinstance(rows, Blocks) else rows
        self.prepare: Function = lambda x: prepare(first(x))
        self._only: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[slice, np.ndarray]]:
        step = max(1, NUMBERS // 8 // self.rows.shape[1])
        if len(self) * self.rows.shape[1] <= NUMBERS:
            if self._only is None:
                self._only = self.prepare(self.rows[:])
            yield slice(0, len(self)), self._only
            return
        for first in range(0, len(self), step):
            yield slice(first, first + step), self[first : first + step]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        return self._only[rows] if self._only is not None else self.prepare(self.rows[rows])

    def whole(self, kind: type | None = None) -> np.ndarray:
        """All rows, of this type, without a second copy of more than a block."""
        out: np.ndarray | None = None
        for here, x in self:
            out = np.empty((len(self), *x.shape[1:]), kind or x.dtype) if out is None else out
            out[here] = x
        assert out is not None
        return out


def in_double(x: np.ndarray) -> np.ndarray:
    """The same numbers in double precision."""
    return x.astype(np.float64)


@dataclass(frozen=True)
class Standard:
    """The means of columns and the reciprocals of their standard deviations; calling it standardises rows.

    Constant columns become 0.
    """

    mean_D: np.ndarray
    scale_D: np.ndarray

    @classmethod
    def of(cls, rows: "np.ndarray | Rows | Blocks") -> "Standard":
        """Of these rows. Several blocks are summed up in double precision."""
        largest, found, blocks = 0.0, list[Moments](), rows if isinstance(rows, Blocks) else Blocks(rows)
        mean_D = std_D = np.empty(0)
        for here, x in blocks:
            largest = max(largest, float(np.abs(x).max()))
            if here == slice(0, len(blocks)):
                mean_D, std_D = x.mean(0), x.std(0)
                break
            found = [reduce(Moments.with_more, [*found, Moments.of(torch.from_numpy(np.ascontiguousarray(x)))])]
            mean_D = found[0].mean_C.numpy().astype(x.dtype)
            std_D = (found[0].squares_C / found[0].count).sqrt().numpy().astype(x.dtype)
        varies = std_D > 1e-6 * max(1e-12, largest)
        return cls(mean_D, np.where(varies, 1 / np.maximum(std_D, 1e-30), 0.0))

    def __call__(self, x_ND: np.ndarray) -> np.ndarray:
        """(N, D) the same rows, standardised."""
        return (x_ND - self.mean_D) * self.scale_D


def nearest(queries: Blocks, gallery: Blocks, k: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Of some queries at a time: the rows of the k largest inner products with them, and these, largest first.

    Candidates are found by faiss in single precision, the gallery block by block; which of them come first, and their
    inner products, is computed in double precision. Of equal ones the first row comes first, as in a stable sort of
    all. Queries for which a row that is no candidate might be as near as one that is are compared with all rows in
    double precision. No array of all pairs is made.

    Raises:
        ValueError: for vectors that are not finite.
    """
    k, width = min(k, len(gallery)), gallery.rows.shape[1]
    rows_MC, others_M, scales_M = _candidates(queries, gallery, k + SPARE)
    at_once = max(1, NUMBERS // 8 // (rows_MC.shape[1] * width))
    for first in range(0, len(queries), at_once):
        here = slice(first, min(first + at_once, len(queries)))
        x_BD, rows_BC, scales_B = queries[here].astype(np.float64), np.sort(rows_MC[here], 1), scales_M[here]
        of_gallery_BCD = gallery[rows_BC.ravel()].reshape(*rows_BC.shape, width).astype(np.float64)
        rows_Bk, found_Bk = _first(k, rows_BC, np.einsum("bcd,bd->bc", of_gallery_BCD, x_BD), scales_B)
        del of_gallery_BCD
        unsure = np.flatnonzero(others_M[here] >= found_Bk[:, -1] - 2 * ROUNDING * scales_B)
        for n in range(0, len(unsure) if rows_BC.shape[1] < len(gallery) else 0, max(1, width // 4)):
            some = unsure[n : n + max(1, width // 4)]
            rows_Bk[some], found_Bk[some] = _among_all(k, x_BD[some], gallery, scales_B[some])
        yield here, rows_Bk, found_Bk


def _first(k: int, rows_BC: np.ndarray, found_BC: np.ndarray, scales_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The k largest; of what differs by the rounding of double precision alone, the first."""
    order_Bk = np.argsort(-np.round(found_BC / scales_B[:, None], 12), 1, kind="stable")[:, :k]
    return np.take_along_axis(rows_BC, order_Bk, 1), np.take_along_axis(found_BC, order_Bk, 1)


def _among_all(k: int, x_BD: np.ndarray, gallery: Blocks, scales_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows_Bk, found_Bk = np.empty((len(x_BD), 0), int), np.empty((len(x_BD), 0))
    for here, y in gallery:
        rows_BC = np.concatenate([rows_Bk, np.broadcast_to(np.arange(len(y)) + here.start, (len(x_BD), len(y)))], 1)
        found_BC = np.concatenate([found_Bk, x_BD @ y.astype(np.float64).T], 1)
        rows_Bk, found_Bk = _first(k, rows_BC, found_BC, scales_B)
    return rows_Bk, found_Bk


def _candidates(queries: Blocks, gallery: Blocks, depth: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(M, depth) rows of the gallery, (M,) what the inner products of others do not exceed, (M,) how large any can be.

    In single precision.
    """
    import faiss

    depth = min(depth, len(gallery))
    best_MC = np.full((len(queries), depth), -np.inf, np.float32)
    rows_MC = np.zeros((len(queries), depth), np.int64)
    largest = 0.0
    for of_gallery, y in gallery:
        y = _single(y)
        largest = max(largest, float(np.linalg.norm(y, axis=1).max()))
        for here, x in queries:
            found_BC, numbers_BC = faiss.knn(_single(x), y, min(depth, len(y)), metric=faiss.METRIC_INNER_PRODUCT)
            found_BC = np.concatenate([best_MC[here], found_BC], 1)
            numbers_BC = np.concatenate([rows_MC[here], numbers_BC + of_gallery.start], 1)
            kept_BC = np.argpartition(-found_BC, depth - 1, 1)[:, :depth]
            best_MC[here], rows_MC[here] = (np.take_along_axis(a, kept_BC, 1) for a in (found_BC, numbers_BC))
    norms_M = np.concatenate([np.linalg.norm(_single(x), axis=1) for _, x in queries])
    return rows_MC, best_MC.min(1), np.maximum(largest * norms_M.astype(np.float64), 1e-300)


def _single(x: np.ndarray) -> np.ndarray:
    if not np.isfinite(x).all():
        raise ValueError("vectors that are not finite have no neighbours")
    return np.ascontiguousarray(x, np.float32)
