"""The weights that torchvision publishes for its networks of images and of videos, as its own tables describe them."""

import re

from torchvision.models import Weights, get_model_weights, list_models, video

from ssl_video.backbones.weights.entries import WEIGHTS, Entry

IMAGE_NETWORKS = ("alexnet", "googlenet", "resnet*", "vgg*")
"""Those that backbones are made of."""


def entry_of(weights: Weights) -> Entry:
    """What torchvision says of a file. Its name ends in the first digits of its digest."""
    digits = re.search(r"-([0-9a-f]{8,})\.pth$", weights.url)
    seen = weights.transforms()
    return Entry(
        source=weights.url,
        mean=tuple(seen.mean),
        std=tuple(seen.std),
        sha256=digits[1] if digits else "",
        licence="not stated; torchvision refers to the terms of the data set",
        trained_on=", ".join(weights.meta["_metrics"]),
    )


for _network in (*list_models(include=IMAGE_NETWORKS), *list_models(video)):
    for _name, _weights in get_model_weights(_network).__members__.items():
        WEIGHTS.register(f"{_network}/torchvision:{_name}")(entry_of(_weights.value))
