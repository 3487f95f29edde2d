"""Pictures of correspondence: where in other frames a network sees what it sees at one point of a frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ssl_video.apps.options import AffinityOptions
from ssl_video.datasets.base import Video
from ssl_video.datasets.spec import one_video
from ssl_video.errors import UserError
from ssl_video.eval.dense import map_of_frame
from ssl_video.figures import figure_to, picture, shortened
from ssl_video.files import cut
from ssl_video.model import Model
from ssl_video.video.augment import resize_frame
from ssl_video.video.reader import VideoError, read_frames

SHOWN = 720
"""The shorter side of the frames in a figure at most, in pixels: more than it has for them."""


@dataclass(frozen=True)
class Affinity:
    """How much each cell of other frames is like the cell of a point; the chances of a frame add up to 1.

    The video is of ``size`` (height, width); ``frames_THWC`` are the frames, first the one of the point, made smaller
    if their shorter side is longer than ``SHOWN``; ``chances_Shw`` are of the S = T - 1 others.
    """

    numbers: tuple[int, ...]
    size: tuple[int, int]
    frames_THWC: np.ndarray
    point: tuple[int, int]
    chances_Shw: np.ndarray

    def peak(self, place: int) -> tuple[int, int]:
        """The middle of the likeliest cell of the ``place``-th other frame: x, y in pixels of the video."""
        H, W = self.size
        h, w = self.chances_Shw.shape[1:]
        row, column = divmod(int(self.chances_Shw[place].argmax()), w)
        return int((column + 0.5) * W / w), int((row + 0.5) * H / h)


@dataclass(frozen=True)
class Explained:
    """Where a point was found in other frames, and the file written."""

    affinity: Affinity
    written: tuple[Path, ...]


def explain_affinity(
    video: Path | str,
    model: Model,
    point: tuple[int, int],
    out: Path | str = ".",
    frame: int = 0,
    to: Sequence[int] = (),
    options: AffinityOptions = AffinityOptions(),
) -> Explained:
    """Write ``NAME_affinity_X_Y_frameN.png``: where in other frames a network sees what it sees at a point of one.

    Args:
        video: the file.
        model: of RGB, with a fine map, such as dense_resnet_8.
        point: x, y in pixels of the video, from the top left.
        out: folder.
        frame: number of the point's frame, counted from 0.
        to: numbers of up to 20 other frames; by default five later ones, evenly spaced.
        options: see ``AffinityOptions``.

    Raises:
        UserError: if there is no such frame, point or stage, or the network or the video cannot serve.
    """
    video = Path(video)
    if len(to) > 20:
        raise UserError(f"--to takes at most 20 frames, which are drawn side by side, not {len(to)}.")
    scanned = one_video(video)
    try:
        found = affinity_of(model, scanned, point, frame, to or later_frames(scanned, frame), options)
    except VideoError as error:
        raise UserError(f"{video} cannot be used: {error}.") from None
    path = Path(out) / f"{cut(video.stem, 180)}_affinity_{point[0]}_{point[1]}_frame{frame}.{options.format}"
    draw_affinity(found, path, scanned.info.fps, shortened(video.name))
    return Explained(found, (path,))


def later_frames(video: Video, frame: int) -> tuple[int, ...]:
    """Up to five later frames of a scanned video, evenly spaced up to the last. Raises UserError if there is none."""
    if video.frames == 1:
        raise UserError(f"{video.source} has one frame only, and there is no other to look the point up in.")
    if frame == video.frames - 1:
        raise UserError(f"Frame {frame} is the last of {video.source}; name other frames with --to.")
    if not 0 <= frame < video.frames:
        return ()  # refused where the frames are read
    steps = min(5, video.frames - 1 - frame)
    return tuple(frame + (video.frames - 1 - frame) * n // steps for n in range(1, steps + 1))


def affinity_of(
    model: Model,
    video: Video,
    point: tuple[int, int],
    frame: int,
    others: Sequence[int],
    options: AffinityOptions = AffinityOptions(),
) -> Affinity:
    """The softmax over a frame's cells of their cosine similarity to the cell of a point, for each other frame.

    Every frame of the scanned video is shown to the network by itself (``map_of_frame``); for the arguments see
    ``explain_affinity``.

    Raises:
        UserError: if there is no such frame, point or stage, or the network cannot serve.
        VideoError: if the video cannot be decoded.
    """
    numbers = (frame, *others)
    for number in numbers:
        if not 0 <= number < video.frames:
            raise UserError(f"{video.source} has the frames 0 to {video.frames - 1}; there is no frame {number}.")
    if model.backbone.clip.modality != "rgb":
        raise UserError(
            f"{model.name} takes {model.backbone.clip.modality}, and points are looked up in RGB; "
            "name a network of RGB by --model."
        )
    (x, y), H, W = point, video.info.height, video.info.width
    if not (0 <= x < W and 0 <= y < H):
        raise UserError(f"The point {x},{y} lies outside of the frames, which have {W}x{H} pixels (x,y from 0).")
    small_THWC, frames_THWC = (
        read_frames(video.path, numbers, video.info, lambda f, n=n: resize_frame(f, min(n, H, W)))
        for n in (options.short_side, SHOWN)
    )
    maps_TDhw = [map_of_frame(model, small_HWC, options.stage) for small_HWC in small_THWC]
    maps_ThwD = torch.stack(maps_TDhw).permute(0, 2, 3, 1).cpu()
    h, w = maps_ThwD.shape[1:3]
    if h * w == 1:
        raise UserError(
            f"The map of {model.name} has a single cell, so that there is nothing to choose from; "
            "name an earlier --stage, or a network such as dense_resnet_8."
        )
    query_D = maps_ThwD[0, y * h // H, x * w // W]
    chances_Shw = ((maps_ThwD[1:] @ query_D) / options.temperature).flatten(1).softmax(1).unflatten(1, (h, w))
    return Affinity(numbers, (H, W), frames_THWC, point, chances_Shw.numpy())


def draw_affinity(affinity: Affinity, path: Path, fps: float | None = None, title: str = "") -> None:
    """A figure: the frame with the point, and the other frames, darkened, under their heat maps.

    Each map is as bright as its likeliest cell allows, where a cross is. With ``fps`` frames are named by their times.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    count, (H, W) = len(affinity.numbers), affinity.size
    names = [f"frame {n}" if fps is None else f"{n / fps:.2f} s (frame {n})" for n in affinity.numbers]
    extent = (0, W, H, 0)
    with figure_to(path, 2.6 * count + 0.9, 2.6 * H / W + 0.6) as figure:
        columns = figure.subplots(1, count, squeeze=False)[0]
        for ax, name, frame_HWC in zip(columns, names, affinity.frames_THWC, strict=True):
            picture(ax, frame_HWC, name, extent=extent)
        columns[0].plot(*affinity.point, "o", color="#D55E00", markeredgecolor="white", markersize=9)
        for place, (ax, chances_hw) in enumerate(zip(columns[1:], affinity.chances_Shw, strict=True)):
            strength_hw = chances_hw / chances_hw.max()
            ax.imshow(np.zeros((1, 1)), cmap="gray", alpha=0.45, extent=extent)
            ax.imshow(strength_hw, cmap="inferno", vmin=0, vmax=1, alpha=0.85 * strength_hw, extent=extent)
            ax.plot(*affinity.peak(place), "x", color="black", markersize=8, markeredgewidth=2.6)
            ax.plot(*affinity.peak(place), "x", color="white", markersize=7, markeredgewidth=1.3)
        if count > 1:
            scale = ScalarMappable(Normalize(0, 1), "inferno")  # without the heat maps' own transparency
            bar = figure.colorbar(scale, ax=list(columns), aspect=25, pad=0.01)
            bar.set_label("affinity,\nof the likeliest cell's")
        figure.suptitle(title)
