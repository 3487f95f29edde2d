"""Networks of PyTorchVideo, without their heads; the package is imported when one is built."""

import importlib
import warnings
from types import ModuleType

from torch import nn

from ssl_video.backbones.base import BACKBONES, Backbone, ClipSpec
from ssl_video.backbones.weights import Published
from ssl_video.errors import UserError

STAGES: tuple[str, ...] = ("stem", "res2", "res3", "res4", "res5")
MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)


def _backbone(net: nn.Module, feature_dim: int, clip: ClipSpec) -> Backbone:
    """The blocks before the head: stem, res2, ..., res5."""
    *blocks, _ = net.get_submodule("blocks").children()
    stages: dict[str, nn.Module] = dict(zip(STAGES, blocks, strict=True))
    published = Published(net, heads=(f"blocks.{len(blocks)}.",))
    return Backbone(stages, feature_dim=feature_dim, strides=(1, 32, 32), clip=clip, published=published)


def _hub() -> ModuleType:
    try:
        with warnings.catch_warnings():  # fvcore compiles a loss with torch.jit.script, which is deprecated
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)  # which older torch calls by this name
            return importlib.import_module("pytorchvideo.models.hub")
    except ImportError as error:
        raise UserError(f"This network needs PyTorchVideo ({error}): pip install pytorchvideo.") from None


@BACKBONES.register("slow_r50")
def slow_r50() -> Backbone:
    """Slow-R50 8x8, 32 M parameters (Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019)."""
    clip = ClipSpec(frames=8, size=224, fps=3.75, mean=MEAN, std=STD)
    return _backbone(_hub().slow_r50(), 2048, clip)


@BACKBONES.register("x3d_s")
def x3d_s() -> Backbone:
    """X3D-S, 2 M parameters (Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition", CVPR 2020).

    Its features are those of res5; the wide layers after it belong to the head.
    """
    clip = ClipSpec(frames=13, size=160, fps=5.0, mean=MEAN, std=STD)
    net = _hub().x3d_s()
    for m in list(net.modules()):
        for name, child in m.named_children():
            if type(child).__name__ == "Swish":  # the same function, whose backward pass uses what torch will remove
                m.register_module(name, nn.SiLU())
    return _backbone(net, 192, clip)
