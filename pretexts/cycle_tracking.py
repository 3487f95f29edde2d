"""TimeCycle: track a patch back through a video and forward again; it must end where it began.

X. Wang, A. Jabri, A. A. Efros: "Learning Correspondence from the Cycle-consistency of Time", CVPR 2019.

The tracker compares the features of a patch and of a frame, and says where in the frame the patch is; all of it is
differentiable, so that a cycle that does not close teaches the features. Shapes: T past frames, h x w cells of a map,
P = h w of a frame's, N anything tracked. A place is theta_N23, as ``affine_grid`` takes it, in coordinates where the
frame's edges (not the centres of its outer cells: ``align_corners=False``) are at -1 and 1. So a place means the same
for pixels and for cells.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.bounds import Bounded, Bounds, Count, Natural, NotNegative, Positive
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS, Context, Needs, Output, Pretext, Sample, Skip, View, place

Localise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(frame_NDhw, query_NDhw) -> theta_N23 of the query in the frame, and affinity_NPhw."""


@dataclass(frozen=True)
class CycleTrackingConfig(Bounded):
    """Options of cycle tracking. Where nothing else is said the defaults are the paper's."""

    frames: Count = 4
    """T, the past frames, and the length of the longest cycle."""
    stride: Count = 2
    """Frames of the file from one past frame to the next."""
    gap: Count = 9
    """Frames of the file from the last past frame to the one that the patch is cut from; the authors' code."""
    short_side: Count = 256
    """The frames' shorter side before the crop, in pixels."""
    size: Count = 240
    """Side of the square that is cut out of the frames, in pixels."""
    patch: Count = 80
    """Side of the patch, in pixels."""
    rotation: NotNegative = 45.0
    """Patches are turned by up to so many degrees, either way."""
    grid: Annotated[int, Bounds(least=2)] = 7
    """Patches are chosen among grid x grid places, and then shifted by up to half the distance of two of them."""
    busiest: Count = 10
    """The patch is one of so many places in which most moves."""
    flip: bool = True
    """Mirror half of the clips."""
    stage: str | None = "layer3"
    """Stage of the backbone whose features are compared (layer3 is conv4 of a ResNet); None: the last."""
    embedding: Count = 512
    """D, channels that a 1x1 convolution makes of these features."""
    temperature: Positive | None = None
    """Inner products of unit features are divided by it; None: 1 / sqrt(D)."""
    similarity: Literal["feature", "inliers"] = "feature"
    """feature (the paper): patch and place found look alike; inliers (the code): the affinity agrees with the place."""
    similarity_weight: NotNegative = 1.0
    """Weight of the similarity loss."""
    skip_weight: NotNegative = 0.1
    """lambda, the weight of the loss of skip-cycles."""
    long_weight: NotNegative = 0.1
    """lambda, the weight of the loss of long cycles; 0.02 in the code."""
    direct_weight: NotNegative = 0.0
    """Weight of the loss of cycles without a step: find the patch in the frame that it was cut from; ours."""
    detach_steps: Natural = 0
    """Steps in which the backbone is not trained yet, only what is behind it."""

    def __post_init__(self):
        super().__post_init__()
        if self.busiest > self.grid**2:
            raise UserError(f"Of {self.grid} x {self.grid} places, busiest cannot be {self.busiest}; make it smaller.")
        if not self.patch < self.size <= self.short_side:
            raise UserError(
                f"A patch of {self.patch} pixels must be smaller than the crop of {self.size}, and that no larger than "
                f"the short side of {self.short_side}; change one of them."
            )


@PRETEXTS.register("cycle_tracking")
class CycleTracking(Pretext):
    """TimeCycle (CVPR 2019): a patch tracked backward and forward in time comes back to where it was."""

    Config = CycleTrackingConfig
    config: CycleTrackingConfig
    span_limits = (("stride", 1), ("gap", 2))
    needs = Needs(max_temporal_stride=1, max_spatial_stride=8)

    def __init__(self, config: CycleTrackingConfig, backbone: Backbone):
        super().__init__(config, backbone)
        c = config
        backbone.check_stage(c.stage)
        channels, cells = _map_of(backbone, c.size, c.stage)
        _, patch_cells = _map_of(backbone, c.patch, c.stage)
        if cells * c.patch != patch_cells * c.size:
            raise UserError(
                f"The maps of a frame of {c.size} pixels ({cells} cells a side) and of a patch of {c.patch} "
                f"({patch_cells}) are not to scale; choose multiples of {backbone.strides[1]} for both."
            )
        target = (c.frames - 1) * c.stride + c.gap
        self.offsets = (*range(0, c.frames * c.stride, c.stride), target, target + c.stride)
        self.cells = patch_cells
        self.scale = c.patch / c.size
        self.temperature = c.embedding**-0.5 if c.temperature is None else c.temperature
        self.project = nn.Conv2d(channels, c.embedding, 1, bias=False)
        self.localiser = Localiser(cells, patch_cells)
        names = list(backbone.stages)
        for stage in names[len(names) if c.stage is None else names.index(c.stage) + 1 :]:
            backbone.stages[stage].requires_grad_(False)  # they are never run

    @property
    def view(self) -> View:
        """Single frames at the scale of training."""
        c = self.config
        return View(1, 1, c.short_side, c.size)

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """T past frames, the frame of the patch, and one more behind it, which shows what moves there."""
        first = place(video, self.offsets[-1] + 1, rng, "frames of a cycle")
        if isinstance(first, Skip):
            return first
        return Sample(tuple(first + offset for offset in self.offsets), each=self.view.small)

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray:
        """As a sample spans, at any rate."""
        return np.full(len(fps_N), self.offsets[-1] + 1)

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """One crop and one flip for all frames, and then a patch where something moves: (tx, ty, angle)."""
        c = self.config
        frames_THWC = self.view.prepare(frames_THWC, rng if self.training else None, c.flip)
        pose_3 = draw_pose(moved(*frames_THWC[-2:]), c, rng)
        return {"frames_THWC": frames_THWC[:-1], "pose_3": pose_3.astype(np.float32)}

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """The losses of similarity, skip-cycles and long cycles."""
        c = self.config
        frozen = self.training and ctx.step < c.detach_steps
        device = batch["frames_THWC"].device.type
        with torch.autocast(device, enabled=False):  # 8 bits of mantissa are not enough for a place
            x_BTCHW = self.backbone.normalise(batch["frames_THWC"]).transpose(1, 2)
            theta_B23 = matrices(batch["pose_3"].to(x_BTCHW.dtype), self.scale)
            patch_BCHW = cut(x_BTCHW[:, -1], theta_B23, c.patch)
        maps_BTDhw = self.embed(x_BTCHW.flatten(0, 1), frozen).unflatten(0, x_BTCHW.shape[:2])
        patch_BDhw = self.embed(patch_BCHW, frozen)
        past_BTDhw, target_BDhw = maps_BTDhw[:, :-1], maps_BTDhw[:, -1]

        with torch.autocast(device, enabled=False):
            found_TB23 = long_cycles(past_BTDhw, target_BDhw, patch_BDhw, self.localise, self.cells)
            skip = skip_cycles(past_BTDhw, target_BDhw, patch_BDhw, self.localise, self.cells)
            long_loss = place_error(found_TB23, theta_B23).mean()
            skip_loss = place_error(skip.back_TB23, theta_B23).mean()
            if c.similarity == "inliers":
                similar = inliers(skip.affinity_NPhw, skip.theta_N23).mean()
            else:
                similar = likeness(skip.crops_TBDhw, patch_BDhw).mean()
            direct_B23, _ = self.localise(target_BDhw, patch_BDhw)
            direct_loss = place_error(direct_B23, theta_B23).mean()
            loss = -c.similarity_weight * similar + c.skip_weight * skip_loss
            loss = loss + c.long_weight * long_loss + c.direct_weight * direct_loss
        away_TB = (found_TB23 - theta_B23)[..., 2].norm(dim=-1)  # half frames, as all places
        direct_B, middle_B = (direct_B23 - theta_B23)[..., 2].norm(dim=-1), theta_B23[..., 2].norm(dim=-1)
        returned, middle, direct = ((x < self.scale).to(x.dtype).mean() for x in (away_TB, middle_B, direct_B))
        numbers = {"accuracy": returned, "middle": middle, "direct": direct, "similarity": similar}
        numbers |= {"skip_loss": skip_loss, "long_loss": long_loss, "direct_loss": direct_loss}
        numbers |= {f"pixels_{n}": away * c.size / 2 for n, away in enumerate(away_TB.mean(1), 1)}
        features_ND = maps_BTDhw.mean((3, 4)).flatten(0, 1)
        right_B = (away_TB < self.scale).double().mean(0)
        return Output(loss, {k: v.detach() for k, v in numbers.items()}, features_ND.detach(), right_B)

    def embed(self, frames_NCHW: Tensor, frozen: bool = False) -> Tensor:
        """(N, D, h, w) features of frames, not of unit length. ``frozen``: the backbone gets a gradient of zero."""
        features_NChw = self.backbone(frames_NCHW.unsqueeze(2), self.config.stage).mean(2)
        if frozen:  # zero instead of none: several processes expect a gradient of every weight
            features_NChw = features_NChw.detach() + 0 * features_NChw
        return F.relu(self.project(features_NChw)).to(self.project.weight.dtype)

    def localise(self, frame_NDhw: Tensor, query_NDhw: Tensor) -> tuple[Tensor, Tensor]:
        """theta_N23 of the query in the frame, and the affinity_NPhw that says so."""
        affinity_NPhw = affinity(frame_NDhw, query_NDhw, self.temperature)
        return matrices(self.localiser(affinity_NPhw), self.scale), affinity_NPhw


class Localiser(nn.Module):
    """affinity_NPhw to pose_N3: two convolutions without padding, and a linear layer.

    Their kernels are 4x4 for the paper's 10x10 cells of a patch, and smaller for less.
    """

    def __init__(self, cells: int, patch_cells: int):
        super().__init__()
        kernel = (patch_cells + 2) // 3
        left = patch_cells - 2 * (kernel - 1)
        self.conv1 = nn.Conv2d(cells**2, 128, kernel, bias=False)
        self.conv2 = nn.Conv2d(128, 64, kernel, bias=False)
        self.linear = nn.Linear(64 * left**2, 3)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.linear.weight, 0, 0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, affinity_NPhw: Tensor) -> Tensor:
        """(N, P, h, w) -> (N, 3): tx, ty and the angle in radians."""
        x = F.leaky_relu(self.conv1(affinity_NPhw), 0.1)
        return self.linear(F.leaky_relu(self.conv2(x), 0.1).flatten(1))


def _map_of(backbone: Backbone, side: int, stage: str | None) -> tuple[int, int]:
    """Channels and cells a side of the map of a square frame, found by a pass."""
    was_training = backbone.training
    weight = next(backbone.parameters())
    with torch.no_grad():
        frame_BCTHW = torch.zeros(1, backbone.clip.channels, 1, side, side, dtype=weight.dtype, device=weight.device)
        channels, _, cells, _ = backbone.eval()(frame_BCTHW, stage).shape[1:]
    backbone.train(was_training)
    return channels, cells


def moved(frame_HWC: np.ndarray, later_HWC: np.ndarray) -> np.ndarray:
    """(H, W) difference of gray values, float64."""
    return np.abs(frame_HWC.mean(2, dtype=np.float64) - later_HWC.mean(2, dtype=np.float64))


def draw_pose(moved_HW: np.ndarray, config: CycleTrackingConfig, rng: np.random.Generator) -> np.ndarray:
    """(tx, ty, angle in radians) of a patch near one of the places in which most moves; it lies within the frame."""
    c = config
    room = c.size - c.patch
    starts = np.rint(np.arange(c.grid) / (c.grid - 1) * room).astype(int)
    sums = np.pad(moved_HW, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    top, left = np.ix_(starts, starts)
    bottom, right = top + c.patch, left + c.patch
    motion_G = (sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]).ravel()
    shuffled_G = rng.permutation(c.grid**2)  # so that equal ones are equally likely
    busiest = shuffled_G[np.argsort(-motion_G[shuffled_G], kind="stable")[: c.busiest]]
    row, column = divmod(int(rng.choice(busiest)), c.grid)
    centre_2 = (np.array([column, row]) + rng.uniform(-0.5, 0.5, 2)) / (c.grid - 1)
    shift_2 = (2 * centre_2.clip(0, 1) - 1) * room / c.size
    return np.array([*shift_2, math.radians(rng.uniform(-c.rotation, c.rotation))])


def affinity(frame_NDhw: Tensor, query_NDhw: Tensor, temperature: float) -> Tensor:
    """(N, P, h, w) softmax over the P cells of the frame, row by row, for each cell of the query (section 3.1).

    Of the inner products of features of unit length over ``temperature``.
    """
    frame_NDP = F.normalize(frame_NDhw, dim=1).flatten(2)
    query_NDQ = F.normalize(query_NDhw, dim=1).flatten(2)
    return (frame_NDP.transpose(1, 2) @ query_NDQ / temperature).softmax(1).unflatten(2, query_NDhw.shape[2:])


def matrices(pose_N3: Tensor, scale: float) -> Tensor:
    """theta_N23 that maps the patch's coordinates to the frame's: turned, scaled, shifted by tx, ty."""
    tx, ty, angle = pose_N3.unbind(-1)
    c, s = scale * angle.cos(), scale * angle.sin()
    return torch.stack([torch.stack([c, -s, tx], -1), torch.stack([s, c, ty], -1)], -2)


def cut(frame_NDhw: Tensor, theta_N23: Tensor, side: int) -> Tensor:
    """(N, D, side, side) what lies at a place: bilinear, zero outside of the frame, ``align_corners=False``."""
    grid_Nss2 = F.affine_grid(theta_N23, [len(theta_N23), 1, side, side], align_corners=False)
    return F.grid_sample(frame_NDhw, grid_Nss2, "bilinear", "zeros", align_corners=False)


def place_error(a_N23: Tensor, b_N23: Tensor) -> Tensor:
    r"""(N,) mean of $|a p - b p|^2$ over the points $p$ of a grid of 20x20 from -1 to 1.

    In closed form, since the mixed terms cancel on a symmetric grid: with 20 numbers from -1 to 1, the mean of their
    squares is 7 / 19.
    """
    square = (a_N23 - b_N23).square().sum(-2)
    return square[..., 2] + (square[..., 0] + square[..., 1]) * (7 / 19)


def likeness(a_NDhw: Tensor, b_NDhw: Tensor) -> Tensor:
    """(N,) inner product of two maps, each cell of unit length, as a mean over cells."""
    return F.cosine_similarity(a_NDhw, b_NDhw, dim=-3).mean((-2, -1))


def inliers(affinity_NPhw: Tensor, theta_N23: Tensor) -> Tensor:
    """(N,) the affinity of each of the query's cells at the place where theta sees that cell, as a mean.

    Between cells it is interpolated. Cells seen outside of the frame do not count. As in the authors' code, 1e-5 is
    added for every pair of a cell of the frame and one of the query, 0.9 for 900 cells and 100: of a patch that all but
    left the frame the mean is lower.
    """
    N, P, side, _ = affinity_NPhw.shape
    cells = math.isqrt(P)
    grid_Nss2 = F.affine_grid(theta_N23, [N, 1, side, side], align_corners=False)
    points_M112 = grid_Nss2.reshape(N * side**2, 1, 1, 2)
    maps_M1hw = affinity_NPhw.flatten(2).transpose(1, 2).reshape(N * side**2, 1, cells, cells)
    at_M = F.grid_sample(maps_M1hw, points_M112, "bilinear", "zeros", align_corners=False)
    inside_M = F.grid_sample(torch.ones_like(maps_M1hw), points_M112, "bilinear", "zeros", align_corners=False)
    return at_M.view(N, -1).sum(1) / (inside_M.view(N, -1).sum(1) + 1e-5 * P * side**2)


def long_cycles(past_BTDhw: Tensor, target_BDhw: Tensor, patch_BDhw: Tensor, localise: Localise, side: int) -> Tensor:
    """theta_TB23, where the cycles of 1 to T steps back end in the target frame (equation 2).

    All cycles share one way back: T places are found for it. Forward, those that are under way go together.
    """
    B, T = past_BTDhw.shape[:2]
    query_BDhw, turning = patch_BDhw, []
    for t in reversed(range(T)):
        theta_B23, _ = localise(past_BTDhw[:, t], query_BDhw)
        query_BDhw = cut(past_BTDhw[:, t], theta_B23, side)
        turning.append(query_BDhw)
    query_NDhw = turning.pop()  # the longest cycle turns at frame 0, the next one at frame 1, ...
    for t in range(1, T):
        frame_NDhw = past_BTDhw[:, t].repeat(t, 1, 1, 1)
        theta_N23, _ = localise(frame_NDhw, query_NDhw)
        query_NDhw = torch.cat([cut(frame_NDhw, theta_N23, side), turning.pop()])
    theta_N23, _ = localise(target_BDhw.repeat(T, 1, 1, 1), query_NDhw)
    return theta_N23.unflatten(0, (T, B)).flip(0)


@dataclass
class SkipCycles:
    """What skip-cycles found: in the past frames, with the affinity, (T B) by frame; and back in the target frame."""

    theta_N23: Tensor
    affinity_NPhw: Tensor
    crops_TBDhw: Tensor
    back_TB23: Tensor


def skip_cycles(
    past_BTDhw: Tensor, target_BDhw: Tensor, patch_BDhw: Tensor, localise: Localise, side: int
) -> SkipCycles:
    """Find the patch in each past frame directly, and what was found there in the target frame (equation 3)."""
    B, T = past_BTDhw.shape[:2]
    past_NDhw = past_BTDhw.transpose(0, 1).flatten(0, 1)
    theta_N23, affinity_NPhw = localise(past_NDhw, patch_BDhw.repeat(T, 1, 1, 1))
    crops_NDhw = cut(past_NDhw, theta_N23, side)
    back_N23, _ = localise(target_BDhw.repeat(T, 1, 1, 1), crops_NDhw)
    return SkipCycles(theta_N23, affinity_NPhw, crops_NDhw.unflatten(0, (T, B)), back_N23.unflatten(0, (T, B)))
