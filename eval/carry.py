"""Masks and points of a video's first frame carried to its other frames, one frame in memory at a time."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_video.eval.affinity import Affinity, propagate
from ssl_video.eval.dense import FrameFeatures

LABELS_AT_ONCE = 16
"""Soft labels that are enlarged to the size of the picture at a time."""
SIGMA = 0.5
"""Standard deviation of the Gaussian that stands for a point, in cells."""
POINT_CELLS = 3
"""Cells whose weighted mean is a point's place."""


def carry_masks(
    frames: Iterable[np.ndarray], mask_HW: np.ndarray, numbers: Sequence[int], features: FrameFeatures, how: Affinity
) -> Iterator[np.ndarray]:
    """mask_HW of every frame, uint8, of the size of the first one, which comes back as it is.

    One soft label an object and one for the background are carried; each pixel goes to the largest, after these have
    been enlarged bilinearly.

    Args:
        frames: frame_HWC of each frame in turn.
        mask_HW: numbers of objects in the first frame.
        numbers: the objects to carry, without 0; all else is background.
        features: of a frame.
        how: see ``Affinity``.
    """
    order = [0, *(n for n in numbers if n)]
    labels_LHW = one_hot(mask_HW, order[1:])
    values = torch.tensor(order, dtype=torch.uint8)
    for t, soft_Lhw in enumerate(_carried(frames, labels_LHW, features, how)):
        if t == 0:
            yield np.where(np.isin(mask_HW, order), mask_HW, 0).astype(np.uint8)
        else:
            yield values[largest(soft_Lhw, (mask_HW.shape[0], mask_HW.shape[1])).cpu()].numpy()


def carry_points(
    frames: Iterable[np.ndarray], points_J2: np.ndarray, features: FrameFeatures, how: Affinity, rounded: bool = False
) -> Iterator[np.ndarray]:
    """points_J2 of every frame, as (x, y) in pixels, where the centre of the first pixel is (0, 0); NaN: lost.

    Args:
        frames: frame_HWC of each frame in turn.
        points_J2: the points in the first frame.
        features: of a frame.
        how: see ``Affinity``.
        rounded: the first frame's points are rounded to cells (``rounded_gaussians``), and cell x of w stands for pixel
            x W / w of W, its first instead of its middle one, as in the code of the contrastive random walk.
    """
    stream = iter(frames)
    first_HWC = next(stream)
    height, width = first_HWC.shape[:2]
    first_Dhw = features(first_HWC)
    h, w = first_Dhw.shape[1:]
    cells = torch.tensor([w / width, h / height], dtype=torch.float64)
    middle, drawn = (0.0, rounded_gaussians) if rounded else (0.5, gaussians)
    labels_Jhw = drawn((torch.from_numpy(np.asarray(points_J2, np.float64)) + middle) * cells - middle, (h, w))
    maps = propagate(chain([first_Dhw], map(features, stream)), labels_Jhw, how)
    for t, soft_Jhw in enumerate(maps):
        yield np.array(points_J2) if t == 0 else ((peaks(soft_Jhw) + middle) / cells - middle).numpy()


def _carried(
    frames: Iterable[np.ndarray], labels_LHW: Tensor, features: FrameFeatures, how: Affinity
) -> Iterator[Tensor]:
    stream = map(features, frames)
    first_Dhw = next(stream)
    labels_Lhw = F.interpolate(labels_LHW[None], size=first_Dhw.shape[1:], mode="bilinear", align_corners=False)[0]
    return propagate(chain([first_Dhw], stream), labels_Lhw, how)


def one_hot(mask_HW: np.ndarray, numbers: Sequence[int]) -> Tensor:
    """labels_LHW, float32: the background, which is all that is none of ``numbers``, and then these in their order."""
    labels_LHW = np.stack([np.zeros(mask_HW.shape, bool), *(mask_HW == n for n in numbers)])
    labels_LHW[0] = ~labels_LHW.any(0)
    return torch.from_numpy(labels_LHW).float()


def largest(soft_Lhw: Tensor, size: tuple[int, int]) -> Tensor:
    """index_HW of the largest label at each pixel, of soft labels enlarged bilinearly; the first one of equals."""
    best_HW = index_HW = None
    for start in range(0, len(soft_Lhw), LABELS_AT_ONCE):
        part = soft_Lhw[None, start : start + LABELS_AT_ONCE]
        value_HW, place_HW = F.interpolate(part, size=size, mode="bilinear", align_corners=False)[0].max(0)
        if best_HW is None or index_HW is None:
            best_HW, index_HW = value_HW, place_HW
            continue
        better_HW = value_HW > best_HW
        index_HW = torch.where(better_HW, place_HW + start, index_HW)
        best_HW = torch.where(better_HW, value_HW, best_HW)
    assert index_HW is not None
    return index_HW


def gaussians(points_J2: Tensor, size: tuple[int, int]) -> Tensor:
    """maps_Jhw, float32, of a Gaussian of height 1 around each point (x, y), in cells; 0 for a point that is NaN."""
    y_h1, x_w = torch.arange(size[0])[:, None], torch.arange(size[1])
    squared_Jhw = (x_w - points_J2[:, 0, None, None]) ** 2 + (y_h1 - points_J2[:, 1, None, None]) ** 2
    return (-squared_Jhw / (2 * SIGMA**2)).exp().nan_to_num(0).float()


def rounded_gaussians(points_J2: Tensor, size: tuple[int, int]) -> Tensor:
    """As ``gaussians``, as the code of the contrastive random walk draws them (JHMDB).

    A point is rounded to a cell, and around that cell are 4x4 of the Gaussian, two before it and one behind it. Before
    cell 1.5 the code truncates towards zero, so that the Gaussian is one cell late there.
    """
    first_J2, end_J2 = (points_J2 - 3 * SIGMA).trunc(), (points_J2 + 3 * SIGMA + 1).trunc()
    profiles = []
    for axis, count in enumerate((size[1], size[0])):
        cell_N = torch.arange(count, dtype=points_J2.dtype)
        first_J1, end_J1 = first_J2[:, axis, None], end_J2[:, axis, None]
        profile_JN = (-((cell_N - first_J1 - 2) ** 2) / (2 * SIGMA**2)).exp()
        profiles.append(torch.where((first_J1 <= cell_N) & (cell_N < end_J1), profile_JN, 0.0))
    return (profiles[1][:, :, None] * profiles[0][:, None]).float()


def peaks(maps_Jhw: Tensor) -> Tensor:
    """points_J2 (x, y), in cells, float64: the weighted mean of the three largest cells; NaN for a map of zeros."""
    w = maps_Jhw.shape[2]
    flat_JN = maps_Jhw.flatten(1).double().cpu()
    weight_Jk, cell_Jk = flat_JN.topk(min(POINT_CELLS, flat_JN.shape[1]), 1)
    places_Jk2 = torch.stack([cell_Jk % w, cell_Jk // w], 2).double()
    return (places_Jk2 * weight_Jk[..., None]).sum(1) / weight_Jk.sum(1, keepdim=True)
