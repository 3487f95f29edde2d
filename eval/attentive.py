"""Attentive probe: a query attends to the token maps of a frozen network, and what it sees is classified."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_video.bounds import Bounded, Bounds, Count, Natural, NotNegative, Positive
from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.held_out import held_out
from ssl_video.errors import UserError
from ssl_video.eval.accuracy import accuracies, confusion
from ssl_video.eval.attentive_head import AttentiveHead, heads_of
from ssl_video.eval.base import EVALUATIONS, Evaluation, Outcome, Task
from ssl_video.eval.features import Extraction
from ssl_video.eval.linear import diverged
from ssl_video.eval.results import predictions_of
from ssl_video.eval.takes import LabelledVideos, Takes
from ssl_video.eval.token_maps import Preparation, TokenMaps, sees_single_frames, train_and_test_maps
from ssl_video.model import Model
from ssl_video.progress import Bar
from ssl_video.video.kinds import Crops

PORTION = 1 << 25
"""Numbers of tokens that a head is shown at a time; a larger batch adds up the gradients of several portions."""


@dataclass(frozen=True)
class AttentiveConfig(Bounded):
    """Options of the attentive probe."""

    clips: Count = 8
    """Clips of a video, evenly spaced, whose tokens are seen together; of a short video some count more than once."""
    crops: Crops = 1
    """Crops of a test video, 1, 3 or 10, whose probabilities are averaged; of a training video it is the centre one."""
    stage: str | None = None
    """The stage of the network that is read; None: the last."""
    pool: Count = 7
    """Cells a side to which each row of tubelets of a map is averaged, where it has more."""
    time: bool | None = None
    """Add sines of the time of each row to its tokens; None: to those of networks that see single frames."""
    standardise: bool = True
    """Give every channel the mean 0 and the standard deviation 1 over the training list first."""
    calibrate: bool = True
    """Recompute batch-norm statistics on the training list first, for every network alike."""
    blocks: Natural = 0
    """Blocks of self-attention before the query."""
    heads: Count | None = None
    """Heads of every attention; None: those of the network, or one for each 64 channels if it has none."""
    epochs: Count = 40
    """Passes over the training list."""
    batch_size: Count = 16
    """Videos in a batch."""
    lr: tuple[Positive, ...] = (1e-3,)
    """Learning rates at the start, which a cosine lowers to 0 (AdamW)."""
    weight_decay: tuple[NotNegative, ...] = (0.01,)
    """Weight decays of matrices. With several pairs of a rate and a decay, held-out videos choose one of them."""
    held_out: Annotated[float, Bounds(above=0, below=1)] = 0.1
    """The fraction of the training list that chooses. The chosen pair is then trained on the whole list."""
    clip_gradient: Positive | None = 1.0
    """The largest norm of the gradient; None: any."""
    still: bool = False
    """Control: every clip shows its middle frame only, repeated."""
    shuffle: bool = False
    """Control: the frames of a video's clips are exchanged at random."""
    reversed: bool = False
    """Control: the frames of every clip come in the opposite order."""

    @property
    def extraction(self) -> Extraction:
        """The clips of a test video."""
        return Extraction(
            self.clips,
            stage=self.stage,
            crops=self.crops,
            still=self.still,
            shuffle=self.shuffle,
            reversed=self.reversed,
        )

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """Learning rates with weight decays."""
        return list(itertools.product(self.lr, self.weight_decay))


_PAPER = {"crops": 3, "standardise": False, "calibrate": False, "epochs": 20, "batch_size": 256}


@EVALUATIONS.register("attentive")
class Attentive(Evaluation[AttentiveConfig]):
    """Accuracy of a query that attends to the tokens of a frozen network, and of a linear layer behind it.

    ``vjepa`` follows Bardes et al., "Revisiting Feature Prediction for Learning Visual Representations from Video",
    2024; ``vjepa2`` Assran et al., "V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and
    Planning", 2025: three blocks of self-attention first, and twenty pairs of a learning rate and a weight decay.
    """

    Config = AttentiveConfig
    takes: ClassVar[Takes] = LabelledVideos()
    presets: ClassVar = {
        "default": AttentiveConfig(),
        "vjepa": AttentiveConfig(**_PAPER),
        "vjepa2": AttentiveConfig(
            **_PAPER,
            blocks=3,
            heads=16,
            lr=(5e-3, 3e-3, 1e-3, 3e-4, 1e-4),
            weight_decay=(0.01, 0.1, 0.4, 0.8),
            clip_gradient=None,
        ),
    }

    def measure(self, model: Model, task: Task, config: AttentiveConfig, seed: int) -> Outcome:
        """Train on the training list, test on the test list; the metrics say which pair was chosen, if several are."""
        heads = config.heads or heads_of(model.backbone, feature_dim(model, config.stage))
        AttentiveHead(feature_dim(model, config.stage), 1, heads)  # a wrong number is said before maps are made
        train, test = train_and_test_maps(
            model, task, config.extraction, pool=config.pool, calibrate=config.calibrate, test_crops=True
        )
        time = sees_single_frames(model, config.stage) if config.time is None else config.time
        classes = task.train.classes
        probe = Probe(config, Preparation.of(train, config.standardise, time), heads, len(classes), seed, model.device)
        scores_NK, chosen = classify(probe, train, test)
        counts = {"train": len(train.videos), "test": len(test.videos), "classes": len(classes)}
        counts["tokens"] = config.clips * train.packed.shape[1]
        found = accuracies(scores_NK, test.labels_N) | chosen
        confused, predictions = confusion(scores_NK, test.labels_N), predictions_of(test.videos, classes, scores_NK)
        return Outcome(found, counts, train.problems + test.problems, confused, predictions=predictions)


def feature_dim(model: Model, stage: str | None) -> int:
    """Channels of the map of a stage; None: the last. Raises UserError if there is none of this name."""
    model.backbone.check_stage(stage)
    return model.backbone.feature_dim if stage is None else model.backbone.taps[stage].dim


@dataclass(frozen=True)
class Probe:
    """How a head is made, shown tokens and trained."""

    config: AttentiveConfig
    preparation: Preparation
    heads: int
    classes: int
    seed: int
    device: torch.device

    def shown(self, maps: TokenMaps, videos: Sequence[int], crop: int = 0) -> list[Tensor]:
        """(B, N, D) tokens of videos, in portions of bounded size."""
        numbers = self.config.clips * maps.packed[0].size
        at_once = max(1, PORTION // numbers)
        parts = [videos[i : i + at_once] for i in range(0, len(videos), at_once)]
        return [self.preparation.tokens(maps, part, self.config.clips, crop) for part in parts]

    def train(self, maps: TokenMaps, videos: np.ndarray, pair: tuple[float, float], done: Bar) -> AttentiveHead:
        """A head trained on some of the videos, by their numbers. Raises UserError if its training diverges."""
        config, (lr, weight_decay) = self.config, pair
        head = AttentiveHead(maps.width, self.classes, self.heads, config.blocks, self.seed).to(self.device)
        matrices, others = ([p for p in head.parameters() if (p.ndim > 1) == many] for many in (True, False))
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr)
        steps = config.epochs * -(-len(videos) // config.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        labels_N, generator = torch.from_numpy(maps.labels_N), torch.Generator().manual_seed(self.seed)
        for epoch in range(config.epochs):
            order = torch.from_numpy(videos)[torch.randperm(len(videos), generator=generator)]
            for batch in order.split(config.batch_size):
                optimizer.zero_grad()
                loss = self._add_gradients(head, maps, batch.tolist(), labels_N[batch])
                if not np.isfinite(loss):
                    raise diverged(f"the loss became {loss} in epoch {epoch + 1} of {config.epochs}")
                if config.clip_gradient is not None:
                    torch.nn.utils.clip_grad_norm_(head.parameters(), config.clip_gradient)
                optimizer.step()
                schedule.step()
            done.update()
        return head.eval()

    def _add_gradients(self, head: AttentiveHead, maps: TokenMaps, batch: list[int], labels_B: Tensor) -> float:
        """The loss of a batch, whose gradients are added to those of the head, a portion at a time."""
        total, first = 0.0, 0
        for part_BND in self.shown(maps, batch):
            of_part = labels_B[first : first + len(part_BND)].to(self.device)
            first += len(part_BND)
            loss = F.cross_entropy(head(part_BND.to(self.device)), of_part, reduction="sum") / len(batch)
            loss.backward()
            total += loss.item()
        return total

    @torch.no_grad()
    def probabilities(self, head: AttentiveHead, maps: TokenMaps, videos: np.ndarray) -> np.ndarray:
        """(N, classes) of the videos with these numbers, averaged over their crops. Raises UserError if not finite."""
        crops = len(maps.rows[0])
        of_crops = [
            torch.cat([head(x_BND.to(self.device)).softmax(1) for x_BND in self.shown(maps, videos.tolist(), crop)])
            for crop in range(crops)
        ]
        mean_NK = torch.stack(of_crops).mean(0).cpu().numpy()
        if not np.isfinite(mean_NK).all():
            raise diverged("its scores are not finite")
        return mean_NK


def classify(probe: Probe, train: TokenMaps, test: TokenMaps) -> tuple[np.ndarray, dict[str, float]]:
    """(N, classes) probabilities of the test videos, and which pair was chosen among several, and how well it did.

    Raises:
        UserError: if the training of the head, or with several pairs that of all heads, diverges, or there are too few
            videos to hold some out.
    """
    everything, pairs = np.arange(len(train.videos)), probe.config.pairs
    with Bar("train", probe.config.epochs * (len(pairs) + (len(pairs) > 1)), "epoch") as done:
        pair, chosen = chosen_pair(probe, train, done) if len(pairs) > 1 else (pairs[0], {})
        head = probe.train(train, everything, pair, done)
    return probe.probabilities(head, test, np.arange(len(test.videos))), chosen


def chosen_pair(probe: Probe, train: TokenMaps, done: Bar) -> tuple[tuple[float, float], dict[str, float]]:
    """The pair of learning rate and weight decay that does best on held-out training videos, and how well it does.

    The best accuracy counts, then the lowest loss. What diverges is not chosen.
    """
    stays, out = _held_out(train, probe)
    labels_N, worst = train.labels_N[out], float(np.finfo(np.float32).tiny)
    found: list[tuple[float, float, tuple[float, float]]] = []
    why: UserError | None = None
    for pair in probe.config.pairs:
        try:
            scores_NK = probe.probabilities(probe.train(train, stays, pair, done), train, out)
        except UserError as error:
            why = error
            continue
        right = float((scores_NK.argmax(1) == labels_N).mean())
        loss = -float(np.log(np.maximum(scores_NK[np.arange(len(out)), labels_N], worst)).mean())
        found.append((-right, loss, pair))
    if not found:
        assert why is not None
        raise why
    right, _, pair = min(found)
    return pair, {"held_out_top1": -right, "chosen_lr": pair[0], "chosen_weight_decay": pair[1]}


def _held_out(train: TokenMaps, probe: Probe) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the videos that stay, and of those that choose."""
    if len(train.videos) < 2:
        raise UserError(f"There is no video to hold out of {len(train.videos)}; give one lr and one weight_decay.")
    names = tuple(str(c) for c in range(probe.classes))
    stays, out = held_out(VideoSet("", tuple(train.videos), names), probe.config.held_out, probe.seed)
    numbers = {id(video): number for number, video in enumerate(train.videos)}
    first, second = (np.array([numbers[id(v)] for v in part.videos]) for part in (stays, out))
    return first, second
