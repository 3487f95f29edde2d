"""The videos, or moments, of an exact index in order: every vector is compared, and the order is that of all at once.

One product of matrices gives every cosine nearly: its last bits depend on what lies beside a vector. So those that can
be among the first are compared again, pair by pair in double precision, which gives the same number in whichever
segment or index a vector lies. Equal ones come in the order of their rows. How far a cosine in single precision can be
off is known (``slack``), so that none is missed.
"""

from collections.abc import Sequence

import numpy as np

from ssl_video.apps import nearest
from ssl_video.apps.index_segments import Segment
from ssl_video.apps.index_stored import Stored

BLOCK = 16384
"""Vectors that are read at a time."""
PAIRS = 1 << 22
"""Numbers that are multiplied at a time, pair by pair."""
ROUNDED = 5
"""Decimals by which the scores of two moments have to differ for one to be before the other."""

Ranking = tuple[np.ndarray, np.ndarray]
"""(N,) scores, best first, and (N,) numbers of videos or rows of vectors."""


def slack(dim: int) -> float:
    """How far the inner product of two vectors of length 1 in single precision can be from the true one, at most."""
    return (dim + 64) * 2.0**-24


def exact_videos(stored: Stored, queries_QD: np.ndarray, fetch: int, same: Sequence[int] = ()) -> Ranking:
    """The ``fetch`` best videos, and those of ``same``; see ``ranking.rank_videos``."""
    nearly_V = np.concatenate([_nearly(segment, queries_QD) for segment in stored.segments])
    nearly_V[stored.removed_V] = -np.inf
    numbers = _first(nearly_V, fetch, 2 * slack(queries_QD.shape[1]))
    numbers = np.union1d(numbers, np.array(same, int))
    scores = scores_of(stored, queries_QD, [np.arange(*stored.rows_of(n)) for n in numbers.tolist()])
    order = np.lexsort((numbers, -scores))
    order = order[(np.arange(len(order)) < fetch) | np.isin(numbers[order], same)]
    return scores[order], numbers[order]


def exact_moments(stored: Stored, queries_QD: np.ndarray, fetch: int, same: Sequence[int] = ()) -> Ranking:
    """The ``fetch`` best vectors but those of removed videos; see ``ranking.rank_moments``."""
    found = [_near_rows(stored, number, queries_QD, fetch) for number in range(len(stored.segments))]
    nearly, rows = (np.concatenate(parts) for parts in zip(*found, strict=True))
    rows = rows[_first(nearly, fetch, _tie(queries_QD))]
    scores = np.concatenate([np.empty(0, np.float32), *(
        best_of(stored.vectors_RD[rows[i : i + BLOCK]], queries_QD) for i in range(0, len(rows), BLOCK)
    )])  # fmt: skip
    copies = np.concatenate([np.empty(0, int), *(np.arange(*stored.rows_of(number)) for number in same)])
    order = in_order(scores, rows, copies)[:fetch]
    return scores[order], rows[order]


def in_order(scores: np.ndarray, rows: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """The order of moments: equal ones by their rows, those of ``copies`` first."""
    return np.lexsort((rows, ~np.isin(rows, copies), -scores.round(ROUNDED)))


def _tie(queries_QD: np.ndarray) -> float:
    return 2 * slack(queries_QD.shape[1]) + 2 * 10.0**-ROUNDED


def _first(nearly_N: np.ndarray, fetch: int, slack: float) -> np.ndarray:
    """The places of all that can be among the ``fetch`` best, in order; those of -inf never are."""
    fetch = min(fetch, len(nearly_N))
    least = np.partition(nearly_N, len(nearly_N) - fetch)[len(nearly_N) - fetch]
    return np.flatnonzero((nearly_N >= least - slack) & (nearly_N > -np.inf))


def _nearly(segment: Segment, queries_QD: np.ndarray) -> np.ndarray:
    """(V,) the scores of the videos of a segment, from one reading of its vectors."""
    vectors_RD, ends_V = segment.checked_RD, segment.ends_V
    scores_V = np.empty(segment.videos, np.float32)
    video = row = 0
    while video < segment.videos:
        last = max(video + 1, int(np.searchsorted(ends_V, 2 * (row + BLOCK), side="right")))
        ends_B = ends_V[video:last] // 2 - row
        if not (np.diff(ends_B, prepend=0) > 0).all():
            raise ValueError("a video ends before it begins")
        scores_V[video:last] = _best(vectors_RD[row : row + int(ends_B[-1])], queries_QD, ends_B).mean(0)
        video, row = last, row + int(ends_B[-1])
    return scores_V


def _best(vectors_RD: np.ndarray, queries_QD: np.ndarray, ends_B: np.ndarray) -> np.ndarray:
    """(Q, B) nearly the highest cosine of each video's clips."""
    best_QB = np.full((len(queries_QD), len(ends_B)), -np.inf, np.float32)
    for start in range(0, len(vectors_RD), BLOCK):
        cosines_QR = _cosines(vectors_RD[start : start + BLOCK], queries_QD)
        first, last = np.searchsorted(ends_B, [start, start + cosines_QR.shape[1] - 1], side="right")
        begins = np.maximum(np.concatenate([[0], ends_B])[first : last + 1] - start, 0)
        here_QB = best_QB[:, first : last + 1]
        np.maximum(here_QB, np.maximum.reduceat(cosines_QR, begins, axis=1), out=here_QB)
    return best_QB


def _cosines(vectors_RD: np.ndarray, queries_QD: np.ndarray) -> np.ndarray:
    cosines_QR = queries_QD @ vectors_RD.T
    if not np.isfinite(cosines_QR).all():
        raise ValueError("a vector is not finite")
    return cosines_QR


def _near_rows(stored: Stored, number: int, queries_QD: np.ndarray, fetch: int) -> tuple[np.ndarray, np.ndarray]:
    """Of a segment, nearly the scores of the vectors that can be among the ``fetch`` best, and their rows."""
    segment, first = stored.segments[number], int(stored.first_rows[number])
    vectors_RD = segment.checked_RD
    nearly_R = np.empty(segment.rows, np.float32)
    for start in range(0, segment.rows, BLOCK):
        nearly_R[start : start + BLOCK] = _cosines(vectors_RD[start : start + BLOCK], queries_QD).max(0)
    removed_V = stored.removed_V[stored.first_videos[number] : stored.first_videos[number + 1]]
    if removed_V.any():
        nearly_R[np.repeat(removed_V, np.diff(segment.ends_V, prepend=0) // 2)] = -np.inf
    places = _first(nearly_R, fetch, _tie(queries_QD))
    return nearly_R[places], first + places


def scores_of(stored: Stored, queries_QD: np.ndarray, rows_of: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) the scores of videos that are given by rows of theirs, some videos at a time.

    Raises:
        ValueError: if a vector is not of length 1: it was changed.
    """
    scores: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    for n, rows in enumerate(rows_of):
        waiting.append(rows)
        if sum(map(len, waiting)) >= BLOCK or n == len(rows_of) - 1:
            scores.append(_mean_best(stored.vectors_RD[np.concatenate(waiting)], queries_QD, waiting))
            waiting = []
    return np.concatenate(scores) if scores else np.empty(0, np.float32)


def _mean_best(vectors_CD: np.ndarray, queries_QD: np.ndarray, rows_of: Sequence[np.ndarray]) -> np.ndarray:
    nearest.check_lengths(vectors_CD)
    lengths_V = np.array([len(rows) for rows in rows_of])
    starts_V, owner_C = np.cumsum(lengths_V) - lengths_V, np.repeat(np.arange(len(rows_of)), lengths_V)
    nearly_CQ = vectors_CD @ queries_QD.T
    best_VQ = np.maximum.reduceat(nearly_CQ, starts_V, axis=0)
    clips, queries = np.nonzero(nearly_CQ >= best_VQ[owner_C] - 2 * slack(queries_QD.shape[1]))
    exact_VQ = np.full(best_VQ.shape, -np.inf)
    np.maximum.at(exact_VQ, (owner_C[clips], queries), _products(vectors_CD, queries_QD, clips, queries))
    return np.clip(exact_VQ.mean(axis=1), -1, 1).astype(np.float32)


def best_of(vectors_CD: np.ndarray, queries_QD: np.ndarray) -> np.ndarray:
    """(C,) the cosine of each vector with the query's clip that is nearest to it. Raises ValueError."""
    nearest.check_lengths(vectors_CD)
    nearly_CQ = vectors_CD @ queries_QD.T
    clips, queries = np.nonzero(nearly_CQ >= nearly_CQ.max(1, keepdims=True) - 2 * slack(queries_QD.shape[1]))
    best_C = np.full(len(vectors_CD), -np.inf)
    np.maximum.at(best_C, clips, _products(vectors_CD, queries_QD, clips, queries))
    return np.clip(best_C, -1, 1).astype(np.float32)


def _products(vectors_CD: np.ndarray, queries_QD: np.ndarray, clips: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(P,) inner products of pairs in double precision, each summed up by itself."""
    step = max(1, PAIRS // queries_QD.shape[1])
    return np.concatenate([np.empty(0), *(
        (vectors_CD[clips[i : i + step]].astype(np.float64) * queries_QD[queries[i : i + step]]).sum(axis=1)
        for i in range(0, len(clips), step)
    )])  # fmt: skip
