"""A space-time U-Net that denoises: down in space and in time, attention over time at the bottom, and up again.

O. Bar-Tal, H. Chefer, O. Tov, C. Herrmann et al.: "Lumiere: A Space-Time Diffusion Model for Video Generation",
SIGGRAPH Asia 2024. A network of images, into which modules over time are put that begin as nothing: at its start every
frame that the temporal strides keep comes out as the network of images has it. The sizes are ours, for a CPU: the first
layer takes patches of pixels.
"""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import BACKBONES, Backbone, ClipSpec
from ssl_video.backbones.stunet_blocks import (
    Added,
    AttentionInflation,
    ConvInflation,
    MidBlock,
    NoiseLevel,
    ResBlock,
    ResizeInit,
    TemporalDown,
    TemporalUp,
    TextAttention,
    conv,
    norm,
    reached,
    zeroed,
)
from ssl_video.backbones.taps import Tap
from ssl_video.bounds import Bounds, Count, Natural
from ssl_video.capabilities import Condition, Text
from ssl_video.errors import UserError

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
        self.block, self.inflation = ResBlock(own, own, shape.told), ConvInflation(own)
        self.resize, self.time = conv(own, below, stride=2), TemporalDown(below, shape.stride_t, shape.resize_init)

    def run(self, x_NCHW: Tensor, told_BD: Tensor, T: int) -> tuple[Tensor, Tensor]:
        """What is handed down, and across."""
        across = self.block(x_NCHW, told_BD, T)
        across = self.inflation(across, T) if self.temporal else across
        down = self.resize(across)
        return (self.time(down, T) if self.temporal else down), across


class Mid(Stage):
    """The coarsest level: a block that reads the text, and others behind it."""

    def __init__(self, shape: Shape):
        super().__init__()
        own, depth = shape.channels[-1], len(shape.channels) - 1
        self.temporal, frames = shape.temporal, -(-shape.frames // shape.stride_t**depth)
        self.block, self.text = ResBlock(own, own, shape.told), TextAttention(own, shape.words, shape.text_dim)
        self.inflation = AttentionInflation(own, shape.layers, frames)
        self.more = nn.ModuleList(MidBlock(own, shape.told, shape.layers, frames) for _ in range(1, shape.blocks))

    def run(self, x_NCHW: Tensor, told_BD: Tensor, text: Text | None, T: int) -> Tensor:
        """(B T, C, H, W), as many."""
        x = self.text(self.block(x_NCHW, told_BD, T), text, T)
        x = self.inflation(x, T) if self.temporal else x
        for block in self.more:
            x = block(x, told_BD, T, self.temporal)
        return x


class Up(Stage):
    """A level on the way up. Channels are reduced before there are more pixels, which is cheaper."""

    def __init__(self, shape: Shape, level: int):
        super().__init__()
        own, below = shape.channels[level : level + 2]
        self.temporal = shape.temporal
        self.resize, self.time = conv(below, own), TemporalUp(own, shape.stride_t, shape.resize_init)
        self.block, self.inflation = ResBlock(2 * own, own, shape.told), ConvInflation(own)

    def run(self, x_NCHW: Tensor, across_NCHW: Tensor, told_BD: Tensor, frames: tuple[int, int]) -> Tensor:
        """As many frames and pixels as come ``across``; ``frames`` are those below and here."""
        height, width = across_NCHW.shape[2:]
        x = F.interpolate(self.resize(x_NCHW), scale_factor=2)[..., :height, :width]
        x = self.time(x, *frames) if self.temporal else x
        x = self.block(torch.cat([x, across_NCHW], 1), told_BD, frames[1])
        return self.inflation(x, frames[1]) if self.temporal else x


class STUNet(nn.Module):
    """The network of ``stunet``. In an evaluation, which tells it nothing, it is shown ``noise`` of its own."""

    def __init__(self, shape: Shape, noise: float, ensemble: int):
        super().__init__()
        self.shape, self.noise, self.ensemble = shape, noise, ensemble
        first, levels = shape.channels[0], range(len(shape.channels) - 1)
        self.level = NoiseLevel(shape.told)
        self.low_level = NoiseLevel(shape.told) if shape.low_resolution else None
        self.stem, self.mid = Stem(shape), Mid(shape)
        self.downs = nn.ModuleList(Down(shape, level) for level in levels)
        self.ups = nn.ModuleList(Up(shape, level) for level in reversed(levels))
        self.head = nn.Sequential(norm(first), nn.SiLU(), zeroed(conv(first, 3 * shape.patch**2)))
        for module in self.modules():
            if isinstance(module, Added) and module.part == "temporal":
                module.requires_grad_(shape.temporal)

    @property
    def parts(self) -> Mapping[str, Any]:
        """The spatial and temporal convolutions of each level (``Backbone.parts``): stages run what is in them."""
        downs = {f"down{level}": down.block for level, down in enumerate(self.downs, 1)}
        ups = {f"up{len(self.ups) - number}": up.block for number, up in enumerate(self.ups)}
        mids = {"mid": self.mid.block} | {f"mid{n}": more.block for n, more in enumerate(self.mid.more, 2)}
        return downs | mids | ups

    @property
    def stages(self) -> dict[str, Stage]:
        """The places whose maps can be had, in order."""
        downs = {f"down{n + 1}": down for n, down in enumerate(self.downs)}
        ups = {f"up{len(self.ups) - n}": up for n, up in enumerate(self.ups)}
        return {"stem": self.stem, **downs, "mid": self.mid, **ups}  # pyright: ignore[reportReturnType]

    @property
    def text_dim(self) -> int:
        """Channels of the states of an encoder that it reads; 0: none."""
        return self.shape.text_dim

    @property
    def low_resolution(self) -> bool:
        """True if it is to be shown the clip at a lower resolution too."""
        return self.shape.low_resolution

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words that it knows, in the order of their numbers."""
        return self.mid.text.vocabulary

    def learn_words(self, words: tuple[str, ...]) -> None:
        """Give numbers to words that have none yet. Raises UserError where there are not places enough."""
        self.mid.text.learn(words)

    @property
    def part_of(self) -> Mapping[str, str]:
        """Name of each tensor of the state -> spatial (what a network of images has), temporal, given or text."""
        parts = {name: module.part for name, module in self.named_modules() if isinstance(module, Added)}
        return {
            name: next((part for prefix, part in parts.items() if name.startswith(f"{prefix}.")), "spatial")
            for name in self.state_dict()
        }

    def forward(self, clip_BCTHW: Tensor, condition: Condition | None = None) -> Tensor:
        """The velocity under a condition, (B, C, T, H, W); without one the map of the last place."""
        if condition is not None:
            return self.denoise(clip_BCTHW, condition)[0]
        theta, members = 0.5 * math.pi * self.noise, range(self.ensemble)
        clips_NCTHW = torch.cat([clip_BCTHW for _ in members])
        theta_N = torch.full((len(clips_NCTHW),), theta, device=clip_BCTHW.device)
        low = (clips_NCTHW, torch.zeros_like(theta_N)) if self.shape.low_resolution else ()
        if self.noise:
            e_NCTHW = torch.cat([own_noise(clip_BCTHW, member) for member in members])
            clips_NCTHW = math.cos(theta) * clips_NCTHW + math.sin(theta) * e_NCTHW
        return self._maps(clips_NCTHW, Condition(theta_N, None, None, None, *low), self.ensemble)[0]

    def denoise(self, clip_BCTHW: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """The velocity v_BCTHW = cos(theta) noise - sin(theta) clip, and the map (B, D, t, h, w) of the coarsest level.

        Raises UserError for a text longer than it reads.
        """
        _, x_NCHW, mid_BDthw = self._maps(clip_BCTHW, condition, 1)
        T, H, W = clip_BCTHW.shape[2:]
        v_NCHW = F.pixel_shuffle(self.head(x_NCHW), self.shape.patch)[..., :H, :W]
        return v_NCHW.unflatten(0, (-1, T)).transpose(1, 2), mid_BDthw

    def _maps(self, clip_BCTHW: Tensor, condition: Condition, passes: int) -> tuple[Tensor, Tensor, Tensor]:
        """The map of the last place, the same before its mean, and the coarsest."""
        told_BD = self.level(condition.theta_B)
        if self.low_level is not None:
            assert condition.low_theta_B is not None
            told_BD = told_BD + self.low_level(condition.low_theta_B)
        x, frames, across = self.stem.run(clip_BCTHW, condition), [clip_BCTHW.shape[2]], []
        self.stem(x, frames[-1], passes)
        for down in self.downs:
            assert isinstance(down, Down)
            x, other = down.run(x, told_BD, frames[-1])
            across.append(other)
            frames.append(-(-frames[-1] // self.shape.stride_t) if self.shape.temporal else frames[-1])
            down(x, frames[-1], passes)
        x = self.mid.run(x, told_BD, condition.text, frames[-1])
        last = mid = self.mid(x, frames[-1], passes)
        for up in self.ups:
            assert isinstance(up, Up)
            x = up.run(x, across.pop(), told_BD, (frames.pop(), frames[-1]))
            if not across:  # an evaluation does not use what is behind
                x = reached(x, *self.head.parameters())
            last = up(x, frames[-1], passes)
        return last, x, mid


def own_noise(clip_BCTHW: Tensor, member: int) -> Tensor:
    """Noise for each clip, keyed by what the clip shows and by ``member``, so that an evaluation can be repeated.

    Two clips that are matched must not have the same noise: it would say that everything stays where it is.
    """
    if clip_BCTHW.is_meta:
        return torch.zeros_like(clip_BCTHW)
    drawn = torch.empty(clip_BCTHW.shape)
    levels = clip_BCTHW.detach().float().mul(127.5).round().to("cpu", torch.int16).contiguous()
    for row, level in zip(drawn, levels, strict=True):
        row.normal_(generator=torch.Generator().manual_seed(zlib.crc32(level.numpy().tobytes()) * 1009 + member))
    return drawn.to(clip_BCTHW)


@BACKBONES.register("stunet")
def stunet(
    *,
    channels: Widths = (48, 96, 128),
    layers: Count = 2,
    blocks: Count = 1,
    patch: Count = 2,
    stride_t: Count = 2,
    frames: Count = 16,
    temporal: bool = True,
    resize_init: ResizeInit = "identity",
    words: Count = 64,
    text_dim: Natural = 0,
    low_resolution: bool = False,
    noise: Annotated[float, Bounds(least=0, below=1)] = 0.0,
    ensemble: Count = 1,
) -> Backbone:
    """Lumiere's space-time U-Net, small: it says of a noisy clip what is clip and what noise, for video_diffusion.

    ``channels`` are those of the levels, from the finest to the coarsest, each of half the size in space and, by
    ``stride_t``, in time; the coarsest has ``blocks``, each with ``layers`` of attention over time, with positions for
    clips of ``frames``. ``patch`` is the side in pixels of the patches that the first layer takes. Without ``temporal``
    it is a network of images, which sees every frame by itself; its weights have the same names. ``resize_init`` is how
    the temporal resizing begins. ``words`` is how many words it has places for, ``text_dim`` the channels of an
    encoder's states, 0 without. ``low_resolution``: it is also shown the clip at a lower resolution, for
    video_upscaling. Evaluations show it clips with ``noise``, a fraction of pi / 2, and take the mean of ``ensemble``
    passes with other noise.
    """
    if len(channels) < 2:
        raise UserError(f"stunet has two levels or more; give channels of each, not {len(channels)}.")
    if ensemble > 1 and noise == 0:
        raise UserError("An ensemble without noise is the same pass many times; set noise, or ensemble=1.")
    shape = Shape(
        tuple(channels), layers, blocks, patch, stride_t, frames, temporal, resize_init, words, text_dim, low_resolution
    )
    network, depth = STUNet(shape, noise, ensemble), len(channels) - 1
    level_of = {"stem": 0, "mid": depth}
    level_of |= {f"down{n + 1}": n + 1 for n in range(depth)} | {f"up{n + 1}": n for n in range(depth)}
    taps = {
        name: Tap(stage, shape.channels[level_of[name]], shape.strides(level_of[name]))
        for name, stage in network.stages.items()
    }
    half = (0.5, 0.5, 0.5)
    clip = ClipSpec(frames, 16 * patch, mean=half, std=half, min_frames=1, min_size=patch * 2**depth)
    return Backbone(network, taps, clip=clip)
