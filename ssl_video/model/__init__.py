"""A network as evaluations and applications hold it; names to models; what is written with weights."""

from ssl_video.model.base import Classifier, Model
from ssl_video.model.default import default_model, default_name
from ssl_video.model.finite import LARGEST, check_features, count_bad
from ssl_video.model.loading import (
    A_MODEL,
    anywhere,
    load_backbone,
    load_model,
    load_model_or_encoder,
    names_encoder,
    untrained_twin,
)
from ssl_video.model.readout import READOUTS, class_token, pool
from ssl_video.model.saving import header_of_backbone
from ssl_video.model.seen import digest, seen_among

__all__ = [
    "A_MODEL",
    "LARGEST",
    "READOUTS",
    "Classifier",
    "Model",
    "anywhere",
    "check_features",
    "class_token",
    "count_bad",
    "default_model",
    "default_name",
    "digest",
    "header_of_backbone",
    "load_backbone",
    "load_model",
    "load_model_or_encoder",
    "names_encoder",
    "pool",
    "seen_among",
    "untrained_twin",
]
