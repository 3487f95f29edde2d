"""DINOv2 on every frame: an image transformer with layer scale, and with registers by option.

M. Oquab et al.: "DINOv2: Learning Robust Visual Features without Supervision", TMLR 2024.
T. Darcet, M. Oquab, J. Mairal, P. Bojanowski: "Vision Transformers Need Registers", ICLR 2024.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, Backbone, ClipSpec
from ssl_video.backbones.vit import VisionTransformer, as_backbone, check_heads, start_weights
from ssl_video.backbones.vit_blocks import JointBlock, Make, Positions, Told, Tubelets, norm
from ssl_video.bounds import Count, Natural, Positive
from ssl_video.capabilities import Tokens
from ssl_video.errors import UserError


class ScaledBlock(JointBlock):
    """What attention and MLP add is multiplied channel by channel, by little at the start (layer scale)."""

    def __init__(self, width: int, make: Make):
        super().__init__(width, make)
        self.scale_attention = nn.Parameter(torch.full((width,), 1e-5))
        self.scale_mlp = nn.Parameter(torch.full((width,), 1e-5))

    def _attended(self, x_BND: Tensor, told: Told | None) -> Tensor:
        x_BND = x_BND + self.scale_attention * self.attention(self.norm(x_BND), told)
        return x_BND + self.scale_mlp * self.mlp(x_BND)


class BicubicPositions(Positions):
    """A learned table over one frame, interpolated as the authors do: smoothed first in networks with registers."""

    def __init__(self, width: int, cells: int, smoothed: bool):
        super().__init__(width, ((1, cells, cells),))
        self.smoothed = smoothed

    def fitted(self, grid: tuple[int, ...]) -> Iterator[Tensor]:
        """The table (1, D, 1, h, w) for a map of ``grid`` cells."""
        (table_1D1hw,) = self.tables
        if table_1D1hw.shape[3:] != tuple(grid[1:]):
            size = tuple(grid[1:])
            table_1Dhw = F.interpolate(table_1D1hw[:, :, 0], size, mode="bicubic", antialias=self.smoothed)
            table_1D1hw = table_1Dhw[:, :, None]
        yield table_1D1hw


class FrameTransformer(VisionTransformer):
    """A vision transformer of single frames, each with a class token of its own and registers, which are not put out.

    Args:
        tubelets: of one frame each.
        positions: over one frame.
        blocks: joint ones.
        norm: the last one.
        registers: how many.
    """

    def __init__(
        self, tubelets: Tubelets, positions: Positions, blocks: list[ScaledBlock], norm: nn.Module, registers: int
    ):
        self.others = 1 + registers
        super().__init__(tubelets, positions, blocks, norm, cls=True)
        width = tubelets.projection.out_features
        self.registers = nn.Parameter(torch.randn(1, registers, width) * 0.02) if registers else None

    def start(self, clip_BCTHW: Tensor, keep_BK: Tensor | None = None) -> Tokens:
        """Frame by frame, (B T, 1 + registers + h w, D), though the grid is that of the clip."""
        frames = clip_BCTHW.shape[2]
        tokens = super().start(clip_BCTHW.transpose(1, 2).flatten(0, 1)[:, :, None], keep_BK)
        x_BND = tokens.x_BND
        if self.registers is not None:
            x_BND = torch.cat([x_BND[:, :1], self.registers.expand(len(x_BND), -1, -1), x_BND[:, 1:]], 1)
        return replace(tokens, x_BND=x_BND, grid=(frames, *tokens.grid[1:]))

    def tokens(self, clip_BCTHW: Tensor) -> Tokens:
        """The class tokens of all frames, then all cells."""
        B, T = len(clip_BCTHW), clip_BCTHW.shape[2]
        tokens = super().tokens(clip_BCTHW)
        x_BTND = tokens.x_BND.unflatten(0, (B, T))
        cells_BND = x_BTND[:, :, self.others :].flatten(1, 2)
        ids_N = torch.cat([tokens.ids_BN.new_full((T,), -1), torch.arange(cells_BND.shape[1], device=cells_BND.device)])
        return Tokens(torch.cat([x_BTND[:, :, 0], cells_BND], 1), ids_N.expand(B, -1), tokens.grid)


@BACKBONES.register("dinov2")
def dinov2(
    *,
    width: Count = 384,
    depth: Count = 12,
    heads: Count = 6,
    mlp_ratio: Positive = 4.0,
    patch: Count = 14,
    side: Count = 224,
    registers: Natural = 0,
) -> Backbone:
    """DINOv2 on every frame, 22 M parameters (Oquab et al., "DINOv2", TMLR 2024).

    ``side`` (pixels) is that of the frames that the positions are laid out for, 518 in published weights; at other
    sizes they are interpolated. ``registers`` are further tokens that are not put out. The readout ``cls`` is the mean
    of the class tokens of the frames.
    """
    check_heads(width, heads)
    if side < patch:
        raise UserError(f"side of dinov2 must be at least its patch of {patch} pixels, not {side}.")
    cells = side // patch
    network = FrameTransformer(
        Tubelets(3, width, (1, patch, patch)),
        BicubicPositions(width, cells, smoothed=registers > 0),
        [ScaledBlock(width, Make(heads, mlp_ratio)) for _ in range(depth)],
        norm(width),
        registers,
    )
    start_weights(network, "normal")
    clip = ClipSpec(8, 224, mean=IMAGENET_MEAN, std=IMAGENET_STD, min_size=patch)
    return as_backbone(network, clip)
