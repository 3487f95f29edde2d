"""Clips of one video, seen at other times and in other views, should be described alike: rho-BYOL, rho-MoCo and CVRL.

C. Feichtenhofer, H. Fan, B. Xiong, R. Girshick, K. He: "A Large-Scale Study on Unsupervised Spatiotemporal
Representation Learning", CVPR 2021 (rho is the number of clips of a video); R. Qian, T. Meng, B. Gong, M.-H. Yang,
H. Wang, S. Belongie, Y. Cui: "Spatiotemporal Contrastive Video Representation Learning", CVPR 2021.

Descriptions that are alike are easy: all could be one. BYOL predicts what a teacher says of the other clip, MoCo and
CVRL contrast it with other videos: those of earlier batches, described by a teacher, or those of this batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.bounds import Bounded, Bounds, Count, Fraction, Positive
from ssl_video.constants import constant
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS, Context, Output, Pretext, Progress, Sample, Skip, View
from ssl_video.pretexts.looks import blurred, colour_changes, grayed
from ssl_video.pretexts.queue import KeyQueue, directions, info_nce
from ssl_video.pretexts.teacher import follow, risen, teacher_of
from ssl_video.video import augment

BLUR = (0.1, 2.0)
"""Standard deviation of a blur, in pixels."""


class Published(NamedTuple):
    """What each loss is published with."""

    layers: int
    hidden: int
    dim: int
    norm: bool
    momentum: float


PUBLISHED = {
    "byol": Published(2, 4096, 256, True, 0.996),
    "moco": Published(3, 2048, 128, False, 0.994),
    "ntxent": Published(4, 2048, 128, True, 1.0),
}


@dataclass(frozen=True)
class ClipContrastConfig(Bounded):
    """Options of clip contrast, with the values of the code of rho-BYOL as defaults."""

    loss: Literal["byol", "moco", "ntxent"] = "byol"
    """byol: predict a teacher (rho-BYOL); moco: contrast with a queue of a teacher's keys (rho-MoCo); ntxent: contrast
    with the other videos of the batch (CVRL)."""
    clips: Annotated[int, Bounds(least=2)] = 2
    """rho, the clips of a video, each at a random time of its own."""
    frames: Count = 8
    """Frames of a clip."""
    stride: Count = 8
    """Every stride-th frame of the file is taken."""
    short_side: Count = 256
    """The frames' shorter side before the crop, in pixels."""
    crop: Count = 224
    """Side of the square that each clip's crop is resized to, in pixels."""
    crop_area: tuple[Fraction, Fraction] = (0.2, 0.766)
    """Fraction of the frame that a crop takes; all frames of a clip have one, each clip its own."""
    crop_ratio: Annotated[float, Bounds(least=1)] = 4 / 3
    """The longer side of a crop is at most so many times the shorter one."""
    changed: Fraction = 0.8
    """Probability with which the colours of a clip change."""
    jitter: Fraction = 0.6
    """Contrast, saturation and brightness change by up to this."""
    hue: Annotated[float, Bounds(least=0, most=0.5)] = 0.15
    """Colours turn by up to this fraction of the circle of hues."""
    gray: Fraction = 0.2
    """Probability with which a clip loses its colours."""
    blur: tuple[Fraction, Fraction] = (0.5, 0.5)
    """Probability with which the first clip, and each of the others, is blurred."""
    solarise: Fraction = 0.0
    """Probability with which the bright pixels of a clip, but not the first one, are inverted."""
    layers: Count | None = None
    """Linear layers of the projector; None, as published: 2 (byol), 3 (moco), 4 (ntxent)."""
    hidden: Count | None = None
    """Units of its hidden layers, and of the predictor's; None, as published: 4096 (byol), 2048."""
    dim: Count | None = None
    """Numbers that describe a clip; None, as published: 256 (byol), 128."""
    temperature: Positive = 0.1
    """Similarities are divided by it (moco, ntxent)."""
    momentum: Fraction | None = None
    """What the teacher keeps of itself at the first step, rising to 1; None, as published: 0.996 (byol), 0.994."""
    queue: Count = 65536
    """Keys that are contrasted with (moco)."""

    def __post_init__(self):
        super().__post_init__()
        low, high = self.crop_area
        if not 0 < low <= high:
            raise UserError("crop_area is two fractions between 0 and 1, the smaller one first.")

    @property
    def heads(self) -> Published:
        """As published for the loss, but for what the options say."""
        stated = {name: getattr(self, name) for name in ("layers", "hidden", "dim", "momentum")}
        return PUBLISHED[self.loss]._replace(**{name: x for name, x in stated.items() if x is not None})


@PRETEXTS.register("clip_contrast")
class ClipContrast(Pretext):
    """rho-BYOL, rho-MoCo and CVRL (CVPR 2021): describe clips of one video alike, whenever they were filmed."""

    Config = ClipContrastConfig
    config: ClipContrastConfig
    span_limits = (("stride", 1), ("frames", 4))

    def __init__(self, config: ClipContrastConfig, backbone: Backbone):
        super().__init__(config, backbone)
        self.needs = replace(self.needs, apart=config.loss != "byol")
        heads = config.heads
        self.projector = perceptron(backbone.feature_dim, heads.layers, heads)
        self.predictor = perceptron(heads.dim, 2, heads) if config.loss == "byol" else nn.Identity()
        self.teacher = None if config.loss == "ntxent" else teacher_of(self._student)
        self.queue = KeyQueue(config.queue, heads.dim) if config.loss == "moco" else None

    @property
    def view(self) -> View:
        """A clip, cropped as at test."""
        return View(self.config.frames, self.config.stride, self.config.short_side, self.config.crop)

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """Clips at independent times, which may overlap.

        CVRL draws how far two times are apart, a fraction u of what there is, by P(U < u) = 2 u - u^2, then the first
        of them evenly, and their order. That is what two independent times are.
        """
        clips: list[np.ndarray] = []
        for _ in range(self.config.clips):
            frames_T = self.view.draw(video, rng)
            if isinstance(frames_T, Skip):
                return frames_T
            clips.append(frames_T)
        frames, positions = np.unique(np.stack(clips), return_inverse=True)  # a frame of two clips is read once
        data = {"positions_VT": positions.reshape(len(clips), -1)}
        return Sample(tuple(frames.tolist()), data, each=self.view.small)

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray:
        """As a clip spans: two of them may be at one time."""
        return self.view.spans(fps_N)

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """In training each clip has a crop and a flip of its own, and is solarised or not."""
        clips = [frames_THWC[positions_T] for positions_T in sample.data["positions_VT"]]
        if not self.training:
            return {"clips_VTHWC": np.stack([self.view.prepare(clip_THWC) for clip_THWC in clips])}
        return {"clips_VTHWC": np.stack([self._seen(clip_THWC, v > 0, rng) for v, clip_THWC in enumerate(clips)])}

    def _seen(self, clip_THWC: np.ndarray, other: bool, rng: np.random.Generator) -> np.ndarray:
        c = self.config
        clip_THWC = augment.resize_short_side(clip_THWC, c.short_side)
        clip_THWC = augment.flip(augment.resized_crop(clip_THWC, c.crop, c.crop_area, rng, c.crop_ratio), rng)
        solarises = rng.random() < c.solarise and other
        return np.where(clip_THWC < 128, clip_THWC, 255 - clip_THWC) if solarises else clip_THWC

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """The loss over all pairs of clips of a video, and how often a clip's description finds another's.

        ``accuracy``: of all videos of the batch, of which each shows its clip number j, the one nearest to clip i is
        its own. ``output_std``: 1 where descriptions spread evenly, 0 where all clips have one.
        """
        (B, V, *_), c = batch["clips_VTHWC"].shape, self.config
        x_NCTHW = self._normalised(batch["clips_VTHWC"], ctx)
        features_ND = self.backbone(x_NCTHW).mean((2, 3, 4))
        described_ND = self.predictor(self.projector(features_ND))
        keys_ND = described_ND if self.teacher is None else self._taught(x_NCTHW)
        with torch.autocast(features_ND.device.type, enabled=False):  # bf16 would round similarities of 1 to 1/256
            queries_BVD, keys_BVD = (directions(x_ND).unflatten(0, (B, V)) for x_ND in (described_ND, keys_ND))
            keys_AVD = ctx.gather(keys_BVD)  # of the videos of all ranks
            if c.loss == "byol":
                loss = byol(queries_BVD, keys_BVD)
            elif self.queue is not None:
                loss = moco(queries_BVD, keys_BVD, self.queue.keys_KD, c.temperature)
            else:
                loss = nt_xent(queries_BVD, keys_AVD, ctx.rank * B, c.temperature)
            right_B = found(queries_BVD, keys_AVD, ctx.rank * B)
        if self.queue is not None and self.training:
            self.queue.wait(keys_AVD.flatten(0, 1))
        spread = queries_BVD.detach().flatten(0, 1).std(0).mean() * queries_BVD.shape[2] ** 0.5
        return Output(loss, {"accuracy": right_B.mean(), "output_std": spread}, features_ND.detach(), right_B)

    def after_step(self, progress: Progress) -> None:
        """The teacher follows, the more slowly the later, and new keys join the queue."""
        if self.teacher is not None:
            follow(self.teacher, self._student, risen(self.config.heads.momentum, progress))
        if self.queue is not None:
            self.queue.push()

    @property
    def _student(self) -> nn.ModuleList:
        """What the teacher is a copy of: all but the predictor."""
        return nn.ModuleList((self.backbone, self.projector))

    @torch.no_grad()
    def _taught(self, x_NCTHW: Tensor) -> Tensor:
        """What the teacher says of every clip; batch norms take the statistics of this pass, and keep them."""
        assert self.teacher is not None
        backbone, projector = self.teacher
        return projector(backbone(x_NCTHW).mean((2, 3, 4)))

    def _normalised(self, clips_BVTHWC: Tensor, ctx: Context) -> Tensor:
        """x_NCTHW of all clips, N = B * V, in training each in other colours and more or less sharp."""
        (B, V, *_), c = clips_BVTHWC.shape, self.config
        clips_NTHWC = clips_BVTHWC.flatten(0, 1)
        if not self.training:
            return self.backbone.normalise(clips_NTHWC)
        colours = colour_changes(ctx, B * V, c.jitter, c.hue, c.changed)
        matrix_N33 = grayed(colours["matrix_B33"], ctx.uniform(B * V, 1, 1) < c.gray)
        x_NCTHW = self.backbone.normalise(clips_NTHWC, matrix_B33=matrix_N33, shift_B=colours["shift_B"])
        if not any(c.blur):
            return x_NCTHW
        share_V = constant((c.blur[0], *[c.blur[1]] * (V - 1)), ctx.device)
        is_blurred_N = (ctx.uniform(B, V) < share_V).flatten()
        return blurred(x_NCTHW, ctx.uniform(B * V, low=BLUR[0], high=BLUR[1]) * is_blurred_N)


def perceptron(inputs: int, layers: int, heads: Published) -> nn.Sequential:
    """So many linear layers, with a ReLU between two, and a batch norm before it where the loss is published so."""
    found: list[nn.Module] = []
    widths = [inputs, *[heads.hidden] * (layers - 1)]
    for before, after in pairwise(widths):
        norm = [nn.BatchNorm1d(after)] if heads.norm else []
        found += [nn.Linear(before, after, bias=not norm), *norm, nn.ReLU(inplace=True)]
    return nn.Sequential(*found, nn.Linear(widths[-1], heads.dim))


def byol(queries_BVD: Tensor, keys_BVD: Tensor) -> Tensor:
    r"""The mean of $2 - 2 \cos(q_i, k_j)$ over videos and their pairs of clips $i \ne j$, of unit vectors."""
    return _other_clips(2 - 2 * queries_BVD @ keys_BVD.mT).mean()


def moco(queries_BVD: Tensor, keys_BVD: Tensor, queue_KD: Tensor, temperature: float) -> Tensor:
    r"""The mean over $i \ne j$ of the cross-entropy of the key $k_j$ among itself and the keys of the queue."""
    negatives_BV1 = (queries_BVD @ queue_KD.T / temperature).logsumexp(2, keepdim=True)
    return _other_clips(info_nce(queries_BVD @ keys_BVD.mT / temperature, negatives_BV1)).mean()


def nt_xent(queries_BVD: Tensor, keys_AVD: Tensor, first: int, temperature: float) -> Tensor:
    r"""The mean over $i \ne j$ of the cross-entropy of $z_j$ among itself and all clips of the other A - 1 videos.

    With two clips these are all 2 A - 1 other clips, as in SimCLR. The B videos are those from number ``first`` on.
    """
    own_BA = _own(queries_BVD, keys_AVD, first)
    logits_BVAV = torch.einsum("bid,ajd->biaj", queries_BVD, keys_AVD) / temperature
    negatives_BV = logits_BVAV.masked_fill(own_BA[:, None, :, None], -torch.inf).flatten(2).logsumexp(2)
    positives_BVV = queries_BVD @ keys_AVD[first : first + len(queries_BVD)].mT / temperature
    return _other_clips(info_nce(positives_BVV, negatives_BV[..., None])).mean()


@torch.no_grad()
def found(queries_BVD: Tensor, keys_AVD: Tensor, first: int) -> Tensor:
    """(B,) fraction of the pairs of clips i and j, where of all videos' clips j the nearest to i is the own one."""
    nearest_BVV = torch.einsum("bid,ajd->bija", queries_BVD, keys_AVD).argmax(3)
    own_B11 = first + torch.arange(len(queries_BVD), device=queries_BVD.device)[:, None, None]
    return _other_clips((nearest_BVV == own_B11).double()).mean(1)


def _own(queries_BVD: Tensor, keys_AVD: Tensor, first: int) -> Tensor:
    """(B, A): is it the same video?"""
    return torch.eye(len(keys_AVD), device=keys_AVD.device, dtype=torch.bool)[first : first + len(queries_BVD)]


def _other_clips(x_BVV: Tensor) -> Tensor:
    """(B, V * (V - 1)): what stands for two clips that are not one."""
    return x_BVV[:, ~torch.eye(x_BVV.shape[1], device=x_BVV.device, dtype=torch.bool)]
