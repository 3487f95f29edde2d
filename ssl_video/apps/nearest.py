"""Nearest neighbours among many vectors of length 1: exactly, or among the candidates of a faiss index.

Vectors lie in one array, on disk if it is a map of a file. An exact search reads all of them. A faiss index holds short
codes of them and answers with candidates, and these are compared exactly.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssl_video.apps.options import RERANK
from ssl_video.errors import UserError
from ssl_video.progress import announce

EXACT = "exact"
FEW = 39 * 256
"""Vectors below which faiss warns that it cannot learn codes of 8 bits well."""
BLOCK = 65536
"""Rows that are copied into memory at a time."""
LONG_BUILD = 100_000
"""Rows from which on an index takes more than some seconds."""
ENOUGH = 0.95
"""Of the ten nearest, this fraction must be found after re-ranking for a number of lists to be enough."""


@dataclass(frozen=True)
class Recall:
    """What an index finds of what exact search finds, in ``nprobe`` lists (0 where the index has none).

    ``codes_1`` and ``codes_10``: how often the nearest vector, and which fraction of the ten nearest, is among the ten
    that come first by their codes. ``reranked_1`` and ``reranked_10``: the same after exact comparison of ``rerank``.
    """

    nprobe: int
    rerank: int
    queries: int
    codes_1: float
    codes_10: float
    reranked_1: float
    reranked_10: float

    def sentence(self) -> str:
        """For the terminal."""
        lists = f", {self.nprobe} lists searched" if self.nprobe else ""
        return (
            f"Against exact search, {self.queries} of its own clips as queries{lists}: 1-recall@10 {self.codes_1:.3f}, "
            f"10-recall@10 {self.codes_10:.3f} from codes alone; {self.reranked_1:.3f} and {self.reranked_10:.3f} with "
            f"{self.rerank} candidates compared exactly."
        )


def factory_string(index_type: str, rows: int, dim: int) -> str:
    """The faiss factory string of an ``index_type``: "ivfpq" becomes one that fits so many vectors, others stay.

    Raises:
        UserError: if there are too few vectors for "ivfpq": a code of 8 bits is learned from 39 times as many at least.
    """
    if index_type != "ivfpq":
        return index_type
    if rows < FEW:
        raise UserError(
            f"ivfpq needs {FEW} clips or more, and here are {rows}; choose --index-type exact, which is fast enough "
            "for so few, or a factory string of faiss."
        )
    pieces = max(m for m in range(1, 65) if dim % m == 0 and (dim >= 4 * m or m == 1))
    lists = 1 << round(np.log2(rows**0.5))
    return f"IVF{min(lists, 65536)},PQ{pieces}"


def make(vectors_RD: np.ndarray, index_type: str, seed: int = 0) -> Any:
    """A faiss index, trained and filled, or None for "exact"; see ``train``."""
    index = train(vectors_RD, index_type, seed)
    return None if index is None else filled(index, vectors_RD)


def train(vectors_RD: Any, index_type: str, seed: int = 0, rows: int | None = None) -> Any:
    """A faiss index that has learned and is empty, or None for "exact".

    Training sees up to 50 vectors a list, and 65,536 at least where there are as many.

    Args:
        vectors_RD: an array, or segments as one (``index_stored.Vectors``).
        index_type: "exact", "ivfpq" or a factory string of faiss.
        seed: of the choice of vectors.
        rows: how many will be searched at a time, by default all of these.

    Raises:
        UserError: if faiss knows no such index, or cannot make it from these vectors.
    """
    if index_type == EXACT:
        return None
    import faiss

    count, dim = vectors_RD.shape
    text = factory_string(index_type, min(count, rows or count), dim)
    with _refused(text, count, dim):
        # vectors of length 1 have the same order by distance as by inner product
        index = faiss.index_factory(dim, text, faiss.METRIC_L2)
        ivf = faiss.try_extract_index_ivf(index)
        if count >= LONG_BUILD:
            announce(f"index: {text} of {count} vectors, and how well it finds")
        if not index.is_trained:
            wanted = max(65536, 50 * ivf.nlist if ivf is not None else 0)
            chosen = np.random.default_rng(seed).permutation(count)[:wanted]
            index.train(np.ascontiguousarray(vectors_RD[np.sort(chosen)]))
    return index


def filled(trained: Any, vectors_RD: np.ndarray) -> Any:
    """A copy of a trained index with these vectors. Raises UserError if faiss cannot make it."""
    import faiss

    with _refused("", *vectors_RD.shape):
        index = faiss.deserialize_index(faiss.serialize_index(trained))
        fill(index, vectors_RD)
    return index


@contextlib.contextmanager
def _refused(text: str, rows: int, dim: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        why = str(error).rpartition(": ")[2].strip().rstrip(".")
        raise UserError(
            f"faiss makes no index {text!r} of {rows} vectors of {dim} numbers ({why}); choose another --index-type, "
            "such as exact."
        ) from None


def fill(index: Any, vectors_RD: np.ndarray) -> None:
    """Add vectors, a block at a time; the first gets the number ``index.ntotal``."""
    for start in range(0, len(vectors_RD), BLOCK):
        index.add(np.ascontiguousarray(vectors_RD[start : start + BLOCK]))


def count_lists(index: Any) -> int:
    """The number of lists of an inverted file, 0 for any other index."""
    import faiss

    ivf = None if index is None else faiss.try_extract_index_ivf(index)
    return 0 if ivf is None else ivf.nlist


def search(
    vectors_RD: np.ndarray, index: Any, queries_QD: np.ndarray, k: int, *, rerank: int = RERANK, nprobe: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(Q, k) cosines, highest first, and (Q, k) rows, -1 where there are fewer.

    Args:
        vectors_RD: all vectors.
        index: of ``make``.
        queries_QD: of length 1.
        k: neighbours.
        rerank: candidates of the index that are compared exactly; 0 goes by the codes alone.
        nprobe: lists of an inverted file that are searched.

    Raises:
        ValueError: if a query is not finite, or a vector that was compared not of length 1: the array was damaged.
    """
    import faiss

    queries_QD = _finite(queries_QD)
    if index is None:
        cosines_QK, rows_QK = faiss.knn(
            queries_QD, vectors_RD, min(k, len(vectors_RD)), metric=faiss.METRIC_INNER_PRODUCT
        )
        if (rows_QK < 0).any() or not np.isfinite(cosines_QK).all():  # of so few all are found, but NaN
            raise ValueError("a vector is not finite")
        return cosines_QK, rows_QK
    codes_QC, rows_QC = candidates(index, queries_QD, max(k, rerank), nprobe)
    return reranked(vectors_RD, queries_QD, rows_QC, k) if rerank else (codes_QC, rows_QC)


def reranked(vectors_RD: Any, queries_QD: np.ndarray, rows_QC: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(Q, k) cosines of the nearest of these candidates, highest first, and their rows; see ``search``."""
    cosines_QC = np.full(rows_QC.shape, -np.inf, np.float32)
    for own_C, query_D, rows_C in zip(cosines_QC, queries_QD, rows_QC, strict=True):
        own_C[rows_C >= 0] = exact(vectors_RD, query_D[None], rows_C[rows_C >= 0])[:, 0]
    order_QK = np.argsort(-cosines_QC, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosines_QC, order_QK, 1), np.take_along_axis(rows_QC, order_QK, 1)


def candidates(index: Any, queries_QD: np.ndarray, count: int, nprobe: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(Q, count) cosines by the codes of a faiss index, highest first, and (Q, count) rows, -1 where there are fewer.

    All queries go in one call. For the arguments see ``search``. Raises ValueError if a query is not finite.
    """
    import faiss

    if nprobe and count_lists(index):
        faiss.extract_index_ivf(index).nprobe = nprobe
    distances_QC, rows_QC = index.search(_finite(queries_QD), min(count, index.ntotal))
    return np.where(rows_QC < 0, -np.inf, 1 - distances_QC / 2), rows_QC


def _finite(queries_QD: np.ndarray) -> np.ndarray:
    queries_QD = np.ascontiguousarray(queries_QD, np.float32)
    if not np.isfinite(queries_QD).all():
        raise ValueError("a query is not finite")
    return queries_QD


def exact(vectors_RD: Any, queries_QD: np.ndarray, rows_C: np.ndarray) -> np.ndarray:
    """(C, Q) cosines of some vectors with the queries.

    Raises:
        ValueError: if one of the vectors is not of length 1: the array was damaged.
    """
    candidates_CD = vectors_RD[rows_C]
    check_lengths(candidates_CD)
    return candidates_CD @ queries_QD.T


def check_lengths(vectors_CD: np.ndarray) -> None:
    """Raise ValueError unless all vectors have length 1; a constant feature gives a vector of zeros."""
    length = np.einsum("cd,cd->c", vectors_CD, vectors_CD)
    if not (np.isclose(length, 1, atol=1e-3) | (length == 0)).all():
        raise ValueError("a vector is not of length 1")


def recall_of(
    vectors_RD: np.ndarray,
    index: Any,
    queries_QD: np.ndarray,
    truth_QK: np.ndarray,
    own_Q: np.ndarray | None = None,
    *,
    nprobe: int,
    rerank: int = RERANK,
) -> Recall:
    """Recall against ``truth_QK``, the ten nearest rows of each query by exact search.

    ``own_Q``: the row that each query is itself, which does not count as found.
    """

    def fractions(compared: int) -> tuple[float, float]:
        _, rows = search(vectors_RD, index, queries_QD, 11, rerank=compared, nprobe=nprobe)
        rows = rows[:, :10] if own_Q is None else _without(rows, own_Q)
        hits = (truth_QK[:, :, None] == rows[:, None, :]).any(2)
        return float(hits[:, 0].mean()), float(hits.mean())

    return Recall(nprobe, rerank, len(queries_QD), *fractions(0), *fractions(rerank))


def _without(rows_QK: np.ndarray, own_Q: np.ndarray) -> np.ndarray:
    """(Q, 10): the first ten of eleven rows that are not the query itself."""
    return np.stack([row[row != own][:10] for row, own in zip(rows_QK, own_Q, strict=True)])


def tune(vectors_RD: np.ndarray, index: Any, queries: int = 200, seed: int = 1) -> Recall | None:
    """The fewest lists (8 or a larger power of two) that find ``ENOUGH`` after re-ranking, and the recall there.

    Some vectors of the array are the queries. None for an exact index, or one of fewer than 12 vectors.
    """
    if index is None or len(vectors_RD) < 12:
        return None
    own_Q = np.sort(np.random.default_rng(seed).permutation(len(vectors_RD))[:queries])
    queried = np.ascontiguousarray(vectors_RD[own_Q])
    truth = _without(search(vectors_RD, None, queried, 11)[1], own_Q)
    lists = count_lists(index)
    nprobe = min(8, lists)
    while True:
        found = recall_of(vectors_RD, index, queried, truth, own_Q, nprobe=nprobe)
        if found.reranked_10 >= ENOUGH or nprobe >= lists:
            return found
        nprobe = min(2 * nprobe, lists)
