"""What the values of a mask's picture are: numbers of objects, one object in black and white, or neither.

Smoothed edges (anti-aliasing, resizing) and lossy formats put values between the numbers that were drawn, and each of
them would be an object of its own. A number's pixels lie together, those of such a value lie along edges: it has no
interior.
"""

import warnings
from pathlib import Path
from typing import Literal

import numpy as np

from ssl_video.video.info import VideoError
from ssl_video.video.pictures import Stored, read_stored

VOID = 255
MOST = 254
"""Objects that a mask of 8 bits can number, beside the background and void."""
WHITE_16 = 65535
DARK, LIGHT = 15, 240
"""Gray levels up to which and from which on a lossy picture of black and white is black, and white."""
NEAR = 8
"""Pixels from the edge of an object within which its gray levels lie; blocks of a JPEG are as large."""
FEW = 7
"""Values without an interior that a mask may have: objects of a few pixels, or lines."""
SMALL = 20
"""Numbers up to this one are those of objects, however thin."""
AS_NUMBERS = "save it as a PNG whose values are the numbers of objects (0 the background), or 0 and 255 for one object"

Kind = Literal["binary", "numbers", "smooth"]
"""Gray of 0 and 255; numbers of objects; gray of black and white with smooth edges, which has been cut at half."""


def read_values(path: Path | str, said_of: str) -> tuple[np.ndarray, Kind]:
    """The values of a mask's picture, (H, W) uint8, and what they are; a warning calls a smooth one ``said_of``.

    Raises:
        VideoError: if it cannot be decoded, or its values are neither numbers of objects nor clearly black and white.
    """
    stored, name = read_stored(path), Path(path).name
    values_HW, exact = _of_8_bits(stored, name)
    if stored.palette:
        lone = np.flatnonzero(without_interior(values_HW))
        if len(lone) > FEW and scattered(values_HW, lone):
            raise VideoError(f"{name} has {_levels(values_HW)} values that are no numbers of objects; {AS_NUMBERS}")
        return values_HW, "numbers"
    if not _inside(values_HW).any():
        return values_HW, "binary"
    if exact and not stored.lossy and not smoothed(values_HW):
        return values_HW, "numbers"
    if not black_and_white(values_HW, stored.lossy):
        if stored.values.max() > VOID:
            raise VideoError(f"{name} numbers objects up to {stored.values.max()}; a mask may have {MOST}")
        why = "its format changes values" if stored.lossy else "their edges are smooth"
        raise VideoError(
            f"{name} has {_levels(values_HW)} gray levels that are no numbers of objects ({why}); {AS_NUMBERS}"
        )
    warnings.warn(
        f"{said_of}: black and white with smooth edges; what is lighter than half is taken as one object.",
        stacklevel=2,
    )
    return np.where(values_HW > VOID // 2, VOID, 0).astype(np.uint8), "smooth"


def check_numbers(mask_HW: np.ndarray, name: str) -> np.ndarray:
    """The mask, if its values are numbers of objects; ``name`` is that of its file. Raises VideoError."""
    if smoothed(mask_HW):
        levels = _levels(mask_HW)
        raise VideoError(f"{name} has {levels} values that are no numbers of objects (their edges are smooth)")
    return mask_HW


def smoothed(mask_HW: np.ndarray) -> bool:
    """True if values lie between the numbers that were drawn: many without an interior, or few around white."""
    lone = np.flatnonzero(without_interior(mask_HW))
    if len(lone) > FEW:
        return scattered(mask_HW, lone)
    return bool(len(lone) and lone[-1] > SMALL and black_and_white(mask_HW))


def scattered(mask_HW: np.ndarray, lone: np.ndarray) -> bool:
    """False if values without an interior are numbers all the same: counted from 1 on, each in one or two places."""
    from scipy.ndimage import label

    if not _counted(np.unique(mask_HW[_inside(mask_HW)])):
        return True
    return sum(label(mask_HW == number, np.ones((3, 3)))[1] for number in lone) > 2 * len(lone)  # pyright: ignore


def without_interior(mask_HW: np.ndarray) -> np.ndarray:
    """(256,) True for the values but 0 and void that occur, and nine in ten of whose pixels lie at a border.

    A pixel lies at a border if two or more of its four neighbours have other values.
    """
    around = np.pad(mask_HW.astype(np.int16), 1, constant_values=-1)
    same_HW = sum((around[1 + y : y - 1 or None, 1 + x : x - 1 or None] == mask_HW) for y, x in NEIGHBOURS)
    pixels = np.bincount(mask_HW.ravel(), minlength=256)
    interior = np.bincount(mask_HW[same_HW >= 3], minlength=256)
    lone = (pixels > 0) & (interior < 0.1 * pixels)
    lone[[0, VOID]] = False
    return lone


NEIGHBOURS = ((0, 1), (0, -1), (1, 0), (-1, 0))


def black_and_white(values_HW: np.ndarray, lossy: bool = False) -> bool:
    """True if a gray picture is one object, white on black, but for the gray levels along its edges.

    Where values are exact, others with an interior, or counted from 1 on, would be objects.
    """
    from scipy.ndimage import maximum_filter

    white_HW, gray_HW = values_HW >= LIGHT, (values_HW > DARK) & (values_HW < LIGHT)
    if not white_HW.any() or white_HW.all() or gray_HW.mean() > 0.25:
        return False
    if not lossy:
        levels = np.unique(values_HW[_inside(values_HW)])
        others_HW = _inside(values_HW) & ~without_interior(values_HW)[values_HW]
        if _counted(levels) or others_HW.sum() > white_HW.sum() / 2:
            return False
    light_HW = values_HW > VOID // 2
    sides = (maximum_filter(side_HW, 2 * NEAR + 1) for side_HW in (light_HW, ~light_HW))
    far_HW = gray_HW & ~np.logical_and(*sides)
    return bool(far_HW.sum() <= 0.01 * gray_HW.sum())


def _counted(levels: np.ndarray) -> bool:
    """True if ascending values are counted from 1 on, as objects are, with gaps; gray levels reach up to white."""
    return len(levels) > 0 and levels[-1] <= min(2 * len(levels), VOID // 2)


def _of_8_bits(stored: Stored, name: str) -> tuple[np.ndarray, bool]:
    """(H, W) uint8, and whether these are the values as they are stored. Raises VideoError."""
    values = stored.values
    if values.ndim == 3:
        spread = np.ptp(values, axis=2).max(initial=0)
        if spread > (DARK if stored.lossy else 0):
            raise VideoError(
                f"{name} is a picture in colour; a mask is gray or has a palette, and its values are numbers"
            )
        return np.ascontiguousarray(values[..., 1]), True
    low, high = values.min(initial=0), values.max(initial=0)
    if np.issubdtype(values.dtype, np.floating) and not (values == np.rint(values)).all():
        if not (low >= 0 and high <= 1):
            raise VideoError(f"{name} has values that are no whole numbers; {AS_NUMBERS}")
        return np.rint(values * VOID).astype(np.uint8), False
    if high == WHITE_16 and low >= 0:  # white of 16 bits
        return np.rint(values / (WHITE_16 // VOID)).astype(np.uint8), False
    if high > VOID or low < 0:
        raise VideoError(f"{name} numbers objects up to {high:g}; a mask may have {MOST}")
    return values.astype(np.uint8), True


def _inside(values_HW: np.ndarray) -> np.ndarray:
    return (values_HW > 0) & (values_HW < VOID)


def _levels(values_HW: np.ndarray) -> int:
    return len(np.unique(values_HW[_inside(values_HW)]))
