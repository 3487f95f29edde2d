"""Accuracy of clips and of videos, and which class was taken for which."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.special import expit, softmax

from ssl_video.figures import figure_to, named_ticks


def accuracies(scores_NK: np.ndarray, labels_N: np.ndarray) -> dict[str, float]:
    """Top-1 and top-5 video accuracy, and the mean over classes of the top-1 accuracy.

    A score of minus infinity says that a class is out of the question.
    """
    ranked = np.argsort(-scores_NK, axis=1, kind="stable")
    right = ranked[:, 0] == labels_N
    per_class = [right[labels_N == c].mean() for c in np.unique(labels_N)]
    numbers = {"top1": float(right.mean()), "mean_class_accuracy": float(np.mean(per_class))}
    if scores_NK.shape[1] > 5:
        possible_N5 = np.isfinite(np.take_along_axis(scores_NK, ranked[:, :5], 1))
        numbers["top5"] = float(((ranked[:, :5] == labels_N[:, None]) & possible_N5).any(1).mean())
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
    """Write a figure: each row's counts as fractions of its videos, the counts themselves where there is room."""
    few = len(classes) <= 30
    size = 8 if few else 4
    longest = max(min(len(name), 40) for name in classes) * size / 110  # inches
    side = (0.4 if few else 0.12) * len(classes) + 1.2 + longest
    fractions_KK = counts_KK / np.maximum(counts_KK.sum(1, keepdims=True), 1)
    with figure_to(path, side + 0.9, side) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(fractions_KK, cmap="Blues", vmin=0, vmax=1)
        named_ticks(axes, classes, size)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        figure.colorbar(image, label="fraction of the true class's videos", shrink=min(1.0, 6 / side), aspect=25)
        if few:
            for row, column in zip(*np.nonzero(counts_KK), strict=True):
                colour = "white" if fractions_KK[row, column] > 0.5 else "black"
                axes.text(column, row, str(counts_KK[row, column]), ha="center", va="center", color=colour, size=size)
