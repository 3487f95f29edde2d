"""T-CAM: a VGG-16 on segments of stacked flow, fused by convolutions so that the answer can be located in the frame.

D. Wei, J. Lim, A. Zisserman, W. T. Freeman: "Learning and Using the Arrow of Time", CVPR 2018.
"""

from torch import Tensor, nn

from ssl_video.backbones.base import BACKBONES, FLOW_MEAN, FLOW_STD, Backbone, ClipSpec, PerFrame, chain
from ssl_video.backbones.two_stream import LENGTH, stacked
from ssl_video.bounds import Count, LessThanOne

CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # between poolings
FUSED = 1024


class Segments(nn.Module):
    """Every ten flow fields as one image of 20 channels, as in two-stream networks; their means are left in."""

    def forward(self, flow_BCTHW: Tensor) -> Tensor:
        """(B, 2, T, H, W) -> (B, 20, T/10, H, W)."""
        return stacked(flow_BCTHW)


class Fusion(nn.Module):
    """The segments' channels side by side, and two convolutions of space."""

    def __init__(self, segments: int, dropout: float):
        super().__init__()
        self.layers = nn.Sequential(
            *conv(segments * CHANNELS[-1][-1], FUSED), nn.Dropout(dropout), *conv(FUSED, FUSED), nn.Dropout(dropout)
        )

    def forward(self, x_BDThw: Tensor) -> Tensor:
        """(B, 512, segments, h, w) -> (B, 1024, 1, h, w)."""
        return self.layers(x_BDThw.transpose(1, 2).flatten(1, 2)).unsqueeze(2)


def conv(in_channels: int, channels: int) -> list[nn.Module]:
    """3x3 convolution, ReLU, and only then the batch norm, as in the authors' code."""
    return [
        nn.Conv2d(in_channels, channels, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(channels, eps=1e-3),
    ]


@BACKBONES.register("tcam")
def tcam(*, segments: Count = 2, dropout: LessThanOne = 0.5) -> Backbone:
    """T-CAM on flow, 34 M parameters (Wei et al., "Learning and Using the Arrow of Time", CVPR 2018).

    ``segments`` of ten flow fields each go through one VGG-16 without its last pooling (stages conv1 to conv5); stage
    fusion puts their features side by side and ends in 1024 channels, 14x14 cells for 224x224. A class activation map
    is the linear classifier of their average, applied to every cell. ``dropout`` follows both convolutions of fusion.
    """
    stages: dict[str, nn.Module] = {"segments": Segments()}
    before = 2 * LENGTH
    for number, widths in enumerate(CHANNELS, 1):
        layers: list[nn.Module] = [] if number == 1 else [nn.MaxPool2d(2)]
        for channels in widths:
            layers += conv(before, channels)
            before = channels
        stages[f"conv{number}"] = PerFrame(nn.Sequential(*layers))
    stages["fusion"] = Fusion(segments, dropout)
    clip = ClipSpec(
        frames=segments * LENGTH,
        size=224,
        modality="flow",
        channels=2,
        mean=FLOW_MEAN,
        std=FLOW_STD,
        min_size=16,
        fixed_frames=True,
    )
    return chain(stages, feature_dim=FUSED, strides=(segments * LENGTH, 16, 16), clip=clip)
