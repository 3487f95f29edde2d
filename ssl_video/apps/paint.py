"""Masks and points, drawn on frames in colours that can be told apart."""

import colorsys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ssl_video.files import written_aside

FIRST = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
"""Of Okabe and Ito: the colour-blind tell them apart."""


def palette() -> np.ndarray:
    """colours_N3 of the 256 numbers, uint8: 0 is black, then ``FIRST``, then neighbours differ in hue; 255 is white."""
    more = [colorsys.hsv_to_rgb(0.97 + n * 0.381966, 0.85, 1 - 0.35 * (n // 8 % 2)) for n in range(len(FIRST), 254)]
    return np.array([(0, 0, 0), *FIRST, *np.multiply(more, 255).astype(int), (255, 255, 255)], np.uint8)


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


def paint_points(frame_HWC: np.ndarray, trail_TJ2: np.ndarray) -> np.ndarray:
    """The frame with each point's way over the last frames, and where it is now a disc of its colour, rimmed in white.

    Older parts of the way are thinner. ``trail_TJ2`` are x, y of the points, the newest last; NaN where one is lost.
    """
    painted_HWC = np.ascontiguousarray(frame_HWC).copy()
    radius = max(2.0, min(frame_HWC.shape[:2]) / 60)
    shift = 3  # coordinates in eighths of a pixel

    def at(point_2: np.ndarray) -> tuple[int, int]:
        x, y = np.round(point_2 * 2**shift).astype(int).tolist()
        return x, y

    for t, (before_J2, after_J2) in enumerate(pairwise(trail_TJ2), 1):
        thick = max(1, round(radius * t / len(trail_TJ2)))
        for number, (before_2, after_2) in enumerate(zip(before_J2, after_J2, strict=True), 1):
            if np.isfinite([before_2, after_2]).all():
                colour = PALETTE[number].tolist()
                cv2.line(painted_HWC, at(before_2), at(after_2), colour, thick, cv2.LINE_AA, shift)
    for number, point_2 in enumerate(trail_TJ2[-1], 1):
        if np.isfinite(point_2).all():
            for size, colour in ((radius + 1.5, (255,) * 3), (radius, PALETTE[number].tolist())):
                cv2.circle(painted_HWC, at(point_2), round(size * 2**shift), colour, -1, cv2.LINE_AA, shift)
    return painted_HWC


def _moved(mask_HW: np.ndarray, step: int, axis: int) -> np.ndarray:
    """The neighbours' values; beyond the border lie the border's own."""
    places = np.clip(np.arange(mask_HW.shape[axis]) + step, 0, mask_HW.shape[axis] - 1)
    return mask_HW.take(places, axis)
