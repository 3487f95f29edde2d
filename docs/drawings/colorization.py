"""Colours copied into gray frames of drawn tracks, by a small network that is trained here, briefly, on others."""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ssl_video.backbones.base import build_backbone
from ssl_video.datasets import synthetic
from ssl_video.figures import figure_to
from ssl_video.pretexts.base import Context, Progress, build_pretext
from ssl_video.video.colours import in_colours, rgb_to_lab


def draw(out: Path) -> None:
    options = {"dilations": (), "short_side": 128, "crop": 128}
    torch.manual_seed(0)
    pretext = build_pretext("colorization", build_backbone("dense_resnet_8"), options).train()
    clips_NTHWC = torch.stack([_track(number, "train") for number in range(48)])
    pretext.fit(({"clip_THWC": clip} for clip in clips_NTHWC), np.random.default_rng(0))
    optimizer = torch.optim.AdamW(pretext.parameters(), 0.001)
    for step in range(300):
        ctx = Context(Progress(step, 1), torch.Generator().manual_seed(step))
        some_BTHWC = clips_NTHWC[torch.randperm(len(clips_NTHWC), generator=ctx.generator)[:2]]
        optimizer.zero_grad()
        pretext({"clip_THWC": some_BTHWC}, ctx).loss.backward()
        optimizer.step()
    pretext.eval()
    shown_BTHWC = torch.stack([_track(number, "test") for number in (0, 1, 2)])
    gray_BHWC = in_colours(shown_BTHWC, "gray")[:, -1] / 255
    copied_B2hw = pretext.colorize(shown_BTHWC).permute(0, 3, 1, 2)
    side = shown_BTHWC.shape[2]
    copied_BHW2 = F.interpolate(copied_B2hw, size=(side, side), mode="bilinear").permute(0, 2, 3, 1)
    with figure_to(out, 9.5, 6.2) as figure:
        titles = ("reference", "reference", "reference", "target, as shown", "copied colours", "true colours")
        rows = figure.subplots(len(shown_BTHWC), len(titles))
        for axes, clip_THWC, gray_HWC, ab_HW2 in zip(rows, shown_BTHWC, gray_BHWC, copied_BHW2, strict=True):
            lightness_HW1 = rgb_to_lab(clip_THWC[-1])[..., :1]
            coloured_HWC = cv2.cvtColor(torch.cat([lightness_HW1, ab_HW2], -1).numpy(), cv2.COLOR_LAB2RGB).clip(0, 1)
            for ax, picture in zip(axes, [*clip_THWC[:-1], gray_HWC, coloured_HWC, clip_THWC[-1]], strict=True):
                ax.imshow(picture)
                ax.set_axis_off()
        for ax, title in zip(rows[0], titles, strict=True):
            ax.set_title(title)


def _track(number: int, split: Literal["train", "test"]) -> torch.Tensor:
    """Four frames of a drawn track, as far from each other as the pretext takes them from 25 a second."""
    return torch.from_numpy(synthetic.draw("tracks", number, split=split).frames_THWC[20:33:4])
