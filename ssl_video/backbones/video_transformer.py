"""Video transformers: joint attention over tubelets (ViViT), and attention divided into time and space (TimeSformer).

A. Arnab, M. Dehghani, G. Heigold, C. Sun, M. Lucic, C. Schmid: "ViViT: A Video Vision Transformer", ICCV 2021 (its
model 1, spatio-temporal attention).
G. Bertasius, H. Wang, L. Torresani: "Is Space-Time Attention All You Need for Video Understanding?", ICML 2021.

Both are put out as maps; there is no class token. A network with joint attention also reads a choice of its tubelets;
one with divided attention does not: with gaps, a frame and a place are no rows any more. Sizes are those of image
transformers: width, depth and heads are 192, 12, 3 (tiny), 384, 12, 6 (small) and 768, 12, 12 (base).
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, arange, nn, zeros

from ssl_video.backbones.base import BACKBONES, Backbone, ClipSpec, chain
from ssl_video.bounds import Count
from ssl_video.capabilities import Tokens
from ssl_video.errors import UserError

WIDTHS = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}  # width, heads
DEPTH = 12
HALF = (0.5, 0.5, 0.5)


class Tubelets(nn.Module):
    """Cut a clip into tubelets (t, h, w) that do not overlap, and project each; a rest at the border is left out.

    The same as a convolution whose kernel and stride are the tubelet, as one matrix product.
    """

    def __init__(self, channels: int, width: int, tubelet: tuple[int, int, int]):
        super().__init__()
        self.tubelet = tubelet
        self.projection = nn.Linear(channels * tubelet[0] * tubelet[1] * tubelet[2], width)

    def forward(self, clip_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, D, T / t, H / h, W / w)."""
        return self.projection(self.cut(clip_BCTHW)).permute(0, 4, 1, 2, 3)

    def cut(self, clip_BCTHW: Tensor) -> Tensor:
        """The pixels of each tubelet, (B, T / t, H / h, W / w, C t h w)."""
        x = clip_BCTHW
        for axis, side in enumerate(self.tubelet, 2):
            x = x.unfold(axis, side, side)
        x_BthwCpqr = x.permute(0, 2, 3, 4, 1, 5, 6, 7)
        return x_BthwCpqr.flatten(4)


class Positions(nn.Module):
    """Add learned tables to a map, each over the axes where its ``grids`` entry is not 1, interpolated to the map."""

    def __init__(self, width: int, grids: tuple[tuple[int, int, int], ...]):
        super().__init__()
        self.tables = nn.ParameterList(nn.init.trunc_normal_(zeros(1, width, *grid), std=0.02) for grid in grids)

    def forward(self, x_BDthw: Tensor) -> Tensor:
        """The same shape."""
        for table in self.fitted(x_BDthw.shape[2:]):
            x_BDthw = x_BDthw + table
        return x_BDthw

    def fitted(self, grid: tuple[int, ...]) -> Iterator[Tensor]:
        """The tables (1, D, t, h, w) for a map of ``grid`` cells; 1 along axes that they are not over."""
        for table in self.tables:
            size = tuple(1 if side == 1 else n for side, n in zip(table.shape[2:], grid, strict=True))
            if size != table.shape[2:]:
                table = F.interpolate(table, size, mode="trilinear", align_corners=False)
            yield table


class Attention(nn.Module):
    """Multi-head self-attention over the second axis."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        """The same shape."""
        q, k, v = self.qkv(x_BND).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.projection(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def mlp(width: int) -> nn.Sequential:
    """Norm and two layers, four times as wide between."""
    return nn.Sequential(norm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


def norm(width: int) -> nn.LayerNorm:
    """A layer norm with the epsilon of image transformers."""
    return nn.LayerNorm(width, eps=1e-6)


class JointBlock(nn.Module):
    """Every position attends to all others of space and time, then the MLP (ViViT, model 1)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm, self.attention, self.mlp = norm(width), Attention(width, heads), mlp(width)

    def forward(self, x_BDthw: Tensor) -> Tensor:
        """The same shape."""
        x_BND = self.tokens(x_BDthw.flatten(2).transpose(1, 2))
        return x_BND.transpose(1, 2).unflatten(2, x_BDthw.shape[2:])

    def tokens(self, x_BND: Tensor) -> Tensor:
        """The same shape, of any tokens in any order."""
        x_BND = x_BND + self.attention(self.norm(x_BND))
        return x_BND + self.mlp(x_BND)


class DividedBlock(nn.Module):
    """A position attends to its place in all frames, then to all places of its frame, then the MLP (TimeSformer).

    The linear layer after attention over time starts at zero, as in the authors' code, so that the network starts as
    one of single frames.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm_t, self.attention_t = norm(width), Attention(width, heads)
        self.linear_t = nn.Linear(width, width)
        self.norm, self.attention, self.mlp = norm(width), Attention(width, heads), mlp(width)

    def forward(self, x_BDthw: Tensor) -> Tensor:
        """The same shape."""
        B, _, t, h, w = x_BDthw.shape
        x_BStD = x_BDthw.flatten(3).permute(0, 3, 2, 1)
        y_NtD = self.linear_t(self.attention_t(self.norm_t(x_BStD.flatten(0, 1))))
        x_BtSD = (x_BStD + y_NtD.unflatten(0, (B, h * w))).transpose(1, 2)
        y_NSD = self.attention(self.norm(x_BtSD.flatten(0, 1)))
        x_BtSD = x_BtSD + y_NSD.unflatten(0, (B, t))
        x_BtSD = x_BtSD + self.mlp(x_BtSD)
        return x_BtSD.permute(0, 3, 1, 2).unflatten(3, (h, w))


class Norm(nn.Module):
    """The last layer norm, over the channels of a map."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = norm(width)

    def forward(self, x_BDthw: Tensor) -> Tensor:
        """The same shape."""
        return self.norm(x_BDthw.movedim(1, -1)).movedim(-1, 1)


class JointTransformer(nn.Sequential):
    """The stages of a network with joint attention, which also reads a choice of its tubelets (``TokenNetwork``)."""

    def embed(self, clip_BCTHW: Tensor, keep_BK: Tensor | None = None) -> Tokens:
        """Tokens of the tubelets whose numbers are kept, of all by default; no others are projected."""
        first = self[0]
        assert isinstance(first, nn.Sequential)
        tubelets, positions = first
        assert isinstance(tubelets, Tubelets) and isinstance(positions, Positions)
        pixels_BthwP = tubelets.cut(clip_BCTHW)
        B, t, h, w, _ = pixels_BthwP.shape
        if keep_BK is None:
            keep_BK = arange(t * h * w, device=clip_BCTHW.device).expand(B, -1)
        pixels_BNP = pixels_BthwP.flatten(1, 3)
        x_BKD = tubelets.projection(pixels_BNP.gather(1, keep_BK[..., None].expand(-1, -1, pixels_BNP.shape[2])))
        for table_1Dthw in positions.fitted((t, h, w)):
            table_ND = table_1Dthw.expand(-1, -1, t, h, w).flatten(2)[0].T
            x_BKD = x_BKD + table_ND[keep_BK]
        return Tokens(x_BKD, keep_BK, (t, h, w))

    def blocks(self, tokens: Tokens) -> Tokens:
        """The tokens behind all blocks and the last norm."""
        x_BND = tokens.x_BND
        for stage in self:
            if isinstance(stage, JointBlock):
                x_BND = stage.tokens(x_BND)
            elif isinstance(stage, Norm):
                x_BND = stage.norm(x_BND)
        return replace(tokens, x_BND=x_BND)


def _start(module: nn.Module) -> None:
    """Image transformers' start: small weights, no bias, and nothing from other frames yet."""
    for m in module.modules():
        if isinstance(m, nn.Linear):
            nn.init.trunc_normal_(m.weight, std=0.02)
            nn.init.zeros_(m.bias)
    for m in module.modules():
        if isinstance(m, DividedBlock):
            nn.init.zeros_(m.linear_t.weight)


@dataclass(frozen=True)
class _Family:
    """What the sizes of one family share: its clips, and how its blocks attend."""

    title: str
    paper: str
    divided: bool
    frames: int
    fps: float
    tubelet: tuple[int, int, int]

    def build(self, size: str, frames: int, side: int, tubelet: tuple[int, int, int], depth: int) -> Backbone:
        """Tubelets with their positions, ``depth`` blocks, norm. Raises UserError for a clip without a tubelet."""
        if frames < tubelet[0] or side < max(tubelet[1:]):
            raise UserError(
                f"A video transformer needs a tubelet that fits into its clip, not one of {tubelet} in {frames} frames "
                f"of {side} pixels."
            )
        width, heads = WIDTHS[size]
        t, h, w = frames // tubelet[0], side // tubelet[1], side // tubelet[2]
        grids = ((t, 1, 1), (1, h, w)) if self.divided else ((t, h, w),)
        block = DividedBlock if self.divided else JointBlock
        tubelets = Tubelets(3, width, tubelet)
        stages: dict[str, nn.Module] = {
            "tubelets": nn.Sequential(tubelets, Positions(width, grids)),
            **{f"block{number}": block(width, heads) for number in range(1, depth + 1)},
            "norm": Norm(width),
        }
        clip = ClipSpec(frames, side, self.fps, mean=HALF, std=HALF, min_frames=tubelet[0], min_size=max(tubelet[1:]))
        whole = (nn.Sequential if self.divided else JointTransformer)(OrderedDict(stages))
        network = chain(whole, feature_dim=width, strides=tubelet, clip=clip)
        _start(network)
        return network


def _builder(family: _Family, size: str, millions: int) -> Callable[..., Backbone]:
    def build(
        *,
        frames: Count = family.frames,
        side: Count = 224,
        tubelet: tuple[Count, Count, Count] = family.tubelet,
        depth: Count = DEPTH,
    ) -> Backbone:
        return family.build(size, frames, side, tubelet, depth)

    build.__doc__ = (
        f"{family.title}, {size}, {millions} M parameters ({family.paper}).\n\n"
        "``frames`` and ``side`` (pixels) are those of the clips that the learned positions are laid out for; clips\n"
        "of other sizes are taken too, with interpolated positions. ``tubelet`` is (frames, pixels, pixels)."
    )
    return build


_VIVIT = _Family(
    "ViViT with joint space-time attention", "Arnab et al., 'ViViT', ICCV 2021", False, 32, 12.5, (2, 16, 16)
)
_TIMESFORMER = _Family(
    "TimeSformer with divided space-time attention",
    "Bertasius et al., 'Is Space-Time Attention All You Need?', ICML 2021",
    True,
    8,
    0.94,
    (1, 16, 16),
)
for _size, _millions in (("tiny", 6), ("small", 23), ("base", 89)):
    BACKBONES.register(f"vivit_{_size}")(_builder(_VIVIT, _size, _millions))
for _size, _millions in (("tiny", 8), ("small", 31), ("base", 121)):
    BACKBONES.register(f"timesformer_{_size}")(_builder(_TIMESFORMER, _size, _millions))
