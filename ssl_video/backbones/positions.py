"""Fixed tables of positions: sines and cosines over one axis or three, as masked video models add them to tokens."""

import torch
from torch import Tensor


def sines_1d(positions_N: Tensor, width: int) -> Tensor:
    r"""(N, D) of alternating sines and cosines, float64, over the number of a token.

    Channel j of position n is the sine (j even) or cosine (j odd) of $n / 10000^{2 \lfloor j / 2 \rfloor / D}$.
    VideoMAE numbers tubelets row by row: its table knows no axes.
    """
    channel_D = torch.arange(width, dtype=torch.float64)
    angle_ND = positions_N.double()[:, None] / 10000 ** (2 * (channel_D // 2) / width)
    return torch.where(channel_D % 2 == 0, angle_ND.sin(), angle_ND.cos())


def halves_1d(positions_N: Tensor, width: int) -> Tensor:
    r"""(N, D) of all sines, then all cosines, float64: $\sin(n \omega_i)$ with $\omega_i = 10000^{-2 i / D}$."""
    omega_H = 10000 ** (-torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angle_NH = positions_N.double()[:, None] * omega_H
    return torch.cat([angle_NH.sin(), angle_NH.cos()], 1)


def sincos_3d(grid: tuple[int, int, int], width: int, uniform: bool = True) -> Tensor:
    """(t h w, D) of the cells row by row, float64: ``halves_1d`` of each axis, one behind the other.

    ``uniform``: every axis has as many channels, 2 ceil(D / 6), and the last ones are cut off (V-JEPA's
    uniform_power); else time has half of them and the others a quarter each.
    """
    each = 2 * -(-width // 6)
    widths = (each, each, each) if uniform else (width // 2, width // 4, width // 4)
    axes = torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij")
    parts = [halves_1d(axis.flatten(), channels) for axis, channels in zip(axes, widths, strict=True)]
    return torch.cat(parts, 1)[:, :width]


def sincos_2d(grid: tuple[int, int], width: int) -> Tensor:
    """(h w, D) of the cells row by row, float64: half of the channels are of x, half of y, in this order (MAE)."""
    y, x = torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij")
    return torch.cat([halves_1d(axis.flatten(), width // 2) for axis in (x, y)], 1)
