"""Order prediction network (OPN): in which order were these four frames filmed, forwards or backwards?

H.-Y. Lee, J.-B. Huang, M. Singh, M.-H. Yang: "Unsupervised Representation Learning by Sorting Sequences", ICCV 2017.

An order and its reverse are one class, since much looks as natural backwards: 4!/2 = 12 classes.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.bounds import Bounded, Bounds, Count, LessThanOne, Natural
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS, Context, Needs, Output, Pretext, Sample, Skip, View
from ssl_video.pretexts.motion import STATISTIC, Motion, draw_window, moves
from ssl_video.pretexts.orders import in_every_order, in_words
from ssl_video.video import augment

ORDERS = tuple(order for order in itertools.permutations(range(4)) if order[0] < order[-1])
PAIRS = tuple(itertools.combinations(range(4), 2))
GREEN = 1


@dataclass(frozen=True)
class OrderPredictionConfig(Bounded):
    """Options of order prediction. Where nothing else is said the defaults are the paper's."""

    interval: tuple[Count, Count] = (5, 15)
    """Frames from one of the four to the next, at least and at most; ours."""
    motion: Motion = "flow"
    """What measures motion: the magnitude of optical flow, or cheaper, of the differences between frames."""
    short_side: Count = 240
    """The frames' shorter side before the window is cut out, in pixels; ours (the height of UCF101)."""
    window: Count = 100
    """Side of the square in which most moves, in pixels."""
    crop: Count = 80
    """Side of the square cut out of the window, in pixels."""
    jitter: Natural = 5
    """Pixels by which each frame's crop is moved by itself, up, down, left or right."""
    split_channels: bool = True
    """Show one channel of each frame, drawn for each frame, as all three."""
    grid: Count = 3
    """The feature map of a frame is pooled to grid x grid cells before fc6; ours."""
    width: Annotated[int, Bounds(least=2)] = 1024
    """Units of fc6, which sees a frame; fc7, which sees a pair, has half as many."""
    dropout: LessThanOne = 0.5
    """Fraction of the units of fc6 and fc7 dropped."""
    every_order: bool = False
    """Train on a tuple in all its orders at once, which cost one pass of the backbone; the paper draws one order."""

    def __post_init__(self):
        super().__post_init__()
        if not self.interval[0] <= self.interval[1]:
            raise UserError(f"The interval is two ascending numbers of at least 1, not {self.interval}.")
        if self.crop + 2 * self.jitter > self.window or self.window > self.short_side:
            raise UserError(
                f"A crop of {self.crop} pixels that is moved by {self.jitter} must fit into the window of "
                f"{self.window} pixels, and that into the short side of {self.short_side}; change one of them."
            )


@PRETEXTS.register("order_prediction")
class OrderPrediction(Pretext):
    """OPN (ICCV 2017): sort four shuffled frames, forwards or backwards."""

    Config = OrderPredictionConfig
    config: OrderPredictionConfig
    span_limits = (("interval", 3),)
    needs: Needs = Needs(max_temporal_stride=1)  # frames are shown one by one

    def __init__(self, config: OrderPredictionConfig, backbone: Backbone):
        super().__init__(config, backbone)
        backbone.check_clip(1, config.crop)
        self.needs = replace(self.needs, statistics=(STATISTIC[config.motion],))
        self.shortest = 3 * config.interval[0] + 1
        self.head = SortingHead(backbone.feature_dim, config.grid, config.width, config.dropout)

    @property
    def view(self) -> View:
        """Single frames at the scale of training, with the whole picture where the network takes it."""
        c = self.config
        return View(1, 1, c.short_side, c.crop if self.backbone.clip.fixed_size else c.short_side)

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """Four frames where much moves, and the order and direction in which they are shown."""
        c = self.config
        if video.frames < self.shortest:
            return Skip(f"shorter than the {self.shortest} frames of a tuple")
        motion_T = stats[STATISTIC[c.motion]]
        if not moves(motion_T, c.motion):
            return Skip("no motion to sample")
        longest = min(c.interval[1], (video.frames - 1) // 3)
        offsets = np.concatenate([[0], np.cumsum(rng.integers(c.interval[0], longest + 1, 3))])
        first = draw_window(motion_T, int(offsets[-1]) + 1, rng)
        class_ = int(rng.integers(len(ORDERS)))
        shown = ORDERS[class_][:: rng.choice((1, -1))]
        frames = tuple(int(first + offset) for offset in offsets)
        return Sample(frames, {"shown": shown, "class": class_}, each=self.view.small)

    def label_words(self) -> dict[str, tuple[str, ...]]:
        """Every order of the frames, forwards or backwards."""
        return {"class": in_words(ORDERS)}

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray:
        """As the closest four frames span, at any rate; whether something moves decides too."""
        return np.full(len(fps_N), self.shortest)

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """Cut out where most moves, each frame shaken by itself, mirror all or none, keep one channel of each."""
        c = self.config
        frames_THWC = augment.resize_short_side(frames_THWC, c.short_side)
        top, left = busiest_window(frames_THWC, c.window)
        room = c.window - c.crop
        places_T2 = np.full((4, 2), room // 2)
        channels_T = np.full(4, GREEN)
        if self.training:
            shared = rng.integers(c.jitter, room - c.jitter + 1, 2)
            places_T2 = shared + rng.integers(-c.jitter, c.jitter + 1, (4, 2))
            channels_T = rng.integers(3, size=4)
        cut = [
            frame_HWC[top + y : top + y + c.crop, left + x : left + x + c.crop]
            for frame_HWC, (y, x) in zip(frames_THWC, places_T2, strict=True)
        ]
        if c.split_channels:
            cut = [np.repeat(x[..., k, None], 3, axis=2) for x, k in zip(cut, channels_T, strict=True)]
        cut_THWC = augment.flip(np.stack(cut), rng) if self.training else np.stack(cut)
        shown = list(sample.data["shown"])
        return {"frames_SHWC": cut_THWC[shown], "order_S": np.array(shown), "class": sample.data["class"]}

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """Cross-entropy over the orders; each frame is a clip of one frame."""
        frames_BSHWC, classes_B = batch["frames_SHWC"], batch["class"]
        x_NC1HW = self.backbone.normalise(frames_BSHWC.flatten(0, 1).unsqueeze(1))
        features_NDhw = self.backbone(x_NC1HW).mean(2)
        frames_BSE = self.head.frame(features_NDhw).unflatten(0, (-1, 4))
        if self.training and self.config.every_order:
            both = ORDERS + tuple(order[::-1] for order in ORDERS)
            classes = 2 * tuple(range(len(ORDERS)))
            frames_BSE, classes_B = in_every_order(frames_BSE, batch["order_S"], both, classes)
        logits_BK = self.head(frames_BSE).to(x_NC1HW.dtype)
        loss = F.cross_entropy(logits_BK, classes_B)
        right_B = (logits_BK.argmax(1) == classes_B).double()
        return Output(loss, {"accuracy": right_B.mean()}, features_NDhw.mean((2, 3)).detach(), right_B)


class SortingHead(nn.Module):
    """fc6 on each of four frames (``frame``), then a shared fc7 with batch norm on each pair, and fc8 on all pairs."""

    def __init__(self, feature_dim: int, grid: int, width: int, dropout: float):
        super().__init__()
        drop, pair = nn.Dropout(dropout), width // 2
        fc6 = nn.Linear(feature_dim * grid**2, width)
        self.frame = nn.Sequential(nn.AdaptiveAvgPool2d(grid), nn.Flatten(), fc6, nn.ReLU(), drop)
        self.pair = nn.Sequential(nn.Linear(2 * width, pair), nn.BatchNorm1d(pair), nn.ReLU(), drop)
        self.fc8 = nn.Linear(len(PAIRS) * pair, len(ORDERS))

    def forward(self, frames_BSE: Tensor) -> Tensor:
        """(B, 4, E), what ``frame`` gave for the four frames, to (B, 12)."""
        pairs_BPE = torch.stack([frames_BSE[:, pair].flatten(1) for pair in PAIRS], 1)
        return self.fc8(self.pair(pairs_BPE.flatten(0, 1)).unflatten(0, pairs_BPE.shape[:2]).flatten(1))


def busiest_window(frames_THWC: np.ndarray, side: int) -> tuple[int, int]:
    """(top, left) of the square of ``side`` pixels in which consecutive frames differ most, in sum over them."""
    gray_THW = frames_THWC.mean(3, dtype=np.float32)
    moved_HW = np.abs(np.diff(gray_THW, axis=0)).sum(0, dtype=np.float64)
    sums = np.pad(moved_HW, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return int(top), int(left)
