"""Linear probe: a linear classifier on the features of a frozen backbone, extracted once."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.bounds import Count, NotNegative, Positive
from ssl_video.encoders.base import Encoder
from ssl_video.errors import UserError
from ssl_video.eval.accuracy import accuracies, average_scores, clip_accuracy, confusion
from ssl_video.eval.base import EVALUATIONS, Evaluation, Outcome, Task
from ssl_video.eval.blocks import Blocks, Rows
from ssl_video.eval.features import Extraction, FeatureOptions, Features
from ssl_video.eval.low_shot import check_shots, low_shot
from ssl_video.eval.multilabel import multilabel_numbers
from ssl_video.eval.results import predictions_of
from ssl_video.eval.ridge import principal_axes, ridge_scores, standardised
from ssl_video.eval.shards import train_and_test_features
from ssl_video.eval.takes import LabelledVideos, Takes
from ssl_video.model import Model
from ssl_video.progress import announce, bar, count
from ssl_video.video.kinds import Crops

LONG_FIT = 500_000
"""Numbers from which on a fit takes more than some seconds."""


@dataclass(frozen=True)
class LinearConfig(FeatureOptions):
    """Options of the linear probe."""

    classifier: Literal["auto", "ridge", "logistic", "sgd", "adam"] = "auto"
    """auto: ridge for one label a video, logistic for several. ridge: closed form on standardised features, its penalty
    chosen by leave-one-out on the training list. logistic: L-BFGS on standardised features, its penalty chosen on a
    fifth of the training list. With several labels a video, logistic, sgd and adam learn a yes or no a class (BCE)."""
    crops: Crops = 1
    """Crops of a clip: 1, 3 or 10."""
    average: Literal["features", "logits", "probabilities"] = "features"
    """What is averaged over the clips and crops of a video; but for 'features', the classifier is trained on them."""
    normalise: Literal["none", "l2+batchnorm"] = "none"
    """What comes before the linear layer of the sgd and adam classifiers."""
    epochs: Count = 100
    """Passes over the training features (sgd, adam)."""
    batch_size: Count = 1024
    """Features in a batch (sgd, adam)."""
    lr: Positive = 1.0
    """Learning rate (sgd, adam)."""
    weight_decay: NotNegative = 1e-3
    """Weight decay (sgd, adam)."""
    milestones: tuple[Count, ...] = (60, 80)
    """Epochs at which the learning rate is multiplied by gamma (sgd, adam)."""
    gamma: NotNegative = 0.1
    """Factor of the learning rate at a milestone (sgd, adam)."""
    shots: Count | None = None
    """Training videos of each class, by three fixed draws over which metrics are averaged; None: all."""
    still: bool = False
    """Control: every clip shows its middle frame only, repeated."""
    shuffle: bool = False
    """Control: the frames of a video's clips are exchanged at random."""
    reversed: bool = False
    """Control: the frames of every clip come in the opposite order."""

    @property
    def extraction(self) -> Extraction:
        """With crops and controls."""
        controls = {"still": self.still, "shuffle": self.shuffle, "reversed": self.reversed}
        return replace(super().extraction, crops=self.crops, **controls)


@EVALUATIONS.register("linear")
class Linear(Evaluation[LinearConfig]):
    """Accuracy of a linear classifier on frozen features; with several labels a video, hit@1, hit@5, mAP and GAP@20.

    ``coclr`` follows Han, Xie and Zisserman, "Self-supervised Co-training for Video Representation Learning", 2020:
    windows overlapping by half, average-pooled, L2-normalised, batch norm, a linear layer, SGD. ``severe`` follows
    Thoker et al., "How Severe Is Benchmark-Sensitivity in Video Self-supervised Learning?", 2022: Adam on ten single
    clips a video, logits averaged at test. Both see the clips of the network's own view.
    """

    Config = LinearConfig
    takes: ClassVar[Takes] = LabelledVideos(multi_label=True)
    presets: ClassVar = {
        "default": LinearConfig(),
        "logistic": LinearConfig(classifier="logistic"),
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

    def measure(self, model: Model | Encoder, task: Task, config: LinearConfig, seed: int) -> Outcome:
        """Train on the training list, test on the test list."""
        if config.shots is not None:
            check_shots(task.train.videos, task.train.classes, config.shots)
        train, test = train_and_test_features(model, task, config.extraction, calibrate=config.calibrate)
        assert task.test is not None
        classes, problems = len(task.train.classes), train.problems + test.problems
        counts = {"train": len(train.videos), "test": len(test.videos), "classes": classes}
        multi_label = task.train.multi_label or task.test.multi_label

        def scored(part: Features) -> tuple[np.ndarray, dict[str, float]]:
            scores_NK, clips_KC = classify(part, test, classes, config, seed)
            return scores_NK, accuracies(scores_NK, test.labels_N) | clip_accuracy(clips_KC, test.labels_N)

        if config.shots is not None:
            return low_shot(train, test, task.train.classes, config.shots, scored)
        if multi_label:
            scores_NK, _ = classify(train, test, classes, config, seed, multi_label)
            metrics, counted = multilabel_numbers(scores_NK, test.targets_NK(classes))
            predictions = predictions_of(test.videos, task.train.classes, scores_NK)
            return Outcome(metrics, counts | counted, problems, predictions=predictions)
        scores_NK, found = scored(train)
        confused = confusion(scores_NK, test.labels_N)
        predictions = predictions_of(test.videos, task.train.classes, scores_NK)
        return Outcome(found, counts, problems, confused, predictions=predictions)


def classify(
    train: Features, test: Features, classes: int, config: LinearConfig, seed: int, multi_label: bool = False
) -> tuple[np.ndarray, list[np.ndarray]]:
    """(N, classes) scores of the test videos, and (clips, classes) of the clips of each.

    With ``multi_label``, one yes or no a class is learned. Raises UserError if the training of the classifier diverges.
    """
    y_train = train.targets_NK(classes) if multi_label else train.labels_N
    x_train, x_test = Rows([train.mean_ND]), Rows([test.mean_ND, *test.clips_KD])
    if config.average != "features":
        x_train = Rows(train.clips_KD)
        y_train = np.repeat(y_train, [len(c) for c in train.clips_KD], axis=0)
    if config.classifier == "ridge" and multi_label:
        raise UserError("ridge takes one label a video; use classifier=logistic (or auto) for several.")
    if config.classifier in ("auto", "ridge", "logistic"):  # of the others a bar counts the epochs
        announce_fit("linear classifier", *x_train.shape)
    if config.classifier == "ridge" or (config.classifier == "auto" and not multi_label):
        scores = ridge_scores(x_train, y_train, x_test, classes)
    elif config.classifier in ("auto", "logistic"):
        scores = logistic_scores(x_train, y_train, x_test, classes, seed)
    else:
        scores = sgd_scores(x_train, y_train, x_test, classes, config, seed)
    if not np.isfinite(scores).all():
        raise diverged("its scores are not finite")
    of_videos, of_clips = np.split(scores, [len(test.videos)])
    clips_KC = np.split(of_clips, np.cumsum([len(c) for c in test.clips_KD])[:-1])
    if config.average != "features":
        of_videos = average_scores(clips_KC, config.average, multi_label)
    return of_videos, clips_KC


def announce_fit(what: str, rows: int, dim: int) -> None:
    """Say what is fitted, and on how much, where that takes long and nothing counts its steps."""
    if rows * dim >= LONG_FIT:
        announce(f"fit: {what}, on {count(rows, 'row')} of {count(dim, 'number')}")


def diverged(what: str) -> UserError:
    """Why there is no classifier: ``what`` was seen."""
    return UserError(
        f"The training of the classifier diverged ({what}); lower its learning rate, by --option lr=0.001, say, or use "
        f"another classifier."
    )


def logistic_scores(
    x_ND: np.ndarray | Rows,
    targets: np.ndarray,
    x_test_ND: np.ndarray | Rows,
    classes: int,
    seed: int,
    penalties: tuple[float, ...] = (1.0, 0.1, 0.01, 0.001, 0.0001),
) -> np.ndarray:
    """Scores of logistic regression on standardised features, by L-BFGS.

    The loss is ``loss_of``, a mean over the rows, plus half the penalty times the sum of the squared weights. Penalties
    are tried one after the other, each from the weights of the one before, with a random fifth of the rows held out,
    until the loss on these grows; the best one is then used with all rows. ``targets`` are (N,) classes, or (N, K) True
    where a video has a label. The rows are held on their principal axes, in single precision.
    """
    train, test = standardised(x_ND, x_test_ND)
    axes_DR = principal_axes(train)
    z, z_test = (torch.from_numpy(Blocks(x, lambda x_ND: x_ND @ axes_DR).whole(np.float32)) for x in (train, test))
    y = torch.from_numpy(targets)
    weights = torch.zeros(classes, z.shape[1]), torch.zeros(classes)
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(seed))
    out, kept = order[: len(z) // 5], order[len(z) // 5 :]
    best, smallest, best_weights = penalties[0], float("inf"), weights
    for penalty in penalties if len(penalties) > 1 and len(out) else ():
        weights = fit_logistic(z[kept], y[kept], penalty, *weights)
        loss = float(loss_of(F.linear(z[out], *weights), y[out]))
        if loss >= smallest:
            break
        best, smallest, best_weights = penalty, loss, weights
    weights = fit_logistic(z, y, best, *best_weights)
    return F.linear(z_test, *weights).numpy()


def fit_logistic(z: Tensor, y: Tensor, penalty: float, weight_KR: Tensor, bias_K: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and biases that minimise the penalised loss, from the given ones.

    Columns of ``z`` are scaled to about the same curvature of the loss, that of the penalty plus a tenth of their
    variance over the number of classes: L-BFGS then needs fewer steps.
    """
    scale_R = (z.square().mean(0) / (10 * len(bias_K)) + penalty).rsqrt()
    scaled = z * scale_R
    u_KR, bias = (weight_KR / scale_R).requires_grad_(), bias_K.clone().requires_grad_()
    steps = {"max_iter": 200, "history_size": 10, "tolerance_grad": 1e-5, "tolerance_change": 1e-7}
    optimizer = torch.optim.LBFGS([u_KR, bias], line_search_fn="strong_wolfe", **steps)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(F.linear(scaled, u_KR, bias), y) + penalty / 2 * (u_KR * scale_R).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    return (u_KR * scale_R).detach(), bias.detach()


def loss_of(logits_NK: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with (N,) classes; with (N, K) targets the sum over classes of binary cross-entropies."""
    if targets.ndim == 1:
        return F.cross_entropy(logits_NK, targets)
    return F.binary_cross_entropy_with_logits(logits_NK, targets.float(), reduction="sum") / len(targets)


def sgd_scores(
    x_ND: np.ndarray | Rows,
    targets: np.ndarray,
    x_test_ND: np.ndarray | Rows,
    classes: int,
    config: LinearConfig,
    seed: int,
) -> np.ndarray:
    """Scores of a linear layer trained by SGD with momentum 0.9, or Adam, on ``loss_of``.

    ``targets`` are (N,) classes, or (N, K) True where a video has a label. Only a batch of the features is read at a
    time, so that they may be mapped from files. Raises UserError if the loss is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    y, width = torch.from_numpy(targets), x_ND.shape[1]
    layers: list[nn.Module] = [nn.Linear(width, classes)]
    if config.normalise == "l2+batchnorm":
        layers.insert(0, nn.BatchNorm1d(width))
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

    def prepared(rows_BD: np.ndarray) -> Tensor:
        features = torch.from_numpy(rows_BD.astype(np.float32))
        return F.normalize(features, dim=1) if config.normalise == "l2+batchnorm" else features

    head.train()
    for epoch in bar(range(config.epochs), "train", "epoch"):
        order = torch.randperm(len(x_ND), generator=generator)
        for rows in order.split(config.batch_size):
            if len(rows) == 1 and len(x_ND) > 1:
                continue  # batch norm has no statistics of one row
            loss = loss_of(head(prepared(x_ND[rows.numpy()])), y[rows])
            if not loss.isfinite():
                raise diverged(f"the loss became {loss.item()} in epoch {epoch + 1} of {config.epochs}")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    head.eval()
    with torch.no_grad():
        starts = range(0, len(x_test_ND), config.batch_size)
        return np.concatenate([head(prepared(x_test_ND[i : i + config.batch_size])).numpy() for i in starts])
