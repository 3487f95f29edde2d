"""C3D: eight 3x3x3 convolutions.

D. Tran, L. Bourdev, R. Fergus, L. Torresani, M. Paluri: "Learning Spatiotemporal Features with 3D Convolutional
Networks", ICCV 2015.
"""

from torch import nn

from ssl_video.backbones.base import BACKBONES, Backbone, ClipSpec, chain

CHANNELS = ((64,), (128,), (256, 256), (512, 512), (512, 512))  # of the convolutions before each pooling


@BACKBONES.register("c3d")
def c3d(*, batch_norm: bool = False) -> Backbone:
    """C3D's convolutions, 28 M parameters (Tran et al., ICCV 2015).

    The feature map is that of the last pooling; fc6 and fc7, which fix the clip's size, are left out.

    ``batch_norm`` puts a batch norm after each convolution, without which the network is hard to train from scratch.
    """
    stages: dict[str, nn.Module] = {}
    before = 3
    for number, widths in enumerate(CHANNELS, 1):
        layers: list[nn.Module] = []
        for channels in widths:
            layers.append(nn.Conv3d(before, channels, 3, padding=1, bias=not batch_norm))
            layers += [nn.BatchNorm3d(channels)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
            before = channels
        kernel = (1, 2, 2) if number == 1 else (2, 2, 2)
        layers.append(nn.MaxPool3d(kernel, padding=(0, 1, 1) if number == 5 else 0))  # 7x7 -> 4x4
        stages[f"conv{number}"] = nn.Sequential(*layers)
    clip = ClipSpec(frames=16, size=112, min_frames=16, min_size=16)
    return chain(stages, feature_dim=before, strides=(16, 32, 32), clip=clip)
