"""Tracks of a video that a panning camera took, with the camera's motion and without it."""

from pathlib import Path

import numpy as np

from ssl_video.encoders.tracks import TrackConfig, track
from ssl_video.figures import figure_to


def draw(out: Path) -> None:
    frames_THWC = _panned()
    with figure_to(out, 9, 3.4) as figure:
        for ax, camera in zip(figure.subplots(1, 2), (False, True), strict=True):
            found = track(frames_THWC, TrackConfig(scales=1, camera=camera))
            ax.imshow(frames_THWC[15])
            for points_L2 in found.points_PL2[found.starts_P == 0]:
                ax.plot(*points_L2.T, color="green", linewidth=0.8)
                ax.plot(*points_L2[-1], ".", color="red", markersize=2)
            kept = "without the camera's motion" if camera else "all that moves"
            ax.set_title(f"{kept}: {len(found.starts_P)} tracks")
            ax.set_axis_off()


def _panned() -> np.ndarray:
    """A window that moves over one still picture, and in it a ball that flies."""
    rng = np.random.default_rng(0)
    still = np.kron(rng.integers(150, 210, (40, 60, 1)), np.ones((8, 8, 3)))
    ball = np.kron(rng.integers(0, 256, (4, 4, 1)), np.ones((8, 8, 3))) * (1.0, 0.4, 0.2)
    y, x = np.mgrid[:160, :220]
    frames = []
    for n in range(16):
        frame_HWC = still[60 + n :, 20 + 3 * n :][:160, :220].copy()
        left, top = 10 + 9 * n, round(100 - 12 * n + 0.7 * n**2)
        inside = np.hypot(x - left - 16, y - top - 16) < 16
        frame_HWC[inside] = ball[(y - top)[inside], (x - left)[inside]]
        frames.append(frame_HWC.astype(np.uint8))
    return np.stack(frames)
