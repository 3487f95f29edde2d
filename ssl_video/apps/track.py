"""Objects or points of a video's first frame, carried to its other frames: a mask or a row a frame, and a film."""

import colorsys
import csv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ssl_video.datasets.masks import MOST, objects_in, read_mask
from ssl_video.errors import UserError
from ssl_video.eval.affinity import Affinity
from ssl_video.eval.carry import carry_masks, carry_points
from ssl_video.eval.dense import FrameFeatures
from ssl_video.files import written_aside
from ssl_video.video.info import VideoError
from ssl_video.video.pictures import FPS, picture_files
from ssl_video.video.reader import iterate_frames, opened
from ssl_video.video.writer import write_video


@dataclass(frozen=True)
class Tracked:
    """What a tracking came to.

    ``last_seen`` says of each object, by its number, or of each point, counted from 1, in which frame it was seen last.
    ``frames`` frames were done, from number ``start`` on; numbers count from the video's first frame, 0.
    ``broken`` is a phrase that says why the video ended early, if it did.
    """

    start: int
    frames: int
    last_seen: dict[int, int]
    broken: str | None


def first_frame(video: Path, start: int = 0) -> np.ndarray:
    """frame_HWC, the one to start from. Raises VideoError if it, or one after it, cannot be read."""
    frames = list(islice(iterate_frames(str(video), start), 2))
    if len(frames) == 2:
        return frames[0]
    if frames:
        which = f"frame {start} is its last one" if start else "it has one frame only"
        raise VideoError(f"{which}, and there is no other to track anything to")
    raise VideoError(f"there is no frame {start}: it ends before it" if start else "it has no frame")


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


def track_masks(
    video: Path, mask_HW: np.ndarray, features: FrameFeatures, how: Affinity, out: Path, start: int = 0
) -> Tracked:
    """Write ``masks/NUMBER.png``, with a palette, for every frame from ``start`` on, and ``overlay.mp4``.

    Args:
        video: a file, or a folder with a picture a frame.
        mask_HW: objects in frame ``start``; void is background.
        features: of a frame.
        how: see ``Affinity``.
        out: an empty folder.
        start: number of the frame that the mask is of.

    Raises:
        VideoError: if nothing can be read; what comes to an end later is kept and said (``Tracked.broken``).
    """
    numbers = objects_in(mask_HW)
    last_seen = dict.fromkeys(numbers, start)
    source = _Source(video, start)

    def film() -> Iterator[np.ndarray]:
        carried = carry_masks(source.frames(), mask_HW, numbers, features, how)
        for number, mask_t_HW in enumerate(carried, start):
            write_mask(out / "masks" / f"{number:05d}.png", mask_t_HW)
            last_seen.update(dict.fromkeys(objects_in(mask_t_HW), number))
            yield paint_mask(source.read.popleft(), mask_t_HW)

    frames = write_video(out / "overlay.mp4", film(), source.rate, options={"crf": "18"})
    return Tracked(start, frames, last_seen, source.why_it_ended(frames))


def track_points(
    video: Path, points_J2: np.ndarray, features: FrameFeatures, how: Affinity, out: Path, start: int = 0
) -> Tracked:
    """Write ``points.csv`` (frame,point,x,y) and ``overlay.mp4``; for the arguments see ``track_masks``.

    Points are counted from 1; x and y are in pixels, the centre of the first one at 0, and empty for a point that is
    lost.
    """
    last_seen = dict.fromkeys(range(1, len(points_J2) + 1), start)
    source = _Source(video, start)

    def film() -> Iterator[np.ndarray]:
        carried = carry_points(source.frames(), points_J2, features, how)
        for number, points_t_J2 in enumerate(carried, start):
            for point, (x, y) in enumerate(points_t_J2.tolist(), 1):
                known = x == x
                rows.writerow([number, point, *((f"{x:.2f}", f"{y:.2f}") if known else ("", ""))])
                if known:
                    last_seen[point] = number
            yield paint_points(source.read.popleft(), points_t_J2)

    with written_aside(out / "points.csv") as aside, aside.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["frame", "point", "x", "y"])
        frames = write_video(out / "overlay.mp4", film(), source.rate, options={"crf": "18"})
    return Tracked(start, frames, last_seen, source.why_it_ended(frames))


class _Source:
    """The frames of a video up to where it breaks off, and what its file says of their rate and number.

    ``read`` holds the frames that ``frames`` has given and nobody has taken out again.
    """

    def __init__(self, video: Path, start: int):
        self.video, self.start = video, start
        self.read: deque[np.ndarray] = deque()  # not itertools.tee, which lets go of what it held 57 at a time
        self.error: str | None = None
        self.rate, self.announced = Fraction(FPS), 0
        if video.is_dir():
            self.announced = len(picture_files(video))
        else:
            with opened(str(video)) as (_, stream):
                rate = stream.average_rate or stream.guessed_rate
                self.rate = Fraction(rate or FPS).limit_denominator(1001)
                self.announced = stream.frames

    def frames(self) -> Iterator[np.ndarray]:
        """frame_HWC by frame, with a bar on a terminal. Raises VideoError if there is none."""
        total, first = max(0, self.announced - self.start) or None, True
        try:
            frames = iterate_frames(str(self.video), self.start)
            for frame_HWC in tqdm(frames, total=total, unit="frame", desc="track", disable=None):
                first = False
                self.read.append(frame_HWC)
                yield frame_HWC
        except VideoError as error:
            if first:
                raise
            self.error = str(error)
        if first:
            raise VideoError("it has no frame")

    def why_it_ended(self, frames: int) -> str | None:
        """A phrase, if there are fewer frames than the file announces."""
        if self.error is not None:
            return self.error
        if self.start + frames < self.announced:
            return f"the file announces {self.announced} frames, of which {self.start + frames} decode"
        return None


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


def _check_count(count: int, what: str) -> None:
    if count > MOST:
        raise UserError(f"At most {MOST} {what} can be tracked at a time, not {count}.")


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"
