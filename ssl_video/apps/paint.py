"""Masks and points, drawn on frames in colours that can be told apart."""

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image

from ssl_video.files import written_aside


def palette() -> np.ndarray:
    """colours_N3 of the 256 numbers, uint8: 0 is black, and neighbours differ in hue; 255 is white."""
    colours = [colorsys.hsv_to_rgb(0.97 + n * 0.381966, 0.85, 1 - 0.35 * (n // 8 % 2)) for n in range(254)]
    return np.array([(0, 0, 0), *np.multiply(colours, 255).astype(int), (255, 255, 255)], np.uint8)


PALETTE = palette()


def write_mask(path: Path, mask_HW: np.ndarray) -> None:
    """A PNG of 8 bits with a palette; the values are the numbers of objects."""
    picture = Image.fromarray(mask_HW)
    picture.putpalette(PALETTE.tobytes())
    with written_aside(path) as aside:
        picture.save(aside)


def paint_mask(frame_HWC: np.ndarray, mask_HW: np.ndarray) -> np.ndarray:
    """The frame with each object half covered by its colour, and lined by it."""
    painted_HWC = frame_HWC.copy()
    inside_HW = mask_HW > 0
    painted_HWC[inside_HW] = (frame_HWC[inside_HW].astype(np.uint16) + PALETTE[mask_HW[inside_HW]]) // 2
    line_HW = np.zeros(mask_HW.shape, bool)
    for axis in (0, 1):
        for step in (1, -1):
            line_HW |= _moved(mask_HW, step, axis) != mask_HW
    line_HW &= inside_HW
    painted_HWC[line_HW] = PALETTE[mask_HW[line_HW]]
    return painted_HWC


def paint_points(frame_HWC: np.ndarray, points_J2: np.ndarray) -> np.ndarray:
    """The frame with a disc of its colour, rimmed in white, at each point that is not lost."""
    painted_HWC = frame_HWC.copy()
    height, width = frame_HWC.shape[:2]
    radius = max(2.0, min(height, width) / 60)
    y_H1, x_W = np.arange(height)[:, None], np.arange(width)
    for number, (x, y) in enumerate(points_J2, 1):
        distance_HW = np.hypot(x_W - x, y_H1 - y)  # NaN, a lost point, is nowhere near
        painted_HWC[distance_HW <= radius + 1.5] = 255
        painted_HWC[distance_HW <= radius] = PALETTE[number]
    return painted_HWC


def _moved(mask_HW: np.ndarray, step: int, axis: int) -> np.ndarray:
    """The neighbours' values; beyond the border lie the border's own."""
    places = np.clip(np.arange(mask_HW.shape[axis]) + step, 0, mask_HW.shape[axis] - 1)
    return mask_HW.take(places, axis)
