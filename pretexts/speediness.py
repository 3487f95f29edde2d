"""SpeedNet: does this clip play at its normal speed, or at twice that speed?

S. Benaim, A. Ephrat, O. Lang, I. Mosseri, W. T. Freeman, M. Rubinstein, M. Irani, T. Dekel:
"SpeedNet: Learning the Speediness in Videos", CVPR 2020.

A network could also tell the two apart by traces that have nothing to do with how things move: compression, the size
of the picture, the rhythm at which frames were dropped. Section 3.2 of the paper closes these shortcuts, and each
defence is an option here, so that its effect can be measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.bounds import Bounded, Bounds, Count, NotNegative
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS, Context, Output, Pretext, Sample, Skip, View, at_every_cell, place
from ssl_video.video import augment

NORMAL, SPED_UP = 0, 1


Speed = Annotated[float, Bounds(least=1)]


@dataclass(frozen=True)
class SpeedinessConfig(Bounded):
    """Options of the speediness pretext, with the paper's values as defaults, but for ``test_short_side``."""

    frames: Count = 64
    """T, the frames of a clip."""
    window: Annotated[float, Bounds(least=1)] = 3.0
    """The clip is drawn from window * T consecutive frames; shorter videos are skipped."""
    stride: Count = 1
    """Normal speed means every stride-th frame of the file (2 turns 30 fps into 15)."""
    normal: tuple[Speed, Speed] = (1.0, 1.2)
    """Range of the speed factor of the normal version."""
    sped_up: tuple[Speed, Speed] = (1.7, 2.2)
    """Range of the speed factor of the sped-up version."""
    drop_frames: bool = True
    """Drop each frame with probability 1 - 1/factor; off: take frames at even spacing."""
    same_batch: bool = True
    """Both versions of a clip are in one batch; off: one of the two, at random."""
    random_size: bool = True
    """Resize each batch to N x N pixels with a random N; off: always to max_size."""
    min_size: Count = 64
    """Smallest N, in pixels."""
    max_size: Count = 336
    """Largest N, in pixels."""
    short_side: Count = 256
    """The frames' shorter side before the crop, in pixels."""
    crop: Count = 224
    """Side of the square cut out of the frames, in pixels; also the size at test."""
    test_short_side: Count | None = None
    """The frames' shorter side at test and in evaluations, in pixels; None: short_side. The paper: 224, as its crop."""
    colour: NotNegative = 0.15
    """Standard deviation of the random colour matrix around the identity; 0 turns colour changes off."""
    spatial_pool: Literal["max", "mean"] = "max"
    """Pooling over space. The size of the region varies with N; a maximum tells less about it than a mean."""

    def __post_init__(self):
        super().__post_init__()
        for name, (low, high) in (("normal", self.normal), ("sped_up", self.sped_up)):
            if low > high:
                raise UserError(f"{name} is a range of speeds, the lower one first, not {low:g} to {high:g}.")
        if self.random_size and self.min_size > self.max_size:
            raise UserError(f"min_size is at most max_size, but {self.min_size} is more than {self.max_size}.")
        fastest = max(self.normal[1], self.sped_up[1])
        if not self.drop_frames and int((self.frames - 1) * fastest) >= round(self.window * self.frames):
            raise UserError(
                f"A clip at {fastest:g} times the speed does not fit into a window of {self.window:g} clips; make the "
                f"window longer."
            )


@PRETEXTS.register("speediness")
class Speediness(Pretext):
    """SpeedNet (CVPR 2020): classify a clip as normal or sped up."""

    Config = SpeedinessConfig
    config: SpeedinessConfig
    span_limits = (("frames", 8), ("stride", 1))
    answers = ("normal", "sped up")

    def __init__(self, config: SpeedinessConfig, backbone: Backbone):
        super().__init__(config, backbone)
        smallest = config.min_size if config.random_size else config.max_size
        backbone.check_clip(config.frames, smallest)
        _ = self._frames  # refuses a crop that is larger than the frame, which else a worker would only say later
        self.head = nn.Linear(backbone.feature_dim, 1)  # the paper's 1x1 convolution

    @property
    def view(self) -> View:
        """Clips at normal speed, resized and cropped as at test."""
        c = self.config
        return View(c.frames, c.stride, c.test_short_side or c.short_side, c.crop)

    @property
    def _frames(self) -> View:
        """How frames are resized and cropped: in training from a larger frame than at test, as the options say."""
        return replace(self.view, short_side=self.config.short_side) if self.training else self.view

    @property
    def window(self) -> int:
        """Frames, at normal speed, that both versions of a clip are drawn from."""
        return round(self.config.window * self.config.frames) if self.training else 2 * self.config.frames

    @property
    def span(self) -> int:
        """Frames of the file from the window's first to its last."""
        return (self.window - 1) * self.config.stride + 1

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """A window of the video and two ways through it; at test exactly every frame against every second one."""
        c = self.config
        first = place(video, self.span, rng, "frames of the window")
        if isinstance(first, Skip):
            return first
        if self.training:
            factors = rng.uniform(*c.normal), rng.uniform(*c.sped_up)
            pick = drop_frames if c.drop_frames else space_evenly
            views = [pick(self.window, f, c.frames, rng) for f in factors]
        else:
            views = [np.arange(c.frames), np.arange(c.frames) * 2]
        labels = np.array([NORMAL, SPED_UP])
        if not c.same_batch and self.training:
            keep = int(rng.integers(2))
            views, labels = [views[keep]], labels[[keep]]
        offsets, positions = np.unique(np.stack(views), return_inverse=True)  # a frame in both views is read once
        frames = tuple(int(first + c.stride * o) for o in offsets)
        data = {"positions_VT": positions.reshape(len(views), c.frames), "labels_V": labels}
        return Sample(frames, data, each=self._frames.small)

    def label_words(self) -> dict[str, tuple[str, ...]]:
        """Two speeds."""
        return {"labels": ("normal speed", "sped up")}

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray:
        """As the window spans, at any rate."""
        return np.full(len(fps_N), self.span)

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """One crop and one flip for both versions, so that only their speed differs."""
        frames_THWC = self._frames.prepare(frames_THWC, rng if self.training else None)
        return {"clips_VTHWC": frames_THWC[sample.data["positions_VT"]], "labels_V": sample.data["labels_V"]}

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """Binary cross-entropy over both versions of every clip."""
        clips_BVTHWC, labels_BV = batch["clips_VTHWC"], batch["labels_V"]
        B, V = labels_BV.shape
        clips_NTHWC, colours = clips_BVTHWC.flatten(0, 1), {}
        if self.training:
            clips_NTHWC = augment.resize_batch(clips_NTHWC, self._side(ctx))
            colours = ctx.colours(B, self.config.colour)  # both versions of a clip get the same change
            colours = {name: x.repeat_interleave(V, 0) for name, x in colours.items()}
        features_ND = self._pool(self.backbone(self.backbone.normalise(clips_NTHWC, **colours)))
        logits_N = self._logits(features_ND)
        targets_N = labels_BV.flatten().to(logits_N.dtype)
        loss = F.binary_cross_entropy_with_logits(logits_N, targets_N)
        right_BV = ((logits_N > 0) == (targets_N > 0.5)).double().unflatten(0, (B, V))
        return Output(loss, {"accuracy": right_BV.mean()}, features_ND.detach(), right_BV.mean(1))

    def clip_logits(self, features_BDthw: Tensor) -> Tensor:
        """(B,) logit of "sped up" of whole clips; the sigmoid of its negative is the paper's speediness."""
        return self._logits(self._pool(features_BDthw))

    def heat_map(self, features_BDthw: Tensor) -> Tensor:
        """(B, t, h, w) logit of "sped up" at every cell, without pooling: the paper's space-time activation map."""
        return at_every_cell(self.head, features_BDthw)[:, 0]

    def _logits(self, features_ND: Tensor) -> Tensor:
        return self.head(features_ND).squeeze(1).to(self.head.weight.dtype)

    def _side(self, ctx: Context) -> int:
        """N: drawn once for the whole batch."""
        c = self.config
        return (
            int(torch.randint(c.min_size, c.max_size + 1, (), generator=ctx.generator)) if c.random_size else c.max_size
        )

    def _pool(self, features_BDthw: Tensor) -> Tensor:
        features_BDt = features_BDthw.amax((3, 4)) if self.config.spatial_pool == "max" else features_BDthw.mean((3, 4))
        return features_BDt.mean(2)


def drop_frames(window: int, factor: float, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of ``frames`` frames, in order, after each of ``window`` was dropped with probability $1 - 1/f$.

    $f$ is the ``factor`` by which the clip is sped up.

    A run of consecutive survivors is taken at a random place. In the rare draw with too few survivors, those that came
    nearest to surviving join them, so that every draw gives a clip.
    """
    draw = rng.random(window)
    kept = np.flatnonzero(draw < 1 / factor)
    if len(kept) < frames:
        kept = np.sort(np.argsort(draw)[:frames])
    start = rng.integers(len(kept) - frames + 1)
    return kept[start : start + frames]


def space_evenly(window: int, factor: float, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of ``frames`` frames at even spacing ``factor``, rounded, at a random place in the window."""
    offsets = np.floor(np.arange(frames) * factor).astype(np.int64)
    return offsets + rng.integers(max(window - offsets[-1], 1))
