"""CoCLR's S3D, whose batch norms have another epsilon than torchvision's.

T. Han, W. Xie, A. Zisserman: "Self-supervised Co-training for Video Representation Learning", NeurIPS 2020.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ssl_video.backbones.weights.entries import WEIGHTS, Entry
from ssl_video.backbones.weights.layouts import Layout, published_to_own
from ssl_video.errors import UserError

LAYERS = (
    *("Conv_1a", "MaxPool_2a", "Conv_2b", "Conv_2c", "MaxPool_3a", "Mixed_3b", "Mixed_3c", "MaxPool_4a"),
    *("Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f", "MaxPool_5a", "Mixed_5b", "Mixed_5c"),
)
PLACES = {name: number for number, name in enumerate(LAYERS)}
"""Name of a layer -> its number in torchvision's network."""
BLOCKS = {1: ("Conv_1a",), **{n: tuple(name for name in PLACES if f"_{n}" in name) for n in (2, 3, 4, 5)}}
"""Number of a block -> the layers that a file holds a second time, under its name."""
WORDS = (
    (r"\.branch0\.0\.", lambda _: ".branch0."),
    (r"\.conv(\d)\.", lambda m: f".{int(m[1]) - 1}.0."),
    (r"\.bn(\d)\.", lambda m: f".{int(m[1]) - 1}.1."),
    (r"\.conv\.", lambda _: ".0."),
    (r"\.bn\.", lambda _: ".1."),
)


def common_names(names: Mapping[str, Tensor]) -> dict[str, str]:
    """Those of the network that is trained, without the words before them."""
    return {name: re.sub(r"^(module\.)?(encoder_q\.0|backbone)\.", "", name) for name in names}


def once(common: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each layer once, of those that a file holds twice. Raises UserError if the two differ."""
    found = dict(common)
    for name in common:
        if match := re.match(r"block(\d)\.(\d+)\.(.*)", name):
            layer = f"{BLOCKS[int(match[1])][int(match[2])]}.{match[3]}"
            twin = found.pop(name)
            if layer in found and not twin.is_meta and not torch.equal(twin, found[layer]):
                raise UserError(
                    f"A file of CoCLR holds two tensors for {layer}, {name} is another one; it was altered."
                )
            found.setdefault(layer, twin)
    return found


def adapt(common: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """CoCLR's names -> torchvision's -> the backbone's."""
    found = {}
    for name, tensor in once(common).items():
        layer, dot, rest = name.partition(".")
        if layer in PLACES:
            name = f"features.{PLACES[layer]}{dot}{rest}"
            for pattern, new in WORDS:
                name = re.sub(pattern, new, name)
        found[name] = tensor
    return published_to_own(found, backbone)


WEIGHTS.register("s3d/coclr-k400")(
    Entry(
        options={"epsilon": 1e-5},
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        frames=32,
        stride=1,
        size=128,
        licence="code Apache-2.0; that of the weights is not stated",
        trained_on="Kinetics-400, without labels",
        lists=("kinetics400:train",),
        checked="a committed number of the authors' network, written again and filled without randomness",
        layout=Layout(
            lambda o: "Conv_1a.conv1.weight" in o and o["Conv_1a.conv1.weight"].shape[1] == 3,
            lambda _outline, _given: {},
            adapt,
            common_names,
            left_out=("encoder_q.", "encoder_k.", "queue", "sampler.", "final_", "module."),
        ),
    )
)
