"""RSPNet's 3D-ResNet-18 (shortcuts B). Its R(2+1)D is not torchvision's, and of its C3D the map is another one.

P. Chen et al.: "RSPNet: Relative Speed Perception for Unsupervised Video Representation Learning", AAAI 2021.
"""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from ssl_video.backbones.weights.entries import WEIGHTS, Entry
from ssl_video.backbones.weights.layouts import Layout, published_to_own


def common_names(names: Mapping[str, Tensor]) -> dict[str, str]:
    """Those of the network that is trained, without the words before them."""
    return {name: re.sub(r"^(module\.)?encoder_q\.encoder\.", "", name) for name in names}


def adapt(common: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Hara's names -> the backbone's."""
    return published_to_own(common, backbone)


WEIGHTS.register("resnet3d_18/rspnet-k400")(
    Entry(
        options={"shortcut": "B"},
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        frames=16,
        stride=2,
        size=112,
        licence="not stated",
        trained_on="Kinetics-400, without labels",
        lists=("kinetics400:train",),
        layout=Layout(
            lambda o: {"conv1.weight", "layer2.0.downsample.0.weight", "encoder_q.fc1.2.weight"} <= set(o),
            lambda _outline, _given: {},
            adapt,
            common_names,
            left_out=("encoder_q.", "encoder_k.", "queue", "fc."),
        ),
    )
)
