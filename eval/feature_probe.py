"""Probes on published features (YouTube-8M): a logistic classifier on sequences that are never all in memory."""

import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.bounds import Bounded, Count, NotNegative, Positive
from ssl_video.datasets.base import FeatureShards
from ssl_video.datasets.youtube8m import FeatureSequence, FeatureSet
from ssl_video.errors import UserError
from ssl_video.eval.base import EVALUATIONS, Evaluation, FeatureTask, Outcome, Task
from ssl_video.eval.linear import diverged
from ssl_video.eval.multilabel import average_precision, best, targets_of
from ssl_video.eval.takes import Takes, check_two_lists
from ssl_video.model import Model
from ssl_video.progress import bar
from ssl_video.tensors import not_finite
from ssl_video.video.info import Problem

Item = tuple[np.ndarray, tuple[int, ...]]
"""rows_FD of one video, F of which 1 with pooling, and its labels."""


@dataclass(frozen=True)
class FeatureProbeConfig(Bounded):
    """Options of the probe on features."""

    pooling: Literal["mean", "max", "late"] = "mean"
    """mean, max: over time, before the classifier. late: single seconds are classified, and probabilities averaged."""
    audio: bool = True
    """Use the features of the sound beside those of the picture."""
    normalise: Literal["none", "l2"] = "l2"
    """What is done with the vector that the classifier sees."""
    seconds: Count = 30
    """Seconds of a video that late fusion takes, evenly spaced."""
    epochs: Count = 3
    """Passes over the training shards."""
    batch_size: Count = 256
    """Videos in a batch."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """sgd has momentum 0.9."""
    lr: Positive = 0.01
    """Learning rate of the first pass."""
    gamma: NotNegative = 0.3
    """Factor of the learning rate from one pass to the next."""
    weight_decay: NotNegative = 0.0
    """Weight decay."""
    buffer: Count = 16384
    """Vectors held in memory, from which batches are drawn at random; the shards come in random order as well."""


class FeatureSequences(Takes):
    """Published features without videos, in two lists."""

    of_files = False

    def check(self, protocol: str, task: Task | FeatureTask) -> None:
        """Raise UserError for videos, and if there is one list only."""
        if not isinstance(task.train, FeatureShards):
            raise UserError(
                f"{protocol} takes published features, such as youtube8m:ROOT, but {task.data} holds videos."
            )
        check_two_lists(protocol, task)


@EVALUATIONS.register("features")
class FeatureProbe(Evaluation[FeatureProbeConfig]):
    """A logistic classifier on published features (YouTube-8M); hit@1, hit@5, mAP, GAP@20. It takes no model.

    ``late`` averages the classifier's answers to single seconds, as Karpathy et al., "Large-scale Video Classification
    with Convolutional Neural Networks", CVPR 2014, do with those to single clips.
    """

    Config = FeatureProbeConfig
    presets: ClassVar = {
        "default": FeatureProbeConfig(),
        "max": FeatureProbeConfig(pooling="max"),
        "late": FeatureProbeConfig(pooling="late"),
    }
    takes: ClassVar[Takes] = FeatureSequences()
    takes_model = "never"

    def measure(self, model: Model | None, task: FeatureTask, config: FeatureProbeConfig, seed: int) -> Outcome:
        """Train on the training shards, test on those of the test list; videos without a label are left out."""
        assert task.test is not None
        problems: list[Problem] = []
        train, test = (FeatureSet(listed, config.audio) for listed in (task.train, task.test))
        head, trained = train_probe(train, config, seed, problems)
        with tempfile.TemporaryDirectory(prefix="ssl-video-") as folder, torch.no_grad():
            scores = Scores(Path(folder), len(train.classes))
            for batch in batched(pooled(test, config, problems), config.batch_size):
                rows, owners, _ = tensors(batch, len(train.classes))
                sums_BK = torch.zeros(len(batch), len(train.classes)).index_add_(0, owners, head(rows).sigmoid())
                means_BK = sums_BK / torch.bincount(owners)[:, None]
                if not means_BK.isfinite().all():
                    raise diverged("its scores are not finite")
                scores.add(means_BK.numpy(), [labels for _, labels in batch])
            if not scores.rows:
                raise UserError(f"No video of {task.test.name} has features and a label; {_why(problems)}.")
            metrics, counted = scores.numbers()
        counts = {"train": trained, "test": scores.rows, "classes": len(train.classes), "classes_in_mAP": counted}
        return Outcome(metrics, counts, problems)


def train_probe(
    train: FeatureSet, config: FeatureProbeConfig, seed: int, problems: list[Problem]
) -> tuple[nn.Linear, int]:
    """The trained classifier, and of how many videos. What cannot be read joins ``problems``.

    Raises UserError if nothing can be, or the training diverges.
    """
    classes, seen = len(train.classes), 0
    rng = np.random.default_rng(seed)
    made: tuple[nn.Linear, torch.optim.Optimizer] | None = None
    for epoch in bar(range(config.epochs), "train", "epoch"):
        items = pooled(train, config, problems if epoch == 0 else [], shuffle_seed=int(rng.integers(2**31)))
        held = max(config.batch_size, config.buffer // (config.seconds if config.pooling == "late" else 1))
        for batch in batched(shuffled(items, held, rng), config.batch_size):
            rows, owners, targets_BK = tensors(batch, classes)
            head, optimizer = made = made or _classifier(rows.shape[1], classes, config)
            for group in optimizer.param_groups:
                group["lr"] = config.lr * config.gamma**epoch
            weight_R1 = 1 / torch.bincount(owners)[owners][:, None]  # every video weighs the same
            loss = F.binary_cross_entropy_with_logits(head(rows), targets_BK[owners], weight_R1, reduction="sum")
            if not loss.isfinite():
                raise diverged(f"the loss became {loss.item()} in epoch {epoch + 1} of {config.epochs}")
            optimizer.zero_grad()
            (loss / len(batch)).backward()
            optimizer.step()
            seen += len(batch) if epoch == 0 else 0
    if made is None:
        raise UserError(f"No video of {train.listed.name} has features and a label; {_why(problems)}.")
    if not_finite(made[0]):
        raise diverged("its weights are not finite")
    return made[0], seen


def pooled(
    sequences: FeatureSet, config: FeatureProbeConfig, problems: list[Problem], shuffle_seed: int | None = None
) -> Iterator[Item]:
    """What the classifier sees of each labelled video; what cannot be read joins ``problems``."""
    for sequence in sequences if shuffle_seed is None else sequences.shuffled(shuffle_seed):
        if isinstance(sequence, Problem):
            problems.append(sequence)
        elif sequence.labels:
            yield pool(sequence, config), sequence.labels


def pool(sequence: FeatureSequence, config: FeatureProbeConfig) -> np.ndarray:
    """(F, D) vectors of a video: one, or with late fusion one for each second taken."""
    rows_FD = sequence.features_TD
    if config.pooling == "late":
        looked_at = np.linspace(0, len(rows_FD) - 1, min(config.seconds, len(rows_FD))).round().astype(int)
        rows_FD = rows_FD[looked_at]
    else:
        rows_FD = rows_FD.mean(0, keepdims=True) if config.pooling == "mean" else rows_FD.max(0, keepdims=True)
    if config.normalise == "l2":
        rows_FD = rows_FD / np.maximum(np.linalg.norm(rows_FD, axis=1, keepdims=True), 1e-12)
    return rows_FD


def shuffled(items: Iterable[Item], held: int, rng: np.random.Generator) -> Iterator[Item]:
    """The items in a random order, as far as ``held`` of them in memory allow."""
    buffer: list[Item] = []
    for item in items:
        if len(buffer) < held:
            buffer.append(item)
            continue
        place = rng.integers(held)
        yield buffer[place]
        buffer[place] = item
    for place in rng.permutation(len(buffer)):
        yield buffer[place]


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items; the last may be shorter."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def tensors(batch: list[Item], classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """(R, D) vectors of all videos of a batch, (R,) which video each is of, and (B, classes) the videos' targets."""
    rows = torch.from_numpy(np.concatenate([rows_FD for rows_FD, _ in batch]).astype(np.float32))
    owners = torch.repeat_interleave(torch.tensor([len(rows_FD) for rows_FD, _ in batch]))
    targets_BK = targets_of([labels for _, labels in batch], classes)
    return rows, owners, torch.from_numpy(targets_BK).float()


class Scores:
    """Scores of all test videos for all classes, on disk but for the last ``held`` videos, since mAP needs them all."""

    def __init__(self, folder: Path, classes: int, held: int = 8192):
        self.folder, self.classes, self.held = folder, classes, held
        self.rows = 0
        self._chunks: list[np.ndarray] = []  # (classes, held) each, mapped from files
        self._waiting: list[np.ndarray] = []
        self._best: list[tuple[np.ndarray, np.ndarray]] = []
        self._positives: list[list[int]] = [[] for _ in range(classes)]

    def add(self, scores_BK: np.ndarray, labels: list[tuple[int, ...]]) -> None:
        """Scores of some more videos, and their true classes."""
        self._best.append(best(scores_BK, targets_of(labels, self.classes), 20))
        for row, true in enumerate(labels, self.rows):
            for label in true:
                self._positives[label].append(row)
        self.rows += len(labels)
        self._waiting.append(scores_BK.astype(np.float32))
        if sum(map(len, self._waiting)) >= self.held:
            path = self.folder / f"{len(self._chunks)}.npy"
            np.save(path, np.concatenate(self._waiting).T)
            self._chunks.append(np.load(path, mmap_mode="r"))
            self._waiting = []

    def numbers(self) -> tuple[dict[str, float], int]:
        """hit@1, hit@5, mAP and GAP@20, and from how many classes mAP is the mean."""
        chunks = [*self._chunks, *(w.T for w in self._waiting)]
        precisions = []
        for label, rows in enumerate(self._positives):
            if rows:
                targets = np.zeros(self.rows, bool)
                targets[rows] = True
                precisions.append(average_precision(np.concatenate([c[label] for c in chunks]), targets))
        scores_Nk, hits_Nk = (np.concatenate(parts) for parts in zip(*self._best, strict=True))
        metrics = {
            "hit@1": float(hits_Nk[:, 0].mean()),
            "hit@5": float(hits_Nk[:, :5].any(1).mean()),
            "mAP": float(np.mean(precisions)),
            "GAP@20": average_precision(scores_Nk.ravel(), hits_Nk.ravel(), sum(map(len, self._positives))),
        }
        return metrics, len(precisions)


def _classifier(width: int, classes: int, config: FeatureProbeConfig) -> tuple[nn.Linear, torch.optim.Optimizer]:
    head = nn.Linear(width, classes)
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, -math.log(classes))  # few of the classes are true of a video
    if config.optimizer == "adam":
        return head, torch.optim.Adam(head.parameters(), config.lr, weight_decay=config.weight_decay)
    return head, torch.optim.SGD(head.parameters(), config.lr, momentum=0.9, weight_decay=config.weight_decay)


def _why(problems: list[Problem]) -> str:
    return f"the first problem: {problems[0].path}: {problems[0].reason}" if problems else "use shards with labels"
