"""What is written with weights, and how runs are written."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ssl_video._version import __version__
from ssl_video.backbones.base import Backbone
from ssl_video.datasets.base import Video
from ssl_video.model.base import Classifier
from ssl_video.pretexts.base import View
from ssl_video.train.checkpoint import save_weights
from ssl_video.train.objective import Objective


def digest(video: Video) -> str:
    """8 hexadecimal digits of a video's folder and name: enough to recognise a file that was trained on."""
    return hashlib.sha256("/".join(Path(video.source).parts[-2:]).encode()).hexdigest()[:8]


def header_of(
    pretext: Objective, pretext_name: str, data: Mapping[str, Any], videos: Iterable[Video]
) -> dict[str, Any]:
    """What is written with a pretraining run's weights."""
    seen = pretext.backbone.provenance.trained_on
    return {
        **header_of_backbone(pretext.backbone, pretext.view, seen | {digest(v) for v in videos}),
        "pretext": {"name": pretext_name, "options": asdict(pretext.config)},
        "data": dict(data),
    }


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


def save_run(run: Path, pretext: Objective, header: dict[str, Any]) -> None:
    """Write backbone.safetensors and pretext.safetensors (heads and fitted buffers) into the run's folder."""
    save_weights(run / "backbone.safetensors", pretext.backbone.state_dict(), header)
    heads = {k: v for k, v in pretext.state_dict().items() if not k.startswith("backbone.")}
    save_weights(run / "pretext.safetensors", heads, header)


def save_classifier(
    folder: Path, backbone: Backbone, classifier: Classifier, view: View, trained_on: Iterable[str]
) -> None:
    """Write backbone.safetensors and classifier.safetensors into a folder, which is a model from then on.

    ``trained_on``: digests of the videos.
    """
    header = {**header_of_backbone(backbone, view, trained_on), "classes": list(classifier.classes)}
    save_weights(folder / "classifier.safetensors", classifier.state_dict(), header)
    save_weights(folder / "backbone.safetensors", backbone.state_dict(), header)  # last: it makes the folder a model
