"""Which class was taken for which."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssl_video.files import written_aside


def confusion(scores_NK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """(K, K) counts of videos: row true class, column class of the highest score."""
    counts_KK = np.zeros((scores_NK.shape[1],) * 2, np.int64)
    np.add.at(counts_KK, (labels_N, scores_NK.argmax(1)), 1)
    return counts_KK


def draw_confusion(counts_KK: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Write a picture: each row's counts as parts of its videos, the counts themselves where there is room."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no pyplot: no global state, no display
    from matplotlib.figure import Figure

    few = len(classes) <= 30
    side = 2.5 + (0.4 if few else 0.14) * len(classes)
    figure = Figure(figsize=(side, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    parts_KK = counts_KK / np.maximum(counts_KK.sum(1, keepdims=True), 1)
    axes.imshow(parts_KK, cmap="Blues", vmin=0, vmax=1)
    size = 8 if few else 4
    axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=size)
    axes.set_yticks(range(len(classes)), classes, fontsize=size)
    axes.set_xlabel("predicted", fontsize=9)
    axes.set_ylabel("true", fontsize=9)
    if few:
        for row, column in zip(*np.nonzero(counts_KK), strict=True):
            colour = "white" if parts_KK[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts_KK[row, column]), ha="center", va="center", color=colour, fontsize=size)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=110)
