"""What a scan learns about one video file, or why it learns nothing."""

from dataclasses import dataclass


class VideoError(Exception):
    """A file that cannot be read as asked; the message is a phrase that says why."""


@dataclass(frozen=True)
class VideoInfo:
    """Facts of a file that decodes, found by decoding it once from end to end.

    ``frames`` counts the frames that a sequential decode really puts out; the container may declare another number.
    ``width`` and ``height`` are those of the decoded picture after rotation, in pixels.
    ``pts_start`` and ``pts_step`` are in units of the stream's time base: frame n carries a time that lies closer to
    ``pts_start + n * pts_step`` than 0.4 steps, for every n, and decoding may start at any key frame. (A step need not
    be whole: 30 frames a second in a container that counts milliseconds.) ``pts_step == 0`` means that this was not
    shown for the file, so that frames can only be numbered by counting from the first one.
    ``content`` are 16 hexadecimal digits of the bytes of the user's file (``content.content_of``), of which this may be
    a copy or the flow; "" if they were never read.
    """

    frames: int
    fps: float
    width: int
    height: int
    duration_s: float
    codec: str
    pts_start: int = 0
    pts_step: float = 0
    content: str = ""


@dataclass(frozen=True)
class Problem:
    """A file that cannot be used, and why, in a phrase."""

    path: str
    reason: str
