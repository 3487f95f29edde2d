"""Two frames of a video, and what of the second is seen."""

from pathlib import Path

import numpy as np
import torch

from drawings import as_video, draw_strip, frames_of
from ssl_video.backbones.base import build_backbone
from ssl_video.figures import figure_to
from ssl_video.pretexts.base import Context, Progress, Sample, build_pretext
from ssl_video.pretexts.tokens import kept_and_hidden

SIDE, CELL = 112, 8


def draw(out: Path) -> None:
    frames_THWC = frames_of("bounce", size=SIDE)
    network = build_backbone("vivit_tiny", frames=1, side=SIDE, tubelet=(1, CELL, CELL), depth=1)
    options = {"short_side": SIDE, "size": SIDE, "gap_s": (0.4, 1.0)}
    pretext = build_pretext("siam_mae", network, options).eval()
    sample = pretext.sample(as_video("bounce", frames_THWC), {}, np.random.default_rng(5))
    assert isinstance(sample, Sample)
    first, second = pretext.transform(frames_THWC[list(sample.frames)], sample, np.random.default_rng(0))["pair_2HWC"]
    across = SIDE // CELL
    ctx = Context(Progress(0, 1), torch.Generator().manual_seed(1))
    kept_1K, _ = kept_and_hidden(ctx.uniform(1, across**2), round(0.05 * across**2))
    seen = np.full_like(second, 225)
    for number in kept_1K[0].tolist():
        y, x = number // across * CELL, number % across * CELL
        seen[y : y + CELL, x : x + CELL] = second[y : y + CELL, x : x + CELL]
    with figure_to(out, 7, 2.4) as figure:
        pictures = (("a frame", first), ("a later one", second), ("what is seen of it", seen))
        for ax, (label, picture) in zip(figure.subplots(1, 3), pictures, strict=True):
            draw_strip(ax, picture, "")
            ax.set_title(label)
