"""Reversal: whether a frozen network's features tell a video from the same one played backwards, class by class."""

from dataclasses import dataclass, replace
from statistics import mean
from typing import ClassVar

import numpy as np

from ssl_video.bounds import Bounded, Natural
from ssl_video.errors import UserError
from ssl_video.eval.base import EVALUATIONS, Evaluation, Outcome, Task
from ssl_video.eval.features import Extraction, Features
from ssl_video.eval.ridge import principal_axes, standardise
from ssl_video.eval.shards import train_and_test_features
from ssl_video.eval.takes import LabelledVideos, Takes
from ssl_video.model import Model

ROUNDING = 1e-5
"""Features of both directions that differ by less than this share of the largest one are the same."""
PENALTIES = tuple(10.0**p for p in range(-2, 6))


@dataclass(frozen=True)
class ReversalConfig(Bounded):
    """Options of the reversal control."""

    clips: Natural = 8
    """Clips of a video, evenly spaced, each played backwards by itself; 0: windows that overlap by half."""
    readout: str = "avg"
    """How a feature map becomes a vector; avg keeps nothing of the order but what the network put into its features."""
    stage: str | None = None
    """The stage of the network that is read; None: the last."""
    calibrate: bool = True
    """Recompute batch-norm statistics on the training list, played forwards, first."""


@EVALUATIONS.register("reversal")
class Reversal(Evaluation[ReversalConfig]):
    """Accuracy of a linear probe that tells the clips of a class from their reversals; chance is 0.5.

    After the chiral pairs of actions (opening against closing) of arXiv:2509.08502, made of any list of classes. A
    ridge classifier is trained for each class on the training list, and measured on the test list.
    """

    Config = ReversalConfig
    takes: ClassVar[Takes] = LabelledVideos()
    presets: ClassVar = {"default": ReversalConfig()}

    def measure(self, model: Model, task: Task, config: ReversalConfig, seed: int) -> Outcome:
        """Nothing is drawn at random. Classes without a training or a test video are left out, and counted."""
        if model.backbone.clip.modality != "rgb":
            raise UserError(
                f"reversal plays frames backwards, which is not the flow of what is played backwards, and {model.name} "
                f"takes {model.backbone.clip.modality}; name a network of RGB by --model."
            )
        what = Extraction(config.clips, config.readout, config.stage)
        forward, backward = (
            train_and_test_features(model, task, replace(what, reversed=way), calibrate=config.calibrate)
            for way in (False, True)
        )
        train, test = (Pairs.of(*both) for both in zip(forward, backward, strict=True))
        right_N = np.full(len(test.labels_N), np.nan)
        per_class: dict[str, float] = {}
        for label, name in enumerate(task.train.classes):
            of_train, of_test = train.labels_N == label, test.labels_N == label
            if of_train.any() and of_test.any():
                right_N[of_test] = told_apart(train.x_N2D[of_train], test.x_N2D[of_test])
                per_class[name] = float(right_N[of_test].mean())
        if not per_class:
            raise UserError(f"No class of {task.data} has both training and test videos that can be read.")
        measured = ~np.isnan(right_N)
        metrics = {"accuracy": float(right_N[measured].mean()), "mean_class_accuracy": mean(per_class.values())}
        metrics |= {f"accuracy of {name}": value for name, value in per_class.items()}
        videos = forward[1].videos
        per_video = {videos[n].source: {"accuracy": float(right_N[n])} for n in np.flatnonzero(measured)}
        counts = {"train": len(train.labels_N), "test": int(measured.sum()), "classes": len(per_class)}
        return Outcome(metrics, counts, forward[0].problems + forward[1].problems, per_video=per_video)


@dataclass(frozen=True)
class Pairs:
    """(N, 2, D) features of videos, played forwards and backwards, and (N,) their classes."""

    x_N2D: np.ndarray
    labels_N: np.ndarray

    @classmethod
    def of(cls, forward: Features, backward: Features) -> "Pairs":
        """Pairs of which what differs by rounding alone is made equal.

        A network that sees single frames gives both the same mean, but for the order in which it was added up, and a
        classifier that finds nothing else would choose by that.
        """
        assert [v.source for v in forward.videos] == [v.source for v in backward.videos]
        x_N2D = np.stack([forward.mean_ND, backward.mean_ND], 1)
        apart_N = np.abs(x_N2D[:, 0] - x_N2D[:, 1]).max(1)
        same_N = apart_N <= ROUNDING * np.abs(x_N2D).max((1, 2))
        x_N2D[same_N, 1] = x_N2D[same_N, 0]
        return cls(x_N2D, forward.labels_N)


def told_apart(train_N2D: np.ndarray, test_M2D: np.ndarray) -> np.ndarray:
    """(M,) of each test pair the share that is told right: 0, a half or 1; a half where both are the same.

    A ridge classifier on standardised features. Its penalty is that of the best accuracy, then the smallest residual,
    with a training video left out in both directions: with one of them left in, its likeness would mislead.
    """
    flat_ND, flat_MD = (x.reshape(-1, x.shape[2]).astype(np.float64) for x in (train_N2D, test_M2D))
    x, x_test = standardise(flat_ND, flat_MD)
    y = np.tile([-1.0, 1.0], len(train_N2D))
    axes_DR = principal_axes(x)
    z_NR = x @ axes_DR
    squares_R, projected_R, z_N2R = (z_NR**2).sum(0), z_NR.T @ y, z_NR.reshape(-1, 2, z_NR.shape[1])
    best, best_penalty = (-1.0, 0.0), PENALTIES[0]
    for penalty in PENALTIES:
        shrink_R = 1 / (squares_R + penalty)
        hat_N22 = (z_N2R * shrink_R) @ z_N2R.transpose(0, 2, 1) + 1 / len(y)  # the offset is fitted as well
        residual_N2 = (y - z_NR @ (shrink_R * projected_R)).reshape(-1, 2)
        rest_N22 = (1 + 1e-9) * np.eye(2) - hat_N22
        residual_N2 = np.linalg.solve(rest_N22, residual_N2[..., None])[..., 0]
        held_out_N = y - residual_N2.ravel()
        quality = float((held_out_N * y > 0).mean()), -float((residual_N2**2).mean())
        if quality > best:
            best, best_penalty = quality, penalty
    scores_M2 = (x_test @ axes_DR @ (projected_R / (squares_R + best_penalty))).reshape(-1, 2)
    right_M = ((scores_M2 > 0) == [False, True]).mean(1)
    same_M = (test_M2D[:, 0] == test_M2D[:, 1]).all(1)
    return np.where(same_M, 0.5, right_M)
