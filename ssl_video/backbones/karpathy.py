"""Single frame, late, early and slow fusion, and multi-resolution: where in a network time is brought together.

A. Karpathy, G. Toderici, S. Shetty, T. Leung, R. Sukthankar, L. Fei-Fei: "Large-scale Video Classification with
Convolutional Neural Networks", CVPR 2014.

All but slow fusion are made of a ``trunk``, a network of single frames. The paper's is called "karpathy": five
convolutions C(96, 11, 3)-N-P-C(256, 5, 1)-N-P-C(384, 3, 1)-C(384, 3, 1)-C(256, 3, 1)-P, where C(d, f, s) has d filters
of f x f and stride s, N normalises and P takes the maximum of 2x2. Each convolution has a batch norm here, in place of
the local response normalisation after the first two: without one the network is hard to train from scratch. Borders are
padded so that 170x170 (and 89x89 without the last P) ends at 7x7, the paper's size. The fully connected layers, which
fix the clip's size, are left out. ``width`` is the number of channels of the first convolution, which the others keep
their ratio to. Any other per-frame network of the registry will do for a trunk ("resnet18").
"""

from dataclasses import replace
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import BACKBONES, Backbone, ClipSpec, PerFrame, chain
from ssl_video.backbones.weights import Published
from ssl_video.bounds import Bounds, Count
from ssl_video.errors import UserError

WIDTH = 96
RATIOS = (3, 8, 12, 12, 8)  # channels, in thirds of the first convolution's
KERNELS = (11, 5, 3, 3, 3)
STRIDES = (3, 1, 1, 1, 1)
POOLED = (True, True, False, False, True)
EXTENTS_T = (4, 2, 2, 1, 1)  # of slow fusion's convolutions, and their strides
STRIDES_T = (2, 2, 2, 1, 1)
Towers = Annotated[int, Bounds(least=2)]
CLIP = ClipSpec(frames=10, size=170, min_size=22)


def channels_of(width: int) -> list[int]:
    """Channels of the five convolutions. Raises UserError for a width that three does not divide."""
    if width < 3 or width % 3:
        raise UserError(f"The width of Karpathy's networks is a multiple of 3 (the paper's is {WIDTH}), not {width}.")
    return [ratio * width // 3 for ratio in RATIOS]


def frame_layers(width: int, last_pool: bool = True) -> dict[str, nn.Module]:
    """conv1, ..., conv5 of single frames: a convolution each, with its batch norm, ReLU and pooling."""
    layers: dict[str, nn.Module] = {}
    before = 3
    for i, channels in enumerate(channels_of(width)):
        kernel = KERNELS[i]
        parts = [
            nn.Conv2d(before, channels, kernel, STRIDES[i], kernel // 2, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        ]
        if POOLED[i] and (last_pool or i < 4):
            parts.append(nn.MaxPool2d(2))
        layers[f"conv{i + 1}"] = nn.Sequential(*parts)
        before = channels
    return layers


def frame_network(trunk: str, width: int = WIDTH) -> Backbone:
    """A network that sees every frame alone: "karpathy" of that width, or a per-frame network of the registry.

    Raises:
        UserError: for a network that is unknown or takes several frames, and a width of a trunk that has none.
    """
    if trunk == "karpathy":
        stages = {name: PerFrame(layers) for name, layers in frame_layers(width).items()}
        return chain(stages, feature_dim=channels_of(width)[-1], strides=(1, 24, 24), clip=CLIP)
    if width != WIDTH:
        raise UserError(f"The option width belongs to the trunk 'karpathy', not to {trunk!r}; leave it out.")
    network = BACKBONES[trunk]()
    if not all(isinstance(stage, PerFrame) for stage in network.stages.values()):
        raise UserError(f"A trunk sees single frames, and {trunk!r} does not; take resnet18 or vgg16, say.")
    return network


@BACKBONES.register("single_frame")
def single_frame(*, trunk: str = "karpathy", width: Count = WIDTH) -> Backbone:
    """Single frame, 3.7 M parameters: every frame alone (Karpathy et al., CVPR 2014). See ``frame_network``."""
    return frame_network(trunk, width)


class EveryNth(nn.Module):
    """Frames 0, step, 2 step, ... of a clip."""

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def forward(self, clip_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, t, H, W)."""
        return clip_BCTHW[:, :, :: self.step]


class TimeToChannels(nn.Module):
    """Concatenate the features of all frames: (B, D, t, h, w) -> (B, t D, 1, h, w)."""

    def forward(self, x_BDthw: Tensor) -> Tensor:
        """The D channels of the first frame come first."""
        return x_BDthw.transpose(1, 2).flatten(1, 2).unsqueeze(2)


@BACKBONES.register("late_fusion")
def late_fusion(*, trunk: str = "karpathy", width: Count = WIDTH, frames: Count = 16, towers: Towers = 2) -> Backbone:
    """Late fusion, 3.7 M parameters: the features of a clip's first and last frame, concatenated (Karpathy et al.).

    ``towers`` is the number of frames that are looked at, evenly spaced from the first of the ``frames`` to the last;
    the towers share their weights. See ``frame_network`` for the other options.
    """
    if frames < towers or (frames - 1) % (towers - 1):
        raise UserError(
            f"{towers} towers do not stand evenly on {frames} frames; make frames - 1 a multiple of towers - 1."
        )
    network = frame_network(trunk, width)
    stages = {"towers": EveryNth((frames - 1) // (towers - 1)), **network.stages, "fusion": TimeToChannels()}
    return _fixed_time(network, stages, frames, network.feature_dim * towers, network.published)


class MeanOverTime(nn.Module):
    """(B, D, t, h, w) -> (B, D, 1, h, w)."""

    def forward(self, x_BDthw: Tensor) -> Tensor:
        """The mean over t."""
        return x_BDthw.mean(2, keepdim=True)


@BACKBONES.register("late_fusion_pool")
def late_fusion_pool(*, trunk: str = "karpathy", width: Count = WIDTH) -> Backbone:
    """Late fusion with pooling, 3.7 M parameters: the features of all frames, averaged over time.

    The lecture's variant of Karpathy et al., CVPR 2014. Space is left to the readout. See ``frame_network``
    for the options.
    """
    network = frame_network(trunk, width)
    stages, strides = {**network.stages, "fusion": MeanOverTime()}, (0, *network.strides[1:])
    clip = replace(network.clip, frames=16)
    return chain(stages, feature_dim=network.feature_dim, strides=strides, clip=clip, published=network.published)


@BACKBONES.register("early_fusion")
def early_fusion(*, trunk: str = "karpathy", width: Count = WIDTH, frames: Count = 10) -> Backbone:
    """Early fusion, 4.1 M parameters: the first convolution spans all frames, the rest is 2D (Karpathy et al., 2014).

    It has a filter for each time step, so that the same motion a frame later is another one to it. See
    ``frame_network`` for the options.
    """
    network = frame_network(trunk, width)
    name, conv = next((n, m) for n, m in network.network.named_modules() if not list(m.children()))
    if not isinstance(conv, nn.Conv2d) or isinstance(conv.padding, str):
        raise UserError(f"early_fusion extends the convolution that a trunk begins with, and {trunk!r} has none there.")
    kernel, stride, padding = (frames, *conv.kernel_size), (1, *conv.stride), (0, *conv.padding)
    over_time = nn.Conv3d(conv.in_channels, conv.out_channels, kernel, stride, padding, bias=conv.bias is not None)  # pyright: ignore
    network.network.set_submodule(name, nn.Identity())
    return _fixed_time(network, {"fusion": over_time, **network.stages}, frames, network.feature_dim)


def _fixed_time(
    network: Backbone,
    stages: dict[str, nn.Module],
    frames: int,
    feature_dim: int,
    published: Published | None = None,
) -> Backbone:
    """A network of exactly ``frames`` frames with one cell along time."""
    clip, strides = replace(network.clip, frames=frames, fixed_frames=True), (frames, *network.strides[1:])
    return chain(stages, feature_dim=feature_dim, strides=strides, clip=clip, published=published)


@BACKBONES.register("slow_fusion")
def slow_fusion(*, width: Count = WIDTH) -> Backbone:
    """Slow fusion, 5.4 M parameters: time is brought together over three convolutions (Karpathy et al., CVPR 2014).

    Their extents over time are 4, 2 and 2, their strides 2, without padding: a clip of 10 frames ends in one cell, and
    each 8 frames more give one more. Moving a clip by 8 frames moves the map by one cell.
    """
    stages: dict[str, nn.Module] = {}
    before = 3
    for i, channels in enumerate(channels_of(width)):
        k, s = KERNELS[i], STRIDES[i]
        conv = nn.Conv3d(before, channels, (EXTENTS_T[i], k, k), (STRIDES_T[i], s, s), (0, k // 2, k // 2), bias=False)
        pool = [nn.MaxPool3d((1, 2, 2))] if POOLED[i] else []
        stages[f"conv{i + 1}"] = nn.Sequential(conv, nn.BatchNorm3d(channels), nn.ReLU(inplace=True), *pool)
        before = channels
    return chain(stages, feature_dim=before, strides=(8, 24, 24), clip=replace(CLIP, min_frames=10))


class ContextAndFovea(nn.Module):
    """The frame at half its resolution, and its centre at full resolution: half of the numbers of the frame."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 2C, H // 2, W // 2), context first."""
        h, w = x_BCHW.shape[2] // 2, x_BCHW.shape[3] // 2
        top, left = (x_BCHW.shape[2] - h) // 2, (x_BCHW.shape[3] - w) // 2
        fovea_BChw = x_BCHW[:, :, top : top + h, left : left + w]
        return torch.cat([F.avg_pool2d(x_BCHW, 2), fovea_BChw], dim=1)


class TwoStreams(nn.Module):
    """One module for each half of the channels."""

    def __init__(self, context: nn.Module, fovea: nn.Module):
        super().__init__()
        self.context, self.fovea = context, fovea

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, 2C, H, W) -> (B, 2D, h, w)."""
        context_BCHW, fovea_BCHW = x_BCHW.chunk(2, dim=1)
        return torch.cat([self.context(context_BCHW), self.fovea(fovea_BCHW)], dim=1)


@BACKBONES.register("multires")
def multires(*, width: Count = WIDTH) -> Backbone:
    """Multi-resolution, 7.5 M parameters: a context and a fovea stream on every frame (Karpathy et al., CVPR 2014).

    A frame of 178x178 is seen twice at 89x89: whole at half its resolution, and its centre. Both streams, of their own
    weights and without the last pooling, end at 7x7 and are concatenated over channels.
    """
    context, fovea = frame_layers(width, last_pool=False), frame_layers(width, last_pool=False)
    stages: dict[str, nn.Module] = {"streams": PerFrame(ContextAndFovea())}
    stages.update((name, PerFrame(TwoStreams(context[name], fovea[name]))) for name in context)
    clip = replace(CLIP, size=178, min_size=20)
    return chain(stages, feature_dim=2 * channels_of(width)[-1], strides=(1, 24, 24), clip=clip)
