"""2D3D-ResNets: 2D convolutions in the first two stages, 3D ones in the last two.

T. Han, W. Xie, A. Zisserman: "Video Representation Learning by Dense Predictive Coding", ICCV Workshops 2019.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ssl_video.backbones.base import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, Backbone, ClipSpec, chain
from ssl_video.backbones.resnet3d import BasicBlock, Triple, initialise, shortcut


class Bottleneck(nn.Module):
    """1x1x1, ``kernel``, 1x1x1 to four times the channels, around a shortcut; a ReLU unless ``relu`` is off."""

    def __init__(self, in_channels: int, channels: int, kernel: Triple, stride: Triple, relu: bool):
        super().__init__()
        t, h, w = kernel
        self.conv1 = nn.Conv3d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(channels)
        self.conv2 = nn.Conv3d(channels, channels, kernel, stride, (t // 2, h // 2, w // 2), bias=False)
        self.bn2 = nn.BatchNorm3d(channels)
        self.conv3 = nn.Conv3d(channels, 4 * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(4 * channels)
        self.downsample = shortcut("B", in_channels, 4 * channels, stride)
        self.relu = relu

    def forward(self, x_BDthw: Tensor) -> Tensor:
        """(B, D, t, h, w) -> (B, 4 channels, t', h', w')."""
        y = torch.relu(self.bn1(self.conv1(x_BDthw)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y)) + self.downsample(x_BDthw)
        return torch.relu(y) if self.relu else y


def _r2d3d(name: str, depths: tuple[int, int, int, int], bottleneck: bool, millions: int) -> Callable[..., Backbone]:
    def block(in_channels: int, channels: int, kernel: Triple, stride: Triple, relu: bool) -> nn.Module:
        if bottleneck:
            return Bottleneck(in_channels, channels, kernel, stride, relu)
        return BasicBlock(in_channels, channels, kernel, stride, relu=relu)

    def build() -> Backbone:
        stages: dict[str, nn.Module] = {
            "stem": nn.Sequential(
                nn.Conv3d(3, 64, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
                nn.BatchNorm3d(64),
                nn.ReLU(inplace=True),
                nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            )
        }
        before = 64
        for number, (depth, channels) in enumerate(zip(depths, (64, 128, 256, 256), strict=True), 1):
            kernel = (1, 3, 3) if number <= 2 else (3, 3, 3)
            stride = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2))[number - 1]
            layer = nn.Sequential()
            for i in range(depth):
                last = number == 4 and i == depth - 1
                layer.append(block(before, channels, kernel, (1, 1, 1) if i else stride, relu=not last))
                before = channels * (4 if bottleneck else 1)
            stages[f"layer{number}"] = layer
        initialise(nn.ModuleDict(stages))
        clip = ClipSpec(frames=5, size=128, fps=10.0, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        return chain(stages, feature_dim=before, strides=(4, 32, 32), clip=clip)

    build.__doc__ = (
        f"{name}, {millions} M parameters (Han et al., 'Video Representation Learning by Dense Predictive Coding', "
        "2019).\n\n"
        "The last stage has no more channels than the third, and no ReLU at its end: its output is what dense "
        "predictive coding predicts. Five frames of 128x128 become 2x4x4 cells."
    )
    return build


BACKBONES.register("r2d3d_18")(_r2d3d("2D3D-ResNet-18", (2, 2, 2, 2), False, 14))
BACKBONES.register("r2d3d_34")(_r2d3d("2D3D-ResNet-34", (3, 4, 6, 3), False, 32))
BACKBONES.register("r2d3d_50")(_r2d3d("2D3D-ResNet-50", (3, 4, 6, 3), True, 24))
