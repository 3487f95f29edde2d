"""Which videos, or moments, of an index are nearest to the clips of a query: clips are compared with clips.

A video's score is the mean, over the query's clips, of the cosine of the video's clip that is nearest to each. So a
copy has 1, however much its clips differ, and a part of a video finds its whole. A moment is one clip of a video, and
its score is the cosine of the query's clip that is nearest to it.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ssl_video.apps import nearest
from ssl_video.apps.index_segments import Segment
from ssl_video.apps.index_stored import Stored
from ssl_video.apps.ranking_exact import Ranking, exact_moments, exact_videos, in_order, scores_of

QUERY_CLIPS = 32
"""Clips of a query that are compared, evenly spaced over those that it has: what bounds the work."""
SHORT = 64
"""Clips of a video up to which all are compared; of a longer one, those that are near to a clip of the query."""
BLOCK = 16384
"""Vectors that are read at a time."""


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
    if exact(stored):
        return exact_videos(stored, queries_QD, fetch, same)
    cosines_QC, rows_QC = candidates(stored, queries_QD, fetch, nprobe)
    owner_QC = np.where(rows_QC < 0, -1, stored.owner(np.maximum(rows_QC, 0)))
    there_QC = owner_QC >= 0
    numbers, inverse = np.unique(owner_QC[there_QC], return_inverse=True)
    floor_Q = np.where(rows_QC < 0, 1.0, cosines_QC).min(axis=1)
    best_VQ = np.tile(floor_Q, (len(numbers), 1))
    np.maximum.at(best_VQ, (inverse, np.nonzero(there_QC)[0]), cosines_QC[there_QC])
    estimate_V = best_VQ.mean(axis=1)
    order = np.argsort(-estimate_V, kind="stable")
    if not rerank:
        others = order[~np.isin(numbers[order], same)]
        copies = scores_of(stored, queries_QD, [_rows_of(stored, n, rows_QC) for n in same])
        return np.concatenate([copies, np.clip(estimate_V[others], -1, 1)]), np.array([*same, *numbers[others]], int)
    first = numbers[order[: max(rerank, fetch if fetch >= stored.header.rows else fetch // 8)]]
    compared = np.array(list(dict.fromkeys([*same, *first.tolist()])), int)
    rows_of = [_rows_of(stored, n, rows_QC) for n in compared.tolist()]
    scores = scores_of(stored, queries_QD, rows_of)
    order = np.argsort(-scores, kind="stable")
    return scores[order], compared[order]


def rank_moments(
    stored: Stored, queries_QD: np.ndarray, fetch: int, rerank: int, nprobe: int, same: Sequence[int] = ()
) -> Ranking:
    """Vectors by their scores; equal ones in the order of their rows, those of ``same`` first. Of an index that is not
    exact, those of removed videos may be among them. See ``rank_videos``."""
    if exact(stored):
        return exact_moments(stored, queries_QD, fetch, same)
    cosines_QK, rows_QK = candidates(stored, queries_QD, max(fetch, rerank), nprobe)
    if rerank:
        cosines_QK, rows_QK = nearest.reranked(stored.vectors_RD, queries_QD, rows_QK, fetch)
    rows, inverse = np.unique(rows_QK[rows_QK >= 0], return_inverse=True)
    scores = np.full(len(rows), -np.inf, np.float32)
    np.maximum.at(scores, inverse, cosines_QK[rows_QK >= 0])
    copies = np.concatenate([np.empty(0, int), *(_range(stored, number) for number in same)])
    if len(copies):
        others = ~np.isin(rows, copies)
        own = [nearest.exact(stored.vectors_RD, queries_QD, copies[i : i + BLOCK]).max(1)
               for i in range(0, len(copies), BLOCK)]  # fmt: skip
        rows, scores = np.concatenate([rows[others], copies]), np.concatenate([scores[others], *own])
    scores = np.clip(scores, -1, 1)
    order = in_order(scores, rows, copies)
    return scores[order], rows[order]


def exact(stored: Stored) -> bool:
    """Is every vector of the index compared?"""
    return all(segment.faiss_bytes is None for segment in stored.segments)


def lists_of(stored: Stored) -> int:
    """Lists of a segment's inverted file, 0 where there is none."""
    return 0 if exact(stored) else max(nearest.count_lists(segment.faiss_index) for segment in stored.segments)


def candidates(stored: Stored, queries_QD: np.ndarray, count: int, nprobe: int) -> tuple[np.ndarray, np.ndarray]:
    """(Q, count) cosines by the codes of faiss, highest first, and (Q, count) rows, -1 where there are fewer.

    Segments are searched by threads, which faiss lets run beside each other; one without codes is compared exactly.
    """

    def of_segment(segment: Segment) -> tuple[np.ndarray, np.ndarray]:
        if segment.faiss_bytes is None:
            return nearest.search(segment.checked_RD, None, queries_QD, count)
        return nearest.candidates(segment.faiss_index, queries_QD, count, nprobe)

    with ThreadPoolExecutor(min(len(stored.segments), os.cpu_count() or 1)) as threads:
        found = list(threads.map(of_segment, stored.segments))
    firsts = stored.first_rows.tolist()
    rows_QC = np.concatenate([np.where(rows < 0, -1, rows + a) for (_, rows), a in zip(found, firsts, strict=False)], 1)
    cosines_QC = np.concatenate([cosines for cosines, _ in found], 1)
    order_QK = np.argsort(-cosines_QC, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(cosines_QC, order_QK, 1), np.take_along_axis(rows_QC, order_QK, 1)


def best_clip(stored: Stored, queries_QD: np.ndarray, number: int) -> int:
    """Which clip of a video is nearest to any of the query's; the first of equal ones."""
    rows = _range(stored, number)
    best = np.concatenate(
        [nearest.exact(stored.vectors_RD, queries_QD, rows[i : i + BLOCK]).max(1) for i in range(0, len(rows), BLOCK)]
    )
    return int(np.flatnonzero(best >= best.max() - 1e-4)[0])


def _range(stored: Stored, number: int) -> np.ndarray:
    return np.arange(*stored.rows_of(number))


def _rows_of(stored: Stored, number: int, found_QC: np.ndarray) -> np.ndarray:
    rows = _range(stored, number)
    if len(rows) <= SHORT:
        return rows
    near = np.unique(found_QC[(found_QC >= rows[0]) & (found_QC <= rows[-1])])
    return near if len(near) else rows  # a copy that no list held
