"""A frame's view of the whole and four of parts, and of each the patches that are embedded."""

from pathlib import Path

import numpy as np
import torch

from drawings import as_video, draw_strip, frames_of
from ssl_video.backbones.base import build_backbone
from ssl_video.figures import figure_to
from ssl_video.pretexts.base import Context, Progress, Sample, build_pretext
from ssl_video.pretexts.tokens import kept_and_hidden

SIDE, SMALL, CELL, DROP = 96, 48, 8, 0.8


def draw(out: Path) -> None:
    frames_THWC = frames_of("bounce")
    network = build_backbone("vivit_tiny", frames=2, side=SIDE, tubelet=(1, CELL, CELL), depth=1)
    options = {"frames": 2, "fps": 25.0, "short_side": SIDE, "size": SIDE, "view_size": SMALL, "views": 4}
    pretext = build_pretext("levjepa", network, options)
    sample = pretext.sample(as_video("bounce", frames_THWC), {}, np.random.default_rng(1))
    assert isinstance(sample, Sample)
    made = pretext.transform(frames_THWC[list(sample.frames)], sample, np.random.default_rng(3))
    views = [made["clip_THWC"][0], *made["views_VTHWC"][:, 0]]
    ctx, kept = Context(Progress(0, 1), torch.Generator().manual_seed(0)), []
    for view_HWC in views:
        across = view_HWC.shape[0] // CELL
        ids_1K, _ = kept_and_hidden(ctx.uniform(1, across**2), round((1 - DROP) * across**2))
        picture = np.full_like(view_HWC, 225)
        for number in ids_1K[0].tolist():
            y, x = number // across * CELL, number % across * CELL
            picture[y : y + CELL, x : x + CELL] = view_HWC[y : y + CELL, x : x + CELL]
        kept.append(picture)
    with figure_to(out, 9, 3.4) as figure:
        for ax, label, row in zip(figure.subplots(2, 1), ("views", "embedded"), (views, kept), strict=True):
            draw_strip(ax, np.concatenate([_tall(view_HWC) for view_HWC in row], 1), label)


def _tall(view_HWC: np.ndarray) -> np.ndarray:
    """With white around it, as high as the largest view."""
    above = SIDE - view_HWC.shape[0]
    return np.pad(view_HWC, ((above // 2, above - above // 2), (0, 8), (0, 0)), constant_values=255)
