"""Whether clips are copies: how near the nearest training clip is, wherever in time, a little aside, or mirrored."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

REACH = 2
"""Pixels, in either direction, by which a copy may be shifted."""
CELL = 4
"""Pixels and frames a side of the cells whose means are compared first."""
TRIED = 8
"""Of each training video, the clips and shifts that are compared pixel by pixel."""
PORTION = 1 << 25
"""Bytes of the clips of a training video that are compared at a time."""
LOW = 0.01
"""Of real distances: what is nearer than this quantile of them is suspicious."""
FLAGGED = 0.05
"""Share of suspicious clips above which, by more than chance, a set is flagged."""


@dataclass(frozen=True)
class Nearest:
    """Of each clip the nearest one: root mean square difference in levels, number of its video, its first frame."""

    distance_N: np.ndarray
    video_N: np.ndarray
    first_N: np.ndarray


def nearest(clips_NTHWC: np.ndarray, videos: Iterable[np.ndarray], stride: int = 1, reach: int = REACH) -> Nearest:
    """The nearest clip of ``videos``, frames_THWC of the size of the clips, whose frames lie ``stride`` apart.

    All beginnings and all shifts by up to ``reach`` pixels, as they are and mirrored, as trainings show clips, are
    compared by their means over cells, without the border that a shift leaves; of each video the ``TRIED`` that are
    nearest so are compared by pixels, unless the distance of their means, which is never larger, is above the best
    already. A copy of such a clip is always found, since its distance is 0; one of another part of the picture, or at
    another size, is not looked for.

    Args:
        clips_NTHWC: uint8 clips.
        videos: uint8 frames of each training video; one that is shorter than a clip is passed over.
        stride: of the clips, in frames of the videos.
        reach: of the shifts.
    """
    count, frames, height, width = clips_NTHWC.shape[:4]
    best = Nearest(np.full(count, np.inf), np.full(count, -1), np.full(count, -1))
    size = height - 2 * reach, width - 2 * reach
    places = [(y, x) for y in range(2 * reach + 1) for x in range(2 * reach + 1)]
    both = (clips_NTHWC, clips_NTHWC[:, :, :, ::-1])
    shifted = [clips[:, :, y : y + size[0], x : x + size[1]] for clips in both for y, x in places]
    coarse_SND = np.stack([_coarse(clips) for clips in shifted])
    at_once = max(1, PORTION // (4 * shifted[0][0].size))
    for number, video_THWC in enumerate(videos):
        inner_THWC = video_THWC[:, reach : height - reach, reach : width - reach]
        firsts = len(video_THWC) - (frames - 1) * stride
        for first in range(0, firsts, at_once):
            starts_O = np.arange(first, min(first + at_once, firsts))
            clips_OTHWC = inner_THWC[starts_O[:, None] + np.arange(frames) * stride]
            bound_SNO = _distances(coarse_SND, _coarse(clips_OTHWC))
            for n in np.flatnonzero(bound_SNO.min((0, 2)) < best.distance_N):
                distance, o = _refined(
                    [clips[n] for clips in shifted], clips_OTHWC, bound_SNO[:, n], best.distance_N[n]
                )
                if distance < best.distance_N[n]:
                    best.distance_N[n], best.video_N[n], best.first_N[n] = distance, number, starts_O[o]
    return best


def _refined(
    shifted: Sequence[np.ndarray], clips_OTHWC: np.ndarray, bound_SO: np.ndarray, known: float
) -> tuple[float, int]:
    """The smallest distance of the shifted versions of a clip and some others, if below ``known``, and to which."""
    at = -1
    for place in np.argsort(bound_SO, axis=None)[:TRIED]:
        s, o = np.unravel_index(place, bound_SO.shape)
        if bound_SO[s, o] >= known:
            break
        distance = float(np.sqrt(np.square(shifted[s].astype(np.float32) - clips_OTHWC[o]).mean()))
        if distance < known:
            known, at = distance, int(o)
    return known, at


def _coarse(clips_NTHWC: np.ndarray) -> np.ndarray:
    """(N, D) float32 means over cells, those of an incomplete cell at an end too, each times the root of its size.

    Divided so that the Euclidean distance of two rows is a lower bound of the root mean square difference.
    """
    x = clips_NTHWC.astype(np.float32)
    total = np.prod(x.shape[1:])
    sizes = np.ones((1, 1, 1, 1, 1), np.float32)
    for axis in (1, 2, 3):
        starts = np.arange(0, x.shape[axis], CELL)
        lengths = np.diff(np.append(starts, x.shape[axis])).astype(np.float32)
        shape = [1] * 5
        shape[axis] = len(lengths)
        x = np.add.reduceat(x, starts, axis=axis) / lengths.reshape(shape)
        sizes = sizes * lengths.reshape(shape)
    return (x * np.sqrt(sizes / total)).reshape(len(x), -1)


def _distances(x_SND: np.ndarray, y_OD: np.ndarray) -> np.ndarray:
    """(S, N, O) Euclidean distances, a little too small rather than too large by rounding."""
    squares = (x_SND**2).sum(-1)[..., None] + (y_OD**2).sum(-1) - 2 * x_SND @ y_OD.T
    return np.sqrt(np.maximum(squares - 1e-5 * (squares.max() + 1), 0))


@dataclass(frozen=True)
class Copies:
    """What the distances of clips to the training videos say, beside those of test clips.

    ``ratio``: the median distance, over that of test clips; ``share``: the fraction nearer than the 1st percentile of
    these, which is 0.01 where nothing was copied; ``flagged``: whether that is more than 0.05 and more than chance.
    """

    ratio: float
    share: float
    flagged: bool


def judged(distance_N: np.ndarray, of_test_M: np.ndarray) -> Copies:
    """Compare distances to training clips with those of as real clips that were not trained on."""
    share = float((distance_N < np.quantile(of_test_M, LOW)).mean())
    expected = max(LOW, 1 / (len(of_test_M) + 1))
    chance = expected + 3 * np.sqrt(expected * (1 - expected) / len(distance_N))
    ratio = float(np.median(distance_N) / max(np.median(of_test_M), 1e-9))
    return Copies(ratio, share, share > max(FLAGGED, chance))
