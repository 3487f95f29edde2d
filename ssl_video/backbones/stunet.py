"""A space-time U-Net that denoises: down in space and in time, attention over time at the bottom, and up again.

O. Bar-Tal, H. Chefer, O. Tov, C. Herrmann et al.: "Lumiere: A Space-Time Diffusion Model for Video Generation",
SIGGRAPH Asia 2024. A network of images, into which modules over time are put that begin as nothing: at its start every
frame that the temporal strides keep comes out as the network of images has it. The sizes are ours, for a CPU: the first
layer takes patches of pixels.
"""

import math
import zlib
from collections.abc import Mapping
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import BACKBONES, Backbone, ClipSpec
from ssl_video.backbones.stunet_blocks import Added, Moment, NoiseLevel, ResizeInit, Told, reached
from ssl_video.backbones.stunet_stages import Down, Enlarged, Head, Mid, Shape, Stage, Stem, Up, Widths
from ssl_video.backbones.stunet_text import TextAttention, TextLevel
from ssl_video.backbones.taps import Tap
from ssl_video.bounds import Bounds, Count, Natural
from ssl_video.capabilities import Condition
from ssl_video.errors import UserError


class STUNet(nn.Module):
    """The network of ``stunet``. In an evaluation, which tells it nothing, it is shown ``noise`` of its own."""

    def __init__(self, shape: Shape, noise: float, ensemble: int):
        super().__init__()
        self.shape, self.noise, self.ensemble = shape, noise, ensemble
        levels = range(len(shape.channels) - 1)
        self.level, self.moment = NoiseLevel(shape.told), Moment(shape.told, shape.frames)
        self.text_level = TextLevel(TextAttention.WIDTH, shape.told)
        self.low_level = NoiseLevel(shape.told) if shape.low_resolution else None
        self.stem, self.mid = Stem(shape), Mid(shape)
        self.downs = nn.ModuleList(Down(shape, level) for level in levels)
        self.ups = nn.ModuleList(Up(shape, level) for level in reversed(levels))
        self.head, self.enlarged = Head(shape), Enlarged() if shape.low_resolution else None
        if not shape.temporal:  # taken away, so that a seed gives both networks the same spatial weights
            for module in list(self.modules()):
                for name, child in list(module.named_children()):
                    if isinstance(child, Added) and child.part == "temporal":
                        setattr(module, name, None)

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
    def begun_anew(self) -> frozenset[str]:
        """Tensors of its state that weights may be without, all of them, since a network of images has none."""
        return frozenset(name for name, part in self.part_of.items() if part == "temporal")

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
        x_NCHW, mid_BDthw, told = self._maps(clip_BCTHW, condition)[1:]
        T, H, W = clip_BCTHW.shape[2:]
        v_NCHW = F.pixel_shuffle(self.head(x_NCHW, told), self.shape.patch)[..., :H, :W]
        v_BCTHW = v_NCHW.unflatten(0, (-1, T)).transpose(1, 2)
        return v_BCTHW if self.enlarged is None else v_BCTHW + self.enlarged(clip_BCTHW, condition), mid_BDthw

    def _maps(self, clip_BCTHW: Tensor, condition: Condition, passes: int = 1) -> tuple[Tensor, Tensor, Tensor, Told]:
        """The map of the last place, the same before its mean, the coarsest, and what the finest level is told."""
        tokens = self.mid.text.tokens(condition.text, len(clip_BCTHW))
        told = self._told(condition, tokens, clip_BCTHW.shape[2])
        x, across = self.stem.run(clip_BCTHW, condition), []
        self.stem(x, told[0].T, passes)
        for level, down in enumerate(self.downs):
            assert isinstance(down, Down)
            x, other = down.run(x, told[level])
            across.append(other)
            down(x, told[level + 1].T, passes)
        x = self.mid.run(x, told[-1], tokens)
        last = mid = self.mid(x, told[-1].T, passes)
        for level, up in zip(reversed(range(len(self.ups))), self.ups, strict=True):
            assert isinstance(up, Up)
            x = up.run(x, across.pop(), told[level + 1], told[level])
            if not across:  # an evaluation does not use what is behind
                x = reached(x, *self.head.parameters())
            last = up(x, told[level].T, passes)
        return last, x, mid, told[0]

    def _told(self, condition: Condition, tokens: tuple[Tensor, Tensor], T: int) -> list[Told]:
        """Of each level, from the finest on."""
        level_BD = self.level(condition.theta_B) + self.text_level(*tokens)
        if self.low_level is not None:
            assert condition.low_theta_B is not None
            level_BD = level_BD + self.low_level(condition.low_theta_B)
        told = []
        for level in range(len(self.downs) + 1):
            stride = self.shape.strides(level)[0]
            frames = -(-T // stride)
            level_ND = level_BD.repeat_interleave(frames, 0)
            moment_ND = self.moment(level_BD, T, stride) if self.shape.temporal else level_ND
            told.append(Told(level_ND, moment_ND, frames))
        return told


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
