"""A random walk through a video and back should end where it began: correspondence without labels.

A. Jabri, A. Owens, A. Efros: "Space-Time Correspondence as a Contrastive Random Walk", NeurIPS 2020.

The nodes of a graph are patches of frames; edges join all nodes of one frame to all of the next, and the more alike two
nodes are, the likelier a walker takes their edge. He walks some frames forward and the same frames back (a palindrome),
so that the node he started from is his target, and no label is needed. Cycles of every length count.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.bounds import Bounded, Bounds, Count, Fraction, LessThanOne, Natural, Positive
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS, Context, Output, Pretext, Sample, Skip, View
from ssl_video.pretexts.walks import cells_in, kept_edges, walk, walk_elsewhere
from ssl_video.video import augment

LOWEST_TEMPERATURE = 0.03
"""Below it, the chance of a step between the least alike nodes, about exp(-2 / temperature), may be 0 in float32."""


@dataclass(frozen=True)
class ContrastiveRandomWalkConfig(Bounded):
    """Options of the contrastive random walk, with the values of the paper's code as defaults."""

    either = (("fps", "stride"),)

    frames: Annotated[int, Bounds(least=2)] = 4
    """T, the frames of a clip: cycles have 1 to T - 1 steps forward and as many back."""
    fps: Positive | None = 8.0
    """Frames of a clip to a second, whatever the rate of the file; None: every stride-th frame of the file."""
    stride: Count | None = None
    """Every stride-th frame of the file is taken, instead of an fps; None, where fps is None too: every one."""
    nodes: Literal["patches", "cells"] = "patches"
    """patches are embedded one by one; cells are those of the feature map of the whole frame (and may collapse)."""
    way_back: Literal["same", "cropped"] = "same"
    """cropped: another crop of all frames is seen on the way back, where a walker's target is the cell that shows what
    his own shows; for cells, which then cannot collapse to places; ours."""
    short_side: Count = 256
    """The frames' shorter side before the crop, in pixels."""
    crop: Count = 256
    """Side of the square that each frame's crop is resized to, in pixels."""
    crop_area: tuple[Fraction, Fraction] = (0.8, 0.95)
    """Fraction of a frame that its crop takes, drawn for each frame by itself, or for each way (way_back cropped);
    (1, 1): one crop for all frames."""
    patch: Count = 64
    """Side of a patch, in pixels."""
    patch_stride: Count = 32
    """Pixels from one patch to the next; 7 x 7 patches with the defaults."""
    patch_area: tuple[Fraction, Fraction] = (0.7, 0.9)
    """Fraction of its place that a patch takes at random, resized; (1, 1) turns that off."""
    temperature: Annotated[float, Bounds(least=LOWEST_TEMPERATURE)] = 0.05
    """Similarities are divided by it; the command line of the paper's code has 0.05, its program 0.07."""
    edge_dropout: LessThanOne = 0.1
    """Probability with which an edge is dropped in training, each direction by itself."""
    min_cycle: Natural = 1
    """Steps forward of the shortest cycle that counts; 2, as in the paper's code, leaves out one step and back; 0, for
    way_back cropped, has a node found in another crop of its own frame."""
    embedding: Count = 128
    """Channels of a node."""
    head_depth: Natural = 0
    """Hidden layers (ReLU) of the head between the mean of a node's features and its embedding."""
    jitter: Fraction = 0.0
    """Contrast, saturation and brightness of each way change by up to this; for way_back cropped."""

    def __post_init__(self):
        super().__post_init__()
        if not self.min_cycle < self.frames:
            raise UserError(
                f"Cycles through {self.frames} frames have 1 to {self.frames - 1} steps, so min_cycle cannot be "
                f"{self.min_cycle}."
            )
        if self.way_back == "same" and (self.min_cycle == 0 or self.jitter):
            raise UserError("min_cycle=0 and jitter are for another crop on the way back; set way_back=cropped.")
        if self.way_back == "cropped" and (self.nodes == "patches" or self.crop_area == (1, 1)):
            raise UserError("way_back=cropped needs nodes=cells and a crop_area below (1, 1).")
        for name, (low, high) in (("crop_area", self.crop_area), ("patch_area", self.patch_area)):
            if not 0 < low <= high:
                raise UserError(f"{name} is two fractions between 0 and 1, the smaller one first.")
        if self.nodes == "patches" and grid_side(self) < 2:
            raise UserError(
                f"A walk needs at least 2 x 2 patches; patches of {self.patch} pixels at a stride of "
                f"{self.patch_stride} do not fit into {self.crop} pixels so often."
            )


@PRETEXTS.register("contrastive_random_walk")
class ContrastiveRandomWalk(Pretext):
    """CRW (NeurIPS 2020): walk along a video and back, and arrive where you began."""

    Config = ContrastiveRandomWalkConfig
    config: ContrastiveRandomWalkConfig
    span_limits = (("fps", 15.0), ("stride", 1), ("frames", 3))

    def __init__(self, config: ContrastiveRandomWalkConfig, backbone: Backbone):
        super().__init__(config, backbone)
        backbone.check_clip(1, config.patch if config.nodes == "patches" else config.crop)
        width = backbone.feature_dim
        hidden = [layer for _ in range(config.head_depth) for layer in (nn.Linear(width, width), nn.ReLU())]
        self.head = nn.Sequential(*hidden, nn.Linear(width, config.embedding))

    @property
    def view(self) -> View:
        """A clip of the rate and size of training."""
        c = self.config
        return View(c.frames, 1 if c.stride is None else c.stride, c.short_side, c.crop, c.fps)

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """T frames at the clip's rate, from a random one on."""
        frames_T = self.view.draw(video, rng)
        return frames_T if isinstance(frames_T, Skip) else Sample(tuple(frames_T.tolist()), each=self.view.small)

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray:
        """As a clip spans."""
        return self.view.spans(fps_N)

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """In training each frame has a crop of its own, so that a node's place does not tell where it goes.

        With another crop on the way back: the frames of both ways, (2 T, H, W, C), and boxes_24 of the crops.
        """
        c = self.config
        if c.way_back == "cropped":
            return self._two_crops(frames_THWC, rng)
        if not self.training or c.crop_area == (1, 1):
            frames_THWC = self.view.prepare(frames_THWC, rng if self.training else None, flip=False)
        else:
            frames_THWC = augment.resize_short_side(frames_THWC, c.short_side)
            crops = [augment.resized_crop(f[None], c.crop, c.crop_area, rng) for f in frames_THWC]
            frames_THWC = np.concatenate(crops)
        return {"clip_THWC": frames_THWC}

    def _two_crops(self, frames_THWC: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
        c = self.config
        frames_THWC = augment.resize_short_side(frames_THWC, c.short_side)
        boxes_24 = np.array([augment.draw_box(frames_THWC.shape[1:3], c.crop_area, rng) for _ in range(2)])
        frames_THWC = augment.flip(frames_THWC, rng) if self.training else frames_THWC
        cut = [frames_THWC[:, top : top + h, left : left + w] for top, left, h, w in boxes_24.tolist()]
        clips = [augment.resize(np.ascontiguousarray(clip_THWC), (c.crop, c.crop)) for clip_THWC in cut]
        return {"clip_THWC": np.concatenate(clips), "boxes_24": boxes_24}

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """The mean loss of all cycles of at least ``min_cycle`` steps, and how many walks of each length return."""
        if self.config.way_back == "cropped":
            return self._there_and_elsewhere(batch, ctx)
        c, (B, T, *_) = self.config, batch["clip_THWC"].shape
        clip_BCTHW = self.backbone.normalise(batch["clip_THWC"])
        frames_MCHW = clip_BCTHW.transpose(1, 2).flatten(0, 1)  # M = B * T
        features_MND = self._patches(frames_MCHW, ctx) if c.nodes == "patches" else self._cells(frames_MCHW)
        nodes_BTNE = self.head(features_MND).unflatten(0, (B, T))
        N = nodes_BTNE.shape[2]
        kept = None
        if self.training and c.edge_dropout:
            kept = kept_edges(ctx.uniform(B, 2, T - 1, N, N), c.edge_dropout).to(nodes_BTNE.device)
        with torch.autocast(nodes_BTNE.device.type, enabled=False):  # bf16 would round similarities of 1 to 1/256
            nodes_BTNE = nodes_BTNE.to(torch.promote_types(nodes_BTNE.dtype, torch.float32))
            losses_K, returned_KBN = walk(F.normalize(nodes_BTNE, dim=3), c.temperature, kept)
        return self._output(losses_K, returned_KBN.mean(2), 1, features_MND[::T])

    def _there_and_elsewhere(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """As ``forward``, where the way back is seen in another crop."""
        c, B = self.config, len(batch["clip_THWC"])
        clips_NTHWC = batch["clip_THWC"].unflatten(1, (2, -1)).flatten(0, 1)  # N = 2 * B
        T = clips_NTHWC.shape[1]
        colours = ctx.jitter(2 * B, c.jitter) if self.training else {}
        frames_MCHW = self.backbone.normalise(clips_NTHWC, **colours).transpose(1, 2).flatten(0, 1)
        features_MND = self._cells(frames_MCHW)
        nodes_B2TNE = self.head(features_MND).unflatten(0, (B, 2, T))
        N, kept = nodes_B2TNE.shape[3], None
        first_B4, second_B4 = batch["boxes_24"].unbind(1)
        target_BNN = cells_in(first_B4, second_B4, math.isqrt(N))
        if self.training and c.edge_dropout:
            kept = kept_edges(ctx.uniform(B, 2, T - 1, N, N), c.edge_dropout).to(nodes_B2TNE.device)
        with torch.autocast(nodes_B2TNE.device.type, enabled=False):
            nodes_B2TNE = nodes_B2TNE.to(torch.promote_types(nodes_B2TNE.dtype, torch.float32))
            there_BTNE, back_BTNE = F.normalize(nodes_B2TNE, dim=4).unbind(1)
            losses_K, returned_KB = walk_elsewhere(
                there_BTNE, back_BTNE, target_BNN.to(nodes_B2TNE), c.temperature, kept
            )
        return self._output(losses_K, returned_KB, 0, features_MND[:: 2 * T])

    def _output(self, losses_K: Tensor, returned_KB: Tensor, shortest: int, features_BND: Tensor) -> Output:
        counted = slice(self.config.min_cycle - shortest, None)
        returned_K = returned_KB.mean(1)
        metrics = {"accuracy": returned_K[counted].mean()}
        metrics |= {f"accuracy_{k}": share for k, share in enumerate(returned_K.unbind(), shortest)}
        right_B = returned_KB[counted].mean(0)
        return Output(losses_K[counted].mean(), metrics, features_BND.flatten(0, 1).detach(), right_B)

    def _patches(self, frames_MCHW: Tensor, ctx: Context) -> Tensor:
        """features_MND, the mean of the map of each patch, which the backbone sees by itself."""
        c = self.config
        boxes_MN4 = None
        if self.training and c.patch_area != (1, 1):
            boxes_MN4 = self._boxes(len(frames_MCHW), ctx)
        patches_RCHW = cut_patches(frames_MCHW, c.patch, c.patch_stride, boxes_MN4)
        return self._maps(patches_RCHW).mean((2, 3)).unflatten(0, (len(frames_MCHW), -1))

    def _cells(self, frames_MCHW: Tensor) -> Tensor:
        """features_MND of the cells of each frame's map."""
        features_MND = self._maps(frames_MCHW).flatten(2).transpose(1, 2)
        if features_MND.shape[1] < 2:
            raise UserError(
                f"A walk needs nodes to choose from, but the map of {self.backbone.architecture} has a single cell "
                f"on a frame of {self.config.crop} pixels; use a larger --pretext.crop, or --backbone dense_resnet_8."
            )
        return features_MND

    def _maps(self, pictures_RCHW: Tensor) -> Tensor:
        """features_RDhw: every picture is a clip of one frame, so that no network can look into the next one."""
        return self.backbone(pictures_RCHW.unsqueeze(2)).mean(2)

    def _boxes(self, count: int, ctx: Context) -> Tensor:
        """(count, N, 4) random top, left, height and width within a patch, in pixels, for ``cut_patches``."""
        c = self.config
        low, high = c.patch_area
        fraction, ratio, top, left = ctx.uniform(count, grid_side(c) ** 2, 4).unbind(2)
        area = c.patch**2 * (low + (high - low) * fraction)
        aspect = (4 / 3) ** (2 * ratio - 1)
        height, width = (x.sqrt().clamp(max=c.patch) for x in (area / aspect, area * aspect))
        return torch.stack([top * (c.patch - height), left * (c.patch - width), height, width], 2)


def grid_side(c: ContrastiveRandomWalkConfig) -> int:
    """Patches along a side of the frame."""
    return (c.crop - c.patch) // c.patch_stride + 1


def cut_patches(frames_MCHW: Tensor, patch: int, stride: int, boxes_MN4: Tensor | None = None) -> Tensor:
    """(M * N, C, patch, patch): the overlapping patches of every frame, row by row.

    Args:
        frames_MCHW: the frames.
        patch: side of a patch, in pixels.
        stride: pixels from one patch to the next.
        boxes_MN4: top, left, height and width of the part of each patch that is taken and resized (bilinear) to the
            whole, in pixels from the patch's corner; None: all of it, as it is.
    """
    H, W = frames_MCHW.shape[2:]
    if boxes_MN4 is None:
        patches_MChwHW = frames_MCHW.unfold(2, patch, stride).unfold(3, patch, stride)
        return patches_MChwHW.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    boxes_MN4 = boxes_MN4.to(frames_MCHW)
    corners_y, corners_x = (torch.arange(0, n - patch + 1, stride).to(boxes_MN4) for n in (H, W))
    top_MN = boxes_MN4[..., 0] + corners_y.repeat_interleave(len(corners_x))
    left_MN = boxes_MN4[..., 1] + corners_x.repeat(len(corners_y))
    middle_P = (torch.arange(patch).to(boxes_MN4) + 0.5) / patch
    # without align_corners, -1 and 1 are the outer edges of the border pixels
    y_MNP = (top_MN[..., None] + boxes_MN4[..., 2:3] * middle_P) * (2 / H) - 1
    x_MNP = (left_MN[..., None] + boxes_MN4[..., 3:4] * middle_P) * (2 / W) - 1
    grid_MNPP2 = torch.stack(torch.broadcast_tensors(x_MNP[:, :, None, :], y_MNP[:, :, :, None]), -1)
    sampled_MCRP = F.grid_sample(frames_MCHW, grid_MNPP2.flatten(1, 2), padding_mode="border", align_corners=False)
    return sampled_MCRP.unflatten(2, (-1, patch)).transpose(1, 2).flatten(0, 1)
