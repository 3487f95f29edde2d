"""What is written with weights."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from ssl_video._version import __version__
from ssl_video.backbones.base import Backbone
from ssl_video.backbones.weights import noted_as_seen
from ssl_video.pretexts.base import View


def header_of_backbone(backbone: Backbone, view: View, seen: Iterable[str]) -> dict[str, Any]:
    """What is written with any backbone's weights: what it takes to build it again and to show videos to it.

    ``seen`` is what it was trained on: digests of videos, and names of published lists.
    """
    return {
        "format": 1,
        "version": __version__,
        "architecture": backbone.provenance.architecture,
        "options": dict(backbone.provenance.options),
        "clip": asdict(backbone.clip),
        "view": asdict(view),
        **noted_as_seen(seen),
    }
