"""What a network costs: multiply-adds, found on torch's meta device without computing anything."""

from dataclasses import dataclass

import torch
from torch import nn

from ssl_video.backbones.base import build_backbone


@dataclass(frozen=True)
class Cost:
    """A network on one clip: numbers of parameters and of multiply-adds; (C, T, H, W), (D, t, h, w); strides."""

    parameters: int
    multiply_adds: int
    clip: tuple[int, ...]
    features: tuple[int, ...]
    strides: tuple[int, int, int]


def cost_of(name: str, size: tuple[int, int, int] | None = None) -> Cost:
    """The cost of the backbone called ``name`` on a clip of ``size`` (T, H, W), else of the size it was designed for.

    Raises:
        UserError: if there is no such backbone, or it does not take such a clip.
    """
    with torch.device("meta"):
        backbone = build_backbone(name).eval()
        spec = backbone.clip
        clip_BCTHW = torch.empty(1, spec.channels, *(size or (spec.frames, spec.size, spec.size)))
    parameters = sum(p.numel() for p in backbone.parameters())
    count, features = multiply_adds(backbone, clip_BCTHW)
    return Cost(parameters, count, tuple(clip_BCTHW.shape[1:]), tuple(features.shape[1:]), backbone.strides)


def multiply_adds(network: nn.Module, x: torch.Tensor) -> tuple[int, torch.Tensor]:
    """Multiply-adds of the convolutions and matrix products of ``network`` on ``x``, and its output."""
    from torch.utils.flop_counter import FlopCounterMode  # it takes triton with it

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        y = network(x)
    return counter.get_total_flops() // 2, y
