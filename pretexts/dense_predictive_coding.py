"""Dense predictive coding: what will the next blocks of this video look like, at every place of the frame?

T. Han, W. Xie, A. Zisserman: "Video Representation Learning by Dense Predictive Coding", ICCV Workshops 2019.

A video is cut into blocks of a few frames. The network f makes a feature map of each block, a recurrent network g
aggregates those of the first blocks into a context, and phi predicts the maps of the blocks that follow, one after the
other. A prediction is right if it is nearer to the feature that comes than to all other features of the batch: those
of other videos (easy), of other places of the same video (spatial), of other times at the same place (temporal).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.bounds import Bounded, Count, Fraction, LessThanOne, NotNegative
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS, Context, Needs, Output, Pretext, Sample, Skip, View
from ssl_video.pretexts.looks import grayed

POSITIVE, TEMPORAL, SPATIAL, EASY = 1, -1, -3, 0


@dataclass(frozen=True)
class DensePredictiveCodingConfig(Bounded):
    """Options of dense predictive coding, with the paper's values as defaults."""

    blocks: Count = 8
    """N, the blocks of a clip, one after the other without a gap."""
    frames: Count = 5
    """Frames of a block."""
    stride: Count = 3
    """Every stride-th frame of the file is taken; 3 for UCF101 at 25 fps, 5 for Kinetics."""
    predict: Count = 3
    """P, the last blocks, which are predicted from the others."""
    dropout: LessThanOne = 0.1
    """Of every state of the aggregator."""
    short_side: Count = 144
    """The frames' shorter side before the crop, in pixels."""
    crop: Count = 128
    """Side of the square cut out of the frames, in pixels."""
    gray: Fraction = 0.5
    """Probability with which a frame, each by itself, loses its colours."""
    colour: NotNegative = 0.15
    """Standard deviation of the random colour matrix of each frame around the identity; 0 turns colour changes off."""

    def __post_init__(self):
        super().__post_init__()
        if self.predict >= self.blocks:
            raise UserError(
                f"Of {self.blocks} blocks, {self.predict} cannot be predicted from the others; "
                "make predict smaller than blocks."
            )


class ConvGRU(nn.Module):
    """The aggregator g: a gated recurrent unit at every place of the map, kernel 1 (the places do not mix)."""

    def __init__(self, channels: int, dropout: float):
        super().__init__()
        self.update = nn.Conv2d(2 * channels, channels, 1)
        self.reset = nn.Conv2d(2 * channels, channels, 1)
        self.candidate = nn.Conv2d(2 * channels, channels, 1)
        self.dropout = nn.Dropout(dropout)
        _orthogonal(self)

    def forward(self, x_BDhw: Tensor, state_BDhw: Tensor) -> Tensor:
        """The state after one more block."""
        both = torch.cat([x_BDhw, state_BDhw], 1)
        update, reset = torch.sigmoid(self.update(both)), torch.sigmoid(self.reset(both))
        candidate = torch.tanh(self.candidate(torch.cat([x_BDhw, reset * state_BDhw], 1)))
        return self.dropout((1 - update) * state_BDhw + update * candidate)


@PRETEXTS.register("dense_predictive_coding")
class DensePredictiveCoding(Pretext):
    """DPC (ICCV Workshops 2019): predict the feature maps of the next blocks, against all others of the batch."""

    Config = DensePredictiveCodingConfig
    config: DensePredictiveCodingConfig
    span_limits = (("stride", 1), ("frames", 2))
    needs: Needs = Needs(apart=True)

    def __init__(self, config: DensePredictiveCodingConfig, backbone: Backbone):
        super().__init__(config, backbone)
        channels = backbone.feature_dim
        self.aggregate = ConvGRU(channels, config.dropout)
        self.phi = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1))
        _orthogonal(self.phi)

    @property
    def view(self) -> View:
        """One block: evaluations use the backbone, which has never seen more frames at once."""
        return View(self.config.frames, self.config.stride, self.config.short_side, self.config.crop)

    @property
    def all_blocks(self) -> View:
        """What training reads: the blocks one after the other."""
        return replace(self.view, frames=self.config.blocks * self.config.frames)

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """All blocks, at a random place of the video."""
        frames_T = self.all_blocks.draw(video, rng, f"frames of {self.config.blocks} blocks")
        return frames_T if isinstance(frames_T, Skip) else Sample(tuple(frames_T.tolist()), each=self.view.small)

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray:
        """As all blocks span."""
        return self.all_blocks.spans(fps_N)

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """One crop and one flip for all blocks: a place of the map stays the same place."""
        clip_THWC = self.view.prepare(frames_THWC, rng if self.training else None)
        return {"clip_THWC": clip_THWC}

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """Cross-entropy of every predicted feature among the true ones of the whole batch."""
        c, (B, *_) = self.config, batch["clip_THWC"].shape
        maps_NDhw = self.backbone(self._blocks(batch["clip_THWC"], ctx)).mean(2)
        maps_BNDhw = maps_NDhw.unflatten(0, (B, c.blocks))
        predicted_BPSD = as_rows(self.predictions(maps_BNDhw[:, : -c.predict]))
        targets_BPSD = as_rows(maps_BNDhw[:, -c.predict :])
        loss, chosen = contrast(predicted_BPSD, ctx.gather(targets_BPSD), ctx.rank * B)
        metrics = {"accuracy": POSITIVE, "other_time": TEMPORAL, "other_place": SPATIAL, "other_video": EASY}
        shares = {name: (chosen == kind).double().mean() for name, kind in metrics.items()}
        right_B = (chosen == POSITIVE).double().unflatten(0, (B, -1)).mean(1)
        return Output(loss, shares, maps_NDhw.mean((2, 3)).detach(), right_B)

    def predictions(self, maps_BNDhw: Tensor) -> Tensor:
        """maps_BPDhw of the P blocks that follow those given (before their ReLU)."""
        state = torch.zeros_like(maps_BNDhw[:, 0])
        for map_BDhw in maps_BNDhw.unbind(1):
            state = self.aggregate(torch.relu(map_BDhw), state)
        predicted = []
        for _ in range(self.config.predict):
            predicted.append(self.phi(state))
            state = self.aggregate(torch.relu(predicted[-1]), state)
        return torch.stack(predicted, 1)

    def _blocks(self, clip_BTHWC: Tensor, ctx: Context) -> Tensor:
        """Every block as a clip_NCTHW of its own, each of its frames in other colours."""
        frames_N1HWC = clip_BTHWC.flatten(0, 1).unsqueeze(1)
        colours = self._colours(len(frames_N1HWC), ctx) if self.training else {}
        frames_NC1HW = self.backbone.normalise(frames_N1HWC, **colours)
        return frames_NC1HW.squeeze(2).unflatten(0, (-1, self.config.frames)).transpose(1, 2)

    def _colours(self, frames: int, ctx: Context) -> dict[str, Tensor]:
        one_33, shift_N = torch.eye(3, device=ctx.device), torch.zeros(frames, device=ctx.device)
        matrix_N33 = one_33.expand(frames, 3, 3)
        changes = ctx.colours(frames, self.config.colour)
        if changes:
            matrix_N33, shift_N = changes["matrix_B33"], changes["shift_B"]
        is_gray_N11 = ctx.uniform(frames, 1, 1) < self.config.gray
        return {"matrix_B33": grayed(matrix_N33, is_gray_N11), "shift_B": shift_N}


def as_rows(maps_BPDhw: Tensor) -> Tensor:
    """(B, P, S, D): a feature of each of the S = h * w places."""
    return maps_BPDhw.flatten(3).transpose(2, 3)


def contrast(predicted_BPSD: Tensor, targets_APSD: Tensor, first: int) -> tuple[Tensor, Tensor]:
    r"""The loss, and the kind of the candidate that each prediction is nearest to.

    The score of a prediction $p$ and a target $z$ is their dot product, without temperature and without normalisation;
    the candidates of each are all targets of all videos, and the loss is the mean over predictions of

    $$ -\ln \frac{\exp(p_i \cdot z_i)}{\sum_j \exp(p_i \cdot z_j)} $$

    Args:
        predicted_BPSD: predictions for B videos.
        targets_APSD: features of A videos, those of all ranks, among them the B videos.
        first: number of the first of the B videos among the A.

    Returns:
        The mean cross-entropy, and (B * P * S,) kinds as ``kinds`` has them.
    """
    _, P, S, D = predicted_BPSD.shape
    rows_ND = predicted_BPSD.reshape(-1, D)
    with torch.autocast(rows_ND.device.type, enabled=False):  # bf16 would round scores of 100 to halves
        dtype = torch.promote_types(rows_ND.dtype, torch.float32)
        scores_NM = rows_ND.to(dtype) @ targets_APSD.reshape(-1, D).to(dtype).T
        own_N = first * P * S + torch.arange(len(rows_ND), device=rows_ND.device)
        loss = F.cross_entropy(scores_NM, own_N)
    return loss, kinds(own_N, scores_NM.argmax(1), P, S)


def kinds(one: Tensor, other: Tensor, steps: int, places: int) -> Tensor:
    """What the feature numbered ``other`` is to the one numbered ``one``, where (video, step, place) are counted so.

    POSITIVE: the same. TEMPORAL: of the same video and place, at another step. SPATIAL: of the same video, at another
    place. EASY: of another video. The two tensors of numbers are broadcast.
    """
    same_video = one // (steps * places) == other // (steps * places)
    same_place = one % places == other % places
    kind = torch.where(same_place, TEMPORAL, SPATIAL).where(same_video, EASY)
    return kind.masked_fill(one == other, POSITIVE)


def _orthogonal(module: nn.Module) -> None:
    """Every weight of the module's layers orthogonal, every bias 0."""
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.orthogonal_(parameter)
        else:
            nn.init.zeros_(parameter)
