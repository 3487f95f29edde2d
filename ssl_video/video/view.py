"""How a video is shown to a network: which of its frames make a clip, and how these are cut."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ssl_video.bounds import Bounded, Count, Positive
from ssl_video.errors import UserError
from ssl_video.video import augment
from ssl_video.video.colours import Colours
from ssl_video.video.info import VideoInfo


class Timed(Protocol):
    """A scanned video: how many frames it has, and what else the scan found."""

    @property
    def info(self) -> VideoInfo:
        """What the scan found."""
        ...

    @property
    def frames(self) -> int:
        """Frames that decode."""
        ...


@dataclass(frozen=True)
class Skip:
    """This video cannot serve; the reason is counted and listed. ``remedy`` says what to do where none can."""

    reason: str
    remedy: str = ""


def place(video: Timed, span: int, rng: np.random.Generator, what: str = "frames of a clip") -> int | Skip:
    """The first of ``span`` consecutive frames at a random place of the video; ``what`` says what they are."""
    if video.frames < span:
        return Skip(f"shorter than the {span} {what}")
    return int(rng.integers(video.frames - span + 1))


@dataclass(frozen=True)
class View(Bounded):
    """How evaluations should show a video to a backbone so that it sees what it saw in training.

    ``frames`` of every ``stride``-th frame, or with ``fps`` so many a second, whatever the rate of the file; short side
    resized to ``short_side`` pixels, crops of ``size``. Clips stay RGB until they are normalised for the network; for
    other ``colours`` they are converted then (``ssl_video.video.colours.in_colours``).

    Raises UserError for numbers that are not positive, and for crops that are larger than the frames.
    """

    frames: Count
    stride: Count
    short_side: Count
    size: Count
    fps: Positive | None = None
    colours: Colours = "rgb"

    def __post_init__(self):
        super().__post_init__()
        if self.size > self.short_side:
            raise UserError(
                f"A crop of {self.size} pixels cannot be cut out of frames whose shorter side has {self.short_side}; "
                f"choose a smaller crop or a larger short side."
            )

    def offsets(self, video: Timed) -> np.ndarray:
        """(T,) numbers of a clip's frames, counted from its first."""
        if self.fps is None:
            return np.arange(self.frames) * self.stride
        return np.floor(np.arange(self.frames) * (video.info.fps / self.fps)).astype(np.int64)

    def span(self, video: Timed) -> int:
        """Frames of the video from a clip's first to its last."""
        return int(self.offsets(video)[-1]) + 1

    def spans(self, fps_N: np.ndarray) -> np.ndarray:
        """(N,) as ``span``, of videos of these rates (frames a second); infinite where frames would repeat."""
        if self.fps is None:
            return np.full(len(fps_N), (self.frames - 1) * self.stride + 1.0)
        rates_R, rate_N = np.unique(fps_N, return_inverse=True)
        offsets_RT = np.floor(np.arange(self.frames) * (rates_R[:, None] / self.fps))
        repeats_R = (np.diff(offsets_RT, axis=1) == 0).any(1)
        return np.where(repeats_R, np.inf, offsets_RT[:, -1] + 1)[rate_N]

    def draw(self, video: Timed, rng: np.random.Generator, what: str = "frames of a clip") -> np.ndarray | Skip:
        """(T,) frames of a clip at a random place, or why the video has none: too short, or fewer frames a second."""
        offsets_T = self.offsets(video)
        if self.fps is not None and not np.diff(offsets_T).all():
            return Skip(f"has fewer than {self.fps:g} frames a second")
        first = place(video, int(offsets_T[-1]) + 1, rng, what)
        return first if isinstance(first, Skip) else first + offsets_T

    def small(self, frame_HWC: np.ndarray) -> np.ndarray:
        """A frame resized as ``prepare`` and ``crops`` do first: what is kept of it when it is decoded."""
        return augment.resize_frame(frame_HWC, self.short_side)

    def prepare(self, frames_THWC: np.ndarray, rng: np.random.Generator | None = None, flip: bool = True) -> np.ndarray:
        """Resize the short side and crop the centre; uint8 (T, size, size, C).

        With ``rng``, as in training: one crop at a random place for all frames, and all or none of them mirrored.
        """
        frames_THWC = augment.crop(augment.resize_short_side(frames_THWC, self.short_side), self.size, rng)
        frames_THWC = frames_THWC if rng is None or not flip else augment.flip(frames_THWC, rng)
        return np.ascontiguousarray(frames_THWC)  # torch takes no array that is mirrored in place

    def crops(self, frames_THWC: np.ndarray, crops: int) -> np.ndarray:
        """(crops, T, size, size, C) uint8: the centre, or 3 along the longer side, or 10: corners, centre, mirrored.

        Raises:
            UserError: for another number of crops.
        """
        frames_THWC = augment.resize_short_side(frames_THWC, self.short_side)
        bottom, right = (n - self.size for n in frames_THWC.shape[1:3])
        centre = (bottom // 2, right // 2)
        places = {
            1: [centre],
            3: [(round(bottom * f), round(right * f)) for f in (0, 0.5, 1)],
            10: [(0, 0), (0, right), (bottom, 0), (bottom, right), centre],
        }
        if crops not in places:
            raise UserError(f"The number of crops is 1, 3 or 10, not {crops}.")
        cut = [frames_THWC[:, y : y + self.size, x : x + self.size] for y, x in places[crops]]
        if crops == 10:
            cut += [augment.mirror(c) for c in cut]
        return np.stack(cut)
