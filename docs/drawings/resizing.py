"""Losses while what was added for video is trained, by how resizing in time began, a line a seed.

It shows what ``python benchmarks/resizing.py WORK`` has left in WORK.
"""

from pathlib import Path

from benchmarks.resizing import INITS
from benchmarks.resizing import draw as draw_curves
from ssl_video.run import Run


def draw(out: Path, left: str) -> None:
    runs = {init: sorted(Path(left).glob(f"{init}-*")) for init in INITS}
    draw_curves(out, {init: [Run(folder).records() for folder in folders] for init, folders in runs.items()})
