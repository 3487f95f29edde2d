"""A clip, what is seen of it under tubes, and the targets of what is hidden."""

from pathlib import Path

import numpy as np
import torch

from drawings import draw_strip, frames_of
from ssl_video.backbones.base import build_backbone
from ssl_video.figures import figure_to
from ssl_video.pretexts.base import Context, Progress, build_pretext
from ssl_video.pretexts.tokens import pixels_of
from ssl_video.pretexts.videomae import VideoMAE, targets

SIDE, CELL, FRAMES = 96, 16, 8


def draw(out: Path) -> None:
    frames_THWC = frames_of("bounce", size=SIDE)[: 2 * FRAMES : 2]
    options = {"frames": FRAMES, "size": SIDE, "short_side": SIDE, "mask": 0.75}
    network = build_backbone("vivit_tiny", frames=FRAMES, side=SIDE, tubelet=(2, CELL, CELL), depth=1)
    pretext = build_pretext("videomae", network, options)
    assert isinstance(pretext, VideoMAE)
    _, hidden_1M = pretext.masks(1, Context(Progress(0, 1), torch.Generator().manual_seed(4)))
    clip_1THWC = torch.from_numpy(frames_THWC.copy())[None]
    target_1NP = targets(pixels_of(clip_1THWC, (2, CELL, CELL)), True)
    seen, wanted = frames_THWC.copy(), np.full_like(frames_THWC, 255)
    across = SIDE // CELL
    for number in hidden_1M[0].tolist():
        t, y, x = number // across**2 * 2, number % across**2 // across * CELL, number % across * CELL
        cube = target_1NP[0, number].view(2, CELL, CELL, 3).numpy()
        seen[t : t + 2, y : y + CELL, x : x + CELL] = 225
        wanted[t : t + 2, y : y + CELL, x : x + CELL] = (128 + 50 * cube).clip(0, 255)
    with figure_to(out, 9, 3.6) as figure:
        rows = (("the clip", frames_THWC), ("seen", seen), ("targets", wanted))
        for ax, (label, strip_THWC) in zip(figure.subplots(3, 1), rows, strict=True):
            spaced = [np.pad(f, ((0, 0), (0, 6), (0, 0)), constant_values=255) for f in strip_THWC[::2]]
            draw_strip(ax, np.concatenate(spaced, 1), label)
