"""k-nearest-neighbour classification on the features of a frozen backbone."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from ssl_video.bounds import Bounds, Count
from ssl_video.encoders.base import Encoder
from ssl_video.eval.accuracy import accuracies, confusion
from ssl_video.eval.base import EVALUATIONS, Evaluation, Outcome, Task
from ssl_video.eval.blocks import Blocks, Standard, nearest
from ssl_video.eval.features import FeatureOptions, Features
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
        classes, x_test_MD = task.train.classes, test.mean_ND

        def scored(part: Features) -> tuple[np.ndarray, dict[str, float]]:
            standard = Standard.of(x_ND := part.mean_ND)
            pair = Blocks(x_ND, standard), Blocks(x_test_MD, standard)
            votes = knn_scores(pair[0], part.labels_N, pair[1], len(classes), config.k, config.temperature)
            scores = np.where(votes > 0, votes, -np.inf)  # a class without a vote is not among the best
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
    x_ND: np.ndarray | Blocks,
    labels_N: np.ndarray,
    x_test_MD: np.ndarray | Blocks,
    classes: int,
    k: int,
    temperature: float,
) -> np.ndarray:
    r"""(M, classes) summed votes $\exp(\cos(x, y) / \tau)$ of the k nearest rows y of ``x_ND``; tau: temperature."""
    scores_MK = np.zeros((len(x_test_MD), classes))
    for here, rows_Bk, similarity_Bk in nearest(Blocks(x_test_MD, unit), Blocks(x_ND, unit), k):
        votes_Bk = np.exp(similarity_Bk / temperature)
        np.add.at(scores_MK[here], (np.arange(len(rows_Bk))[:, None], labels_N[rows_Bk]), votes_Bk)
    return scores_MK
