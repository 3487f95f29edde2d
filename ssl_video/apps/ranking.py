"""Which videos, or moments, of an index are nearest to the clips of a query: clips are compared with clips.

A video's score is the mean, over the query's clips, of the cosine of the video's clip that is nearest to each. So a
copy has 1, however much its clips differ, and a part of a video finds its whole. A moment is one clip of a video, and
its score is the cosine of the query's clip that is nearest to it.
"""

from collections.abc import Sequence

import numpy as np

from ssl_video.apps import nearest
from ssl_video.apps.index_folder import Stored

QUERY_CLIPS = 32
"""Clips of a query that are compared, evenly spaced over those that it has: what bounds the work."""
SHORT = 64
"""Clips of a video up to which all are compared; of a longer one, those that are near to a clip of the query."""
BLOCK = 16384
"""Vectors that are read at a time."""

Ranking = tuple[np.ndarray, np.ndarray]
"""(N,) scores, best first, and (N,) numbers of videos or of vectors."""


def thinned(clips_KD: np.ndarray) -> np.ndarray:
    """At most ``QUERY_CLIPS`` of the clips, evenly spaced; of a copy each still has its own beside it."""
    if len(clips_KD) <= QUERY_CLIPS:
        return clips_KD
    return clips_KD[np.linspace(0, len(clips_KD) - 1, QUERY_CLIPS).round().astype(int)]


def rank_videos(
    stored: Stored, queries_QD: np.ndarray, fetch: int, rerank: int, nprobe: int, same: Sequence[int] = ()
) -> Ranking:
    """Videos by their scores. An exact index compares all; of another, faiss names ``fetch`` vectors a clip.

    The videos of these are put in order by their codes, and the first are compared by their vectors: ``rerank`` of
    them, or as many more as ``fetch`` asks for. A clip of the query that found none of a video counts with the
    lowest cosine that it found at all, which is the most that it can be.

    Args:
        stored: the index.
        queries_QD: the query's clips, of length 1.
        fetch: vectors that are looked for around each.
        rerank: videos that are compared exactly; 0 goes by the codes alone.
        nprobe: lists of an inverted file that are searched.
        same: numbers of videos that are compared in any case, by their vectors; with ``rerank`` 0 they come first.

    Raises:
        ValueError: if a vector that was compared is damaged.
    """
    if stored.faiss_index is None:
        scores_V = _all_scores(stored, queries_QD)
        order = np.argsort(-scores_V, kind="stable")
        return scores_V[order], order
    cosines_QC, rows_QC = nearest.candidates(stored.faiss_index, queries_QD, fetch, nprobe)
    owner_QC = np.where(rows_QC < 0, -1, stored.owner_R[rows_QC])
    there_QC = owner_QC >= 0
    numbers, inverse = np.unique(owner_QC[there_QC], return_inverse=True)
    floor_Q = np.where(rows_QC < 0, 1.0, cosines_QC).min(axis=1)
    best_VQ = np.tile(floor_Q, (len(numbers), 1))
    np.maximum.at(best_VQ, (inverse, np.nonzero(there_QC)[0]), cosines_QC[there_QC])
    estimate_V = best_VQ.mean(axis=1)
    order = np.argsort(-estimate_V, kind="stable")
    if not rerank:
        others = order[~np.isin(numbers[order], same)]
        copies = _scores_of(stored, queries_QD, [_rows_of(stored, n, rows_QC) for n in same])
        return np.concatenate([copies, np.clip(estimate_V[others], -1, 1)]), np.array([*same, *numbers[others]], int)
    first = numbers[order[: max(rerank, fetch if fetch >= stored.header.rows else fetch // 8)]]
    compared = np.array(list(dict.fromkeys([*same, *first.tolist()])), int)
    rows_of = [_rows_of(stored, n, rows_QC) for n in compared.tolist()]
    scores = _scores_of(stored, queries_QD, rows_of)
    order = np.argsort(-scores, kind="stable")
    return scores[order], compared[order]


def rank_moments(
    stored: Stored, queries_QD: np.ndarray, fetch: int, rerank: int, nprobe: int, same: Sequence[int] = ()
) -> Ranking:
    """Vectors by their scores, of removed videos too; equal ones in the order of time, those of ``same``
    first. See ``rank_videos``."""
    cosines_QK, rows_QK = nearest.search(
        stored.vectors_RD, stored.faiss_index, queries_QD, fetch, rerank=rerank, nprobe=nprobe
    )
    rows, inverse = np.unique(rows_QK[rows_QK >= 0], return_inverse=True)
    scores = np.full(len(rows), -np.inf, np.float32)
    np.maximum.at(scores, inverse, cosines_QK[rows_QK >= 0])
    copies = np.concatenate([np.empty(0, int), *(_range(stored, number) for number in same)])
    if stored.faiss_index is not None and len(copies):
        others = ~np.isin(rows, copies)
        own = [nearest.exact(stored.vectors_RD, queries_QD, copies[i : i + BLOCK]).max(1)
               for i in range(0, len(copies), BLOCK)]  # fmt: skip
        rows, scores = np.concatenate([rows[others], copies]), np.concatenate([scores[others], *own])
    scores = np.clip(scores, -1, 1)
    order = np.lexsort((rows, ~np.isin(rows, copies), -scores.round(5)))
    return scores[order], rows[order]


def best_clip(stored: Stored, queries_QD: np.ndarray, number: int) -> int:
    """Which clip of a video is nearest to any of the query's; the first of equal ones."""
    rows = _range(stored, number)
    best = np.concatenate(
        [nearest.exact(stored.vectors_RD, queries_QD, rows[i : i + BLOCK]).max(1) for i in range(0, len(rows), BLOCK)]
    )
    return int(np.flatnonzero(best >= best.max() - 1e-4)[0])


def _range(stored: Stored, number: int) -> np.ndarray:
    entry = stored.entries[number]
    return np.arange(entry.first, entry.first + len(entry.times_s))


def _rows_of(stored: Stored, number: int, found_QC: np.ndarray) -> np.ndarray:
    rows = _range(stored, number)
    if len(rows) <= SHORT:
        return rows
    near = np.unique(found_QC[(found_QC >= rows[0]) & (found_QC <= rows[-1])])
    return near if len(near) else rows  # a copy that no list held


def _scores_of(stored: Stored, queries_QD: np.ndarray, rows_of: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) the scores of videos that are given by rows of theirs, some videos at a time."""
    scores: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    for n, rows in enumerate(rows_of):
        waiting.append(rows)
        if sum(map(len, waiting)) >= BLOCK or n == len(rows_of) - 1:
            cosines_RQ = nearest.exact(stored.vectors_RD, queries_QD, np.concatenate(waiting))
            starts = np.cumsum([0, *(len(w) for w in waiting[:-1])])
            scores.append(np.maximum.reduceat(cosines_RQ, starts).mean(axis=1))
            waiting.clear()
    return np.clip(np.concatenate(scores), -1, 1) if scores else np.empty(0, np.float32)


def _all_scores(stored: Stored, queries_QD: np.ndarray) -> np.ndarray:
    """(videos,) the scores of all, from one reading of all vectors."""
    best_QV = np.full((len(queries_QD), len(stored.entries)), -np.inf, np.float32)
    for start in range(0, stored.header.rows, BLOCK):
        owner = stored.owner_R[start : start + BLOCK]
        cosines_QB = queries_QD @ stored.vectors_RD[start : start + BLOCK].T
        if not np.isfinite(cosines_QB).all():
            raise ValueError("a vector is not finite")
        begins = np.flatnonzero(np.diff(owner, prepend=-2))  # clips of a video lie beside each other
        best_QS, owner_S = np.maximum.reduceat(cosines_QB, begins, axis=1), owner[begins]
        alive = owner_S >= 0
        best_QV[:, owner_S[alive]] = np.maximum(best_QV[:, owner_S[alive]], best_QS[:, alive])
    return np.clip(best_QV.mean(axis=0), -1, 1)
