"""What a scan learns about one video file, or why it learns nothing."""

import errno
import math
from dataclasses import dataclass, field
from numbers import Integral, Real


class VideoError(Exception):
    """A file that cannot be read as asked; the message is a phrase that says why."""


class FileChanged(VideoError):
    """A file that did not stay as it was while it was read."""

    def __init__(self) -> None:
        super().__init__("it changed while it was read")


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
    ``state`` is that of the file itself when it was read (``content.state_of``), "" if nobody noted it; it says nothing
    of the video, so that facts are compared without it.
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
    state: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Raise ValueError for what no scan finds: facts come from manifests, notes and caches, too."""
        counts = (self.frames, self.width, self.height)
        if not all(isinstance(n, Integral) and 0 <= n < 2**31 for n in counts):
            raise ValueError(f"there are no videos of {self.frames} frames of {self.width}x{self.height}")
        sizes = (self.fps, self.duration_s, self.pts_step)
        if not all(isinstance(x, Real) and 0 <= x < math.inf for x in sizes) or not isinstance(
            self.pts_start, Integral
        ):
            raise ValueError(f"there are no videos at {self.fps} fps of {self.duration_s} s (pts {self.pts_start})")
        if not all(isinstance(text, str) for text in (self.codec, self.content, self.state)):
            raise ValueError("the codec, the content or the state is no text")


@dataclass(frozen=True)
class Problem:
    """A file that cannot be used, and why, in a phrase.

    ``passing``: it is the machine that stood in the way (no permission, no memory, a killed process, a file that is
    still being written), and not the bytes of the file. Such a reason is never kept: who comes later asks anew.
    """

    path: str
    reason: str
    passing: bool = False


OF_BYTES = (errno.EINVAL, errno.EDOM, errno.ERANGE, errno.EAGAIN, errno.ENOSYS, errno.EILSEQ, errno.EBADMSG)
"""What FFmpeg answers for bytes that it cannot take, by the names of errors of the system."""
NO_MEMORY = ("can't allocate", "cannot allocate", "not enough memory", "insufficient memory", "failed to allocate")


def behind(error: BaseException | None) -> BaseException | None:
    """What of the machine brought the error about, or None: then it was the bytes of the file that was read.

    What an error was raised from counts as well, or in whose place, unless that was left out by ``from None``: a
    VideoError is told by what lies behind it.
    """
    while error is not None:
        if isinstance(error, MemoryError | ImportError | FileChanged):
            return error
        if isinstance(error, OSError) and (error.errno or errno.EINVAL) not in OF_BYTES:
            return error
        if any(text in str(error).lower() for text in NO_MEMORY):
            return error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def problem_of(path: str, error: VideoError) -> Problem:
    """The problem that an error of reading a file is."""
    cause = behind(error)
    reason = reason_of(cause) if isinstance(cause, PermissionError) else str(error)
    return Problem(path, reason, passing=cause is not None)


def reason_of(error: OSError) -> str:
    """What the system said when a file was to be read, as a reason."""
    denied = error.errno in (errno.EACCES, errno.EPERM)
    return "permission denied" if denied else error.strerror or "it cannot be opened"
