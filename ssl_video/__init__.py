"""ssl-video: pretrain video networks without labels, measure what they learned, put them to use."""

from typing import TYPE_CHECKING

from ssl_video._version import __version__
from ssl_video.errors import UserError

if TYPE_CHECKING:
    from ssl_video.model import load_backbone, load_model

__all__ = ["UserError", "__version__", "load_backbone", "load_model"]


def __getattr__(name: str):  # torch is imported only when a model is asked for
    if name in ("load_backbone", "load_model"):
        from ssl_video import model

        return getattr(model, name)
    raise AttributeError(f"module 'ssl_video' has no attribute {name!r}")
