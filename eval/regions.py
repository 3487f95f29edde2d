"""How well masks fit: region similarity J, boundary measure F, and their statistics over a video; global mean IoU.

F. Perazzi et al.: "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016, section 4.
Masks of one object are boolean (H, W).
"""

import math
from collections.abc import Sequence

import numpy as np

TOLERANCE = 0.008
"""Distance, as a fraction of the picture's diagonal, at which boundaries still meet."""


def jaccard(mask_HW: np.ndarray, truth_HW: np.ndarray) -> float:
    """Intersection over union; 1 where both are empty."""
    union = np.count_nonzero(mask_HW | truth_HW)
    return np.count_nonzero(mask_HW & truth_HW) / union if union else 1.0


def boundary(mask_HW: np.ndarray) -> np.ndarray:
    """The pixels that differ from the one to their right, below, or right below; outside, the mask continues."""
    grown = np.pad(mask_HW, ((0, 1), (0, 1)), mode="edge")
    return (mask_HW ^ grown[:-1, 1:]) | (mask_HW ^ grown[1:, :-1]) | (mask_HW ^ grown[1:, 1:])


def boundary_f(mask_HW: np.ndarray, truth_HW: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """F of the boundaries' precision and recall within ``tolerance`` of the diagonal, rounded up to whole pixels.

    1 where neither mask has a boundary, 0 where one of them has none.
    """
    import cv2

    radius = math.ceil(tolerance * math.hypot(*mask_HW.shape))
    offsets = np.arange(-radius, radius + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)
    edge_HW, true_edge_HW = boundary(mask_HW), boundary(truth_HW)
    count, true_count = np.count_nonzero(edge_HW), np.count_nonzero(true_edge_HW)
    if not count or not true_count:
        return float(count == true_count)
    precision = np.count_nonzero(edge_HW & (cv2.dilate(true_edge_HW.view(np.uint8), disk) > 0)) / count
    recall = np.count_nonzero(true_edge_HW & (cv2.dilate(edge_HW.view(np.uint8), disk) > 0)) / true_count
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def statistics(values_T: Sequence[float]) -> tuple[float, float, float]:
    """Mean, recall (the fraction of values above 0.5) and decay of an object's values over a video.

    Decay is the mean of the first quarter less that of the last; quarters share the frame where they meet.
    """
    values = np.asarray(values_T, np.float64)
    ends = np.floor(np.linspace(1, len(values), 5) + 0.5 + 1e-10).astype(int) - 1  # halves are rounded up
    first, last = values[ends[0] : ends[1] + 1], values[ends[3] : ends[4] + 1]
    return float(values.mean()), float((values > 0.5).mean()), float(first.mean() - last.mean())


def confusion(mask_HW: np.ndarray, truth_HW: np.ndarray, classes: int) -> np.ndarray:
    """pixels_KK: pixels by true (row) and predicted class; those of no true class below ``classes`` are left out."""
    known = truth_HW < classes
    pairs = truth_HW[known].astype(np.int64) * classes + mask_HW[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def mean_iou(pixels_KK: np.ndarray) -> float:
    """Mean intersection over union of the classes that are there, in truth or predicted."""
    both = np.diag(pixels_KK)
    either = pixels_KK.sum(0) + pixels_KK.sum(1) - both
    return float((both[either > 0] / either[either > 0]).mean())
