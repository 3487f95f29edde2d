"""The levels of a space-time U-Net, on the way down, at the bottom and on the way up, and what it begins and ends with.

A network of images, into which modules over time are put; ``stunet_blocks`` says of what they are made.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.stunet_blocks import (
    Added,
    AttentionInflation,
    ConvInflation,
    MidBlock,
    ResBlock,
    ResizeInit,
    TemporalDown,
    TemporalUp,
    Told,
    conv,
    norm,
    reached,
    scaled,
    zeroed,
)
from ssl_video.backbones.stunet_text import TextAttention
from ssl_video.bounds import Count
from ssl_video.capabilities import Condition

Widths = tuple[Count, ...]


@dataclass(frozen=True)
class Shape:
    """Of what a network is built; see ``stunet`` for the words."""

    channels: Widths
    layers: int
    blocks: int
    patch: int
    stride_t: int
    frames: int
    temporal: bool
    resize_init: ResizeInit
    words: int
    text_dim: int
    low_resolution: bool

    def strides(self, level: int) -> tuple[int, int, int]:
        """Of the maps of a level, 0 the finest."""
        side = self.patch * 2**level
        return (self.stride_t**level if self.temporal else 1), side, side

    @property
    def told(self) -> int:
        """Channels of the vector that says how much noise there is."""
        return 4 * self.channels[0]


class Stage(nn.Module):
    """A place whose map can be had. It is run by ``run``; calling it with what that gave says the map."""

    def forward(self, x_NCHW: Tensor, T: int, passes: int) -> Tensor:
        """(B, C, t, h, w), the mean over the passes of an evaluation, of (passes B T, C, H, W)."""
        x_BTCHW = x_NCHW.unflatten(0, (-1, T))
        return (x_BTCHW.unflatten(0, (passes, -1)).mean(0) if passes > 1 else x_BTCHW).transpose(1, 2)


class GivenStem(Added):
    """What is given of a clip, and where: its weights begin as zero, and an image network learned nothing of it."""

    part = "given"

    def __init__(self, channels: int, patch: int):
        super().__init__()
        self.conv = zeroed(nn.Conv2d(4 * patch**2, channels, 3, padding=1, bias=False))

    def forward(self, patches_NCHW: Tensor) -> Tensor:
        """(B T, 4 p p, h, w) -> (B T, C, h, w)."""
        return self.conv(patches_NCHW)


class Stem(Stage):
    """Patches of the noisy clip, of what is given of it, and of the clip at a lower resolution."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.patch, channels = shape.patch, shape.channels[0]
        self.conv, self.given = conv(3 * shape.patch**2, channels), GivenStem(channels, shape.patch)
        self.low = conv(3 * shape.patch**2, channels) if shape.low_resolution else None

    def run(self, clip_BCTHW: Tensor, condition: Condition) -> Tensor:
        """(B T, C, h, w)."""
        x = self.conv(self.patches(clip_BCTHW))
        if self.low is not None:
            assert condition.low_BCTHW is not None, "a network of low_resolution is shown a clip at one"
            x = x + self.low(self.patches(condition.low_BCTHW))
        if condition.given_BCTHW is None:
            return reached(x, *self.given.parameters())
        assert condition.mask_B1THW is not None
        return x + self.given(self.patches(torch.cat([condition.given_BCTHW, condition.mask_B1THW], 1)))

    def patches(self, clip_BCTHW: Tensor) -> Tensor:
        """(B T, C p p, h, w); the border is repeated where a side is no multiple of a patch."""
        x_NCHW = clip_BCTHW.transpose(1, 2).flatten(0, 1)
        bottom, right = (-n % self.patch for n in x_NCHW.shape[2:])
        x_NCHW = F.pad(x_NCHW, (0, right, 0, bottom), mode="replicate") if bottom or right else x_NCHW
        return F.pixel_unshuffle(x_NCHW, self.patch).contiguous(memory_format=torch.channels_last)


class Down(Stage):
    """A level on the way down."""

    def __init__(self, shape: Shape, level: int):
        super().__init__()
        own, below = shape.channels[level : level + 2]
        self.temporal = shape.temporal
        self.block, self.inflation = ResBlock(own, own, shape.told), ConvInflation(own, shape.told)
        self.resize, self.time = conv(own, below, stride=2), TemporalDown(below, shape.stride_t, shape.resize_init)

    def run(self, x_NCHW: Tensor, told: Told) -> tuple[Tensor, Tensor]:
        """What is handed down, and across."""
        across = self.block(x_NCHW, told)
        across = self.inflation(across, told) if self.temporal else across
        down = self.resize(across)
        return (self.time(down, told.T) if self.temporal else down), across


class Mid(Stage):
    """The coarsest level: a block that reads the text, and others behind it."""

    def __init__(self, shape: Shape):
        super().__init__()
        own, depth = shape.channels[-1], len(shape.channels) - 1
        self.temporal, frames = shape.temporal, -(-shape.frames // shape.stride_t**depth)
        self.block, self.text = ResBlock(own, own, shape.told), TextAttention(own, shape.words, shape.text_dim)
        self.inflation = AttentionInflation(own, shape.told, shape.layers, frames)
        self.more = nn.ModuleList(MidBlock(own, shape.told, shape.layers, frames) for _ in range(1, shape.blocks))

    def run(self, x_NCHW: Tensor, told: Told, tokens: tuple[Tensor, Tensor]) -> Tensor:
        """(B T, C, H, W), as many."""
        x = self.text(self.block(x_NCHW, told), tokens, told.T)
        x = self.inflation(x, told) if self.temporal else x
        for block in self.more:
            x = block(x, told, self.temporal)
        return x


class Up(Stage):
    """A level on the way up. Channels are reduced before there are more pixels, which is cheaper."""

    def __init__(self, shape: Shape, level: int):
        super().__init__()
        own, below = shape.channels[level : level + 2]
        self.temporal = shape.temporal
        self.resize, self.time = conv(below, own), TemporalUp(own, shape.stride_t, shape.resize_init)
        self.gate = zeroed(nn.Linear(shape.told, 2 * own))
        self.block, self.inflation = ResBlock(2 * own, own, shape.told), ConvInflation(own, shape.told)

    def run(self, x_NCHW: Tensor, across_NCHW: Tensor, below: Told, told: Told) -> Tensor:
        """As many frames and pixels as come ``across``, which is mostly noise where there is much of it."""
        height, width = across_NCHW.shape[2:]
        x = F.interpolate(self.resize(x_NCHW), scale_factor=2)[..., :height, :width]
        x = self.time(x, below.T, told.T) if self.temporal else x
        across_NCHW = scaled(across_NCHW, self.gate(F.silu(told.level_ND)))
        x = self.block(torch.cat([x, across_NCHW], 1), told)
        return self.inflation(x, told) if self.temporal else x


class Head(nn.Module):
    """From the last map to patches of the velocity, scaled by the level of noise: of little noise it is nearly all."""

    def __init__(self, shape: Shape):
        super().__init__()
        first = shape.channels[0]
        self.norm, self.gate = norm(first), zeroed(nn.Linear(shape.told, 2 * first))
        self.conv = zeroed(conv(first, 3 * shape.patch**2))

    def forward(self, x_NCHW: Tensor, told: Told) -> Tensor:
        """(B T, C, h, w) -> (B T, 3 p p, h, w)."""
        return self.conv(F.silu(scaled(self.norm(x_NCHW), self.gate(F.silu(told.level_ND)))))


class Enlarged(nn.Module):
    """The velocity that is expected of a clip which is the enlarged one and white details: the network adds the rest.

    So noise of single pixels, which patches of more pixels than the finest level has channels cannot hold, need not
    pass the network.
    """

    DETAILS = 0.2
    """Standard deviation of the details at first."""

    def __init__(self):
        super().__init__()
        self.log_details = nn.Parameter(torch.tensor(math.log(self.DETAILS)))

    def forward(self, clip_BCTHW: Tensor, condition: Condition) -> Tensor:
        """Of a noisy clip, as Gaussians with known variances say it."""
        assert condition.low_BCTHW is not None and condition.low_theta_B is not None
        theta, low_theta = (angle[:, None, None, None, None] for angle in (condition.theta_B, condition.low_theta_B))
        cos, sin = theta.cos(), theta.sin()
        mean_BCTHW = condition.low_BCTHW / low_theta.cos()
        variance = (2 * self.log_details).exp() + low_theta.tan() ** 2
        off_BCTHW = (clip_BCTHW - cos * mean_BCTHW) / (variance * cos**2 + sin**2)
        return cos * sin * (1 - variance) * off_BCTHW - sin * mean_BCTHW
