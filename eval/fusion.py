"""Late fusion: two trained classifiers, such as the spatial and the temporal stream, answer together."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from ssl_video.bounds import Bounded, Fraction, Natural, Positive
from ssl_video.errors import UserError
from ssl_video.eval.accuracy import accuracies, average_scores, confusion
from ssl_video.eval.base import EVALUATIONS, Evaluation, Outcome, Task
from ssl_video.eval.features import Features, predict
from ssl_video.eval.knn import unit
from ssl_video.eval.results import predictions_of
from ssl_video.eval.svm import svm_scores
from ssl_video.model import Model, load_model
from ssl_video.video.kinds import Crops


@dataclass(frozen=True)
class FusionConfig(Bounded):
    """Options of late fusion."""

    partner: str = ""
    """The other model: a folder that fine-tuning left."""
    how: Literal["average", "svm"] = "average"
    """average: the mean of both models' probabilities; svm: a linear SVM on both, trained on the training list."""
    weight: Fraction = 0.5
    """Weight of the partner's probabilities in the average."""
    penalty: Positive = 1.0
    """C of the SVM."""
    clips: Natural = 25
    """Clips of a video, evenly spaced; 0: windows that overlap by half."""
    crops: Crops = 1
    """Crops of a clip: 1, 3 or 10."""


@EVALUATIONS.register("fusion")
class Fusion(Evaluation[FusionConfig]):
    """Accuracy of two fine-tuned models together (two-stream networks).

    K. Simonyan, A. Zisserman: "Two-Stream Convolutional Networks for Action Recognition in Videos", NeurIPS 2014:
    probabilities are averaged (``default``), or their L2-normalised vectors are stacked for a linear SVM (``svm``).
    Either network gets the kind of frames that it takes, RGB or flow. Clips are those of the model's own view.
    """

    Config = FusionConfig
    presets: ClassVar = {"default": FusionConfig(), "svm": FusionConfig(how="svm")}

    def measure(self, model: Model, task: Task, config: FusionConfig, seed: int) -> Outcome:
        """Scores of both models on the test list, and for the SVM on the training list."""
        assert task.test is not None
        if not config.partner:
            raise UserError("Fusion needs a second model; name it with --option partner=FOLDER.")
        partner = load_model(config.partner, model.device)
        if partner.classifier is not None and partner.classifier.classes != task.train.classes:
            raise UserError(f"{config.partner} was trained for other classes than those of {task.data}.")
        test, scores, single = self._scores(model, partner, task, config)
        counts = {"train": len(task.train.videos), "test": len(test.videos), "classes": len(task.train.classes)}
        found, confused = accuracies(scores, test.labels_N) | single, confusion(scores, test.labels_N)
        predictions = predictions_of(test.videos, task.train.classes, scores)
        seen = partner.trained_on
        return Outcome(found, counts, test.problems, confused, predictions=predictions, trained_on=seen)

    def _scores(self, model: Model, partner: Model, task: Task, config: FusionConfig):
        assert task.test is not None
        test, one, other = both(model, partner, replace(task, train=task.test), config)
        single = {f"top1_{n}": accuracies(x, test.labels_N)["top1"] for n, x in (("model", one), ("partner", other))}
        if config.how == "average":
            return test, (1 - config.weight) * one + config.weight * other, single
        train, *trained = both(model, partner, task, config)
        x_train, x_test = (np.hstack([unit(x) for x in pair]) for pair in (trained, (one, other)))
        scores = svm_scores(x_train, train.labels_N, x_test, len(task.train.classes), config.penalty)
        return test, scores, single


def both(model: Model, partner: Model, task: Task, config: FusionConfig) -> tuple[Features, np.ndarray, np.ndarray]:
    """The videos of ``task.train`` that both models could read, and (N, K) probabilities of each model."""
    clips, crops = config.clips, config.crops
    found = [
        predict(m, task.train, clips=clips, crops=crops, workers=task.workers, batch=task.batch)
        for m in (model, partner)
    ]
    places = [{v.source: n for n, v in enumerate(f.videos)} for f in found]
    common = [source for source in places[0] if source in places[1]]
    scores = [
        average_scores([f.clips_KD[place[source]] for source in common], "probabilities")
        for f, place in zip(found, places, strict=True)
    ]
    kept = [found[0].videos[places[0][source]] for source in common]
    problems = found[0].problems + found[1].problems
    return Features(kept, [], [], problems), scores[0], scores[1]
