"""Frames of six classes and their flow."""

from pathlib import Path

import numpy as np

from drawings import frames_of
from ssl_video.apps.explain_flow import draw_sheet
from ssl_video.video.flow import farneback


def draw(out: Path) -> None:
    names = ("orbit", "pendulum", "bounce", "spin", "pulse", "drift")
    pairs_NTHWC = np.stack([frames_of(name)[20:22] for name in names])
    flows = np.stack([farneback(pair)[0] for pair in pairs_NTHWC])
    draw_sheet(pairs_NTHWC[:, 0], flows, names, 3.0, out)
