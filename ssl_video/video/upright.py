"""Which way up a picture is shown: the eight ways of EXIF, which are those of a display matrix of quarter turns."""

import struct

import numpy as np
from av.video.frame import VideoFrame

UPRIGHT = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
"""By that number: steps through rows and columns that bring a picture upright; from 5 on, after they are exchanged."""
QUARTERS = (1, 6, 3, 8)
"""By quarter turns clockwise."""


def turned(values: np.ndarray, held: int | None) -> np.ndarray:
    """A view of values (H, W) or (H, W, C), turned and mirrored as ``held``, 1 to 8, says; else as they are."""
    if held not in UPRIGHT:
        return values
    rows, columns = UPRIGHT[held]
    return (values.swapaxes(0, 1) if held >= 5 else values)[::rows, ::columns]


def way_up(frame: VideoFrame) -> int:
    """How a frame is held, 1 to 8, by its display matrix, which is rounded to quarter turns."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV reads none of them if it does not know one, as EXIF before version 19
        return QUARTERS[round(-frame.rotation / 90) % 4]
    return 1 if matrix is None else _held(*struct.unpack("=5i", bytes(matrix)[:20]))


def _held(a: int, b: int, _u: int, c: int, d: int) -> int:
    """By the four numbers of a matrix: a stored pixel (x, y) is shown at (ax + cy, bx + dy), but for a shift."""
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return {(False, False): 1, (True, False): 2, (True, True): 3, (False, True): 4}[a < 0, d < 0]
    return {(False, False): 5, (True, False): 6, (True, True): 7, (False, True): 8}[c < 0, b < 0]


def upright_size(frame: VideoFrame) -> tuple[int, int]:
    """(width, height) of a frame in pixels as it is shown."""
    return (frame.height, frame.width) if way_up(frame) >= 5 else (frame.width, frame.height)
