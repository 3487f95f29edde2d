"""How near carried points come: PCK, the percentage of correct key points (here a fraction)."""

import numpy as np

DISTANCES = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Fractions of the size of the body within which a point is correct."""
BOX = 0.6
"""The size of a body is this fraction of the diagonal of the box around its points."""


def correct_points(points_J2: np.ndarray, truth_J2: np.ndarray) -> np.ndarray:
    """correct_JD, 1 where a point lies within each of ``DISTANCES`` of its true place, 0 where it does not or is lost.

    NaN where the true place is not known. The size of the body is that of all points that are known.
    """
    known_J = np.isfinite(truth_J2).all(1)
    known_N2 = truth_J2[known_J]
    extent_2 = known_N2.max(0) - known_N2.min(0) if len(known_N2) else np.zeros(2)
    distance_J = np.linalg.norm(points_J2 - truth_J2, axis=1)
    allowed_D = np.array(DISTANCES) * BOX * np.linalg.norm(extent_2)
    correct_JD = (distance_J[:, None] <= allowed_D).astype(np.float64)  # NaN, a lost point, is not near
    correct_JD[~known_J] = np.nan
    return correct_JD


def pck(correct_FJD: np.ndarray) -> dict[str, float]:
    """``PCK@0.1`` and so on: the fraction of frames in which a point is correct, on average over points.

    Points that are never known are left out.
    """
    known_J = np.isfinite(correct_FJD[..., 0]).any(0)
    values_D = np.nanmean(correct_FJD[:, known_J], axis=0).mean(0)
    return {f"PCK@{distance:g}": float(value) for distance, value in zip(DISTANCES, values_D, strict=True)}
