"""Shuffle and Learn: are these three frames in their order?

I. Misra, C. L. Zitnick, M. Hebert: "Shuffle and Learn: Unsupervised Learning using Temporal Order Verification",
ECCV 2016.

Five frames a < b < c < d < e come from a stretch of a video where much moves. (b, c, d) is in order; (b, a, d) and
(b, e, d), which share its ends, are not. Played backwards a tuple keeps its label.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.bounds import Bounded, Bounds, Count, Fraction, LessThanOne, NotNegative
from ssl_video.datasets.base import Video
from ssl_video.pretexts.base import PRETEXTS, Context, Needs, Output, Pretext, Redraw, Sample, Skip, View
from ssl_video.pretexts.motion import STATISTIC, Motion, draw_window, moves
from ssl_video.pretexts.orders import in_every_order
from ssl_video.video import augment

SHUFFLED, IN_ORDER = 0, 1
TRIPLE, TOO_EARLY, TOO_LATE = (1, 2, 3), (1, 0, 3), (1, 4, 3)  # places among the five frames


@dataclass(frozen=True)
class TupleVerificationConfig(Bounded):
    """Options of tuple verification, with the paper's values as defaults."""

    tau_max: Annotated[int, Bounds(least=2)] = 60
    """Frames from b to d, at most."""
    tau_min: Count = 15
    """Frames from a to b and from d to e, at least."""
    negatives: Fraction = 0.75
    """Fraction of the tuples that are not in order; at test it is half, so that chance is 0.5."""
    motion: Motion = "flow"
    """What measures motion: the magnitude of optical flow, or cheaper, of the differences between frames."""
    min_difference: NotNegative = 20.0
    """The middle frame differs from the one it may be taken for by at least this mean squared difference, on the scale
    of 0 to 255; 0 turns the guard off."""
    size: Count = 227
    """Frames are resized to size x size pixels, whatever their aspect ratio, and not cropped."""
    grid: Count = 6
    """The feature map of a frame is pooled to grid x grid cells, AlexNet's own at 227 pixels."""
    width: Count = 4096
    """Units of fc6 and fc7."""
    dropout: LessThanOne = 0.5
    """Fraction of them dropped."""
    every_tuple: bool = False
    """Train on all tuples of the five frames at once, which cost one pass of the backbone; the paper draws one."""


@PRETEXTS.register("tuple_verification")
class TupleVerification(Pretext):
    """Shuffle and Learn (ECCV 2016): three frames, in their order or not, by a triplet-Siamese network."""

    Config = TupleVerificationConfig
    config: TupleVerificationConfig
    span_limits = (("tau_min", 4),)
    needs: Needs = Needs(max_temporal_stride=1)  # frames are shown one by one

    def __init__(self, config: TupleVerificationConfig, backbone: Backbone):
        super().__init__(config, backbone)
        self.needs = replace(self.needs, statistics=(STATISTIC[config.motion],))
        self.shortest = 2 * config.tau_min + 3
        self.head = TripletHead(backbone.feature_dim, config.grid, config.width, config.dropout)

    @property
    def view(self) -> View:
        """Single frames."""
        return View(1, 1, self.config.size, self.config.size)

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """Five frames, b to d where much moves, and which three of them are shown in which direction."""
        c, T = self.config, video.frames
        if self.shortest > T:
            return Skip(f"shorter than the {self.shortest} frames of a tuple")
        within_T = stats[STATISTIC[c.motion]][c.tau_min : T - c.tau_min]  # of the frames that b to d may be
        if not moves(within_T, c.motion):
            return Skip("no motion to sample")
        distance = int(rng.integers(2, min(c.tau_max, len(within_T) - 1) + 1))
        b = c.tau_min + draw_window(within_T, distance + 1, rng)
        d = b + distance
        farthest = c.tau_min + c.tau_max  # ours: the paper has no bound for a and e but its windows'
        a = int(rng.integers(max(0, b - farthest), b - c.tau_min + 1))
        e = int(rng.integers(d + c.tau_min, min(T - 1, d + farthest) + 1))
        middle = int(rng.integers(b + 1, d))
        label = int(rng.random() >= (c.negatives if self.training else 0.5))
        shown = TRIPLE if label == IN_ORDER else (TOO_EARLY, TOO_LATE)[rng.integers(2)]
        data = {"shown": shown[:: rng.choice((1, -1))], "label": label}
        return Sample((a, b, middle, d, e), data, each=self._small)

    def label_words(self) -> dict[str, tuple[str, ...]]:
        """In order, forwards or backwards, or not."""
        return {"label": ("not in order", "in order")}

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray:
        """As the closest five frames span, at any rate; whether something moves decides too."""
        return np.full(len(fps_N), self.shortest)

    def _small(self, frame_HWC: np.ndarray) -> np.ndarray:
        return augment.resize(frame_HWC[None], (self.config.size, self.config.size))[0]

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any] | Redraw:
        """The three frames, or all five, unless c looks like a or e: then the tuples could not be told apart.

        Tuples in order are held to that too, or else much motion would tell that a tuple is not in order.
        """
        frames_THWC = augment.resize(frames_THWC, (self.config.size, self.config.size))
        a, c, e = frames_THWC[[0, 2, 4]].astype(np.float32)
        if min(np.square(c - a).mean(), np.square(c - e).mean()) < self.config.min_difference:
            return Redraw("middle frames that look alike")
        if self.training and self.config.every_tuple:
            return {"frames_SHWC": frames_THWC}
        return {"frames_SHWC": frames_THWC[list(sample.data["shown"])], "label": sample.data["label"]}

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """Cross-entropy of the two classes; each frame is a clip of one frame."""
        frames_BSHWC = batch["frames_SHWC"]
        x_NC1HW = self.backbone.normalise(frames_BSHWC.flatten(0, 1).unsqueeze(1))
        features_NDhw = self.backbone(x_NC1HW).mean(2)
        frames_BSE = self.head.branch(features_NDhw).unflatten(0, frames_BSHWC.shape[:2])
        if "label" in batch:
            labels_N = batch["label"]
            weights_N = torch.ones_like(labels_N, dtype=x_NC1HW.dtype)
        else:  # all five frames: tuples, in both directions, count as often as they would be drawn
            tuples = [t[::way] for t in (TRIPLE, TOO_EARLY, TOO_LATE) for way in (1, -1)]
            order_B5 = torch.arange(5, device=frames_BSE.device).expand(len(frames_BSE), 5)
            labels = [IN_ORDER, IN_ORDER, SHUFFLED, SHUFFLED, SHUFFLED, SHUFFLED]
            frames_BSE, labels_N = in_every_order(frames_BSE, order_B5, tuples, labels)
            negatives = self.config.negatives
            weights_N = torch.where(labels_N == IN_ORDER, (1 - negatives) / 2, negatives / 4).to(x_NC1HW.dtype)
        logits_NK = self.head(frames_BSE).to(x_NC1HW.dtype)
        losses_N = F.cross_entropy(logits_NK, labels_N, reduction="none")
        right_N = (logits_NK.argmax(1) == labels_N).double()
        loss, accuracy = ((weights_N * x_N).sum() / weights_N.sum() for x_N in (losses_N, right_N))
        right_B = right_N if "label" in batch else None
        return Output(loss, {"accuracy": accuracy}, features_NDhw.mean((2, 3)).detach(), right_B)


class TripletHead(nn.Module):
    """CaffeNet's fc6 and fc7 on each frame (``branch``), with batch norm before the ReLU, then fc8 on three of them."""

    def __init__(self, feature_dim: int, grid: int, width: int, dropout: float):
        super().__init__()
        layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(grid), nn.Flatten()]
        for inputs in (feature_dim * grid**2, width):
            layers += [nn.Linear(inputs, width), nn.BatchNorm1d(width, affine=False), nn.ReLU(), nn.Dropout(dropout)]
        self.branch = nn.Sequential(*layers)
        self.fc8 = nn.Linear(3 * width, 2)

    def forward(self, frames_BSE: Tensor) -> Tensor:
        """(B, 3, E), what ``branch`` gave for the three frames, to (B, 2)."""
        return self.fc8(frames_BSE.flatten(1))
