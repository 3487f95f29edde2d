"""ssl-video: pretrain video networks without labels, measure what they learned, put them to use."""

from typing import TYPE_CHECKING

from ssl_video._version import __version__
from ssl_video.errors import UserError

if TYPE_CHECKING:
    from ssl_video.api import compare, embed, evaluate, index, pretrain, search, track
    from ssl_video.api_video import generate, represent
    from ssl_video.apps.catalogue import (
        list_backbones,
        list_datasets,
        list_encoders,
        list_pretexts,
        list_protocols,
        list_recipes,
        list_tables,
        list_weights,
    )
    from ssl_video.model import load_backbone, load_model
    from ssl_video.pretrain_config import PretrainConfig
    from ssl_video.run import Run

__all__ = [
    "PretrainConfig",
    "Run",
    "UserError",
    "__version__",
    "compare",
    "embed",
    "evaluate",
    "generate",
    "index",
    "list_backbones",
    "list_datasets",
    "list_encoders",
    "list_pretexts",
    "list_protocols",
    "list_recipes",
    "list_tables",
    "list_weights",
    "load_backbone",
    "load_model",
    "pretrain",
    "represent",
    "search",
    "track",
]

_HOMES = {
    "PretrainConfig": "pretrain_config",
    "Run": "run",
    "generate": "api_video",
    "load_backbone": "model",
    "load_model": "model",
    "represent": "api_video",
}


def __getattr__(name: str):  # torch is imported only when something is asked for
    if name in __all__:
        import importlib

        home = "apps.catalogue" if name.startswith("list_") else _HOMES.get(name, "api")
        return getattr(importlib.import_module(f"ssl_video.{home}"), name)
    raise AttributeError(f"module 'ssl_video' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
