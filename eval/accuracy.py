"""Accuracy of clips and of videos, and which class was taken for which."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.special import expit, softmax

from ssl_video.files import written_aside


def accuracies(scores_NK: np.ndarray, labels_N: np.ndarray) -> dict[str, float]:
    """Top-1 and top-5 video accuracy, and the mean over classes of the top-1 accuracy."""
    ranked = np.argsort(-scores_NK, axis=1, kind="stable")
    right = ranked[:, 0] == labels_N
    per_class = [right[labels_N == c].mean() for c in np.unique(labels_N)]
    numbers = {"top1": float(right.mean()), "mean_class_accuracy": float(np.mean(per_class))}
    if scores_NK.shape[1] > 5:
        numbers["top5"] = float((ranked[:, :5] == labels_N[:, None]).any(1).mean())
    return numbers


def average_scores(
    clips_KC: Sequence[np.ndarray], average: Literal["logits", "probabilities"], multi_label: bool = False
) -> np.ndarray:
    """(N, C): the mean over each video's clips and crops of logits, or of their softmax (``multi_label``: sigmoid)."""
    if average == "probabilities":
        clips_KC = [expit(x) if multi_label else softmax(x, axis=1) for x in clips_KC]
    return np.stack([x.mean(0) for x in clips_KC])


def clip_accuracy(clips_KC: Sequence[np.ndarray], labels_N: np.ndarray) -> dict[str, float]:
    """``clip_top1``: the accuracy of single clips and crops."""
    right = np.concatenate([x.argmax(1) == label for x, label in zip(clips_KC, labels_N, strict=True)])
    return {"clip_top1": float(right.mean())}


def confusion(scores_NK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """(K, K) counts of videos: row true class, column class of the highest score."""
    counts_KK = np.zeros((scores_NK.shape[1],) * 2, np.int64)
    np.add.at(counts_KK, (labels_N, scores_NK.argmax(1)), 1)
    return counts_KK


def draw_confusion(counts_KK: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Write a picture: each row's counts as fractions of its videos, the counts themselves where there is room."""
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
    axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(range(len(classes)), classes, fontsize=size, parse_math=False)
    axes.set_xlabel("predicted", fontsize=9)
    axes.set_ylabel("true", fontsize=9)
    if few:
        for row, column in zip(*np.nonzero(counts_KK), strict=True):
            colour = "white" if parts_KK[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts_KK[row, column]), ha="center", va="center", color=colour, fontsize=size)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=110)
