"""The weight gradients of every convolution over time that the registered networks have, against float64."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from torch import nn

from ssl_video.backbones.base import BACKBONES, build_backbone
from ssl_video.backbones.small import TemporalConv
from ssl_video.train.precision import fp32_where_bf16_is_wrong


class Geometry(NamedTuple):
    """What decides which kernel computes a convolution, but for the number of channels."""

    kind: type[nn.Conv3d] | type[TemporalConv]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    depthwise: bool
    frames: int


def geometries_of(name: str) -> Iterator[Geometry]:
    """The geometries that a network meets in clips of 16 and of 8 frames; found without computing anything."""
    found: list[Geometry] = []

    def note(conv: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(conv, nn.Conv3d | TemporalConv)
        padding = conv.padding
        assert not isinstance(padding, str) and set(conv.dilation) == {1}
        kind = nn.Conv3d if isinstance(conv, nn.Conv3d) else TemporalConv
        frames = args[0].shape[2]
        found.append(Geometry(kind, conv.kernel_size, conv.stride, padding, conv.groups > 1, frames))

    with torch.device("meta"), torch.no_grad():
        backbone = build_backbone(name).eval()
        for m in backbone.modules():
            if isinstance(m, nn.Conv3d | TemporalConv):
                m.register_forward_pre_hook(note)
        spec = backbone.clip
        size = spec.size if spec.fixed_size else max(64, spec.min_size)
        for frames in (spec.frames,) if spec.fixed_frames else (16, 8):
            if frames >= spec.min_frames:
                backbone(torch.empty(1, spec.channels, frames, size, size))
    yield from found


@pytest.fixture(scope="module")
def geometries() -> list[Geometry]:
    found = {geometry for name in BACKBONES.names() for geometry in geometries_of(name)}
    assert any(g.kernel[0] > g.frames for g in found)  # the ones for which the guard is there
    return sorted(found, key=str)


def conv_and_clip(geometry: Geometry) -> tuple[nn.Module, torch.Tensor]:
    """Two channels, and a clip of that geometry."""
    if geometry.kind is TemporalConv:
        conv: nn.Module = TemporalConv(2, geometry.kernel[0], geometry.stride[0])
    else:
        kernel, stride, padding = geometry.kernel, geometry.stride, geometry.padding
        conv = nn.Conv3d(2, 2, kernel, stride, padding, groups=2 if geometry.depthwise else 1, bias=False)  # pyright: ignore
    return conv, torch.randn(2, 2, geometry.frames, 8, 8)


def weight_gradient(conv: nn.Module, clip: torch.Tensor) -> torch.Tensor:
    y = conv(clip)
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(y.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((y.double() * direction).sum(), list(conv.parameters()))
    return gradient.double()


def test_under_bf16_the_weight_gradients_of_all_geometries_are_those_of_float64(geometries):
    torch.manual_seed(0)
    wrong = []
    for geometry in geometries:
        conv, clip = conv_and_clip(geometry)
        fp32_where_bf16_is_wrong(conv)
        with torch.autocast("cpu", torch.bfloat16):
            found = weight_gradient(conv, clip)
        exact = weight_gradient(conv.double(), clip.double())
        if not (found - exact).norm() <= 0.02 * exact.norm():  # bf16 keeps 8 bits; NaN is wrong too
            wrong.append(geometry)
    assert not wrong


def test_under_bf16_only_layers_with_fewer_frames_than_their_kernel_stay_in_fp32(geometries):
    for geometry in geometries:
        conv, clip = conv_and_clip(geometry)
        fp32_where_bf16_is_wrong(conv)
        with torch.autocast("cpu", torch.bfloat16):
            dtype = conv(clip).dtype
        assert dtype == (torch.float32 if geometry.kernel[0] > geometry.frames else torch.bfloat16), geometry
