"""A clip with ever more noise, and what is given of it in each task."""

from pathlib import Path

import numpy as np
import torch

from drawings import draw_strip, frames_of
from ssl_video.figures import figure_to
from ssl_video.pretexts.denoising import as_frames
from ssl_video.pretexts.diffusion_core import RIGHT, mixed
from ssl_video.pretexts.given import TASKS, mask

SIDE, FRAMES, EVERY = 64, 8, 3
NAMES = {
    "unconditional": "nothing given",
    "first_frame": "first frame",
    "inpainting": "inpainting",
    "cinemagraph": "cinemagraph",
    "between": f"every {EVERY}rd frame",
}


def beside(frames_THWC: np.ndarray) -> np.ndarray:
    """Frames in a row, with a gap."""
    return np.concatenate([np.pad(f, ((0, 0), (0, 4), (0, 0)), constant_values=255) for f in frames_THWC], 1)


def draw(out: Path) -> None:
    frames_THWC = frames_of("bounce", size=SIDE)[: 6 * FRAMES : 6]
    clip_BCTHW = torch.from_numpy(frames_THWC.copy()).permute(3, 0, 1, 2)[None] / 127.5 - 1
    noise = torch.randn(clip_BCTHW.shape, generator=torch.Generator().manual_seed(0))
    rows = []
    for share in (0.0, 0.3, 0.6, 0.9):
        noisy = as_frames(mixed(clip_BCTHW, noise, share * RIGHT)[0])[0].numpy()
        rows.append((f"noise {share:g}", noisy))
    for number, task in enumerate(TASKS[1:]):
        given = mask(task, frames_THWC.shape[:3], EVERY, np.random.default_rng(number + 3))[..., None]
        rows.append((NAMES[task], np.where(given == 1, frames_THWC, np.uint8(225))))
    with figure_to(out, 8, 8) as figure:
        for ax, (name, shown) in zip(figure.subplots(len(rows), 1), rows, strict=True):
            draw_strip(ax, beside(shown), name)
