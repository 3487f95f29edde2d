"""Where a layered atlas starts: the camera's path, a coarse mask of what moves otherwise, and the path of that."""

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from ssl_video.implicit.footage import Footage
from ssl_video.video.cues import homography
from ssl_video.video.flow import opencv

LEAST = 0.3
"""Pixels from one learned frame to the next below which no motion counts as an object's own."""
SMOOTH_S, SMOOTH = 1.0, 1.5
"""Standard deviations, in learned frames and in pixels, by which an object's own motion is smoothed."""


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
    """(S, H, W) float32, 0 or 1: pixels that move otherwise than most of their frame, over a few frames.

    The motion that is left when the dominant homography is taken away is smoothed over time and parted in two
    (Otsu's threshold).
    """
    cv2 = opencv()
    _, height, width = footage.size
    y_HW, x_HW = np.mgrid[:height, :width].astype(np.float32)
    here_HW2 = np.stack([x_HW, y_HW], -1)
    sums_SHW, counts_S = np.zeros((len(footage.trained_S), height, width), np.float32), np.zeros(len(footage.trained_S))
    for fields_RHW2, first in ((footage.ahead_RHW2.numpy(), 0), (footage.behind_RHW2.numpy(), 1)):
        for r, flow_HW2 in enumerate(fields_RHW2):
            own_HW2 = flow_HW2 - (cv2.perspectiveTransform(here_HW2, camera_motion(flow_HW2)) - here_HW2)
            sums_SHW[r + first] += np.linalg.norm(own_HW2, axis=-1)
            counts_S[r + first] += 1
    own_SHW = gaussian_filter(sums_SHW / np.maximum(counts_S, 1)[:, None, None], (SMOOTH_S, SMOOTH, SMOOTH))
    return (own_SHW > max(LEAST, _otsu(own_SHW))).astype(np.float32)


def _otsu(values: np.ndarray) -> float:
    """The value that parts numbers in two classes of the least variance (Otsu 1979)."""
    top = max(float(np.percentile(values, 99.5)), 1e-6)
    bytes_N = np.clip(values.reshape(1, -1) * (255 / top), 0, 255).astype(np.uint8)
    return opencv().threshold(bytes_N, 0, 255, opencv().THRESH_OTSU)[0] * top / 255


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
