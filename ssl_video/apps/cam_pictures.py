"""Class activation maps as pictures: laid over the frames, on a sheet, and as a video beside them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ssl_video.apps.cam_maps import Head, Maps
from ssl_video.apps.film import Shot, film
from ssl_video.apps.windows import frames_of
from ssl_video.datasets.base import Video
from ssl_video.figures import figure_to, picture, shortened
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


def write_beside(path: Path, video: Video, paint: Painter, head: Head, height: int = 360) -> None:
    """A video of the frames beside their maps, ``height`` pixels high at most, and what their colours mean."""
    height = min(height, video.info.height)
    rate = rate_of(video.info.fps)
    shots = (
        Shot(paint(resize_height(frame_HWC, height), number), (float(number / rate),))
        for number, frame_HWC in enumerate(frames_of(video))
    )
    names = (Path(video.source).name, "evidence", "motion")[: len(paint.layers) + 1]
    legend = [
        (scale_of(evidence_colours()), f"evidence: {head.cool} to {head.warm}"),
        *(
            (scale_of(motion_colours()), f"motion: 0 to {maps.limit:.2g} frame sides/s")
            for maps, *_ in paint.layers[1:]
        ),
    ]
    write_video(path, film(shots, names, legend), rate, TO_LOOK_AT)


def scale_of(colours_256: np.ndarray) -> np.ndarray:
    """(16, 128, 3) uint8: colours from left to right."""
    return np.broadcast_to(colours_256[None, ::2].astype(np.uint8), (16, 128, 3))


def draw_sheet(path: Path, video: Video, paint: Painter, head: Head, columns: int, title: str) -> None:
    """A figure: evenly spaced frames, their maps below, and the legends at the right."""
    chosen = ((np.arange(columns) + 0.5) * video.frames / columns).astype(int)
    kept = set(chosen.tolist())
    painted = [
        paint(resize_height(frame_HWC, 240), number)
        for number, frame_HWC in enumerate(frames_of(video))
        if number in kept
    ]
    titles = [f"{number / video.info.fps:.2f} s" for number in sorted(kept)]
    draw_pictures(path, painted, titles, paint, head, title)


def draw_pictures(
    path: Path, painted: Sequence[Sequence[np.ndarray]], titles: Sequence[str], paint: Painter, head: Head, title: str
) -> None:
    """A figure of columns of pictures that ``paint`` made, with titles above and legends at the right."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    rows, count = len(painted[0]), len(painted)
    h, w = painted[0][0].shape[:2]
    width = min(2.4, 1.8 * w / h)
    with figure_to(path, width * count + 1.4, rows * width * h / w + 0.5) as figure:
        grid = figure.subplots(rows, count + 1, squeeze=False, gridspec_kw={"width_ratios": [1] * count + [0.06]})
        grid[0, count].set_axis_off()
        for column, pictures in enumerate(painted):
            for row, picture_HWC in enumerate(pictures):
                picture(grid[row, column], picture_HWC, "" if row else titles[column])
        figure.suptitle(shortened(title))
        for row, (maps, colours_256, low) in enumerate(paint.layers, 1):
            scale = ScalarMappable(Normalize(low, maps.limit), ListedColormap(colours_256 / 255))
            bar: Any = figure.colorbar(scale, cax=grid[row, count])
            if row == 1:
                bar.set_ticks([low, 0, maps.limit], labels=[shortened(head.cool, 24), "0", shortened(head.warm, 24)])
                bar.set_label("evidence")
            else:
                bar.set_label("motion,\nframe sides/s")
