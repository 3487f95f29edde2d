"""Histograms of orientations around moving points: HOG, HOF and MBH in a volume that follows the point."""

import functools
from collections.abc import Sequence

import numpy as np

from ssl_video.video.flow import opencv

PATCH, CELLS, SLICES = 32, 2, 3
"""Pixels a side of the volume, cells a side, and slices in time."""
BLOCK = 2
"""Pixels a side of the blocks that are summed first; the volume's place is rounded to them."""
BINS = {"hog": 8, "hof": 9, "mbhx": 8, "mbhy": 8}
STILL = 0.4
"""Pixels a frame below which a pixel counts as still in HOF."""


def orientations(dx_HW: np.ndarray, dy_HW: np.ndarray, bins: int, still: float = 0.0) -> np.ndarray:
    """(h, w, bins) magnitudes of the vectors (dx, dy), summed over blocks by orientation; float32.

    Bin b stands for the angle 2 pi b / bins, counted from right to down; a vector is shared linearly between its two
    neighbours. With ``still`` a further bin at the end counts the vectors that are shorter, which the others leave out.
    """
    magnitude, angle = opencv().cartToPolar(dx_HW, dy_HW)
    place = angle * np.float32(bins / (2 * np.pi))
    low = place.astype(np.int64)
    share = place - low
    block, (h, w) = _blocks(*dx_HW.shape), _shape(*dx_HW.shape)
    total = bins + bool(still)
    low %= bins
    high = low + 1
    high[high == bins] = 0
    if still:
        standing = magnitude < still
        low[standing] = high[standing] = bins
        magnitude = np.where(standing, np.float32(1), magnitude)
    start = block * total
    sums = np.bincount((start + low).ravel(), (magnitude * (1 - share)).ravel(), h * w * total)
    sums += np.bincount((start + high).ravel(), (magnitude * share).ravel(), h * w * total)
    return sums.reshape(h, w, total).astype(np.float32)


def _shape(height: int, width: int) -> tuple[int, int]:
    return -(-height // BLOCK), -(-width // BLOCK)


@functools.lru_cache(maxsize=16)
def _blocks(height: int, width: int) -> np.ndarray:
    """(H, W) number of each pixel's block."""
    _, w = _shape(height, width)
    return np.arange(height)[:, None] // BLOCK * w + np.arange(width) // BLOCK


def integral(gray_HW: np.ndarray, flow_HW2: np.ndarray) -> np.ndarray:
    """(h + 1, w + 1, 33) sums over all blocks above and to the left of all histograms of one frame.

    Args:
        gray_HW: float32 frame.
        flow_HW2: float32 motion to the next frame, in pixels, without the camera's.
    """
    cv2 = opencv()

    def gradient(image_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return cv2.Sobel(image_HW, cv2.CV_32F, 1, 0, ksize=1), cv2.Sobel(image_HW, cv2.CV_32F, 0, 1, ksize=1)

    dx, dy = (np.ascontiguousarray(flow_HW2[..., axis]) for axis in (0, 1))
    parts = [
        orientations(*gradient(gray_HW), BINS["hog"]),
        orientations(dx, dy, BINS["hof"] - 1, STILL),
        orientations(*gradient(dx), BINS["mbhx"]),
        orientations(*gradient(dy), BINS["mbhy"]),
    ]
    return cv2.integral(np.concatenate(parts, axis=2), sdepth=cv2.CV_32F)


def describe(integrals: Sequence[np.ndarray], points_PL2: np.ndarray) -> dict[str, np.ndarray]:
    """name -> (P, slices * cells * cells * bins) descriptor of P tracks, square roots of shares that sum to 1.

    A volume that would reach over the border is shifted into the picture.

    Args:
        integrals: of L consecutive frames.
        points_PL2: (x, y) of each track in each of them, in pixels.
    """
    length, side = len(integrals), PATCH // BLOCK
    h, w, bins = integrals[0].shape
    sums = np.zeros((len(points_PL2), SLICES, CELLS, CELLS, bins), np.float32)
    corner = np.arange(CELLS + 1) * (side // CELLS)
    for frame, table in enumerate(integrals):
        left, top = (
            np.clip(np.rint(points_PL2[:, frame, axis] / BLOCK).astype(int) - side // 2, 0, most - 1 - side)
            for axis, most in ((0, w), (1, h))
        )
        corners_P33 = table[(top[:, None] + corner)[:, :, None], (left[:, None] + corner)[:, None, :]]
        sums[:, frame * SLICES // length] += np.diff(np.diff(corners_P33, axis=1), axis=2)
    ends = np.cumsum(list(BINS.values()))
    parts = np.split(np.maximum(sums, 0), ends[:-1], axis=-1)
    return {name: _rooted(part.reshape(len(part), -1)) for name, part in zip(BINS, parts, strict=True)}


def _rooted(x_PD: np.ndarray) -> np.ndarray:
    return np.sqrt(x_PD / np.maximum(x_PD.sum(1, keepdims=True), 1e-6))
