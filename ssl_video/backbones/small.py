"""Small networks for a CPU: (2+1)D-4, R3D-10 and, for every frame by itself, a dense ResNet-8."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import BACKBONES, Backbone, ClipSpec, PerFrame, chain
from ssl_video.bounds import Count

SMALL_CLIP = ClipSpec(frames=16, size=48, mean=(0.44, 0.44, 0.44), std=(0.235, 0.235, 0.235), min_frames=1, min_size=16)


class SpatialConv(nn.Conv2d):
    """A 1xkxk convolution of clips, computed as a 2D convolution of frames, which CPUs do faster. No bias."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1):
        super().__init__(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, D, T, h, w)."""
        B, _, T = x_BCTHW.shape[:3]
        y = F.conv2d(x_BCTHW.transpose(1, 2).flatten(0, 1), self.weight, None, self.stride, self.padding)
        return y.unflatten(0, (B, T)).transpose(1, 2)


class TemporalConv(nn.Conv2d):
    """A kx1x1 convolution of clips, computed as a 2D convolution over (time, all pixels). No bias."""

    def __init__(self, channels: int, kernel: int = 3, stride: int = 1):
        super().__init__(channels, channels, (kernel, 1), (stride, 1), (kernel // 2, 0), bias=False)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, t, H, W)."""
        y = F.conv2d(x_BCTHW.flatten(3), self.weight, None, self.stride, self.padding)
        return y.unflatten(3, x_BCTHW.shape[3:])


class BasicBlock3d(nn.Module):
    """Two 3x3x3 convolutions around a shortcut (Tran et al., "A Closer Look at Spatiotemporal Convolutions", 2018)."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            conv = nn.Conv3d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm3d(channels))

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, D, t, h, w)."""
        y = torch.relu(self.bn1(self.conv1(x_BCTHW)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x_BCTHW))


class BasicBlock2d(nn.Module):
    """torchvision's ``BasicBlock``, with its names: importing that takes two seconds, as long as a short video."""

    def __init__(self, in_channels: int, channels: int, stride: int, downsample: nn.Module | None):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, h, w)."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x_BCHW)))))
        return self.relu(y + (x_BCHW if self.downsample is None else self.downsample(x_BCHW)))


@BACKBONES.register("r2plus1d_4")
def r2plus1d_4(*, width: Count = 16, strides_t: tuple[Count, ...] = (2, 2, 2, 1)) -> Backbone:
    """(2+1)D-4: four pairs of a spatial and a temporal convolution, 0.17 M parameters; made for pretraining on a CPU.

    ``width`` is the number of channels of the first stage, doubled at each further one; ``strides_t`` are the temporal
    strides of the stages.
    """
    stages: dict[str, nn.Module] = {}
    before, stride_t = 3, 1
    for number, stride in enumerate(strides_t):
        channels = width * 2**number
        between = [nn.BatchNorm3d(channels), nn.ReLU(inplace=True)] if number else []  # the first is half of the time
        stages[f"stage{number + 1}"] = nn.Sequential(
            SpatialConv(before, channels, stride=2),
            *between,
            TemporalConv(channels, stride=stride),
            nn.BatchNorm3d(channels),
            nn.ReLU(inplace=True),
        )
        before, stride_t = channels, stride_t * stride
    side = 2 ** len(strides_t)
    return chain(stages, feature_dim=before, strides=(stride_t, side, side), clip=SMALL_CLIP)


@BACKBONES.register("r3d_10")
def r3d_10(*, width: Count = 16) -> Backbone:
    """R3D-10: a stem and four basic blocks of 3x3x3 convolutions, 0.9 M parameters.

    ``width`` is the number of channels of the first block, doubled at each further one.
    """
    stem = nn.Sequential(
        nn.Conv3d(3, width, (3, 5, 5), (1, 2, 2), (1, 2, 2), bias=False), nn.BatchNorm3d(width), nn.ReLU(inplace=True)
    )
    stages: dict[str, nn.Module] = {"stem": stem}
    before = width
    for number, stride in enumerate((1, 2, 2, 2)):
        channels = width * 2**number
        stages[f"block{number + 1}"] = BasicBlock3d(before, channels, stride)
        before = channels
    return chain(stages, feature_dim=before, strides=(8, 16, 16), clip=SMALL_CLIP)


@BACKBONES.register("dense_resnet_8")
def dense_resnet_8(*, width: Count = 32) -> Backbone:
    """Dense ResNet-8: three basic blocks on every frame, with an output stride of 8, 0.3 M parameters.

    Made for correspondence on a CPU. ``width`` is the number of channels of the stem and the first block, doubled at
    each further one. Borders are reflected, as in Jabri et al., "Space-Time Correspondence as a Contrastive Random
    Walk", 2020: zeros would tell a cell where it is.
    """

    def block(before: int, channels: int, stride: int) -> nn.Module:
        shortcut = None
        if stride != 1 or before != channels:
            conv = nn.Conv2d(before, channels, 1, stride, bias=False)
            shortcut = nn.Sequential(conv, nn.BatchNorm2d(channels))
        return BasicBlock2d(before, channels, stride, shortcut)

    stem = nn.Sequential(nn.Conv2d(3, width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
    parts = {
        "stem": stem,
        "layer1": block(width, width, 2),
        "layer2": block(width, 2 * width, 2),
        "layer3": block(2 * width, 4 * width, 1),
    }
    for part in parts.values():
        for m in part.modules():
            if isinstance(m, nn.Conv2d):
                m.padding_mode = "reflect" if m.padding != (0, 0) else "zeros"
    stages = {name: PerFrame(part) for name, part in parts.items()}
    return chain(stages, feature_dim=4 * width, strides=(1, 8, 8), clip=SMALL_CLIP)
