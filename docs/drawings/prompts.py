"""Frames of captioned videos of the drawn kind prompts."""

from pathlib import Path

import numpy as np

from drawings import draw_strip
from ssl_video.datasets.synthetic import draw as draw_scene
from ssl_video.datasets.synthetic import drawn_prompt
from ssl_video.figures import figure_to

SHOWN = (0, 3, 4, 6, 7, 8)


def draw(out: Path) -> None:
    with figure_to(out, 9, 3.6) as figure:
        for ax, number in zip(figure.subplots(len(SHOWN), 1), SHOWN, strict=True):
            frames_THWC = draw_scene("prompts", number, size=64).frames_THWC[::6]
            apart_THWC = np.pad(frames_THWC, [(0, 0), (0, 0), (0, 3), (0, 0)], constant_values=255)
            draw_strip(ax, np.concatenate(list(apart_THWC), 1), drawn_prompt(number).caption)
