"""How clips move: how large their flow is, how well it explains the next frame, how fast their pixels change."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from ssl_video.video.flow import farneback

BINS = np.concatenate(([0.0], np.geomspace(0.02, 20, 40), [np.inf]))
"""Edges of the histogram of flow, in pixels a frame."""


@dataclass(frozen=True)
class Motion:
    """Of a set of clips of one size and length, means over all of them.

    ``share_B``: the fraction of pixels whose flow is in each of the ``BINS``; ``warp_error``: mean absolute difference,
    in levels of 255, of a frame and the next one pulled back along the flow; ``spectrum_F``: mean power of pixels over
    time, in squared levels, at 0, 1, 2, ... cycles a clip, without that of their mean.
    """

    share_B: np.ndarray
    warp_error: float
    spectrum_F: np.ndarray


def motion_of(clips_NTHWC: Sequence[np.ndarray] | np.ndarray) -> Motion:
    """The motion of uint8 clips of at least two frames. Raises UserError without OpenCV."""
    found = [_of_one(clip_THWC) for clip_THWC in clips_NTHWC]
    shares, errors, spectra = zip(*found, strict=True)
    return Motion(np.mean(shares, 0), float(np.mean(errors)), np.mean(spectra, 0))


def _of_one(clip_THWC: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    flow_THW2 = farneback(clip_THWC, window=7, levels=3)
    counts_B = np.histogram(np.linalg.norm(flow_THW2, axis=-1), BINS)[0]
    pairs = zip(clip_THWC[:-1], clip_THWC[1:], flow_THW2, strict=True)
    error = float(
        np.mean([np.abs(here.astype(np.float32) - pulled_back(then, flow)).mean() for here, then, flow in pairs])
    )
    return counts_B / counts_B.sum(), error, spectrum(clip_THWC)


def pulled_back(next_HWC: np.ndarray, flow_HW2: np.ndarray) -> np.ndarray:
    """(H, W, C) float32: what the next frame shows where each pixel of this one goes; the border is repeated."""
    y_HW, x_HW = np.mgrid[: flow_HW2.shape[0], : flow_HW2.shape[1]]
    places = [y_HW + flow_HW2[..., 1], x_HW + flow_HW2[..., 0]]
    channels = np.moveaxis(next_HWC.astype(np.float32), -1, 0)
    return np.stack([map_coordinates(c_HW, places, order=1, mode="nearest") for c_HW in channels], -1)


def spectrum(clip_THWC: np.ndarray) -> np.ndarray:
    """(T // 2 + 1,): the power of pixels at 0, 1, ... cycles a clip; its sum is their variance over time.

    The power at 0 is left out (0), that of a cycle and of its opposite are one.
    """
    frames = len(clip_THWC)
    power_F = (np.abs(np.fft.rfft(clip_THWC.astype(np.float64), axis=0)) ** 2).mean((1, 2, 3)) / frames**2
    twice_F = np.full(len(power_F), 2.0)
    twice_F[0] = 0
    if frames % 2 == 0:
        twice_F[-1] = 1
    return power_F * twice_F


def flow_distance(one: Motion, other: Motion) -> float:
    """Earth mover's distance, in bins, of how large flow is: a bin is 19 % more flow, the first one all below 0.02."""
    return float(np.abs(np.cumsum(one.share_B - other.share_B)).sum())


def spectrum_distance(one: Motion, other: Motion) -> float:
    """Mean absolute difference of the power spectra over time, in decades, without that of rounding (1/12)."""
    logs = [np.log10(motion.spectrum_F[1:] + 1 / 12) for motion in (one, other)]
    return float(np.abs(logs[0] - logs[1]).mean())
