"""Linear probe: a linear classifier on the features of a frozen backbone, extracted once."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.encoders.base import Encoder
from ssl_video.eval.base import EVALUATIONS, Evaluation, Task
from ssl_video.eval.features import Features, train_and_test_features
from ssl_video.model import Model


@dataclass(frozen=True)
class LinearConfig:
    """Options of the linear probe."""

    classifier: Literal["ridge", "sgd", "adam"] = "ridge"
    """ridge: closed form on standardised features, its penalty chosen by leave-one-out on the training list."""
    clips: int = 8
    """Clips of a video, evenly spaced; 0: windows that overlap by half."""
    readout: str = "rich"
    """How a feature map becomes a vector: avg, max, rich or conv5."""
    calibrate: bool = True
    """Recompute batch-norm statistics on the training list first, for every network alike."""
    average: Literal["features", "logits"] = "features"
    """What is averaged over the clips of a video. With 'logits' the classifier is trained on single clips."""
    normalise: Literal["none", "l2+batchnorm"] = "none"
    """What comes before the linear layer of the sgd and adam classifiers."""
    epochs: int = 100
    """Passes over the training features (sgd, adam)."""
    batch_size: int = 1024
    """Features in a batch (sgd, adam)."""
    lr: float = 1.0
    """Learning rate (sgd, adam)."""
    weight_decay: float = 1e-3
    """Weight decay (sgd, adam)."""
    milestones: tuple[int, ...] = (60, 80)
    """Epochs at which the learning rate is multiplied by gamma (sgd, adam)."""
    gamma: float = 0.1
    """Factor of the learning rate at a milestone (sgd, adam)."""
    still: bool = False
    """Control: every clip shows its middle frame only, repeated."""
    shuffle: bool = False
    """Control: the frames of a video's clips are exchanged at random."""


@EVALUATIONS.register("linear")
class Linear(Evaluation):
    """Accuracy of a linear classifier on frozen features.

    ``coclr`` follows Han, Xie and Zisserman, "Self-supervised Co-training for Video Representation Learning", 2020:
    windows overlapping by half, average-pooled, L2-normalised, batch norm, a linear layer, SGD. ``severe`` follows
    Thoker et al., "How Severe Is Benchmark-Sensitivity in Video Self-supervised Learning?", 2022: Adam on ten single
    clips a video, logits averaged at test. Both see the clips of the network's own view.
    """

    Config = LinearConfig
    presets: ClassVar = {
        "default": LinearConfig(),
        "coclr": LinearConfig(
            classifier="sgd", clips=0, readout="avg", calibrate=False, normalise="l2+batchnorm", milestones=(60, 80)
        ),
        "severe": LinearConfig(
            classifier="adam",
            clips=10,
            readout="avg",
            calibrate=False,
            average="logits",
            epochs=10,
            batch_size=128,
            lr=0.01,
            weight_decay=0.0,
            milestones=(4, 8),
            gamma=0.3,
        ),
    }
    takes_encoders: ClassVar[bool] = True

    def run(self, model: Model | Encoder, task: Task, config: LinearConfig, seed: int) -> tuple[dict, dict, list]:
        """Train on the training list, test on the test list."""
        train, test = train_and_test_features(
            model,
            task,
            clips=config.clips,
            readout=config.readout,
            calibrate=config.calibrate,
            still=config.still,
            shuffle=config.shuffle,
        )
        scores_NK = classify(train, test, len(task.train.classes), config, seed)
        counts = {"train": len(train.videos), "test": len(test.videos), "classes": len(task.train.classes)}
        return accuracies(scores_NK, test.labels_N), counts, train.problems + test.problems


def classify(train: Features, test: Features, classes: int, config: LinearConfig, seed: int) -> np.ndarray:
    """(N, classes) scores of the test videos."""
    if config.average == "features":
        x_train, y_train, x_test = train.mean_ND, train.labels_N, test.mean_ND
    else:
        x_train, x_test = np.concatenate(train.clips_KD), np.concatenate(test.clips_KD)
        y_train = np.repeat(train.labels_N, [len(c) for c in train.clips_KD])
    if config.classifier == "ridge":
        scores = ridge_scores(x_train, y_train, x_test, classes)
    else:
        scores = sgd_scores(x_train, y_train, x_test, classes, config, seed)
    if config.average == "features":
        return scores
    ends = np.cumsum([len(c) for c in test.clips_KD])[:-1]
    return np.stack([s.mean(0) for s in np.split(scores, ends)])


def accuracies(scores_NK: np.ndarray, labels_N: np.ndarray) -> dict[str, float]:
    """Top-1 and top-5 video accuracy, and the mean over classes of the top-1 accuracy."""
    ranked = np.argsort(-scores_NK, axis=1, kind="stable")
    right = ranked[:, 0] == labels_N
    per_class = [right[labels_N == c].mean() for c in np.unique(labels_N)]
    numbers = {"top1": float(right.mean()), "mean_class_accuracy": float(np.mean(per_class))}
    if scores_NK.shape[1] > 5:
        numbers["top5"] = float((ranked[:, :5] == labels_N[:, None]).any(1).mean())
    return numbers


def standardise(train_ND: np.ndarray, test_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with the training features' mean and standard deviation; constant dimensions become 0."""
    mean, std = train_ND.mean(0), train_ND.std(0)
    scale = np.where(std > 1e-6 * max(1e-12, float(np.abs(train_ND).max())), 1 / np.maximum(std, 1e-30), 0.0)
    return (train_ND - mean) * scale, (test_ND - mean) * scale


def ridge_scores(
    x_ND: np.ndarray,
    labels_N: np.ndarray,
    x_test_ND: np.ndarray,
    classes: int,
    penalties: tuple[float, ...] = tuple(10.0**p for p in range(-2, 6)),
) -> np.ndarray:
    """Scores of a ridge classifier (targets +1 and -1), its penalty that of the best leave-one-out accuracy.

    The leave-one-out residual of ridge regression is the residual over 1 - h, h the diagonal of the hat matrix, so
    that one singular value decomposition serves every penalty and every left-out video.
    """
    x, x_test = standardise(x_ND.astype(np.float64), x_test_ND.astype(np.float64))
    y = np.where(np.arange(classes) == labels_N[:, None], 1.0, -1.0)
    offset = y.mean(0)
    U, s, Vt = np.linalg.svd(x, full_matrices=False)
    projected = U.T @ (y - offset)
    best, best_penalty = (-1.0, 0.0), penalties[0]
    for penalty in penalties:
        shrink = s**2 / (s**2 + penalty)
        leverage = (U**2 * shrink).sum(1) + 1 / len(x)  # the offset is fitted as well
        residual = (y - offset - U @ (shrink[:, None] * projected)) / np.maximum(1 - leverage, 1e-9)[:, None]
        held_out = y - residual
        quality = float((held_out.argmax(1) == labels_N).mean()), -float((residual**2).mean())
        if quality > best:
            best, best_penalty = quality, penalty
    weights = Vt.T @ ((s / (s**2 + best_penalty))[:, None] * projected)
    return x_test @ weights + offset


def sgd_scores(
    x_ND: np.ndarray, labels_N: np.ndarray, x_test_ND: np.ndarray, classes: int, config: LinearConfig, seed: int
) -> np.ndarray:
    """Scores of a linear layer trained by SGD with momentum 0.9, or Adam, on cross-entropy."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.from_numpy(x_ND).float(), torch.from_numpy(labels_N)
    layers: list[nn.Module] = [nn.Linear(x.shape[1], classes)]
    if config.normalise == "l2+batchnorm":
        layers.insert(0, nn.BatchNorm1d(x.shape[1]))
    head = nn.Sequential(*layers)
    nn.init.normal_(layers[-1].weight, std=0.01, generator=generator)  # pyright: ignore[reportArgumentType]
    nn.init.zeros_(layers[-1].bias)  # pyright: ignore[reportArgumentType]
    if config.classifier == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            head.parameters(), config.lr, momentum=0.9, weight_decay=config.weight_decay
        )
    else:
        optimizer = torch.optim.Adam(head.parameters(), config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(config.milestones), config.gamma)

    def prepared(features: Tensor) -> Tensor:
        return F.normalize(features, dim=1) if config.normalise == "l2+batchnorm" else features

    head.train()
    for _ in range(config.epochs):
        order = torch.randperm(len(x), generator=generator)
        for rows in order.split(config.batch_size):
            if len(rows) == 1 and len(x) > 1:
                continue  # batch norm has no statistics of one row
            loss = F.cross_entropy(head(prepared(x[rows])), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    head.eval()
    with torch.no_grad():
        return head(prepared(torch.from_numpy(x_test_ND).float())).numpy()
