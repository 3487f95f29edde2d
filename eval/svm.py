"""Linear SVM on the features of a frozen network or an encoder: C3D's protocol, and that of improved trajectories."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from ssl_video.bounds import Natural, Positive
from ssl_video.encoders.base import Encoder
from ssl_video.errors import UserError
from ssl_video.eval.accuracy import accuracies, confusion
from ssl_video.eval.base import EVALUATIONS, Evaluation, Outcome, Task
from ssl_video.eval.features import FeatureOptions
from ssl_video.eval.knn import unit
from ssl_video.eval.linear import announce_fit
from ssl_video.eval.results import predictions_of
from ssl_video.eval.ridge import standardise
from ssl_video.eval.shards import train_and_test_features
from ssl_video.model import Model


@dataclass(frozen=True)
class SvmConfig(FeatureOptions):
    """Options of the SVM protocol."""

    clips: Natural = 0
    """Clips of a video, evenly spaced; 0: windows that overlap by half."""
    c: Positive = 1.0
    """C, the weight of the training errors."""
    frames: Natural = 0
    """Consecutive frames of a clip; 0: clips of the network's own view."""
    scale: Literal["none", "l2", "standardise+l2"] = "standardise+l2"
    """What is done to a video's vector: length 1, or standardised by the training list and then length 1."""


@EVALUATIONS.register("svm")
class Svm(Evaluation[SvmConfig]):
    """Accuracy of a linear SVM (one against the rest, squared hinge) on the mean feature of a video's clips.

    ``c3d`` follows Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks", ICCV 2015: clips of
    16 frames that overlap by 8, averaged, L2-normalised. The paper takes fc6, which ends where our networks' last
    feature map is pooled, and does not state C: 1 is LIBLINEAR's default. ``trajectories`` follows Wang and Schmid,
    "Action Recognition with Improved Trajectories", ICCV 2013: C = 100 on Fisher vectors, which are normalised already.
    """

    Config = SvmConfig
    presets: ClassVar = {
        "default": SvmConfig(),
        "c3d": SvmConfig(frames=16, readout="avg", calibrate=False, scale="l2"),
        "trajectories": SvmConfig(c=100.0, scale="none"),
    }
    takes_encoders: ClassVar[bool] = True

    def measure(self, model: Model | Encoder, task: Task, config: SvmConfig, seed: int) -> Outcome:
        """Train on the training list, test on the test list."""
        if config.frames and isinstance(model, Model):
            model = replace(model, view=replace(model.view, frames=config.frames, stride=1, fps=None))
        train, test = train_and_test_features(model, task, config.extraction, calibrate=config.calibrate)
        x_train, x_test = train.mean_ND, test.mean_ND
        if config.scale == "standardise+l2":
            x_train, x_test = standardise(x_train, x_test)
        if config.scale != "none":
            x_train, x_test = unit(x_train), unit(x_test)
        scores = svm_scores(x_train, train.labels_N, x_test, len(task.train.classes), config.c, seed)
        counts = {"train": len(train.videos), "test": len(test.videos), "classes": len(task.train.classes)}
        found, confused = accuracies(scores, test.labels_N), confusion(scores, test.labels_N)
        predictions = predictions_of(test.videos, task.train.classes, scores)
        return Outcome(found, counts, train.problems + test.problems, confused, predictions=predictions)


def svm_scores(
    x_ND: np.ndarray, labels_N: np.ndarray, x_test_MD: np.ndarray, classes: int, c: float, seed: int = 0
) -> np.ndarray:
    """(M, classes) distances to the planes between each class and the rest; -inf for a class without training videos.

    Raises:
        UserError: if the training videos are of one class.
    """
    from sklearn.svm import LinearSVC

    if len(np.unique(labels_N)) < 2:
        raise UserError("An SVM needs training videos of two classes or more; name such --data.")
    announce_fit("linear SVM", *x_ND.shape)
    svm = LinearSVC(C=c, max_iter=100_000, random_state=seed % 2**32).fit(x_ND, labels_N)
    distances = svm.decision_function(x_test_MD)
    if distances.ndim == 1:  # of two classes scikit-learn gives the second's
        distances = np.stack([-distances, distances], axis=1)
    scores = np.full((len(x_test_MD), classes), -np.inf)
    scores[:, svm.classes_] = distances
    return scores
