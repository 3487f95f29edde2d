"""PySlowFast's files (.pyth): Slow and SlowFast, ResNet-50, trained with labels or by contrast (rho-MoCo, rho-BYOL).

C. Feichtenhofer et al.: "SlowFast Networks for Video Recognition", ICCV 2019; "A Large-Scale Study on Unsupervised
Spatiotemporal Representation Learning", CVPR 2021. Our networks are PyTorchVideo's, whose names are others.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from ssl_video.backbones.weights.entries import WEIGHTS, Entry
from ssl_video.backbones.weights.layouts import Layout, Outline, published_to_own

STATISTIC = r"(running_mean|running_var|num_batches_tracked)$"


def common_names(names: Mapping[str, Tensor]) -> dict[str, str]:
    """Without the words before them; of split batch norms the statistics of all parts together."""
    found = {}
    for name in names:
        common = re.sub(r"^(module\.)?backbone\.", "", name)
        common = re.sub(r"bn\.bn\." + STATISTIC, r"bn.\1", common)
        found[name] = f"split_bn.{common}" if ".split_bn." in common else common
    return found


def to_pytorchvideo(name: str, pathways: int) -> str:
    """A common name as PyTorchVideo has it."""

    def way(pathway: str) -> str:
        return f"multipathway_blocks.{pathway}." if pathways == 2 else ""

    name = re.sub(r"^s1\.pathway(\d)_stem\.conv\.", lambda m: f"blocks.0.{way(m[1])}conv.", name)
    name = re.sub(r"^s1\.pathway(\d)_stem\.bn\.", lambda m: f"blocks.0.{way(m[1])}norm.", name)
    fused = {"conv_f2s": "conv_fast_to_slow", "bn": "norm"}
    name = re.sub(
        r"^s(\d)_fuse\.(conv_f2s|bn)\.",
        lambda m: f"blocks.{int(m[1]) - 1}.multipathway_fusion.{fused[m[2]]}.",
        name,
    )
    name = re.sub(
        r"^s(\d)\.pathway(\d)_res(\d+)\.", lambda m: f"blocks.{int(m[1]) - 1}.{way(m[2])}res_blocks.{m[3]}.", name
    )
    name = re.sub(r"\.branch1\.", ".branch1_conv.", name)
    name = re.sub(r"\.branch1_bn\.", ".branch1_norm.", name)
    name = re.sub(r"\.branch2\.([abc])\.", r".branch2.conv_\1.", name)
    return re.sub(r"\.branch2\.([abc])_bn\.", r".branch2.norm_\1.", name)


def adapt(common: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """PySlowFast's names -> PyTorchVideo's -> the backbone's."""
    pathways = 2 if any(name.startswith("s1.pathway1") for name in common) else 1
    found = {to_pytorchvideo(name, pathways): tensor for name, tensor in common.items()}
    return published_to_own(found, backbone)


def is_resnet_50(outline: Outline, pathways: int, labels: bool) -> bool:
    """Blocks of a Slow or SlowFast of 50 layers, and a classifier of 400 classes or what contrast needs."""
    late = outline.get("s5.pathway0_res0.branch2.a.weight")
    slow = late is not None and late.shape[2] == 3 and "s1.pathway0_stem.conv.weight" in outline
    deep = "s4.pathway0_res5.branch2.a.weight" in outline and "s4.pathway0_res6.branch2.a.weight" not in outline
    head = outline.get("head.projection.weight")
    contrast = any(name.startswith(("backbone_hist.", "queue", "head.projection.layers")) for name in outline)
    kind = (head is not None and head.shape[0] == 400) if labels else contrast
    return slow and deep and kind and ("s1.pathway1_stem.conv.weight" in outline) == (pathways == 2)


def layout(pathways: int, labels: bool) -> Layout:
    """That of a file with one pathway or two."""
    return Layout(
        lambda outline: is_resnet_50(outline, pathways, labels),
        lambda _outline, _given: {},
        adapt,
        common_names,
        left_out=("head.", "backbone_hist.", "queue", "split_bn.", "ptr", "epoch", "iter", "predictor", "knn_mem."),
    )


SLOW = Entry(
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
    frames=8,
    stride=8,
    licence="code Apache-2.0; that of the weights is not stated",
    trained_on="Kinetics-400, with its labels",
    lists=("kinetics400:train",),
    layout=layout(1, labels=True),
)
WEIGHTS.register("slow_r50/pyslowfast-k400")(SLOW)
WEIGHTS.register("slow_r50/pyslowfast-contrast-k400")(
    replace(SLOW, trained_on="Kinetics-400, without labels", layout=layout(1, labels=False))
)
WEIGHTS.register("slowfast_r50/pyslowfast-k400")(replace(SLOW, frames=32, stride=2, layout=layout(2, labels=True)))
