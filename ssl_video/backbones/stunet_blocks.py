"""What a space-time U-Net is made of. Blocks take frames one behind the other, (B T, C, H, W), and say T beside them.

Two kinds: those of a network of images, which see every frame by itself, and those that were added for video
(``Added``), through which alone one frame learns of another. The added ones begin as nothing: their last layers are
zero, or they copy. What a frame has most of changes from noise to picture, so that every block, and every map that is
handed across, is scaled by the level of noise.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.vit_blocks import Attention

ResizeInit = Literal["identity", "he"]


class Added(nn.Module):
    """Base of what a network of images does not have; ``part`` says for what it is."""

    part = "temporal"


@dataclass(frozen=True)
class Told:
    """What the blocks of a level are told of its frames, (B T, D), and how many frames a clip has there."""

    level_ND: Tensor
    """The level of noise, and the text: for blocks of a network of images."""
    moment_ND: Tensor
    """That, and the place in time: for what was added."""
    T: int


def norm(channels: int) -> nn.GroupNorm:
    """Of every frame by itself: statistics over time would let frames know of each other."""
    return nn.GroupNorm(math.gcd(8, channels), channels)


def conv(channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A 2D convolution that keeps the size, but for its stride."""
    return nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2)


def zeroed(module: nn.Module) -> nn.Module:
    """With all parameters 0."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def over_time(x_NCHW: Tensor, T: int) -> Tensor:
    """(B T, C, H, W) -> (B, C, T, H W): time as the rows of a picture, for convolutions over it."""
    return x_NCHW.unflatten(0, (-1, T)).flatten(3).transpose(1, 2)


def frames_of(x_BCTS: Tensor, size: tuple[int, ...]) -> Tensor:
    """(B, C, T, H W) -> (B T, C, H, W)."""
    return x_BCTS.transpose(1, 2).flatten(0, 1).unflatten(2, size)


def level_embedding(theta_B: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    r"""(B, D) sines and cosines of $\theta f$, f from 1 to 1000 in even ratios."""
    f_H = torch.exp(torch.linspace(0, math.log(1000), width // 2, dtype=dtype, device=theta_B.device))
    angle_BH = theta_B.to(dtype)[:, None] * f_H
    return torch.cat([angle_BH.sin(), angle_BH.cos()], 1)


class NoiseLevel(nn.Module):
    """An angle as a vector, for the blocks' scales and shifts."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, theta_B: Tensor) -> Tensor:
        """(B, D)."""
        return self.layers(level_embedding(theta_B, self.width, next(self.parameters()).dtype))


class Moment(Added):
    """The level of noise and the text, as vectors of every frame, which know its place in time."""

    WAVES = 16

    def __init__(self, width: int, frames: int):
        super().__init__()
        self.frames, self.time = frames, nn.Linear(2 * self.WAVES, width)
        self.layers = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, level_BD: Tensor, T: int, stride: int) -> Tensor:
        """(B t, D) of every ``stride``-th of T frames; more frames than it was laid out for are closer in time."""
        time_t = torch.arange(0, T, stride, device=level_BD.device) / max(self.frames, T)
        time_tD = self.time(waves(time_t, self.WAVES).to(level_BD.dtype))
        return self.layers(level_BD[:, None] + time_tD).flatten(0, 1)


def waves(x_N: Tensor, number: int) -> Tensor:
    """(N, 2 ``number``) sines and cosines of ``x``, from a quarter of a period in 1 on."""
    angle_NF = x_N[:, None] * (math.pi / 2) * torch.arange(1, number + 1, device=x_N.device)
    return torch.cat([angle_NF.sin(), angle_NF.cos()], 1)


class Expected(nn.Module):
    """What the text and the level of noise let one expect at each place and time, as a sum of waves; begins as zero.

    Where a shape is to drift is a product of a word, of time and of place: layers that scale and shift features of
    noise by each of them learn it last, long after what needs two of them. Here it is one product of what is told and
    of a wave over all three axes, and ``GAIN`` times as quick as the other weights, since little of a training shows
    so much noise that nothing else helps.
    """

    WAVES, GAIN = 2, 32.0

    def __init__(self, channels: int, width: int):
        super().__init__()
        waves_K = (1 + 2 * self.WAVES) ** 3
        self.share = nn.Linear(width, waves_K)
        self.layer_CK = nn.Parameter(torch.zeros(channels, waves_K))

    def forward(self, level_BD: Tensor, size: tuple[int, int, int]) -> Tensor:
        """(B T, C, H, W) of the size (T, H, W)."""
        axes = [around(n, self.WAVES, level_BD) for n in size]
        waves_KTHW = torch.einsum("it,jh,kw->ijkthw", *axes).flatten(0, 2)
        share_BK = self.GAIN * self.share(F.silu(level_BD))
        layer_BCK = self.layer_CK * share_BK[:, None]
        return torch.einsum("bck,kthw->btchw", layer_BCK, waves_KTHW).flatten(0, 1)


def around(n: int, number: int, like: Tensor) -> Tensor:
    """(1 + 2 ``number``, n) ones and waves along an axis of n points, which has its 0 in the middle."""
    at_n = (torch.arange(n, device=like.device) + 0.5) / n * 2 - 1
    return torch.cat([torch.ones_like(at_n)[:, None], waves(at_n, number)], 1).T.to(like.dtype)


class Place(nn.Module):
    """Where in its frame a point is, as channels. Convolutions know of the border alone."""

    WAVES = 2

    def __init__(self, channels: int):
        super().__init__()
        self.layer = conv(4 * self.WAVES, channels, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(1, C, H, W)."""
        down_DH, right_DW = (around(n, self.WAVES, x_NCHW)[1:] for n in x_NCHW.shape[2:])
        size = x_NCHW.shape[2:]
        at_DHW = torch.cat([down_DH[:, :, None].expand(-1, *size), right_DW[:, None].expand(-1, *size)])
        return self.layer(at_DHW[None])


def scaled(x_NCHW: Tensor, by_ND: Tensor) -> Tensor:
    """(N, C, H, W), each channel scaled and shifted: D = 2 C."""
    scale, shift = by_ND[..., None, None].chunk(2, 1)
    return x_NCHW * (1 + scale) + shift


class ResBlock(nn.Module):
    """Two convolutions of every frame around a shortcut, scaled and shifted by the level of noise."""

    def __init__(self, channels: int, out_channels: int, width: int):
        super().__init__()
        self.norm1, self.conv1 = norm(channels), conv(channels, out_channels)
        self.told = nn.Linear(width, 2 * out_channels)
        self.norm2, self.conv2 = norm(out_channels), zeroed(conv(out_channels, out_channels))
        self.shortcut = nn.Identity() if channels == out_channels else conv(channels, out_channels, 1)

    def forward(self, x_NCHW: Tensor, told: Told) -> Tensor:
        """(B T, C, H, W) -> (B T, D, H, W)."""
        h = self.norm2(self.conv1(F.silu(self.norm1(x_NCHW))))
        h = self.conv2(F.silu(scaled(h, self.told(F.silu(told.level_ND)))))
        return self.shortcut(x_NCHW) + h


class TemporalDown(Added):
    """Every ``stride``-th frame, behind a convolution over time that begins as the identity."""

    def __init__(self, channels: int, stride: int, init: ResizeInit):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, (3, 1), (stride, 1), (1, 0))
        start_resizing(self.conv, init)

    def forward(self, x_NCHW: Tensor, T: int) -> Tensor:
        """(B T, C, H, W) -> (B t, C, H, W), t = ceil(T / stride)."""
        return frames_of(self.conv(over_time(x_NCHW, T)), x_NCHW.shape[2:])


class TemporalUp(Added):
    """Every frame ``stride`` times, and behind that a convolution over time that begins as the identity."""

    def __init__(self, channels: int, stride: int, init: ResizeInit):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels, channels, (3, 1), 1, (1, 0))
        start_resizing(self.conv, init)

    def forward(self, x_NCHW: Tensor, T: int, to: int) -> Tensor:
        """(B T, C, H, W) -> (B to, C, H, W), ``to`` of the stride * T frames: as many as there were."""
        x_BCTS = over_time(x_NCHW, T).repeat_interleave(self.stride, 2)[:, :, :to]
        return frames_of(self.conv(x_BCTS), x_NCHW.shape[2:])


def start_resizing(layer: nn.Conv2d, init: ResizeInit) -> None:
    """The identity, or as He et al. (2015) start layers: what the identity is measured against.

    Of two networks of one seed that begin otherwise, all other weights are the same.
    """
    if init == "he":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(1 << 40, (), device="cpu")))
            nn.init.kaiming_normal_(layer.weight)
    else:
        nn.init.zeros_(layer.weight)
        with torch.no_grad():
            layer.weight[:, :, 1, 0] = torch.eye(len(layer.weight))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


class ConvInflation(Added):
    """A convolution over space, one over time and a projection, which begins as zero; added to what comes in.

    So is what can be expected (``Expected``).
    """

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.spatial, self.place, self.norm1 = conv(channels, channels), Place(channels), norm(channels)
        self.temporal, self.norm2 = nn.Conv2d(channels, channels, (3, 1), 1, (1, 0)), norm(channels)
        self.told = zeroed(nn.Linear(width, 2 * channels))
        self.projection, self.expected = zeroed(conv(channels, channels, 1)), Expected(channels, width)

    def forward(self, x_NCHW: Tensor, told: Told) -> Tensor:
        """(B T, C, H, W), as many."""
        x_NCHW = x_NCHW + self.expected(told.level_ND[:: told.T], (told.T, *x_NCHW.shape[2:]))
        h = F.silu(self.norm1(self.spatial(x_NCHW) + self.place(x_NCHW)))
        h = self.norm2(frames_of(self.temporal(over_time(h, told.T)), h.shape[2:]))
        return x_NCHW + self.projection(F.silu(scaled(h, self.told(F.silu(told.moment_ND)))))


class OverTime(nn.Module):
    """A layer in which every place attends to itself at other times, and one of its own, both scaled as is told."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(channels, elementwise_affine=False) for _ in range(2))
        self.told = zeroed(nn.Linear(width, 4 * channels))
        self.attention = Attention(channels, heads_of(channels))
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, x_MTC: Tensor, told_MTD: Tensor) -> Tensor:
        """(M, T, C), as many."""
        scale, shift, scale2, shift2 = self.told(F.silu(told_MTD)).chunk(4, 2)
        x_MTC = x_MTC + self.attention(self.norm1(x_MTC) * (1 + scale) + shift)
        return x_MTC + self.mlp(self.norm2(x_MTC) * (1 + scale2) + shift2)


class AttentionInflation(Added):
    """Layers of attention over time, and a projection that begins as zero; added to what comes in.

    Positions in time are learned, for ``frames`` frames; they are interpolated for more.
    """

    def __init__(self, channels: int, width: int, layers: int, frames: int):
        super().__init__()
        self.position_PC, self.place = nn.Parameter(0.5 * torch.randn(frames, channels)), Place(channels)
        self.layers = nn.ModuleList(OverTime(channels, width) for _ in range(layers))
        self.projection = zeroed(nn.Linear(channels, channels))

    def forward(self, x_NCHW: Tensor, told: Told) -> Tensor:
        """(B T, C, H, W), as many."""
        size = x_NCHW.shape[2:]
        places = size[0] * size[1]
        h_MTC = over_time(x_NCHW + self.place(x_NCHW), told.T).permute(0, 3, 2, 1).flatten(0, 1)
        h_MTC = h_MTC + self.positions(told.T)
        told_MTD = told.moment_ND.unflatten(0, (-1, told.T)).repeat_interleave(places, 0)
        for layer in self.layers:
            h_MTC = layer(h_MTC, told_MTD)
        h_BCTS = self.projection(h_MTC).unflatten(0, (-1, places)).permute(0, 3, 2, 1)
        return x_NCHW + frames_of(h_BCTS, size)

    def positions(self, T: int) -> Tensor:
        """(T, C)."""
        if len(self.position_PC) >= T:
            return self.position_PC[:T]
        return F.interpolate(self.position_PC.T[None], size=T, mode="linear", align_corners=True)[0].T


class MidBlock(nn.Module):
    """A further block of the coarsest level, and what was added to it for video."""

    def __init__(self, channels: int, width: int, layers: int, frames: int):
        super().__init__()
        self.block = ResBlock(channels, channels, width)
        self.inflation = AttentionInflation(channels, width, layers, frames)

    def forward(self, x_NCHW: Tensor, told: Told, temporal: bool) -> Tensor:
        """(B T, C, H, W), as many; without ``temporal`` every frame by itself."""
        x_NCHW = self.block(x_NCHW, told)
        return self.inflation(x_NCHW, told) if temporal else x_NCHW


def heads_of(channels: int) -> int:
    """Heads of about 32 channels."""
    return math.gcd(max(1, channels // 32), channels)


def reached(x: Tensor, *unused: nn.Parameter) -> Tensor:
    """``x``, from which a gradient of zero reaches what this pass does not use: processes expect one of everything."""
    trained = [p for p in unused if p.requires_grad]
    return x + sum(0 * p.sum() for p in trained) if trained and torch.is_grad_enabled() else x
