"""S3D-G: Inception with separable convolutions and feature gating, and its variant that keeps every frame.

S. Xie, C. Sun, J. Huang, Z. Tu, K. Murphy: "Rethinking Spatiotemporal Feature Learning", ECCV 2018.
"""

import torch
from torch import Tensor, nn

from ssl_video.backbones.base import BACKBONES, Backbone, ClipSpec, chain

# output channels of an Inception block: 1x1 | 1x1, 3x3x3 | 1x1, 3x3x3 | pool, 1x1
WIDTHS = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}


class FeatureGating(nn.Module):
    """Scale every channel by a sigmoid of the clip's mean features."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x_BDthw: Tensor) -> Tensor:
        """The same shape."""
        gate_BD = torch.sigmoid(self.fc(x_BDthw.mean((2, 3, 4))))
        return x_BDthw * gate_BD[:, :, None, None, None]


def conv(in_channels: int, channels: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    t, h, w = kernel
    convolution = nn.Conv3d(in_channels, channels, kernel, stride, (t // 2, h // 2, w // 2), bias=False)
    return nn.Sequential(convolution, nn.BatchNorm3d(channels, eps=1e-3), nn.ReLU(inplace=True))


def pointwise(in_channels: int, channels: int) -> nn.Sequential:
    """A 1x1x1 convolution."""
    return conv(in_channels, channels, (1, 1, 1), (1, 1, 1))


def separable(in_channels: int, channels: int, k: int, stride: int = 1, stride_t: int = 1) -> nn.Sequential:
    """1 x k x k in space, then k x 1 x 1 in time, then gating."""
    return nn.Sequential(
        conv(in_channels, channels, (1, k, k), (1, stride, stride)),
        conv(channels, channels, (k, 1, 1), (stride_t, 1, 1)),
        FeatureGating(channels),
    )


class Inception(nn.Module):
    """Four branches side by side, with ``widths`` as in WIDTHS."""

    def __init__(self, in_channels: int, widths: tuple[int, int, int, int, int, int]):
        super().__init__()
        a, b1, b, c1, c, d = widths
        self.branch0 = pointwise(in_channels, a)
        self.branch1 = nn.Sequential(pointwise(in_channels, b1), separable(b1, b, 3))
        self.branch2 = nn.Sequential(pointwise(in_channels, c1), separable(c1, c, 3))
        self.branch3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), pointwise(in_channels, d))
        self.channels = a + b + c + d

    def forward(self, x_BDthw: Tensor) -> Tensor:
        """(B, D, t, h, w) -> (B, D', t, h, w)."""
        branches = (self.branch0, self.branch1, self.branch2, self.branch3)
        return torch.cat([branch(x_BDthw) for branch in branches], dim=1)


@BACKBONES.register("s3dg")
def s3dg(*, temporal_stride: bool = True) -> Backbone:
    """S3D-G, 9 M parameters; SpeedNet's backbone with ``temporal_stride`` off (Benaim et al., CVPR 2020).

    Without temporal strides T x N x N x 3 becomes T x N/32 x N/32 x 1024, so that every frame has its features.
    """
    stride_t = 2 if temporal_stride else 1
    half_space = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
    stages: dict[str, nn.Module] = {
        "conv1": nn.Sequential(separable(3, 64, 7, 2, stride_t), half_space),
        "conv2": nn.Sequential(pointwise(64, 64), separable(64, 192, 3), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))),
    }
    channels = 192
    pools = {
        "4b": nn.MaxPool3d(3, (stride_t, 2, 2), 1),
        "5b": nn.MaxPool3d((stride_t, 2, 2), (stride_t, 2, 2)),
    }
    for name, widths in WIDTHS.items():
        block = Inception(channels, widths)
        stages[f"mixed{name}"] = nn.Sequential(pools[name], block) if name in pools else block
        channels = block.channels
    clip = ClipSpec(frames=64, size=224, min_frames=8 if temporal_stride else 1, min_size=32)
    return chain(stages, feature_dim=channels, strides=(stride_t**3, 32, 32), clip=clip)
