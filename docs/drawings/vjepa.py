"""What a network sees of a clip under each of the two kinds of masks, three draws of each."""

from pathlib import Path

import numpy as np
import torch

from drawings import draw_strip, frames_of
from ssl_video.backbones.base import build_backbone
from ssl_video.figures import figure_to
from ssl_video.pretexts.base import Context, Progress, build_pretext
from ssl_video.pretexts.vjepa import VJEPA

SIDE, CELL = 112, 8


def draw(out: Path) -> None:
    frame_HWC = frames_of("bounce", size=SIDE)[20]
    network = build_backbone("vivit_tiny", frames=2, side=SIDE, tubelet=(2, CELL, CELL), depth=1)
    pretext = build_pretext("vjepa", network, {"frames": 2, "size": SIDE, "short_side": SIDE, "predictor_depth": 1})
    assert isinstance(pretext, VJEPA)
    with figure_to(out, 9, 3.6) as figure:
        names = ("many small blocks", "two large blocks")
        for ax, kind, name in zip(figure.subplots(2, 1), pretext.kinds, names, strict=True):
            kept_BK, _ = pretext.masks(kind, 5, Context(Progress(0, 1), torch.Generator().manual_seed(2)))
            shown = []
            for ids in kept_BK.tolist():
                picture = np.full_like(frame_HWC, 225)
                for number in ids:
                    y, x = number // (SIDE // CELL) * CELL, number % (SIDE // CELL) * CELL
                    picture[y : y + CELL, x : x + CELL] = frame_HWC[y : y + CELL, x : x + CELL]
                shown.append(np.pad(picture, ((0, 0), (0, 6), (0, 0)), constant_values=255))
            draw_strip(ax, np.concatenate(shown, 1), name)
