"""Shuffle and Learn: are these three frames in their order?

I. Misra, C. L. Zitnick, M. Hebert: "Shuffle and Learn: Unsupervised Learning using Temporal Order Verification",
ECCV 2016.

Five frames a < b < c < d < e come from a stretch of a video where much moves. (b, c, d) is in order; (b, a, d) and
(b, e, d), which share its ends, are not. Played backwards a tuple keeps its label.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS, Context, Needs, Pretext, PretextOutput, Redraw, Sample, Skip, View
from ssl_video.pretexts.motion import STATISTIC, Motion, draw_window, moves
from ssl_video.video import augment

SHUFFLED, IN_ORDER = 0, 1
TRIPLE, TOO_EARLY, TOO_LATE = (1, 2, 3), (1, 0, 3), (1, 4, 3)  # places among the five frames


@dataclass(frozen=True)
class TupleVerificationConfig:
    """Options of tuple verification, with the paper's values as defaults."""

    tau_max: int = 60
    """Frames from b to d, at most."""
    tau_min: int = 15
    """Frames from a to b and from d to e, at least."""
    negatives: float = 0.75
    """Part of the tuples that are not in order; at test it is half, so that chance is 0.5."""
    motion: Motion = "flow"
    """What measures motion: the magnitude of optical flow, or cheaper, of the differences between frames."""
    min_difference: float = 20.0
    """The middle frame differs from the one it may be taken for by at least this mean squared difference, on the scale
    of 0 to 255; 0 turns the guard off."""
    size: int = 227
    """Frames are resized to size x size pixels, whatever their aspect ratio, and not cropped."""
    grid: int = 6
    """The feature map of a frame is pooled to grid x grid cells, AlexNet's own at 227 pixels."""
    width: int = 4096
    """Units of fc6 and fc7."""
    dropout: float = 0.5
    """Part of them dropped."""


@PRETEXTS.register("tuple_verification")
class TupleVerification(Pretext):
    """Shuffle and Learn (ECCV 2016): three frames, in their order or not, by a triplet-Siamese network."""

    Config = TupleVerificationConfig
    config: TupleVerificationConfig
    needs: Needs = Needs(max_temporal_stride=1)  # frames are shown one by one

    def __init__(self, config: TupleVerificationConfig, backbone: Backbone):
        super().__init__(config, backbone)
        if config.tau_min < 1 or config.tau_max < 2:
            raise UserError(
                f"tau_min must be at least 1 and tau_max at least 2, not {config.tau_min} and {config.tau_max}."
            )
        self.needs = replace(self.needs, statistics=(STATISTIC[config.motion],))
        self.head = TripletHead(backbone.feature_dim, config.grid, config.width, config.dropout)

    @property
    def view(self) -> View:
        """Single frames."""
        return View(1, 1, self.config.size, self.config.size)

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """Five frames, b to d where much moves, and which three of them are shown in which direction."""
        c, T = self.config, video.frames
        shortest = 2 * c.tau_min + 3
        if shortest > T:
            return Skip(f"shorter than the {shortest} frames of a tuple")
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
        return Sample((a, b, middle, d, e), {"shown": shown[:: rng.choice((1, -1))], "label": label})

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any] | Redraw:
        """The three frames, unless c looks like a or e: then nobody could tell the tuples apart.

        Tuples in order are held to that too, or else much motion would tell that a tuple is not in order.
        """
        frames_THWC = augment.resize(frames_THWC, (self.config.size, self.config.size))
        a, c, e = frames_THWC[[0, 2, 4]].astype(np.float32)
        if min(np.square(c - a).mean(), np.square(c - e).mean()) < self.config.min_difference:
            return Redraw("middle frames that look alike")
        return {"frames_SHWC": frames_THWC[list(sample.data["shown"])], "label": sample.data["label"]}

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> PretextOutput:
        """Cross-entropy of the two classes; each frame is a clip of one frame."""
        frames_BSHWC, labels_B = batch["frames_SHWC"], batch["label"]
        spec, dtype = self.backbone.clip, self.head.fc8.weight.dtype
        x_NC1HW = augment.to_float(frames_BSHWC.flatten(0, 1).unsqueeze(1), spec.mean, spec.std, dtype)
        features_NDhw = self.backbone(x_NC1HW).mean(2)
        logits_BK = self.head(features_NDhw).to(dtype)
        loss = F.cross_entropy(logits_BK, labels_B)
        accuracy = (logits_BK.argmax(1) == labels_B).double().mean()
        return PretextOutput(loss, {"accuracy": accuracy}, features_NDhw.mean((2, 3)).detach())


class TripletHead(nn.Module):
    """CaffeNet's fc6 and fc7 on each of three frames, with batch norm before the ReLU, then fc8 on all three."""

    def __init__(self, feature_dim: int, grid: int, width: int, dropout: float):
        super().__init__()
        layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(grid), nn.Flatten()]
        for inputs in (feature_dim * grid**2, width):
            layers += [nn.Linear(inputs, width), nn.BatchNorm1d(width, affine=False), nn.ReLU(), nn.Dropout(dropout)]
        self.branch = nn.Sequential(*layers)
        self.fc8 = nn.Linear(3 * width, 2)

    def forward(self, features_NDhw: Tensor) -> Tensor:
        """(3 B, D, h, w), the frames of a tuple one after the other, to (B, 2)."""
        return self.fc8(self.branch(features_NDhw).unflatten(0, (-1, 3)).flatten(1))
