"""The pictures of the documentation, one a file with a function ``draw(out)``; here is what they share."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ssl_video.datasets.base import Video
from ssl_video.datasets.synthetic import CLASSES, draw
from ssl_video.video.info import VideoInfo


def draw_strip(ax: Any, picture_HWC: np.ndarray, label: str) -> None:
    """A row of pictures without axes, with its name on the left."""
    ax.imshow(picture_HWC)
    ax.set_ylabel(label, rotation=0, ha="right", va="center")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def frames_of(name: str, size: int = 120, frames: int = 64) -> np.ndarray:
    """(frames, size, size, 3) of the synthetic class of that name."""
    return draw("clips", CLASSES["clips"].index(name), size=size, frames=frames).frames_THWC


def as_video(name: str, frames_THWC: np.ndarray) -> Video:
    """Frames in memory as a video of 25 frames a second, for samplers, which read nothing."""
    count, height, width = frames_THWC.shape[:3]
    return Video(name, info=VideoInfo(count, 25.0, width, height, count / 25, "raw"))


def stored(path: Path, frames_THWC: np.ndarray) -> Video:
    """As ``as_video``, and its frames can be read."""
    np.save(path, frames_THWC)
    return replace(as_video(path.stem, frames_THWC), path=str(path))
