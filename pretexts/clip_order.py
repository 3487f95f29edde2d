"""Video clip order prediction (VCOP): in which order were these clips filmed?

D. Xu, J. Xiao, Z. Zhao, J. Shao, D. Xie, Y. Zhuang: "Self-supervised Spatiotemporal Learning via Video Clip Order
Prediction", CVPR 2019.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.bounds import Bounded, Bounds, Count, LessThanOne, Natural
from ssl_video.constants import constant
from ssl_video.datasets.base import Video
from ssl_video.pretexts.base import PRETEXTS, Context, Output, Pretext, Sample, Skip, View, place
from ssl_video.pretexts.orders import in_every_order, in_words
from ssl_video.video import augment


@dataclass(frozen=True)
class ClipOrderConfig(Bounded):
    """Options of the clip order pretext, with the paper's values as defaults."""

    clips: Annotated[int, Bounds(least=2, most=5)] = 3
    """Clips of a tuple, 2 to 5; there are as many classes as orders of them."""
    frames: Count = 16
    """Frames of a clip."""
    gap: Natural = 8
    """Frames left out between two clips, so that one does not simply go on where the other ended."""
    stride: Count = 1
    """Every stride-th frame of the file is a frame of the tuple."""
    short_side: Count = 128
    """The frames' shorter side before the crop, in pixels."""
    crop: Count = 112
    """Side of the square cut out of the frames, in pixels; at a place of its own for each clip."""
    width: Count = 512
    """Units of fc7, which sees a pair of clips."""
    dropout: LessThanOne = 0.5
    """Fraction of the pairs' features dropped before the last layer."""
    every_order: bool = False
    """Train on a tuple in all its orders at once, which cost one pass of the backbone; the paper draws one order."""


@PRETEXTS.register("clip_order")
class ClipOrder(Pretext):
    """VCOP (CVPR 2019): recognise the order of shuffled clips."""

    Config = ClipOrderConfig
    config: ClipOrderConfig
    span_limits = (("stride", 1), ("gap", 1), ("frames", 4))

    def __init__(self, config: ClipOrderConfig, backbone: Backbone):
        super().__init__(config, backbone)
        self.span = (config.clips * config.frames + (config.clips - 1) * config.gap - 1) * config.stride + 1
        self.orders = tuple(itertools.permutations(range(config.clips)))
        self.head = PairwiseHead(backbone.feature_dim, config.clips, config.width, len(self.orders), config.dropout)

    @property
    def view(self) -> View:
        """One clip, cropped as at test."""
        return View(self.config.frames, self.config.stride, self.config.short_side, self.config.crop)

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """Clips at equal distances from a random start on, and the order in which they are shown."""
        c = self.config
        first = place(video, self.span, rng, f"frames of {c.clips} clips and the gaps between them")
        if isinstance(first, Skip):
            return first
        starts_V = np.arange(c.clips) * (c.frames + c.gap)
        offsets_VT = starts_V[:, None] + np.arange(c.frames)
        frames = tuple(int(first + c.stride * offset) for offset in offsets_VT.ravel())
        return Sample(frames, {"class": int(rng.integers(len(self.orders)))}, each=self.view.small)

    def label_words(self) -> dict[str, tuple[str, ...]]:
        """Every order of the clips."""
        return {"class": in_words(self.orders)}

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray:
        """As the clips and gaps span, at any rate."""
        return np.full(len(fps_N), self.span)

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """The clips in the order of their class; all frames of a clip have one crop, each clip another."""
        c = self.config
        clips_VTHWC = np.split(augment.resize_short_side(frames_THWC, c.short_side), c.clips)
        cut = [augment.crop(clip_THWC, c.crop, rng if self.training else None) for clip_THWC in clips_VTHWC]
        return {"clips_VTHWC": np.stack([cut[v] for v in self.orders[sample.data["class"]]]), **sample.data}

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """Cross-entropy over all orders."""
        clips_BVTHWC, classes_B = batch["clips_VTHWC"], batch["class"]
        x_NCTHW = self.backbone.normalise(clips_BVTHWC.flatten(0, 1))
        features_ND = self.backbone(x_NCTHW).mean((2, 3, 4))
        features_BVD = features_ND.unflatten(0, clips_BVTHWC.shape[:2])
        if self.training and self.config.every_order:
            order_BV = constant(self.orders, classes_B.device)[classes_B]
            features_BVD, classes_B = in_every_order(features_BVD, order_BV, self.orders, range(len(self.orders)))
        logits_BK = self.head(features_BVD).to(x_NCTHW.dtype)
        loss = F.cross_entropy(logits_BK, classes_B)
        right_B = (logits_BK.argmax(1) == classes_B).double()
        return Output(loss, {"accuracy": right_B.mean()}, features_ND.detach(), right_B)


class PairwiseHead(nn.Module):
    """Classes from the features of every pair of clips: a shared fc7, then fc8 over all pairs.

    Pairs are taken as ``itertools.combinations`` gives them.
    """

    def __init__(self, feature_dim: int, clips: int, width: int, classes: int, dropout: float):
        super().__init__()
        self.pairs = list(itertools.combinations(range(clips), 2))
        self.fc7 = nn.Linear(2 * feature_dim, width)
        self.dropout = nn.Dropout(dropout)
        self.fc8 = nn.Linear(len(self.pairs) * width, classes)

    def forward(self, features_BVD: Tensor) -> Tensor:
        """(B, clips, D) to (B, classes)."""
        pairs_BPE = torch.stack([features_BVD[:, pair].flatten(1) for pair in self.pairs], 1)
        return self.fc8(self.dropout(torch.relu(self.fc7(pairs_BPE)).flatten(1)))
