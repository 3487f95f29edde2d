"""What a space-time U-Net is made of. Blocks take frames one behind the other, (B T, C, H, W), and say T beside them.

Two kinds: those of a network of images, which see every frame by itself, and those that were added for video
(``Added``), through which alone one frame learns of another. The added ones begin as nothing: their last layers are
zero, or they copy.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.vit_blocks import Attention
from ssl_video.capabilities import Text
from ssl_video.errors import UserError

ResizeInit = Literal["identity", "he"]
TOKENS = 64
"""Words of the longest text."""


class Added(nn.Module):
    """Base of what a network of images does not have; ``part`` says for what it is."""

    part = "temporal"


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


class ResBlock(nn.Module):
    """Two convolutions of every frame around a shortcut, scaled and shifted by the level of noise."""

    def __init__(self, channels: int, out_channels: int, told: int):
        super().__init__()
        self.norm1, self.conv1 = norm(channels), conv(channels, out_channels)
        self.told = nn.Linear(told, 2 * out_channels)
        self.norm2, self.conv2 = norm(out_channels), zeroed(conv(out_channels, out_channels))
        self.shortcut = nn.Identity() if channels == out_channels else conv(channels, out_channels, 1)

    def forward(self, x_NCHW: Tensor, told_BD: Tensor, T: int) -> Tensor:
        """(B T, C, H, W) -> (B T, D, H, W)."""
        h = self.norm2(self.conv1(F.silu(self.norm1(x_NCHW))))
        scale, shift = self.told(F.silu(told_BD)).repeat_interleave(T, 0)[..., None, None].chunk(2, 1)
        h = self.conv2(F.silu(h * (1 + scale) + shift))
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
    """A convolution over space, one over time and a projection, which begins as zero; added to what comes in."""

    def __init__(self, channels: int):
        super().__init__()
        self.spatial, self.norm1 = conv(channels, channels), norm(channels)
        self.temporal, self.norm2 = nn.Conv2d(channels, channels, (3, 1), 1, (1, 0)), norm(channels)
        self.projection = zeroed(conv(channels, channels, 1))

    def forward(self, x_NCHW: Tensor, T: int) -> Tensor:
        """(B T, C, H, W), as many."""
        h = F.silu(self.norm1(self.spatial(x_NCHW)))
        h = frames_of(self.temporal(over_time(h, T)), h.shape[2:])
        return x_NCHW + self.projection(F.silu(self.norm2(h)))


class AttentionInflation(Added):
    """Layers in which every place attends to itself at other times, and a projection that begins as zero.

    Positions in time are learned, for ``frames`` frames; they are interpolated for more.
    """

    def __init__(self, channels: int, layers: int, frames: int):
        super().__init__()
        self.position_PC = nn.Parameter(0.02 * torch.randn(frames, channels))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(layers))
        self.layers = nn.ModuleList(Attention(channels, heads_of(channels)) for _ in range(layers))
        self.projection = zeroed(nn.Linear(channels, channels))

    def forward(self, x_NCHW: Tensor, T: int) -> Tensor:
        """(B T, C, H, W), as many."""
        places_MTC = over_time(x_NCHW, T).permute(0, 3, 2, 1).flatten(0, 1)
        h_MTC = places_MTC + self.positions(T)
        for layer_norm, layer in zip(self.norms, self.layers, strict=True):
            h_MTC = h_MTC + layer(layer_norm(h_MTC))
        h_MTC = self.projection(h_MTC)
        size = x_NCHW.shape[2:]
        return x_NCHW + frames_of(h_MTC.unflatten(0, (-1, size[0] * size[1])).permute(0, 3, 2, 1), size)

    def positions(self, T: int) -> Tensor:
        """(T, C)."""
        if len(self.position_PC) >= T:
            return self.position_PC[:T]
        return F.interpolate(self.position_PC.T[None], size=T, mode="linear", align_corners=True)[0].T


class MidBlock(nn.Module):
    """A further block of the coarsest level, and what was added to it for video."""

    def __init__(self, channels: int, told: int, layers: int, frames: int):
        super().__init__()
        self.block = ResBlock(channels, channels, told)
        self.inflation = AttentionInflation(channels, layers, frames)

    def forward(self, x_NCHW: Tensor, told_BD: Tensor, T: int, temporal: bool) -> Tensor:
        """(B T, C, H, W), as many; without ``temporal`` every frame by itself."""
        x_NCHW = self.block(x_NCHW, told_BD, T)
        return self.inflation(x_NCHW, T) if temporal else x_NCHW


def heads_of(channels: int) -> int:
    """Heads of about 32 channels."""
    return math.gcd(max(1, channels // 32), channels)


class TextAttention(Added):
    """Every place of every frame attends to the words of a text, and to one learned token that is always there.

    ``words`` words have a vector each; which these are, ``letters_WL`` keeps (its numbers are UTF-8 bytes, as floats
    that a moving average leaves as they are). States of ``text_dim`` channels of an encoder can take their place.
    """

    part = "text"
    WIDTH = 64
    LETTERS = 32
    letters_WL: Tensor

    def __init__(self, channels: int, words: int, text_dim: int):
        super().__init__()
        self.heads = heads_of(channels)
        self.register_buffer("letters_WL", torch.zeros(words, self.LETTERS))
        self.null_D = nn.Parameter(torch.randn(self.WIDTH))
        self.word_WD = nn.Parameter(torch.randn(words, self.WIDTH))
        self.position_LD = nn.Parameter(0.02 * torch.randn(TOKENS, self.WIDTH))
        self.from_states = nn.Linear(text_dim, self.WIDTH) if text_dim else None
        self.norm, self.query = norm(channels), nn.Linear(channels, channels)
        self.key_value = nn.Linear(self.WIDTH, 2 * channels)
        self.projection = zeroed(nn.Linear(channels, channels))

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words, in the order of their numbers."""
        rows = self.letters_WL.byte().cpu().numpy()
        return tuple(word.decode() for row in rows if (word := bytes(row).rstrip(b"\0")))

    def learn(self, words: tuple[str, ...]) -> None:
        """Give numbers to words that have none yet, behind those that have. Raises UserError if places are missing."""
        known = self.vocabulary
        words = (*known, *(word for word in dict.fromkeys(words) if word not in known))
        if len(words) > len(self.letters_WL):
            raise UserError(
                f"The captions have {len(words)} words, and the network has places for {len(self.letters_WL)}; use "
                f"--backbone.words {len(words)}."
            )
        for row, word in zip(self.letters_WL, words, strict=False):
            letters = word.encode()
            if len(letters) > self.LETTERS:
                raise UserError(f"The captions have the word {word!r}, which is too long; write shorter ones.")
            row[: len(letters)] = torch.tensor(list(letters), dtype=row.dtype)

    def tokens(self, text: Text | None, batch: int) -> tuple[Tensor, Tensor]:
        """(B, 1 + L, D) and, where a token is one, true in (B, 1 + L); the first is the learned one."""
        null_B1D = (self.null_D + 0).expand(batch, 1, -1)  # a parameter's own view would not be counted (torch 2.15)
        always_B1 = torch.ones(batch, 1, dtype=torch.bool, device=null_B1D.device)
        if text is None:
            return reached(null_B1D, self.word_WD, self.position_LD, *self._of_states()), always_B1
        length = text.known_BL.shape[1]
        if length > TOKENS:
            raise UserError(f"A text has at most {TOKENS} words, and this one has {length}; write a shorter one.")
        if text.states_BLE is not None:
            assert self.from_states is not None, "states of an encoder, for a network of text_dim=0"
            x_BLD = reached(self.from_states(text.states_BLE.to(self.null_D.dtype)), self.word_WD)
        else:
            assert text.words_BL is not None
            x_BLD = reached(F.embedding(text.words_BL.clamp_min(0), self.word_WD), *self._of_states())
        x_BLD = x_BLD + self.position_LD[:length]
        return torch.cat([null_B1D.to(x_BLD), x_BLD], 1), torch.cat([always_B1, text.known_BL], 1)

    def _of_states(self) -> tuple[nn.Parameter, ...]:
        return () if self.from_states is None else tuple(self.from_states.parameters())

    def forward(self, x_NCHW: Tensor, text: Text | None, T: int) -> Tensor:
        """(B T, C, H, W), as many."""
        x_BLD, known_BL = self.tokens(text, len(x_NCHW) // T)
        k, v = self.key_value(x_BLD).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        places_BSC = self.norm(x_NCHW).unflatten(0, (-1, T)).permute(0, 1, 3, 4, 2).flatten(1, 3)
        q = self.query(places_BSC).unflatten(2, (self.heads, -1)).transpose(1, 2)
        y_BSC = F.scaled_dot_product_attention(q, k, v, known_BL[:, None, None]).transpose(1, 2).flatten(2)
        size = (T, *x_NCHW.shape[2:])
        return x_NCHW + self.projection(y_BSC).unflatten(1, size).permute(0, 1, 4, 2, 3).flatten(0, 1)


def reached(x: Tensor, *unused: nn.Parameter) -> Tensor:
    """``x``, from which a gradient of zero reaches what this pass does not use: processes expect one of everything."""
    trained = [p for p in unused if p.requires_grad]
    return x + sum(0 * p.sum() for p in trained) if trained and torch.is_grad_enabled() else x
