"""3D-ResNets: every convolution of a ResNet in three dimensions, halving time where it halves space.

K. Hara, H. Kataoka, Y. Satoh: "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?", CVPR 2018.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import BACKBONES, Backbone, ClipSpec, chain
from ssl_video.backbones.weights import Published

Triple = tuple[int, int, int]
Shortcut = Literal["A", "B"]


class Subsample(nn.Module):
    """The shortcut of type A: every stride-th cell, and zeros for the channels that the input lacks. No parameters."""

    def __init__(self, channels: int, stride: Triple):
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x_BDthw: Tensor) -> Tensor:
        """(B, D, t, h, w) -> (B, channels, t', h', w')."""
        t, h, w = self.stride
        x_BDthw = x_BDthw[:, :, ::t, ::h, ::w]
        return F.pad(x_BDthw, (0, 0, 0, 0, 0, 0, 0, self.channels - x_BDthw.shape[1]))


def shortcut(kind: Shortcut, in_channels: int, channels: int, stride: Triple) -> nn.Module:
    """Around a block: the identity where it can be, else ``Subsample`` (A), or a 1x1x1 convolution with norm (B)."""
    if stride == (1, 1, 1) and in_channels == channels:
        return nn.Identity()
    if kind == "A":
        return Subsample(channels, stride)
    return nn.Sequential(nn.Conv3d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm3d(channels))


class BasicBlock(nn.Module):
    """Two convolutions of one ``kernel`` around a shortcut, and a ReLU unless ``relu`` is off."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: Triple,
        stride: Triple = (1, 1, 1),
        kind: Shortcut = "B",
        relu: bool = True,
    ):
        super().__init__()
        t, h, w = kernel
        padding = (t // 2, h // 2, w // 2)
        self.conv1 = nn.Conv3d(in_channels, channels, kernel, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm3d(channels)
        self.conv2 = nn.Conv3d(channels, channels, kernel, 1, padding, bias=False)
        self.bn2 = nn.BatchNorm3d(channels)
        self.downsample = shortcut(kind, in_channels, channels, stride)
        self.relu = relu

    def forward(self, x_BDthw: Tensor) -> Tensor:
        """(B, D, t, h, w) -> (B, channels, t', h', w')."""
        y = torch.relu(self.bn1(self.conv1(x_BDthw)))
        y = self.bn2(self.conv2(y)) + self.downsample(x_BDthw)
        return torch.relu(y) if self.relu else y


def initialise(net: nn.Module) -> None:
    """He's initialisation of the convolutions, by their outputs, as Hara's code and those after it have it."""
    for m in net.modules():
        if isinstance(m, nn.Conv3d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")


def _resnet3d(name: str, depths: tuple[int, int, int, int], millions: int) -> Callable[..., Backbone]:
    def build(*, shortcut: Shortcut = "A") -> Backbone:
        net = nn.Module()  # under the names of Hara's files
        net.conv1 = nn.Conv3d(3, 64, 7, (1, 2, 2), 3, bias=False)
        net.bn1 = nn.BatchNorm3d(64)
        before = 64
        for number, (depth, channels) in enumerate(zip(depths, (64, 128, 256, 512), strict=True), 1):
            stride = (1, 1, 1) if number == 1 else (2, 2, 2)
            blocks = [BasicBlock(before, channels, (3, 3, 3), stride, shortcut)]
            blocks += [BasicBlock(channels, channels, (3, 3, 3)) for _ in range(depth - 1)]
            net.add_module(f"layer{number}", nn.Sequential(*blocks))
            before = channels
        initialise(net)
        stages: dict[str, nn.Module] = {
            "stem": nn.Sequential(net.conv1, net.bn1, nn.ReLU(inplace=True), nn.MaxPool3d(3, 2, 1)),
            **{f"layer{number}": net.get_submodule(f"layer{number}") for number in (1, 2, 3, 4)},
        }
        clip, published = ClipSpec(frames=16, size=112), Published(net, heads=("fc.",))
        return chain(stages, feature_dim=512, strides=(16, 32, 32), clip=clip, published=published)

    build.__doc__ = (
        f"{name}, {millions} M parameters (Hara et al., 'Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and "
        "ImageNet?', CVPR 2018).\n\n"
        "Unlike R3D it begins with 7x7x7 and a pooling. ``shortcut`` is A (zeros for new channels, the paper's for 18 "
        "and 34 layers) or B (1x1x1 convolutions)."
    )
    return build


BACKBONES.register("resnet3d_18")(_resnet3d("3D-ResNet-18", (2, 2, 2, 2), 33))
BACKBONES.register("resnet3d_34")(_resnet3d("3D-ResNet-34", (3, 4, 6, 3), 63))
