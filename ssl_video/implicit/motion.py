"""Where a layered atlas starts: the camera's path, a coarse mask of what moves otherwise, and the path of that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ssl_video.implicit.footage import Footage
from ssl_video.video.cues import homography
from ssl_video.video.flow import opencv

LEAST = 0.3
"""Pixels from one learned frame to the next below which no motion counts as an object's own."""
FASTEST, MOVES, STILL = 99, 0.5, 0.3
"""The percentile that stands for the fastest motion of a frame, and fractions of it above which a pixel is likely of an
object, and below which it is not."""
ROUNDS, KEPT = 3, 0.2
"""Of GrabCut: how often it is repeated, and the fraction of what moves that it has to keep to be believed."""
SMOOTH_S = 1.0
"""Standard deviation, in learned frames, by which an object's motion and path are smoothed."""
SPREAD, ROOM, LARGEST = 0.8, 0.9, 2.0
"""How much of an atlas a frame that does not move fills, how much of it all frames may, and the largest enlargement."""


def camera_motion(flow_HW2: np.ndarray) -> np.ndarray:
    """(3, 3) the homography that most of a flow field follows; where none is found, its median shift."""
    height, width = flow_HW2.shape[:2]
    found_33 = homography(flow_HW2, (slice(0, height), slice(0, width)))
    if found_33 is not None:
        return found_33
    shift_33 = np.eye(3)
    shift_33[:2, 2] = np.median(flow_HW2.reshape(-1, 2), axis=0)
    return shift_33


def camera_path(footage: Footage) -> np.ndarray:
    """(T, 2, 3) float32 for each frame the affine map of its pixels to where the first frame shows the same background.

    Homographies between learned frames, one after the other, each of them as the affine map that fits it best within
    the frame. In between, maps are interpolated.
    """
    height, width = footage.size[1:]
    corners_42 = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], np.float32)
    ones_43 = np.concatenate([corners_42, np.ones((4, 1))], 1)
    path = [np.eye(3)]
    for flow_HW2 in footage.ahead_RHW2.numpy():
        moved_42 = opencv().perspectiveTransform(corners_42[None], camera_motion(flow_HW2))[0]
        back_33 = np.eye(3)
        moved_43 = np.concatenate([moved_42, np.ones((4, 1))], 1)
        back_33[:2] = np.linalg.lstsq(moved_43, ones_43, rcond=None)[0].T[:2]
        path.append(path[-1] @ back_33)
    return between_learned(np.stack(path)[:, :2].reshape(-1, 6), footage).reshape(-1, 2, 3)


def between_learned(values_SD: np.ndarray, footage: Footage) -> np.ndarray:
    """(T, D) float32 for all frames, linear between those that are learned."""
    times_T, learned_S = np.arange(footage.size[0]), footage.trained_S.numpy()
    columns = [np.interp(times_T, learned_S, values_S) for values_S in values_SD.T]
    return np.stack(columns, 1).astype(np.float32)


def moving_masks(footage: Footage) -> np.ndarray:
    """(S, H, W) float32, 0 or 1: what moves otherwise than most of its frame.

    Of the motion that is left when the dominant homography is taken away, to the frame before or after, the lesser
    counts, smoothed over time. Flow spreads beyond an object, so that colours decide where it ends (C. Rother et al.:
    "GrabCut", SIGGRAPH 2004; OpenCV): between what moves half as much as the fastest and what moves little.
    """
    own_SHW = np.asarray(gaussian_filter1d(own_motion(footage), SMOOTH_S, axis=0))
    frames = footage.frames_THWC[footage.trained_S].numpy()
    return np.stack([_cut(frames[s], own_SHW[s]) for s in range(len(frames))]).astype(np.float32)


def own_motion(footage: Footage) -> np.ndarray:
    """(S, H, W) float32 pixels a learned frame by which pixels move otherwise than most of their frame."""
    _, height, width = footage.size
    y_HW, x_HW = np.mgrid[:height, :width].astype(np.float32)
    here_HW2 = np.stack([x_HW, y_HW], -1)
    own_SHW = np.full((len(footage.trained_S), height, width), np.inf, np.float32)
    for fields_RHW2, first in ((footage.ahead_RHW2.numpy(), 0), (footage.behind_RHW2.numpy(), 1)):
        for s, flow_HW2 in enumerate(fields_RHW2, first):
            of_camera_HW2 = opencv().perspectiveTransform(here_HW2, camera_motion(flow_HW2)) - here_HW2
            own_SHW[s] = np.minimum(own_SHW[s], np.linalg.norm(flow_HW2 - of_camera_HW2, axis=-1))
    return np.where(np.isfinite(own_SHW), own_SHW, 0)  # one frame has no flow


def _cut(frame_HWC: np.ndarray, own_HW: np.ndarray) -> np.ndarray:
    """(H, W) bool the object, by its own motion and its colours."""
    cv2, fastest = opencv(), float(np.percentile(own_HW, FASTEST))
    sure_HW = own_HW > max(LEAST, MOVES * fastest)
    marks_HW = np.where(sure_HW, cv2.GC_PR_FGD, np.where(own_HW > STILL * fastest, cv2.GC_PR_BGD, cv2.GC_BGD))
    if not sure_HW.any() or sure_HW.all():
        return sure_HW
    marks_HW = marks_HW.astype(np.uint8)
    cv2.setRNGSeed(0)  # the first clusters of colours are drawn
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(frame_HWC), marks_HW, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    cut_HW = marks_HW == cv2.GC_PR_FGD
    return cut_HW if cut_HW.sum() > KEPT * sure_HW.sum() else sure_HW  # colours that tell nothing leave little


def object_path(footage: Footage, masks_SHW: np.ndarray) -> tuple[np.ndarray, float]:
    """(T, 2) float32 the middle of the masks in each frame, in pixels, a little smoothed, and how far they reach.

    The reach is the distance, along x or y, from the middle within which nearly all of each mask lies. A frame whose
    mask is empty takes the middle of its neighbours; if all are, it is the middle of the frame, and its half.
    """
    _, height, width = footage.size
    middles, reach, seen = [], 1.0, []
    for s, mask_HW in enumerate(masks_SHW > 0.5):
        if mask_HW.any():
            places_2N = np.stack(np.nonzero(mask_HW)[::-1]).astype(np.float64)
            middle_2 = places_2N.mean(1)
            reach = max(reach, float(np.percentile(np.abs(places_2N - middle_2[:, None]).max(0), 98)))
            middles.append(middle_2)
            seen.append(s)
    if not seen:
        return np.tile(np.array([(width - 1) / 2, (height - 1) / 2], np.float32), (footage.size[0], 1)), max(
            width, height
        ) / 2
    all_S2 = np.stack([np.interp(np.arange(len(masks_SHW)), seen, xy) for xy in np.stack(middles, 1)], 1)
    return between_learned(gaussian_filter1d(all_S2, SMOOTH_S, axis=0, mode="nearest"), footage), reach


@dataclass(frozen=True)
class Start:
    """Where mappings begin: the foreground's follows points ``front_T2``, the background's affine maps ``back_T23``.

    ``middle_2`` is what the latter puts in the middle of its atlas, and ``scales_2`` how much of the atlas, of 1, half
    of a frame's longer side fills on each layer. All are in pixels otherwise.
    """

    front_T2: np.ndarray
    back_T23: np.ndarray
    middle_2: np.ndarray
    scales_2: np.ndarray

    @classmethod
    def still(cls, size: tuple[int, int, int]) -> Start:
        """Nothing moves."""
        frames, height, width = size
        middle_2 = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
        still_T23 = np.tile(np.eye(2, 3, dtype=np.float32), (frames, 1, 1))
        return cls(np.tile(middle_2, (frames, 1)), still_T23, middle_2, np.array((SPREAD, SPREAD), np.float32))


def start_of(footage: Footage, masks_SHW: np.ndarray) -> Start:
    """Mappings that follow the middle of the masks and the camera, and fit on their atlases."""
    _, height, width = footage.size
    half = max(width, height) / 2
    front_T2, reach = object_path(footage, masks_SHW)
    camera_T23 = camera_path(footage)
    corners_34 = np.array([[0, width - 1, 0, width - 1], [0, 0, height - 1, height - 1], [1, 1, 1, 1]])
    seen_T24 = camera_T23 @ corners_34
    low_2, high_2 = seen_T24.min((0, 2)), seen_T24.max((0, 2))
    wide = max(1e-6, float((high_2 - low_2).max()) / 2 / half)
    scales = (min(LARGEST, 0.7 * half / reach), min(SPREAD, ROOM / wide))
    return Start(
        front_T2, camera_T23.astype(np.float32), ((low_2 + high_2) / 2).astype(np.float32), np.array(scales, np.float32)
    )
