"""Decoded frames as they are shown: RGB, upright by the eight ways of EXIF, which are those of a display matrix."""

import struct
from collections.abc import Callable

import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

Each = Callable[[np.ndarray], np.ndarray]
"""What is kept of a frame (H, W, C), made as soon as it is decoded: the frame at its final size, say."""

UPRIGHT = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
"""By that number: steps through rows and columns that bring a picture upright; from 5 on, after they are exchanged."""
QUARTERS = (1, 6, 3, 8)
"""By quarter turns clockwise."""


ELONGATED = 4
"""The longer side of a frame that is enlarged, in shorter ones, at most; no more than panoramas have."""


def turned(values: np.ndarray, held: int | None) -> np.ndarray:
    """A view of values (H, W) or (H, W, C), turned and mirrored as ``held``, 1 to 8, says; else as they are."""
    if held not in UPRIGHT:
        return values
    rows, columns = UPRIGHT[held]
    return (values.swapaxes(0, 1) if held >= 5 else values)[::rows, ::columns]


def way_up(frame: VideoFrame) -> int:
    """How a frame is held, 1 to 8, by its display matrix, which is rounded to quarter turns."""
    try:
        # not frame.side_data, which the frame would keep and which keeps the frame: a circle that Python frees late
        matrix = SideDataContainer(frame).get("DISPLAYMATRIX")  # pyright: ignore[reportCallIssue]
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


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """(height, width) in pixels of a frame whose shorter side is made ``short_side`` pixels long.

    The aspect ratio is kept, but a frame that is enlarged does not become longer than ``ELONGATED`` shorter sides, or
    than it was.
    """
    scale = short_side / min(height, width)
    most = max(height, width, ELONGATED * short_side) if scale > 1 else max(round(height * scale), round(width * scale))
    return max(short_side, min(most, round(height * scale))), max(short_side, min(most, round(width * scale)))


class Converter:
    """Frames to (H, W, 3) uint8 RGB, upright, all of the first one's size, or to what ``each`` makes of that.

    The array may be reused: copy it.
    """

    def __init__(self, each: Each | None = None) -> None:
        self.each = each
        self.reformatter = VideoReformatter()
        self.size: tuple[int, int] | None = None

    def fit(self, frame: VideoFrame) -> None:
        """Take the size of this frame, if it is the first one."""
        self.size = self.size or upright_size(frame)

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """A frame converted."""
        picture_HWC = self._upright(frame)
        return self.each(picture_HWC) if self.each else picture_HWC

    def _upright(self, frame: VideoFrame) -> np.ndarray:
        held, (w, h) = way_up(frame), upright_size(frame)
        width, height = self.size or (w, h)
        if (w, h) == (width, height):
            return turned(self._rgb(frame, frame.width, frame.height), held)
        scale = min(width / w, height / h)
        w, h = max(1, round(w * scale)), max(1, round(h * scale))
        inside_HWC = turned(self._rgb(frame, *((h, w) if held >= 5 else (w, h))), held)
        out_HWC = np.zeros((height, width, 3), np.uint8)
        top, left = (height - h) // 2, (width - w) // 2
        out_HWC[top : top + h, left : left + w] = inside_HWC
        return out_HWC

    def _rgb(self, frame: VideoFrame, width: int, height: int) -> np.ndarray:
        # one thread: swscale's own threads cost more than they bring at these sizes
        rgb = self.reformatter.reformat(frame, width, height, "rgb24", threads=1)
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8)  # pyright: ignore[reportArgumentType]
        rows = rows.reshape(height, plane.line_size)
        return rows[:, : width * 3].reshape(height, width, 3)
