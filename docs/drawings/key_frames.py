"""Slices of clips over time: real ones, drawn all frames at once, and by key frames and what lies between them.

It shows what ``python benchmarks/key_frames.py WORK`` has left in WORK.
"""

from pathlib import Path

import numpy as np

from ssl_video.apps.generate_folder import liveliest_row
from ssl_video.figures import figure_to, picture

COLUMNS = 8
KINDS = {"test": "real", "all": "all frames\nat once", "keys": "key frames", "pair": "key frames\nand between"}


def draw(out: Path, left: str) -> None:
    clips = {name: np.load(file)[:COLUMNS] for name, file in files_of(Path(left) / "clips").items()}
    with figure_to(out, 9, 1.35 * len(clips)) as figure:
        grid = figure.subplots(len(clips), min(COLUMNS, len(clips["test"])), squeeze=False)
        for axes, (name, clips_NTHWC) in zip(grid, clips.items(), strict=True):
            for axis in axes:
                axis.set_axis_off()
            for axis, clip_THWC in zip(axes, clips_NTHWC, strict=False):
                picture(axis, slice_of(clip_THWC), aspect="auto", interpolation="nearest")
            axes[0].text(-0.1, 0.5, words_of(name), transform=axes[0].transAxes, ha="right", va="center", fontsize=8)


def files_of(folder: Path) -> dict[str, Path]:
    """Arrays of clips by name, in the order of the rows."""
    pairs = sorted(folder.glob("pair-*.npy"), key=lambda file: int(file.stem.partition("-")[2]))
    return {file.stem: file for file in (*(folder / f"{name}.npy" for name in ("test", "all", "keys")), *pairs)}


def words_of(name: str) -> str:
    """What a row shows."""
    kind, _, gaps = name.partition("-")
    return f"{KINDS[kind]}\n({gaps} gap{'s' * (gaps != '1')} at a time)" if gaps else KINDS[kind]


def slice_of(clip_THWC: np.ndarray) -> np.ndarray:
    """(T, W, 3) the row of pixels that changes most, over time, or of what changes most up and down the column."""
    turned_THWC = clip_THWC.swapaxes(1, 2)
    options = [clip[:, liveliest_row(clip)] for clip in (clip_THWC, turned_THWC)]
    return max(options, key=lambda slice_TWC: slice_TWC.astype(np.float64).var(0).mean())
