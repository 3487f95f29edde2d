"""What is written with weights."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ssl_video._version import __version__
from ssl_video.backbones.base import Backbone
from ssl_video.datasets.base import Video
from ssl_video.pretexts.base import View


def digest(video: Video) -> str:
    """8 hexadecimal digits of a video's folder and name: enough to recognise a file that was trained on."""
    return hashlib.sha256("/".join(Path(video.source).parts[-2:]).encode()).hexdigest()[:8]


def header_of_backbone(backbone: Backbone, view: View, digests: Iterable[str]) -> dict[str, Any]:
    """What is written with any backbone's weights: what it takes to build it again and to show videos to it.

    ``digests`` are those of the videos that it was trained on.
    """
    return {
        "format": 1,
        "version": __version__,
        "architecture": backbone.provenance.architecture,
        "options": dict(backbone.provenance.options),
        "clip": asdict(backbone.clip),
        "view": asdict(view),
        "videos": sorted(digests),
    }
