"""Objects or points of a video's first frame, carried to its other frames: a mask or a row a frame, and a video."""

import csv
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from ssl_video.apps.adapt import Adapted, adapt
from ssl_video.apps.film import Shot, Swatch, film
from ssl_video.apps.marks import Marks, checked_points, mask_from_file, mask_of_boxes
from ssl_video.apps.options import TrackOptions
from ssl_video.apps.paint import PALETTE, paint_mask, paint_points, write_mask
from ssl_video.datasets.masks import objects_in
from ssl_video.errors import UserError, nearest
from ssl_video.eval.affinity import Affinity
from ssl_video.eval.carry import carry_masks, carry_points
from ssl_video.eval.dense import FrameFeatures, network_features
from ssl_video.eval.propagation import Propagation, PropagationConfig
from ssl_video.files import check_new, folder_written_aside, written_aside
from ssl_video.model import Model
from ssl_video.progress import bar
from ssl_video.video.info import VideoError
from ssl_video.video.pictures import of_pictures, picture_files
from ssl_video.video.rate import rate_of_file
from ssl_video.video.reader import iterate_frames, opened
from ssl_video.video.writer import TO_LOOK_AT, rate_of, write_video

TRAIL_S = 1.0
"""Seconds over which a film shows where a point came from."""
IN_LEGEND = 8
"""Objects or points that a film names at most."""


@dataclass(frozen=True)
class Tracked:
    """What a tracking came to.

    ``last_seen`` says of each object, by its number, or of each point, counted from 1, in which frame it was seen last.
    ``frames`` frames were done, from number ``start`` on; numbers count from the video's first frame, 0.
    ``broken`` is a phrase that says why the video ended early, if it did. ``written`` are the files, or the folder of
    masks, and ``seconds`` how long it took; ``adapted`` is what the network came to where it was adapted to the video.
    """

    start: int
    frames: int
    last_seen: dict[int, int]
    broken: str | None
    written: tuple[Path, ...] = ()
    seconds: float = 0.0
    adapted: Adapted | None = None


def track(
    video: Path | str,
    model: Model,
    marks: Marks,
    out: Path | str,
    options: TrackOptions = TrackOptions(),
    *,
    progress: bool = False,
) -> Tracked:
    """Carry what is marked in one frame of a video to the frames after it.

    Writes ``masks/NUMBER.png`` or ``points.csv``, and ``overlay.mp4``, see ``track_masks`` and ``track_points``.

    Args:
        video: a file, or a folder with a picture for each frame.
        model: a network with a fine map of single frames, such as dense_resnet_8.
        marks: objects or points of the first frame.
        out: a folder that is empty or not there yet.
        options: see ``TrackOptions``.
        progress: show bars, on a terminal.

    Raises:
        UserError: if anything of this does not fit, or the video cannot be read.
    """
    video, out, settings = Path(video), Path(out), settings_of(options)
    check_new(out)
    try:
        frame_HWC = first_frame(video, options.start)
        points_J2 = checked_points(marks.points, frame_HWC)
        mask_HW = mask_of_boxes(marks.boxes, frame_HWC) if marks.mask is None else mask_from_file(marks.mask, frame_HWC)
        features = network_features(model, options.stage, settings.side, settings.square)
        adapted = None
        if options.adapt_steps:
            adapted = adapt(model, video, options.adapt_steps, options.adapt_lr, options.seed, progress=progress)
            features = network_features(adapted.model, options.stage, settings.side, settings.square)
        since, source = time.perf_counter(), Source(video, options.start, progress)
        with folder_written_aside(out) as aside:
            if marks.points:
                done = track_points(source, points_J2, features, settings.affinity, aside)
            else:
                done = track_masks(source, mask_HW, features, settings.affinity, aside)
            done = replace(done, written=(out / done.written[0].name, out / done.written[1].name))
    except VideoError as error:
        raise UserError(f"{video} cannot be used: {error}.") from None
    return replace(done, seconds=time.perf_counter() - since, adapted=adapted)


def settings_of(options: TrackOptions) -> PropagationConfig:
    """The preset under the options that were given. Raises UserError."""
    if options.preset not in Propagation.presets:
        known = nearest(options.preset, Propagation.presets)
        raise UserError(f"There is no preset {options.preset!r} of propagation; {known}")
    given = {
        "side": options.side,
        "context": options.context,
        "radius": options.radius,
        "top_k": options.top_k,
        "temperature": options.temperature,
    }
    return replace(Propagation.presets[options.preset], **{k: v for k, v in given.items() if v is not None})


def first_frame(video: Path, start: int = 0) -> np.ndarray:
    """frame_HWC, the one to start from. Raises VideoError if it, or one after it, cannot be read."""
    frames = list(islice(iterate_frames(str(video), start), 2))
    if len(frames) == 2:
        return frames[0]
    if frames:
        which = f"frame {start} is its last one" if start else "it has one frame only"
        raise VideoError(f"{which}, and there is no other to track anything to")
    raise VideoError(f"there is no frame {start}: it ends before it" if start else "it has no frame")


def track_masks(source: "Source", mask_HW: np.ndarray, features: FrameFeatures, how: Affinity, out: Path) -> Tracked:
    """Write ``masks/NUMBER.png``, with a palette, for every frame of ``source``, and ``overlay.mp4``.

    Args:
        source: the frames.
        mask_HW: objects in the first one; void is background.
        features: of a frame.
        how: see ``Affinity``.
        out: an empty folder.

    Raises:
        VideoError: if nothing can be read; what comes to an end later is kept and said (``Tracked.broken``).
    """
    start, numbers = source.start, objects_in(mask_HW)
    last_seen = dict.fromkeys(numbers, start)

    def painted() -> Iterator[Shot]:
        carried = carry_masks(source.frames(), mask_HW, numbers, features, how)
        for number, mask_t_HW in enumerate(carried, start):
            write_mask(out / "masks" / f"{number:05d}.png", mask_t_HW)
            last_seen.update(dict.fromkeys(objects_in(mask_t_HW), number))
            yield Shot((paint_mask(source.read.popleft(), mask_t_HW),), (source.time_s(number),))

    written = out / "masks", out / "overlay.mp4"
    shown = film(painted(), (source.video.name,), legend_of("object", numbers))
    frames = write_video(written[1], shown, source.rate, TO_LOOK_AT)
    return Tracked(start, frames, last_seen, source.why_it_ended(frames), written)


def track_points(source: "Source", points_J2: np.ndarray, features: FrameFeatures, how: Affinity, out: Path) -> Tracked:
    """Write ``points.csv`` (frame,point,x,y) and ``overlay.mp4``; for the arguments see ``track_masks``.

    Points are counted from 1; x and y are in pixels, the centre of the first one at 0, and empty for a point that is
    lost.
    """
    last_seen = dict.fromkeys(range(1, len(points_J2) + 1), source.start)
    written = out / "points.csv", out / "overlay.mp4"

    trail: deque[np.ndarray] = deque(maxlen=max(2, round(TRAIL_S * source.rate)))

    def painted() -> Iterator[Shot]:
        carried = carry_points(source.frames(), points_J2, features, how)
        for number, points_t_J2 in enumerate(carried, source.start):
            for point, (x, y) in enumerate(points_t_J2.tolist(), 1):
                known = x == x
                rows.writerow([number, point, *((f"{x:.2f}", f"{y:.2f}") if known else ("", ""))])
                if known:
                    last_seen[point] = number
            trail.append(points_t_J2)
            yield Shot((paint_points(source.read.popleft(), np.stack(trail)),), (source.time_s(number),))

    with written_aside(written[0]) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["frame", "point", "x", "y"])
        shown = film(painted(), (source.video.name,), legend_of("point", list(last_seen)))
        frames = write_video(written[1], shown, source.rate, TO_LOOK_AT)
    return Tracked(source.start, frames, last_seen, source.why_it_ended(frames), written)


def legend_of(what: str, numbers: Sequence[int]) -> list[tuple[Swatch, str]]:
    """Colours and numbers of objects or points; of more than a film has room for, the first."""
    shown: list[tuple[Swatch, str]] = [(PALETTE[n], f"{what} {n}") for n in numbers[:IN_LEGEND]]
    more = len(numbers) - IN_LEGEND
    return [*shown, ((255,) * 3, f"and {more} more")] if more > 0 else shown


class Source:
    """The frames of a video up to where it breaks off, and what its file says of their rate and number.

    ``read`` holds the frames that ``frames`` has given and that were not taken out yet.
    """

    def __init__(self, video: Path, start: int = 0, progress: bool = False):
        self.video, self.start, self.progress = video, start, progress
        self.read: deque[np.ndarray] = deque()  # not itertools.tee, which lets go of what it held 57 at a time
        self.error: str | None = None
        self.rate, self.announced = rate_of(rate_of_file(video)), 0
        if of_pictures(video):
            self.announced = len(picture_files(video))
        else:
            with opened(str(video)) as (_, stream):
                self.announced = stream.frames

    def frames(self) -> Iterator[np.ndarray]:
        """frame_HWC by frame. Raises VideoError if there is none."""
        total, first = max(0, self.announced - self.start) or None, True
        try:
            frames = iterate_frames(str(self.video), self.start)
            for frame_HWC in bar(frames, "track", "frame", self.progress, total):
                first = False
                self.read.append(frame_HWC)
                yield frame_HWC
        except VideoError as error:
            if first:
                raise
            self.error = str(error)
        if first:
            raise VideoError("it has no frame")

    def time_s(self, number: int) -> float:
        """When a frame is shown."""
        return float(number / self.rate)

    def why_it_ended(self, frames: int) -> str | None:
        """A phrase, if there are fewer frames than the file announces."""
        if self.error is not None:
            return self.error
        if self.start + frames < self.announced:
            return f"the file announces {self.announced} frames, of which {self.start + frames} decode"
        return None
