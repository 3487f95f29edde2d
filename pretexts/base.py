"""The contract of every pretext: it owns the choice of frames, because in video that choice is the label.

Whatever a pretext's file needs of the contract can be imported from here.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.config import make_options
from ssl_video.registry import Registry
from ssl_video.train.objective import Context, Needs, Objective, Output, Progress, Redraw, Sample
from ssl_video.video.view import Skip, View, place

__all__ = [
    "PRETEXTS",
    "Context",
    "Needs",
    "Output",
    "Pretext",
    "Progress",
    "Redraw",
    "Sample",
    "Skip",
    "View",
    "at_every_cell",
    "build_pretext",
    "place",
]


class Pretext(Objective):
    """One pretext task, an objective without labels. Every subclass is final."""

    fitted: ClassVar[tuple[str, ...]] = ()  # buffers that ``fit`` fills; random:RUN keeps those of the run

    @property
    def supervision(self) -> str:
        """What people made that it learns from beside the videos, captions say: noted with the weights. "": nothing."""
        return ""


def at_every_cell(linear: nn.Linear, features_BDthw: Tensor) -> Tensor:
    """(B, K, t, h, w): a layer made for pooled features, applied to each cell of a feature map by itself."""
    return linear(features_BDthw.movedim(1, -1)).movedim(-1, 1)


PRETEXTS: Registry[type[Pretext]] = Registry("pretext", "ssl_video.pretexts")


def build_pretext(name: str, backbone: Backbone, options: Mapping[str, object]) -> Pretext:
    """A registered pretext on ``backbone``.

    Raises:
        UserError: for unknown names and options, options out of their bounds, and clips that cannot be cut or
            that the network does not take.
    """
    cls = PRETEXTS[name]
    pretext = cls(cls.Config(**make_options(cls, f"pretext {name}", options)), backbone)
    backbone.check_clip(pretext.view.frames, pretext.view.size)  # which else a loader's worker would only say later
    return pretext
