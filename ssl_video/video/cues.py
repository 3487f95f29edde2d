"""Artificial cues: traces of how a video was made that tell its direction, and ways to remove them.

D. Wei, J. Lim, A. Zisserman, W. T. Freeman: "Learning and Using the Arrow of Time", CVPR 2018: compression
leaves traces in black borders that differ in time, and cameramen zoom in and pan in habitual ways.
"""

from functools import reduce

import numpy as np

from ssl_video.video.augment import resize_short_side
from ssl_video.video.flow import decode, encode, farneback, opencv

BLACK = 24
"""Gray levels up to which a pixel is black: bars of compressed videos are not exactly 0."""
LIT = 0.01
"""Fraction of a row or column that is brighter, from which on it is no border."""
STEP, NEAR, AGREE = 8, 0.5, 0.5
"""The camera's motion: pixels between the points that it is found from, pixels within which a point agrees with it, and
the fraction of the points that must agree."""
NO_FLOW = 128


def black_borders(frames_THWC: np.ndarray) -> np.ndarray:
    """(T, 4) float32: fractions of each frame that are black at its top, bottom, left and right; 1 if all of it is."""
    lit_THW = reduce(np.maximum, np.moveaxis(frames_THWC, 3, 0)) > BLACK  # many times faster than max(axis=3)
    rows_TH, columns_TW = lit_THW.mean(axis=2) > LIT, lit_THW.mean(axis=1) > LIT
    sides = (rows_TH, rows_TH[:, ::-1], columns_TW, columns_TW[:, ::-1])
    dark = [np.where(s.any(axis=1), s.argmax(axis=1), s.shape[1]) / s.shape[1] for s in sides]
    return np.stack(dark, axis=1).astype(np.float32)


def content(size: tuple[int, int], borders_4: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of a frame of ``size`` (h, w) within its borders; empty if there are none."""
    before_h, after_h, before_w, after_w = (
        int(np.ceil(fraction * size[n // 2] - 1e-3)) for n, fraction in enumerate(borders_4.tolist())
    )
    return slice(before_h, size[0] - after_h), slice(before_w, size[1] - after_w)


def zero_outside(frames_THWC: np.ndarray, inside: tuple[slice, slice]) -> np.ndarray:
    """RGB frames black, or encoded flow at rest, outside of these rows and columns."""
    zeroed = np.full_like(frames_THWC, NO_FLOW if frames_THWC.shape[3] == 2 else 0)
    rows, columns = inside
    zeroed[:, rows, columns] = frames_THWC[:, rows, columns]
    return zeroed


def flow_without_camera(stored_SHW2: np.ndarray, inside: tuple[slice, slice]) -> np.ndarray | None:
    """Encoded flow minus the motion that the camera's gives to each pixel; None where that cannot be found.

    The camera's motion from frame to frame is a homography; what of the flow follows one is its doing.
    """
    cv2 = opencv()
    grid_HW2 = _grid(stored_SHW2.shape[1:3])
    fields = []
    for flow_HW2 in decode(stored_SHW2):
        camera_33 = homography(flow_HW2, inside)
        if camera_33 is None:
            return None
        fields.append(flow_HW2 - (cv2.perspectiveTransform(grid_HW2, camera_33) - grid_HW2))
    return encode(np.stack(fields))


def frames_without_camera(
    frames_THWC: np.ndarray, inside: tuple[slice, slice], short_side: int = 128
) -> np.ndarray | None:
    """RGB frames as the camera of the middle one would have seen them; None where its motion cannot be found.

    What not all of them show within ``inside`` is black in all of them; that must be less than half of the picture.
    The flow from which the motion is found is computed at ``short_side`` pixels.
    """
    cv2 = opencv()
    h, w = frames_THWC.shape[1:3]
    small_THWC = resize_short_side(frames_THWC, min(short_side, h, w))
    scale_h, scale_w = small_THWC.shape[1] / h, small_THWC.shape[2] / w
    rows, columns = inside
    inside_small = (
        slice(round(rows.start * scale_h), round(rows.stop * scale_h)),
        slice(round(columns.start * scale_w), round(columns.stop * scale_w)),
    )
    shrink_33 = np.diag([scale_w, scale_h, 1.0])
    steps: list[np.ndarray] = []
    for flow_HW2 in farneback(small_THWC):
        camera_33 = homography(flow_HW2, inside_small)
        if camera_33 is None:
            return None
        steps.append(np.linalg.inv(shrink_33) @ camera_33 @ shrink_33)
    middle = len(frames_THWC) // 2
    to_middle_T33 = [np.eye(3)] * len(frames_THWC)
    for n in range(middle - 1, -1, -1):
        to_middle_T33[n] = to_middle_T33[n + 1] @ steps[n]
    for n in range(middle + 1, len(frames_THWC)):
        to_middle_T33[n] = to_middle_T33[n - 1] @ np.linalg.inv(steps[n - 1])
    shown_HW = np.zeros((h, w), np.uint8)
    shown_HW[rows, columns] = 255
    everywhere_HW = np.full((h, w), 255, np.uint8)
    warped = []
    for frame_HWC, to_middle_33 in zip(frames_THWC, to_middle_T33, strict=True):
        warped.append(cv2.warpPerspective(np.ascontiguousarray(frame_HWC), to_middle_33, (w, h)))
        everywhere_HW &= cv2.warpPerspective(shown_HW, to_middle_33, (w, h), flags=cv2.INTER_NEAREST)
    if everywhere_HW.mean() < 255 / 2:
        return None
    return np.stack(warped) * (everywhere_HW[..., None] > 0)


def homography(flow_HW2: np.ndarray, inside: tuple[slice, slice]) -> np.ndarray | None:
    """The 3x3 homography, found by RANSAC, that at least half of the flow within ``inside`` follows; None if none."""
    cv2 = opencv()
    rows, columns = inside
    y, x = (n.ravel() for n in np.mgrid[rows.start + 2 : rows.stop : STEP, columns.start + 2 : columns.stop : STEP])
    if len(x) < 12:
        return None
    here_N2 = np.stack([x, y], axis=1).astype(np.float32)
    found_33, agree = cv2.findHomography(here_N2, here_N2 + flow_HW2[y, x], cv2.RANSAC, NEAR)
    if found_33 is None or agree.mean() < AGREE or abs(np.linalg.det(found_33)) < 1e-3:
        return None
    return found_33


def _grid(size: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return np.stack([x, y], axis=-1).astype(np.float32)
