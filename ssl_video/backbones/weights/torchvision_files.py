"""The weights that torchvision publishes for its networks of images and of videos, as its own tables describe them."""

import re

from torchvision.models import Weights, WeightsEnum, get_model_weights, list_models, video

from ssl_video.backbones.weights.entries import WEIGHTS, Entry

IMAGE_NETWORKS = ("alexnet", "googlenet", "resnet*", "vgg*")
"""Those that backbones are made of."""


def entry_of(member: WeightsEnum) -> Entry:
    """What torchvision says of a file. Its name ends in the first digits of its digest."""
    weights: Weights = member.value
    digits = re.search(r"-([0-9a-f]{8,})\.pth$", weights.url)
    pixels = weights.transforms()
    sets = [*weights.meta["_metrics"], *(["ImageNet-22K"] if "IMAGENET22K" in member.name else [])]
    return Entry(
        source=weights.url,
        mean=tuple(pixels.mean),
        std=tuple(pixels.std),
        sha256=digits[1] if digits else "",
        licence="not stated; torchvision refers to the terms of the data set",
        trained_on=", ".join(sets),
        checked="the network is torchvision's own",
        lists=tuple(f"{name.lower().replace('-', '')}:train" for name in sets),
    )


for _network in (*list_models(include=IMAGE_NETWORKS), *list_models(video)):
    for _name, _weights in get_model_weights(_network).__members__.items():
        WEIGHTS.register(f"{_network}/torchvision:{_name}")(entry_of(_weights))
