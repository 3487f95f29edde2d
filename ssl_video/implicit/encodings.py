"""Coordinates as what a small network can learn fine detail from: a grid of learned features, or waves.

The grid is that of T. Müller, A. Evans, C. Schied, A. Keller: "Instant Neural Graphics Primitives with a
Multiresolution Hash Encoding", SIGGRAPH 2022, without its CUDA; the waves are those of M. Tancik et al.: "Fourier
Features Let Networks Learn High Frequency Functions in Low Dimensional Domains", NeurIPS 2020.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PRIMES = (1, 2_654_435_761, 805_459_861)
"""What a vertex's whole coordinates are multiplied by before they are combined by XOR, as in the paper."""
START = 1e-4
"""Features begin between minus and plus this."""


def resolutions(coarsest: Sequence[int], finest: Sequence[float], levels: int) -> list[tuple[int, ...]]:
    """Cells of each level along each coordinate: a geometric row from the coarsest to the finest, rounded."""
    steps = [n / max(1, levels - 1) for n in range(levels)]
    return [tuple(max(1, round(a * (b / a) ** s)) for a, b in zip(coarsest, finest, strict=True)) for s in steps]


class HashGrid(nn.Module):
    """Features of points, interpolated linearly between the vertices of several grids over the unit square or cube.

    A level whose vertices fit into ``table`` entries has one for each; in a finer one several share an entry.

    Args:
        cells: of each level along each coordinate, see ``resolutions``.
        features: numbers of an entry.
        table: entries of a level, at most.
    """

    def __init__(self, cells: Sequence[tuple[int, ...]], features: int = 2, table: int = 1 << 18):
        super().__init__()
        self.cells, self.features = list(cells), features
        self.dense = [math.prod(n + 1 for n in level) <= table for level in cells]
        shapes = [
            (1, features, *(n + 1 for n in level[::-1])) if dense else (table, features)
            for level, dense in zip(cells, self.dense, strict=True)
        ]
        self.tables = nn.ParameterList([(torch.rand(shape) * 2 - 1) * START for shape in shapes])

    @property
    def width(self) -> int:
        """Features of a point."""
        return len(self.cells) * self.features

    def forward(self, x_ND: Tensor) -> Tensor:
        """(N, width) features of points of [0, 1]; points outside are taken to the border."""
        x_ND = x_ND.clamp(0, 1)
        levels = zip(self.cells, self.dense, self.tables, strict=True)
        return torch.cat([at_vertices(t, x_ND) if d else at_hashes(t, x_ND, c) for c, d, t in levels], 1)


def at_vertices(table: Tensor, x_ND: Tensor) -> Tensor:
    """(N, F) features of points from those of all vertices, (1, F, [Z,] Y, X)."""
    dims = x_ND.shape[1]
    places = (2 * x_ND - 1).view(1, -1, *[1] * (dims - 1), dims)
    return F.grid_sample(table, places, align_corners=True).view(table.shape[1], -1).T


def at_hashes(table_EF: Tensor, x_ND: Tensor, cells: Sequence[int]) -> Tensor:
    """(N, F) features of points from the entries that the vertices around them share with others."""
    cells_D = torch.tensor(cells, device=x_ND.device)
    place_ND = x_ND * cells_D
    low_ND = torch.minimum(place_ND.detach().long(), cells_D - 1)
    share_ND = place_ND - low_ND
    found_NF = x_ND.new_zeros(())
    for corner in itertools.product((0, 1), repeat=len(cells)):
        vertex_ND = low_ND + torch.tensor(corner, device=x_ND.device)
        weight_ND = torch.where(vertex_ND > low_ND, share_ND, 1 - share_ND)
        found_NF = found_NF + table_EF[hashed(vertex_ND, len(table_EF))] * weight_ND.prod(1, keepdim=True)
    return found_NF


def hashed(vertex_ND: Tensor, entries: int) -> Tensor:
    """(N,) entries of vertices, whole numbers: coordinates times primes, combined by XOR."""
    found_N = torch.zeros_like(vertex_ND[:, 0])
    for x_N, prime in zip(vertex_ND.unbind(1), PRIMES, strict=False):
        found_N = found_N ^ (x_N * prime)
    return found_N % entries


class Fourier(nn.Module):
    """Sines and cosines of points at fixed random frequencies, the points themselves before them.

    Args:
        bandwidth: standard deviation of the frequencies along each coordinate, in cycles over the unit cube.
        waves: how many.
        generator: of the frequencies.
    """

    frequencies_DW: Tensor

    def __init__(self, bandwidth: Sequence[float], waves: int = 64, generator: torch.Generator | None = None):
        super().__init__()
        normal_DW = torch.randn(len(bandwidth), waves, generator=generator)
        self.register_buffer("frequencies_DW", normal_DW * torch.tensor(bandwidth)[:, None])

    @property
    def width(self) -> int:
        """Features of a point."""
        dims, waves = self.frequencies_DW.shape
        return dims + 2 * waves

    def forward(self, x_ND: Tensor) -> Tensor:
        """(N, width) features of points of [0, 1]."""
        turns_NW = 2 * torch.pi * (x_ND @ self.frequencies_DW)
        return torch.cat([x_ND, turns_NW.sin(), turns_NW.cos()], 1)


def layers(widths: Sequence[int], **more: Any) -> nn.Sequential:
    """Linear layers of these widths with ReLU between them."""
    parts: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        parts += [nn.Linear(a, b, **more), nn.ReLU()]
    return nn.Sequential(*parts[:-1])
