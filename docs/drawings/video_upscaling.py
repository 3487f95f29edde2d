"""What the network of super-resolution is shown, and how windows cover a video."""

from pathlib import Path

import numpy as np
import torch

from drawings import draw_strip, frames_of
from drawings.video_diffusion import beside
from ssl_video.figures import figure_to
from ssl_video.pretexts.denoising import as_frames
from ssl_video.pretexts.diffusion_core import RIGHT, mixed, starts
from ssl_video.pretexts.video_upscaling import enlarged, lowered

SIDE, FACTOR, FRAMES, WINDOW, OVERLAP = 64, 4, 21, 8, 2


def draw(out: Path) -> None:
    frames_THWC = frames_of("bounce", size=SIDE)[:48:6]
    clip_BCTHW = torch.from_numpy(frames_THWC.copy()).permute(3, 0, 1, 2)[None] / 127.5 - 1
    generator = torch.Generator().manual_seed(0)
    low = lowered(clip_BCTHW, FACTOR)
    known = mixed(low, torch.randn(low.shape, generator=generator), 0.1 * RIGHT)[0]
    noisy = mixed(clip_BCTHW, torch.randn(clip_BCTHW.shape, generator=generator), 0.6 * RIGHT)[0]
    rows = (("the clip", clip_BCTHW), ("shown: noisy", noisy), ("shown: low resolution", enlarged(known, FACTOR)))
    with figure_to(out, 8, 5) as figure:
        *strips, ax = figure.subplots(4, 1)
        for strip, (name, clip) in zip(strips, rows, strict=True):
            draw_strip(strip, beside(as_frames(clip)[0].numpy()), name)
        for row, first in enumerate(starts(FRAMES, WINDOW, OVERLAP)):
            ax.barh(row, WINDOW, left=first, height=0.8, color=f"C{row}", alpha=0.7)
        ax.set_xticks(np.arange(0, FRAMES + 1, 3))
        ax.set_xlabel(f"frame of a video of {FRAMES}")
        ax.set_yticks([])
        ax.set_ylabel("windows", rotation=0, ha="right", va="center")
        ax.invert_yaxis()
