"""Networks of PyTorchVideo, without their heads; the package is imported when one is built.

Published weights are the checkpoints of PyTorchVideo's model zoo.
"""

import importlib
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import BACKBONES, Backbone, ClipSpec, chain
from ssl_video.backbones.weights import Published
from ssl_video.errors import needs

STAGES = ("stem", "res2", "res3", "res4", "res5")
MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)


def network(name: str) -> nn.Module:
    """The network that PyTorchVideo calls ``name``, with fresh weights. Raises UserError if the package is missing."""
    try:
        with warnings.catch_warnings():  # fvcore compiles a loss with torch.jit.script, which is deprecated
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)  # which older torch calls by this name
            hub = importlib.import_module("pytorchvideo.models.hub")
    except ImportError as error:
        raise needs(f"This network ({error})", "pytorchvideo") from None
    return getattr(hub, name)()


def without_head(net: nn.Module, feature_dim: int, strides: tuple[int, int, int], clip: ClipSpec) -> Backbone:
    """The blocks before the head, as stem, res2, ..., res5; a pooling between two belongs to the first."""
    *blocks, _ = net.get_submodule("blocks").children()
    parts: list[list[nn.Module]] = []
    for block in blocks:
        if isinstance(block, nn.MaxPool3d):
            parts[-1].append(block)
        else:
            parts.append([block])
    stages: dict[str, nn.Module] = {
        name: part[0] if len(part) == 1 else nn.Sequential(*part) for name, part in zip(STAGES, parts, strict=True)
    }
    published = Published(net, heads=(f"blocks.{len(blocks)}.",))
    return chain(stages, feature_dim=feature_dim, strides=strides, clip=clip, published=published)


def clip_of(frames: int, every: int, size: int = 224, min_frames: int = 1) -> ClipSpec:
    """A clip of every ``every``-th frame of a video of 30 frames/s."""
    return ClipSpec(frames=frames, size=size, fps=30.0 / every, mean=MEAN, std=STD, min_frames=min_frames)


@BACKBONES.register("slow_r50")
def slow_r50() -> Backbone:
    """Slow-R50 8x8, 32 M parameters (Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019)."""
    return without_head(network("slow_r50"), 2048, (1, 32, 32), clip_of(8, 8))


@BACKBONES.register("c2d_r50")
def c2d_r50() -> Backbone:
    """C2D-R50 8x8, 24 M parameters: 2D convolutions, one pooling in time (Wang et al., "Non-local ...", CVPR 2018)."""
    return without_head(network("c2d_r50"), 2048, (2, 32, 32), clip_of(8, 8, min_frames=2))


@BACKBONES.register("i3d_r50")
def i3d_r50() -> Backbone:
    """I3D-R50 8x8, 28 M parameters: 1x1 convolutions inflated to 3x1x1 (Wang et al., "Non-local ...", CVPR 2018)."""
    return without_head(network("i3d_r50"), 2048, (2, 32, 32), clip_of(8, 8, min_frames=2))


@BACKBONES.register("r2plus1d_r50")
def r2plus1d_r50() -> Backbone:
    """R(2+1)D-R50 16x4, 28 M parameters (Tran et al., "A Closer Look at Spatiotemporal Convolutions", CVPR 2018)."""
    return without_head(network("r2plus1d_r50"), 2048, (4, 32, 32), clip_of(16, 4))


@BACKBONES.register("csn_r101")
def csn_r101() -> Backbone:
    """CSN-R101 32x2, 22 M parameters (Tran et al., "Channel-Separated Convolutional Networks", ICCV 2019)."""
    return without_head(network("csn_r101"), 2048, (8, 32, 32), clip_of(32, 2))


class SlowFast(nn.Module):
    """Both pathways of a SlowFast network on one clip: the fast one sees all frames, the slow one every alpha-th.

    At the end the fast pathway is averaged over time to the length of the slow one and put behind it.
    """

    def __init__(self, blocks: list[nn.Module], alpha: int):
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.alpha = alpha

    def forward(self, clip_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, D_slow + D_fast, T/alpha, h, w)."""
        slow, fast = self.blocks([clip_BCTHW[:, :, :: self.alpha], clip_BCTHW])
        return torch.cat([slow, F.adaptive_avg_pool3d(fast, slow.shape[2:])], dim=1)


@BACKBONES.register("slowfast_r50")
def slowfast_r50() -> Backbone:
    """SlowFast-R50 8x8, 34 M parameters (Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019).

    Its two pathways, of 2048 and 256 channels, are one stage, because they exchange features all the way. The slow one
    takes every 4th of the 32 frames.
    """
    net = network("slowfast_r50")
    *blocks, _concat, _head = net.get_submodule("blocks").children()
    return chain(
        {"pathways": SlowFast(blocks, alpha=4)},
        feature_dim=2048 + 256,
        strides=(4, 32, 32),
        clip=clip_of(32, 2),
        published=Published(net, heads=("blocks.6.",)),
    )


def _x3d(name: str, frames: int, every: int, size: int, millions: int) -> Callable[..., Backbone]:
    def build() -> Backbone:
        net = network(name)
        for m in list(net.modules()):
            for child_name, child in m.named_children():
                if type(child).__name__ == "Swish":  # the same function; its backward pass uses what torch will remove
                    m.register_module(child_name, nn.SiLU())
        return without_head(net, 192, (1, 32, 32), clip_of(frames, every, size))

    build.__doc__ = (
        f"{name.upper().replace('_', '-')}, {millions} M parameters (Feichtenhofer, 'X3D: Expanding Architectures for "
        "Efficient Video Recognition', CVPR 2020).\n\nIts features are those of res5; the wide layers after it belong "
        "to the head."
    )
    return build


for _name, _frames, _every, _size, _millions in (
    ("x3d_xs", 4, 12, 160, 2),
    ("x3d_s", 13, 6, 160, 2),
    ("x3d_m", 16, 5, 224, 2),
    ("x3d_l", 16, 5, 312, 4),
):
    BACKBONES.register(_name)(_x3d(_name, _frames, _every, _size, _millions))
