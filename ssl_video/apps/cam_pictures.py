"""Class activation maps as pictures: laid over the frames, on a sheet, and as a video beside them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ssl_video.apps.cam_maps import Head, Maps
from ssl_video.apps.windows import frames_of
from ssl_video.datasets.base import Video
from ssl_video.files import written_aside
from ssl_video.video.augment import resize_height
from ssl_video.video.writer import TO_LOOK_AT, rate_of, write_video

PALETTE = np.array([(20, 70, 190), (30, 150, 160), (90, 180, 90), (235, 215, 60), (245, 170, 40), (240, 110, 20)])
"""From blue and green, for what looks fast, to yellow and orange, for what looks slow."""


def overlay(frame_HWC: np.ndarray, maps: Maps, number: int, colours_256: np.ndarray, low: float) -> np.ndarray:
    """A frame in gray under its map: colours of ``colours_256`` from ``low`` to the maps' limit; uint8, as large.

    What is near 0 is nearly clear.
    """
    H, W = frame_HWC.shape[:2]
    h, w = max(1, round(H * maps.height)), max(1, round(W * maps.width))
    value_hw = torch.from_numpy(maps.values_Nhw[number].astype(np.float32))[None, None]
    value_HW = F.interpolate(value_hw, size=(h, w), mode="bilinear")[0, 0].numpy()
    index_HW = np.clip((value_HW - low) / (maps.limit - low) * 255, 0, 255).astype(int)
    gray_HW1 = frame_HWC.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    out_HWC = np.repeat(gray_HW1[..., None], 3, 2)
    top, left = (H - h) // 2, (W - w) // 2
    strength_HW1 = 0.1 + 0.6 * np.minimum(np.abs(value_HW) / maps.limit, 1)[..., None]
    covered_HWC = out_HWC[top : top + h, left : left + w]
    covered_HWC += strength_HW1 * (colours_256[index_HW] - covered_HWC)
    return out_HWC.astype(np.uint8)


def evidence_colours() -> np.ndarray:
    """(256, 3) from blue and green to yellow and orange."""
    at = np.linspace(0, len(PALETTE) - 1, 256)
    return np.stack([np.interp(at, np.arange(len(PALETTE)), channel) for channel in PALETTE.T], axis=1)


def motion_colours() -> np.ndarray:
    """(256, 3) from black to white: the magnitude of flow has other colours than evidence."""
    from matplotlib import colormaps

    return 255 * colormaps["magma"](np.arange(256))[:, :3]


class Painter:
    """Draws a frame's maps: that of the head, and that of flow where there is one."""

    def __init__(self, evidence: Maps, motion: Maps | None):
        self.layers: list[tuple[Maps, np.ndarray, float]] = [(evidence, evidence_colours(), -evidence.limit)]
        if motion is not None:
            self.layers.append((motion, motion_colours(), 0.0))

    def __call__(self, frame_HWC: np.ndarray, number: int) -> list[np.ndarray]:
        """The frame and one picture a map, of one size."""
        return [frame_HWC, *(overlay(frame_HWC, maps, number, colours, low) for maps, colours, low in self.layers)]


def write_beside(path: Path, video: Video, paint: Painter, height: int = 360) -> None:
    """A video of the frames beside their maps, ``height`` pixels high at most."""
    height = min(height, video.info.height)
    pictures = (
        np.concatenate(paint(resize_height(frame_HWC, height), number), axis=1)
        for number, frame_HWC in enumerate(frames_of(video))
    )
    write_video(path, pictures, rate_of(video.info.fps), TO_LOOK_AT)


def draw_sheet(path: Path, video: Video, paint: Painter, head: Head, columns: int, title: str) -> None:
    """A PNG: evenly spaced frames, their maps below, and the legends at the right."""
    chosen = ((np.arange(columns) + 0.5) * video.frames / columns).astype(int)
    kept = set(chosen.tolist())
    painted = [
        paint(resize_height(frame_HWC, 240), number)
        for number, frame_HWC in enumerate(frames_of(video))
        if number in kept
    ]
    numbers = sorted(kept)
    titles = [f"{number / video.info.fps:.2f} s" for number in numbers]
    draw_pictures(path, painted, titles, paint, head, title)


def draw_pictures(
    path: Path, painted: Sequence[Sequence[np.ndarray]], titles: Sequence[str], paint: Painter, head: Head, title: str
) -> None:
    """A PNG of columns of pictures that ``paint`` made, with titles above and legends at the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize
    from matplotlib.figure import Figure

    rows, count = len(painted[0]), len(painted)
    h, w = painted[0][0].shape[:2]
    width = min(2.4, 1.8 * w / h)
    figure = Figure(figsize=(width * count + 1.2, rows * width * h / w + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, count + 1, squeeze=False, gridspec_kw={"width_ratios": [1] * count + [0.06]})
    axes[0, count].set_axis_off()
    for column, pictures in enumerate(painted):
        axes[0, column].set_title(titles[column], fontsize=9, parse_math=False)
        for row, picture_HWC in enumerate(pictures):
            axes[row, column].imshow(picture_HWC)
            axes[row, column].set_axis_off()
    figure.suptitle(title, fontsize=10, parse_math=False)
    for row, (maps, colours_256, low) in enumerate(paint.layers, 1):
        scale = ScalarMappable(Normalize(low, maps.limit), ListedColormap(colours_256 / 255))
        bar: Any = figure.colorbar(scale, cax=axes[row, count])
        if row == 1:
            bar.set_ticks([low, 0, maps.limit], labels=[head.cool, "0", head.warm])
        else:
            bar.set_label("motion,\nframe sides/s", fontsize=8)
        bar.ax.tick_params(labelsize=8)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=80)
