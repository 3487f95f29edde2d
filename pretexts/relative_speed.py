"""RSPNet: of two clips of a video, which one plays at the speed of a third?

P. Chen, D. Huang, D. He, X. Long, R. Zeng, S. Wen, M. Tan, C. Gan: "RSPNet: Relative Speed Perception for Unsupervised
Video Representation Learning", AAAI 2021.

How fast a clip plays can hardly be said of it alone, since things move as fast as they like; it can be compared. A
query is more like the clip at its own speed than like the same frames at another one (head M, a ranking), and like
both of them more than like other videos, whatever their speeds (head A, a contrast).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.bounds import Bounded, Bounds, Count, Fraction, NotNegative, Positive
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS, Context, Needs, Output, Pretext, Progress, Sample, Skip, View, place
from ssl_video.pretexts.looks import colour_changes, grayed
from ssl_video.pretexts.queue import KeyQueue, directions, info_nce
from ssl_video.pretexts.teacher import follow, teacher_of
from ssl_video.video import augment


@dataclass(frozen=True)
class RelativeSpeedConfig(Bounded):
    """Options of relative speed, with the values of the paper's code as defaults."""

    frames: Annotated[int, Bounds(least=2)] = 16
    """Frames of a clip, at either speed."""
    stride: Count = 1
    """Normal speed means every stride-th frame of the file."""
    speed: Annotated[int, Bounds(least=2)] = 2
    """The other speed is so many times the normal one."""
    short_side: Count = 128
    """The frames' shorter side before the crop, in pixels."""
    crop: Count = 112
    """Side of the square that crops are resized to, in pixels."""
    crop_area: tuple[Fraction, Fraction] = (0.4, 1.0)
    """Fraction of the frame that a crop takes: one for the query, one for both clips that it is compared with."""
    jitter: Fraction = 0.4
    """Contrast, saturation and brightness change by up to this, for these two clips alike."""
    hue: Annotated[float, Bounds(least=0, most=0.5)] = 0.4
    """Colours turn by up to this fraction of the circle of hues."""
    gray: Fraction = 0.2
    """Probability with which they lose their colours."""
    dim: Count = 128
    """Numbers that each head describes a clip by."""
    head_norm: bool = False
    """Batch norm before the heads takes away what all clips have in common; ours, for short trainings."""
    temperature: Positive = 0.07
    """Similarities are divided by it, before the margin."""
    margin: NotNegative = 2.0
    """By so much the clip at the query's speed should be more like it than the other one."""
    ranking_weight: NotNegative = 1.0
    """Weight of the ranking of head M; the contrast of head A has 1."""
    momentum: Fraction = 0.999
    """What the teacher keeps of itself in a step."""
    queue: Count = 16384
    """Keys of other videos that head A contrasts with."""

    def __post_init__(self):
        super().__post_init__()
        low, high = self.crop_area
        if not 0 < low <= high:
            raise UserError("crop_area is two fractions between 0 and 1, the smaller one first.")


@PRETEXTS.register("relative_speed")
class RelativeSpeed(Pretext):
    """RSPNet (AAAI 2021): tell which of two clips plays at the speed of a third, and which videos are others."""

    Config = RelativeSpeedConfig
    config: RelativeSpeedConfig
    span_limits = (("stride", 1), ("frames", 4))
    needs: Needs = Needs(apart=True)

    def __init__(self, config: RelativeSpeedConfig, backbone: Backbone):
        super().__init__(config, backbone)
        self.span = (config.frames - 1) * config.speed * config.stride + 1
        self.head_a, self.head_m = (head(backbone.feature_dim, config) for _ in range(2))
        self.teacher = teacher_of(self._student)
        self.queue = KeyQueue(config.queue, config.dim)

    @property
    def view(self) -> View:
        """A clip at normal speed, cropped as at test."""
        return View(self.config.frames, self.config.stride, self.config.short_side, self.config.crop)

    @property
    def offsets_2T(self) -> np.ndarray:
        """Frames of a clip at normal speed and of a fast one, counted from the first of the fast one.

        Both have the same middle frame: repeated, it says nothing of the speed.
        """
        c, steps_T = self.config, np.arange(self.config.frames)
        return c.stride * np.stack([steps_T + (c.speed - 1) * (c.frames // 2), c.speed * steps_T])

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """A query at either speed; around another time a clip at its speed, and one at the other."""
        starts = [place(video, self.span, rng, "frames of a fast clip") for _ in range(2)]
        if isinstance(starts[0], Skip) or isinstance(starts[1], Skip):
            return Skip(f"shorter than the {self.span} frames of a fast clip")
        own = int(rng.integers(2))
        clips_3T = np.stack([starts[0] + self.offsets_2T[own], *(starts[1] + self.offsets_2T[[own, 1 - own]])])
        frames, positions = np.unique(clips_3T, return_inverse=True)  # a frame of two clips is read once
        return Sample(tuple(frames.tolist()), {"positions_3T": positions.reshape(3, -1)}, each=self.view.small)

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray:
        """As a fast clip spans, at any rate."""
        return np.full(len(fps_N), self.span)

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """One crop and one flip for the query, and one for both other clips, so that only their speed differs."""
        c, (query_T, *others_2T) = self.config, sample.data["positions_3T"]
        frames_THWC = augment.resize_short_side(frames_THWC, c.short_side)

        def seen(positions_X: np.ndarray) -> np.ndarray:
            clips_THWC = frames_THWC[positions_X]
            if not self.training:
                return self.view.prepare(clips_THWC)
            return augment.flip(augment.resized_crop(clips_THWC, c.crop, c.crop_area, rng), rng)

        clips_THWC = np.concatenate([seen(query_T), seen(np.concatenate(others_2T))])
        return {"clips_3THWC": clips_THWC.reshape(3, c.frames, *clips_THWC.shape[1:])}

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """The loss of both heads.

        ``accuracy``: how often head M finds the clip at the query's speed more like the query than the other one (half
        of a tie); ``same_video``: how often head A finds it more like than all other videos of the queue.
        """
        c, B = self.config, len(batch["clips_3THWC"])
        if B == 1 and self.training and c.head_norm:
            raise UserError("head_norm needs two videos of a process in a batch; use a larger --batch-size.")
        x_B3CTHW = self._normalised(batch["clips_3THWC"], ctx)
        features_BD = self.backbone(x_B3CTHW[:, 0]).mean((2, 3, 4))
        said_2BE = self.head_a(features_BD), self.head_m(features_BD)
        keys_2NE = self._taught(x_B3CTHW[:, 1:].flatten(0, 1))
        with torch.autocast(features_BD.device.type, enabled=False):  # bf16 would round similarities of 1 to 1/256
            (query_a_BE, keys_a_B2E), (query_m_BE, keys_m_B2E) = (
                (directions(said_BE), directions(keys_NE).unflatten(0, (B, 2)))
                for said_BE, keys_NE in zip(said_2BE, keys_2NE, strict=True)
            )
            alike_a_B2, alike_m_B2 = (
                torch.einsum("be,bke->bk", query_BE, keys_B2E) / c.temperature
                for query_BE, keys_B2E in ((query_a_BE, keys_a_B2E), (query_m_BE, keys_m_B2E))
            )
            others_BK = query_a_BE @ self.queue.keys_KD.T / c.temperature
            contrast, ranking = appearance(alike_a_B2, others_BK), relative_speed(alike_m_B2, c.margin)
        if self.training:
            self.queue.wait(ctx.gather(keys_a_B2E[:, 1]))
        right_B = (1 + (alike_m_B2[:, 0] - alike_m_B2[:, 1]).sign().double()) / 2
        same_video = (alike_a_B2[:, 0] > others_BK.amax(1)).double().mean()
        metrics = {"accuracy": right_B.mean(), "same_video": same_video, "contrast": contrast, "ranking": ranking}
        metrics = {name: value.detach() for name, value in metrics.items()}
        return Output(contrast + c.ranking_weight * ranking, metrics, features_BD.detach(), right_B.detach())

    def after_step(self, progress: Progress) -> None:
        """The teacher follows, and new keys join the queue."""
        follow(self.teacher, self._student, self.config.momentum)
        self.queue.push()

    @property
    def _student(self) -> nn.ModuleList:
        """What the teacher is a copy of."""
        return nn.ModuleList((self.backbone, self.head_a, self.head_m))

    @torch.no_grad()
    def _taught(self, x_NCTHW: Tensor) -> tuple[Tensor, Tensor]:
        """What both heads of the teacher say; batch norms take the statistics of this pass, and keep them."""
        backbone, head_a, head_m = self.teacher
        features_ND = backbone(x_NCTHW).mean((2, 3, 4))
        return head_a(features_ND), head_m(features_ND)

    def _normalised(self, clips_B3THWC: Tensor, ctx: Context) -> Tensor:
        """x_B3CTHW, in training the query in one change of colours, and both other clips in another."""
        c, B = self.config, len(clips_B3THWC)
        colours = {}
        if self.training:
            colours = colour_changes(ctx, 2 * B, c.jitter, c.hue, changed=1.0)
            colours["matrix_B33"] = grayed(colours["matrix_B33"], ctx.uniform(2 * B, 1, 1) < c.gray)
            colours = {name: x.unflatten(0, (B, 2))[:, [0, 1, 1]].flatten(0, 1) for name, x in colours.items()}
        return self.backbone.normalise(clips_B3THWC.flatten(0, 1), **colours).unflatten(0, (B, 3))


def head(width: int, config: RelativeSpeedConfig) -> nn.Module:
    """A linear layer, with ``head_norm`` behind a batch norm."""
    linear = nn.Linear(width, config.dim)
    return nn.Sequential(nn.BatchNorm1d(width, affine=False), linear) if config.head_norm else linear


def appearance(alike_B2: Tensor, others_BK: Tensor) -> Tensor:
    """The sum of two mean cross-entropies: of each of the two clips of the query's video among itself and K others.

    Both are logits, similarities over the temperature.
    """
    return info_nce(alike_B2, others_BK.logsumexp(1, keepdim=True)).mean(0).sum()


def relative_speed(alike_B2: Tensor, margin: float) -> Tensor:
    r"""The mean of $\max(0, m - (s_+ - s_-))$: the clip at the query's speed comes first."""
    return (margin - (alike_B2[:, 0] - alike_B2[:, 1])).clamp_min(0).mean()
