"""Networks of PyTorchVideo, without their heads; the package is imported when one is built.

``weights`` is a checkpoint of PyTorchVideo's model zoo.
"""

import importlib
import warnings
from types import ModuleType

from torch import nn

from ssl_video.backbones.base import BACKBONES, Backbone, ClipSpec
from ssl_video.backbones.weights import load_weights
from ssl_video.errors import UserError

MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)


def _stages(net: nn.Module, weights: str | None) -> dict[str, nn.Module]:
    """The blocks before the head: stem, res2, ..., res5."""
    *blocks, _ = net.get_submodule("blocks").children()
    if weights is not None:
        load_weights(net, weights, heads=(f"blocks.{len(blocks)}.",))
    return dict(zip(("stem", "res2", "res3", "res4", "res5"), blocks, strict=True))


def _hub() -> ModuleType:
    try:
        with warnings.catch_warnings():  # fvcore compiles a loss with torch.jit.script, which is deprecated
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)  # which older torch calls by this name
            return importlib.import_module("pytorchvideo.models.hub")
    except ImportError as error:
        raise UserError(f"This network needs PyTorchVideo ({error}): pip install pytorchvideo.") from None


@BACKBONES.register("slow_r50")
def slow_r50(*, weights: str | None = None) -> Backbone:
    """Slow-R50 8x8, 32 M parameters (Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019)."""
    clip = ClipSpec(frames=8, size=224, fps=3.75, mean=MEAN, std=STD)
    stages = _stages(_hub().slow_r50(), weights)
    return Backbone(stages, feature_dim=2048, strides=(1, 32, 32), clip=clip)


@BACKBONES.register("x3d_s")
def x3d_s(*, weights: str | None = None) -> Backbone:
    """X3D-S, 2 M parameters (Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition", CVPR 2020).

    Its features are those of res5; the wide layers after it belong to the head.
    """
    clip = ClipSpec(frames=13, size=160, fps=5.0, mean=MEAN, std=STD)
    net = _hub().x3d_s()
    for m in list(net.modules()):
        for name, child in m.named_children():
            if type(child).__name__ == "Swish":  # the same function, whose backward pass uses what torch will remove
                m.register_module(name, nn.SiLU())
    return Backbone(_stages(net, weights), feature_dim=192, strides=(1, 32, 32), clip=clip)
