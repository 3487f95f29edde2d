"""k-nearest-neighbour classification on the features of a frozen backbone."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from ssl_video.bounds import Bounds, Count
from ssl_video.encoders.base import Encoder
from ssl_video.eval.accuracy import accuracies, confusion
from ssl_video.eval.base import EVALUATIONS, Evaluation, Outcome, Task
from ssl_video.eval.features import FeatureOptions, Features
from ssl_video.eval.linear import standardise
from ssl_video.eval.low_shot import check_shots, low_shot
from ssl_video.eval.results import predictions_of
from ssl_video.eval.shards import train_and_test_features
from ssl_video.model import Model


@dataclass(frozen=True)
class KnnConfig(FeatureOptions):
    """Options of the nearest-neighbour classifier."""

    k: Count = 5
    """Neighbours that vote."""
    shots: Count | None = None
    """Training videos of each class that vote, by three fixed draws over which metrics are averaged; None: all."""
    temperature: Annotated[float, Bounds(least=0.002)] = 0.1
    """A neighbour's vote weighs exp(cosine / temperature), which below 0.002 is no number any more."""


@EVALUATIONS.register("knn")
class Knn(Evaluation[KnnConfig]):
    """Weighted vote of the nearest training videos by cosine similarity of standardised features."""

    Config = KnnConfig
    presets: ClassVar = {"default": KnnConfig()}
    takes_encoders: ClassVar[bool] = True

    def measure(self, model: Model | Encoder, task: Task, config: KnnConfig, seed: int) -> Outcome:
        """The training list votes, the test list is classified; nothing is drawn at random."""
        if config.shots is not None:
            check_shots(task.train.videos, task.train.classes, config.shots)
        train, test = train_and_test_features(model, task, config.extraction, calibrate=config.calibrate)
        classes = task.train.classes

        def scored(part: Features) -> tuple[np.ndarray, dict[str, float]]:
            x_train, x_test = standardise(part.mean_ND, test.mean_ND)
            scores = knn_scores(x_train, part.labels_N, x_test, len(classes), config.k, config.temperature)
            return scores, accuracies(scores, test.labels_N)

        if config.shots is not None:
            return low_shot(train, test, classes, config.shots, scored)
        scores, found = scored(train)
        counts = {"train": len(train.videos), "test": len(test.videos), "classes": len(classes)}
        confused = confusion(scores, test.labels_N)
        predictions = predictions_of(test.videos, classes, scores)
        return Outcome(found, counts, train.problems + test.problems, confused, predictions=predictions)


def unit(x_ND: np.ndarray) -> np.ndarray:
    """Rows of length 1; a zero row stays zero."""
    return x_ND / np.maximum(np.linalg.norm(x_ND, axis=1, keepdims=True), 1e-12)


def knn_scores(
    x_ND: np.ndarray, labels_N: np.ndarray, x_test_MD: np.ndarray, classes: int, k: int, temperature: float
) -> np.ndarray:
    r"""(M, classes) summed votes $\exp(\cos(x, y) / \tau)$ of the k nearest rows y of ``x_ND``; tau: temperature."""
    similarity_MN = unit(x_test_MD) @ unit(x_ND).T
    k = min(k, len(x_ND))
    nearest_Mk = np.argsort(-similarity_MN, axis=1, kind="stable")[:, :k]
    votes_Mk = np.exp(np.take_along_axis(similarity_MN, nearest_Mk, 1).astype(np.float64) / temperature)
    scores = np.zeros((len(x_test_MD), classes))
    np.add.at(scores, (np.arange(len(x_test_MD))[:, None], labels_N[nearest_Mk]), votes_Mk)
    return scores
