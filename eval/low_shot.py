"""Low-shot: a classifier is trained on a few videos of each class, by three fixed draws."""

from collections.abc import Callable, Sequence

import numpy as np

from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.eval.base import Outcome
from ssl_video.eval.features import Features

DRAWS = 3
"""How often videos are drawn."""

Measure = Callable[[Features], tuple[np.ndarray, dict[str, float]]]
"""From features to train on to (N, classes) scores of the test videos, and metrics."""


def check_shots(videos: Sequence[Video], classes: Sequence[str], shots: int) -> None:
    """Raise UserError if a class has fewer training videos than ``shots``, or a video has several labels."""
    if any(len(v.labels) != 1 for v in videos):
        raise UserError("shots draws videos of one label each; leave the option out where videos have several.")
    counts_C = np.bincount([v.label for v in videos], minlength=len(classes))
    if counts_C.min() < shots:
        fewest = int(counts_C.argmin())
        raise UserError(
            f"shots={shots} needs as many training videos of every class, and {classes[fewest]} has {counts_C[fewest]} "
            f"that can be used; take at most {counts_C[fewest]}, or leave the option out."
        )


def drawn(videos: Sequence[Video], shots: int, draw: int) -> list[int]:
    """Places of ``shots`` videos of each class: a choice by what the videos are and the number of the draw alone."""
    keys = [(np.random.default_rng([11, draw, v.number]).random(), v.key) for v in videos]
    order = sorted(range(len(videos)), key=keys.__getitem__)
    labels = sorted({v.label for v in videos})
    return [n for label in labels for n in [i for i in order if videos[i].label == label][:shots]]


def low_shot(train: Features, test: Features, classes: Sequence[str], shots: int, measure: Measure) -> Outcome:
    """Means over the draws of what ``measure`` finds, and as NAME_std their standard deviations.

    Of each test video ``per_video`` has the share of the draws in which it was right. There are no predictions: there
    are three of each video.

    Raises:
        UserError: see ``check_shots``; here of the videos that could be read.
    """
    check_shots(train.videos, classes, shots)
    found: list[dict[str, float]] = []
    right: list[np.ndarray] = []
    for draw in range(DRAWS):
        scores_NK, metrics = measure(train.some(drawn(train.videos, shots, draw)))
        found.append(metrics)
        right.append(scores_NK.argmax(1) == test.labels_N)
    metrics = {}
    for name in found[0]:
        values = [numbers[name] for numbers in found]
        metrics |= {name: float(np.mean(values)), f"{name}_std": float(np.std(values, ddof=1))}
    per_video = {v.source: {"top1": float(x)} for v, x in zip(test.videos, np.mean(right, 0), strict=True)}
    counts = {"train": shots * len(classes), "test": len(test.videos), "classes": len(classes), "draws": DRAWS}
    return Outcome(metrics, counts, train.problems + test.problems, per_video=per_video)
