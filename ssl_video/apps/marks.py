"""What is marked in the first frame of a video: objects by a mask or by boxes, or points."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssl_video.datasets.masks import MOST, objects_in, read_mask
from ssl_video.errors import UserError
from ssl_video.video.info import VideoError


@dataclass(frozen=True)
class Marks:
    """Either a picture of a mask, or boxes (x, y, width, height), or points (x, y); in pixels, from the top left.

    Raises:
        UserError: if it is not exactly one of these.
    """

    mask: Path | None = None
    boxes: Sequence[Sequence[float]] = ()
    points: Sequence[Sequence[float]] = ()

    def __post_init__(self):
        if (self.mask is not None) + (len(self.boxes) > 0) + (len(self.points) > 0) != 1:
            raise UserError("Say what to track by one of --mask FILE, --box x,y,width,height and --points x,y.")


def mask_from_file(path: Path, frame_HWC: np.ndarray) -> np.ndarray:
    """mask_HW of numbers of objects. Raises UserError if it does not fit the frame or has no object."""
    try:
        mask_HW = read_mask(path)
    except VideoError as error:
        raise UserError(f"The mask {path} cannot be used: {error}.") from None
    if mask_HW.shape != frame_HWC.shape[:2]:
        raise UserError(
            f"The mask {path} has {_size(mask_HW)} pixels, but the frames of the video have {_size(frame_HWC)}; draw "
            f"it on a frame of the video itself."
        )
    if not objects_in(mask_HW):
        raise UserError(
            f"The mask {path} is empty; mark each object with a number of its own from 1 to {MOST} (0 is the "
            f"background, and 255 beside other numbers is void)."
        )
    return mask_HW


def mask_of_boxes(boxes_N4: Sequence[Sequence[float]], frame_HWC: np.ndarray) -> np.ndarray:
    """mask_HW of boxes (x, y, width, height), numbered from 1 on; a later one lies over those before it.

    Raises:
        UserError: if one is empty, does not lie within the frame or cannot be seen under others, or there are too many.
    """
    height, width = frame_HWC.shape[:2]
    _check_count(len(boxes_N4), "boxes")
    mask_HW = np.zeros((height, width), np.uint8)
    for number, (x, y, w, h) in enumerate(boxes_N4, 1):
        box = ",".join(f"{v:g}" for v in (x, y, w, h))
        if not (w >= 1 and h >= 1 and x >= 0 and y >= 0 and x + w <= width and y + h <= height):
            raise UserError(
                f"The box {box} does not lie within the frame, which has {_size(frame_HWC)} pixels (x,y,width,height, "
                f"from the top left)."
            )
        mask_HW[int(y) : int(y + h), int(x) : int(x + w)] = number
    hidden = set(range(1, len(boxes_N4) + 1)) - set(objects_in(mask_HW))
    if hidden:
        raise UserError(f"Box {min(hidden)} lies wholly under later ones; name larger boxes before those on them.")
    return mask_HW


def checked_points(points_J2: Sequence[Sequence[float]], frame_HWC: np.ndarray) -> np.ndarray:
    """points_J2 (x, y) in pixels. Raises UserError if one lies outside of the frame, or there are too many."""
    height, width = frame_HWC.shape[:2]
    _check_count(len(points_J2), "points")
    for x, y in points_J2:
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            raise UserError(
                f"The point {x:g},{y:g} lies outside of the frame, which has {_size(frame_HWC)} pixels (x,y from 0)."
            )
    return np.asarray(points_J2, np.float64)


def _check_count(count: int, what: str) -> None:
    if count > MOST:
        raise UserError(f"At most {MOST} {what} can be tracked at a time, not {count}.")


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"
