"""What video transformers are made of: tubelets, positions, attention that is told where its tokens are, blocks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, arange, nn, zeros

from ssl_video.backbones.positions import sincos_3d, sines_1d
from ssl_video.capabilities import Tokens

Grid = tuple[int, int, int]
EPSILON = 1e-6
"""Of the layer norms of image transformers."""


class Tubelets(nn.Module):
    """Cut a clip into tubelets (t, h, w) that do not overlap, and project each; a rest at the border is left out.

    The same as a convolution whose kernel and stride are the tubelet, as one matrix product.
    """

    def __init__(self, channels: int, width: int, tubelet: Grid):
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


def resized(table_1Dthw: Tensor, size: tuple[int, ...]) -> Tensor:
    """A table of positions for a grid of another size, interpolated linearly."""
    if size == table_1Dthw.shape[2:]:
        return table_1Dthw
    return F.interpolate(table_1Dthw, size, mode="trilinear", align_corners=False)


class Positions(nn.Module):
    """Add learned tables to a map, each over the axes where its ``grids`` entry is not 1, interpolated to the map."""

    def __init__(self, width: int, grids: tuple[Grid, ...]):
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
            yield resized(table, tuple(1 if side == 1 else n for side, n in zip(table.shape[2:], grid, strict=True)))


class FixedPositions(nn.Module):
    """A table of sines that is not learned and in no file, interpolated like one that is (V-JEPA, VideoMAE)."""

    def __init__(self, width: int, grid: Grid, kind: Literal["sincos1d", "sincos3d"]):
        super().__init__()
        cells = grid[0] * grid[1] * grid[2]
        table_ND = sincos_3d(grid, width) if kind == "sincos3d" else sines_1d(arange(cells), width)
        table_1Dthw = table_ND.T.reshape(1, width, *grid)
        self.register_buffer("table", table_1Dthw.float().contiguous(), persistent=False)  # theirs is single, too

    def fitted(self, grid: tuple[int, ...]) -> Iterator[Tensor]:
        """The table (1, D, t, h, w) for a map of ``grid`` cells."""
        yield resized(self.get_buffer("table"), tuple(grid))


def embedded(
    tubelets: Tubelets, positions: Positions | FixedPositions | None, clip_BCTHW: Tensor, keep_BK: Tensor | None
) -> Tokens:
    """Tokens of the tubelets whose numbers are kept, of all by default, with positions; no others are projected."""
    pixels_BthwP = tubelets.cut(clip_BCTHW)
    B, t, h, w, P = pixels_BthwP.shape
    pixels_BNP = pixels_BthwP.flatten(1, 3)
    if keep_BK is not None:
        pixels_BNP = pixels_BNP.gather(1, keep_BK[..., None].expand(-1, -1, P))
    x_BND = tubelets.projection(pixels_BNP)
    for table_1Dthw in () if positions is None else positions.fitted((t, h, w)):
        table_ND = table_1Dthw.expand(-1, -1, t, h, w).flatten(2)[0].T
        x_BND = x_BND + (table_ND if keep_BK is None else table_ND[keep_BK])
    ids_BN = arange(t * h * w, device=clip_BCTHW.device).expand(B, -1) if keep_BK is None else keep_BK
    return Tokens(x_BND, ids_BN, (t, h, w))


@dataclass(frozen=True)
class Told:
    """What attention is told of its tokens: cosine and sine, (B, 1, N, d), that turn queries and keys; who sees whom.

    ``mask_B1NN`` is true where the token of the row sees that of the column.
    """

    cosine_B1Nd: Tensor | None = None
    sine_B1Nd: Tensor | None = None
    mask_B1NN: Tensor | None = None


def rotation(ids_BN: Tensor, grid: Grid, head: int, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine, each (B, 1, N, head), of the angles by which the place of a token turns a head of its channels.

    Each axis t, h, w turns 2 floor(floor(head / 3) / 2) channels, the rest stays. As in V-JEPA 2 the frequencies stand
    one behind the other twice, [f | f], while neighbours are turned as a pair: its two channels have two frequencies.
    That is a fault, and every published file was trained with it. A class token is not turned.
    """
    each = 2 * (head // 3 // 2)
    ids_BN = ids_BN.clamp(min=0)  # the first cell is at no angle either
    _, h, w = grid
    places_BN3 = torch.stack([ids_BN // (h * w), ids_BN // w % h, ids_BN % w], -1).to(kind)
    omega_F = 10000 ** -(arange(each // 2, device=ids_BN.device, dtype=kind) / (each / 2))
    angle_BN3F = places_BN3[..., None] * omega_F
    angle_BNd = F.pad(torch.cat([angle_BN3F, angle_BN3F], -1).flatten(2), (0, head - 3 * each))[:, None]
    return angle_BNd.cos(), angle_BNd.sin()


def turned(x_BHNd: Tensor, cosine_B1Nd: Tensor, sine_B1Nd: Tensor) -> Tensor:
    """Pairs of neighbouring channels, turned; the same shape and type."""
    across_BHNd = torch.stack([-x_BHNd[..., 1::2], x_BHNd[..., ::2]], -1).flatten(-2)
    return (x_BHNd * cosine_B1Nd + across_BHNd * sine_B1Nd).to(x_BHNd.dtype)


def block_causal(ids_BN: Tensor, grid: Grid) -> Tensor:
    """(B, 1, N, N) true where a token sees another: cells those of their own and of earlier rows of tubelets.

    A class token sees everything. No cell sees it, since it would bring back what is later.
    """
    time_BN = ids_BN.clamp(min=0) // (grid[1] * grid[2])
    is_cell_BN = ids_BN >= 0
    mask_BNN = (time_BN[:, :, None] >= time_BN[:, None]) & is_cell_BN[:, None]
    return (mask_BNN | ~is_cell_BN[:, :, None])[:, None]


class Attention(nn.Module):
    """Multi-head self-attention over the second axis."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)

    def forward(self, x_BND: Tensor, told: Told | None = None) -> Tensor:
        """The same shape."""
        q, k, v = self.qkv(x_BND).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if told is not None and told.cosine_B1Nd is not None and told.sine_B1Nd is not None:
            q, k = (turned(x, told.cosine_B1Nd, told.sine_B1Nd) for x in (q, k))
        mask = None if told is None else told.mask_B1NN
        return self.projection(F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2))


@dataclass(frozen=True)
class Make:
    """How blocks are made: heads, width of the layer between over the width, epsilon of the norms, kind of GELU."""

    heads: int
    mlp_ratio: float = 4.0
    epsilon: float = EPSILON
    gelu: Literal["none", "tanh"] = "none"


def norm(width: int, epsilon: float = EPSILON) -> nn.LayerNorm:
    """A layer norm with the epsilon of image transformers."""
    return nn.LayerNorm(width, eps=epsilon)


def mlp(width: int, make: Make) -> nn.Sequential:
    """Norm and two layers, four times as wide between if not told otherwise."""
    between = round(width * make.mlp_ratio)
    gelu = nn.GELU(approximate=make.gelu)
    return nn.Sequential(norm(width, make.epsilon), nn.Linear(width, between), gelu, nn.Linear(between, width))


class JointBlock(nn.Module):
    """Every position attends to all others of space and time, then the MLP (ViViT, model 1)."""

    def __init__(self, width: int, make: Make):
        super().__init__()
        self.norm, self.attention = norm(width, make.epsilon), Attention(width, make.heads)
        self.mlp = mlp(width, make)

    def forward(self, x: Tensor, told: Told | None = None) -> Tensor:
        """The same shape, of a map (B, D, t, h, w) or of tokens (B, N, D)."""
        if x.ndim == 3:
            return self._attended(x, told)
        x_BND = self._attended(x.flatten(2).transpose(1, 2), told)
        return x_BND.transpose(1, 2).unflatten(2, x.shape[2:])

    def tokens(self, x_BND: Tensor, told: Told | None = None) -> Tensor:
        """The same shape, of any tokens in any order. The block runs as a module: it may be sharded."""
        return self(x_BND, told)

    def _attended(self, x_BND: Tensor, told: Told | None) -> Tensor:
        x_BND = x_BND + self.attention(self.norm(x_BND), told)
        return x_BND + self.mlp(x_BND)


class DividedBlock(nn.Module):
    """A position attends to its place in all frames, then to all places of its frame, then the MLP (TimeSformer).

    The linear layer after attention over time starts at zero, as in the authors' code, so that the network starts as
    one of single frames.
    """

    def __init__(self, width: int, make: Make):
        super().__init__()
        self.norm_t, self.attention_t = norm(width, make.epsilon), Attention(width, make.heads)
        self.linear_t = nn.Linear(width, width)
        self.norm, self.attention = norm(width, make.epsilon), Attention(width, make.heads)
        self.mlp = mlp(width, make)

    def forward(self, x: Tensor, grid: tuple[int, ...] | None = None, classes: int = 0) -> Tensor:
        """The same shape, of a map (B, D, t, h, w), or of the tokens of a ``grid`` as ``whole`` takes them."""
        if grid is not None:
            return self._attended(x, grid, classes)
        x_BND = self._attended(x.flatten(2).transpose(1, 2), x.shape[2:], 0)
        return x_BND.transpose(1, 2).unflatten(2, x.shape[2:])

    def whole(self, x_BND: Tensor, grid: tuple[int, ...], classes: int) -> Tensor:
        """The same shape, of all cells of a grid, row by row, behind 0 or 1 class token; run as a module.

        That joins the attention within each frame, and what it takes from the frames is averaged (the authors' code).
        """
        return self(x_BND, grid, classes)

    def _attended(self, x_BND: Tensor, grid: tuple[int, ...], classes: int) -> Tensor:
        t, S = grid[0], grid[1] * grid[2]
        first_BcD, x_BtSD = x_BND[:, :classes], x_BND[:, classes:].unflatten(1, (t, S))
        x_BStD = x_BtSD.transpose(1, 2)
        y_NtD = self.linear_t(self.attention_t(self.norm_t(x_BStD.flatten(0, 1))))
        x_BtSD = (x_BStD + y_NtD.unflatten(0, (-1, S))).transpose(1, 2)
        frames_BtND = torch.cat([first_BcD[:, None].expand(-1, t, -1, -1), x_BtSD], 2)
        y_BtND = self.attention(self.norm(frames_BtND.flatten(0, 1))).unflatten(0, (-1, t))
        x_BtSD = x_BtSD + y_BtND[:, :, classes:]
        x_BND = torch.cat([first_BcD + y_BtND[:, :, :classes].mean(1), x_BtSD.flatten(1, 2)], 1)
        return x_BND + self.mlp(x_BND)
