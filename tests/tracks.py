"""Drawn tracks, with exact masks, written in the layouts of published sets."""

from pathlib import Path

import numpy as np
from PIL import Image

from ssl_video.datasets.drawing.scene import Scene
from ssl_video.datasets.synthetic import draw


def drawn(number: int = 0, frames: int = 8) -> Scene:
    return draw("tracks", number, frames=frames, sprites=2)


def save_frames(folder: Path, frames_THWC: np.ndarray, suffix: str = ".jpg") -> None:
    folder.mkdir(parents=True)
    for t, frame_HWC in enumerate(frames_THWC):
        Image.fromarray(frame_HWC).save(folder / f"{t:05d}{suffix}")


def save_masks(folder: Path, masks_THW: np.ndarray, palette: bool = True) -> None:
    folder.mkdir(parents=True)
    for t, mask_HW in enumerate(masks_THW):
        save_mask(folder / f"{t:05d}.png", mask_HW, palette)


def save_mask(path: Path, mask_HW: np.ndarray, palette: bool = True) -> None:
    picture = Image.fromarray(mask_HW.astype(np.uint8))
    if palette:  # of any colours: they mean nothing
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    picture.save(path)


def davis(root: Path, masks: dict[str, np.ndarray], frames: dict[str, np.ndarray], year: str = "2017") -> Path:
    """A set in the layout of DAVIS; masks with a palette in 2017, gray in 2016."""
    for name, masks_THW in masks.items():
        save_frames(root / "JPEGImages" / "480p" / name, frames[name])
        save_masks(root / "Annotations" / "480p" / name, masks_THW, year == "2017")
    lists = root / "ImageSets" / year
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(masks) + "\n")
    return root
