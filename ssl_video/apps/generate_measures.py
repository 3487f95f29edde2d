"""What is measured of a video that was drawn, by itself and against what was given of it."""

import numpy as np

from ssl_video.pretexts.diffusion_core import starts
from ssl_video.video.flow import farneback

MOST_DB = 100.0
"""What stands for a ratio without any difference."""


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 values in dB; 100 where they are equal."""
    error = float(np.square(a.astype(np.float64) - b).mean())
    return min(MOST_DB, 10 * np.log10(255**2 / error)) if error else MOST_DB


def rms(a: np.ndarray, b: np.ndarray) -> float:
    """Root mean square difference of uint8 values, in gray levels."""
    return float(np.sqrt(np.square(a.astype(np.float64) - b).mean()))


def motion(frames_THWC: np.ndarray) -> dict[str, float]:
    """Mean magnitude of the optical flow (Farneback) in pixels a frame, and that of a clip which stands still."""
    frozen_2HWC = np.repeat(frames_THWC[:1], 2, 0)
    flows = {"motion_px": frames_THWC, "motion_px_frozen": frozen_2HWC}
    return {name: float(np.hypot(*np.moveaxis(farneback(clip), -1, 0)).mean()) for name, clip in flows.items()}


def seam_ratio(frames_THWC: np.ndarray, window: int, overlap: int) -> float | None:
    """How much more a video changes where one of its windows begins, or the one before ends, than elsewhere.

    The mean absolute difference of neighbouring frames there over that of all others; None where there is one window,
    or nothing else to compare with.
    """
    length = len(frames_THWC)
    firsts = starts(length, window, overlap)
    seams = set(firsts[1:]) | {first + window for first in firsts[:-1]}
    change_S = np.abs(np.diff(frames_THWC.astype(np.float64), axis=0)).mean((1, 2, 3))
    at_seam_S = np.isin(np.arange(1, length), sorted(seams))
    if not at_seam_S.any() or at_seam_S.all() or not change_S[~at_seam_S].mean():
        return None
    return float(change_S[at_seam_S].mean() / change_S[~at_seam_S].mean())


def lowered(frames_THWC: np.ndarray, factor: int) -> np.ndarray:
    """Every square of ``factor`` x ``factor`` pixels as its mean, uint8."""
    T, H, W, C = frames_THWC.shape
    squares = frames_THWC.reshape(T, H // factor, factor, W // factor, factor, C)
    return np.rint(squares.mean((2, 4))).astype(np.uint8)
