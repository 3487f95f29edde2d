"""Where in a video something moves: what the pretexts of single frames draw their frames by."""

from typing import Literal

import numpy as np

Motion = Literal["flow", "difference"]
STATISTIC: dict[Motion, str] = {"flow": "flow_magnitude", "difference": "frame_difference"}
STILL: dict[Motion, float] = {"flow": 0.01, "difference": 0.2}
"""Mean motion, in pixels or gray levels a frame, up to which nothing moves but the noise of compression."""


def moves(motion_T: np.ndarray, kind: Motion) -> bool:
    """Whether there is more motion in these frames than compression gives a still picture."""
    return float(motion_T[1:].mean()) > STILL[kind]


def draw_window(motion_T: np.ndarray, length: int, rng: np.random.Generator) -> int:
    """The first of ``length`` consecutive frames, drawn with probability proportional to the motion within them.

    ``motion_T`` is the motion of each frame since the one before; that of a window's first frame lies outside of it.
    """
    moved_T = np.cumsum(motion_T, dtype=np.float64)
    weights = moved_T[length - 1 :] - moved_T[: len(moved_T) - length + 1]
    cumulated = np.cumsum(weights)
    place = int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right"))
    return min(place, int(np.flatnonzero(weights)[-1]))  # rounding may lead behind the last
