"""Speediness along a drawn video that drifts at its speed, at three times that, and again at its own."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from drawings import frames_of, stored
from ssl_video.apps.options import SpeedinessOptions
from ssl_video.apps.speediness_curve import Curves, draw_speediness, speediness_curves
from ssl_video.apps.speedup import versions
from ssl_video.model import load_model

WHAT = "drift: three times as fast from 3.2 to 5.2 s"


def draw(out: Path, run: str) -> None:
    draw_speediness(out, curves_of(run), 25.0, WHAT)


def curves_of(run: str) -> Curves:
    """The curves of that video by the network of that run."""
    drift = frames_of("drift", 96, 310)
    with TemporaryDirectory() as folder:
        video = stored(Path(folder) / "drift.npy", np.concatenate([drift[:80], drift[80:230:3], drift[230:]]))
        return speediness_curves(load_model(run), video, versions(4.0), SpeedinessOptions(2))
