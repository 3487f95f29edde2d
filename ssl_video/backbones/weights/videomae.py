"""VideoMAE and VideoMAE v2: encoders that were pretrained by masked pixels, and such that were fine-tuned after it.

Z. Tong, Y. Song, J. Wang, L. Wang: "VideoMAE", NeurIPS 2022. L. Wang et al.: "VideoMAE V2", CVPR 2023.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from ssl_video.backbones.weights.entries import WEIGHTS, Entry
from ssl_video.backbones.weights.layouts import Layout, Outline
from ssl_video.backbones.weights.transformer_names import common_names, fused, has, ours, sizes

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
KINETICS = ("kinetics400:train", "kinetics600:train", "kinetics700:train")


def is_of(outline: Outline, tuned: bool, classes: int = 0) -> bool:
    """Blocks with biases of queries and values alone; a last norm, or that of a classifier of ``classes``."""
    blocks = has(outline, r"blocks\.0\.attn\.q\.bias") and not has(outline, r"blocks\.0\.attn\.k\.bias|cls_token")
    head = next((outline[name] for name in ("head.weight", "classifier.weight") if name in outline), None)
    fits_head = not classes or head is None or head.shape[0] == classes
    return blocks and fits_head and ("fc_norm.weight" in outline if tuned else "norm.weight" in outline)


def options(outline: Outline, given: Mapping[str, object]) -> dict[str, object]:
    """Sizes, fixed positions, and a last norm where the file has one: a fine-tuned network has it behind the mean."""
    norm = "tokens" if "norm.weight" in outline else "none"
    return {"positions": "sincos1d", "frames": 16, "side": 224, "norm": norm, **sizes(outline, given)}


def adapt(common: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """The authors' and Hugging Face's names -> the backbone's."""
    return ours(fused(common, key_bias=False), backbone)


def layout(tuned: bool, classes: int = 0) -> Layout:
    """The layout of a pretrained or fine-tuned file."""
    left_out = ("decoder.", "encoder_to_decoder.", "mask_token", "head.", "classifier.", "fc_norm.")
    return Layout(lambda outline: is_of(outline, tuned, classes), options, adapt, common_names, left_out)


K400 = Entry(
    mean=MEAN,
    std=STD,
    frames=16,
    stride=4,
    licence="CC-BY-NC-4.0",
    trained_on="Kinetics-400, without labels",
    lists=("kinetics400:train",),
    checked="parity with transformers' VideoMAEModel, random weights, both layouts",
    layout=layout(tuned=False),
)
SSV2 = replace(K400, stride=2, trained_on="Something-Something v2, without labels", lists=("ssv2:train",))
LABELS = "parity with transformers' VideoMAEForVideoClassification, random weights, both layouts"

WEIGHTS.register("vit/videomae-k400")(K400)
WEIGHTS.register("vit/videomae-ssv2")(SSV2)
WEIGHTS.register("vit/videomae-ucf101")(replace(K400, trained_on="UCF101, without labels", lists=("ucf101:train1",)))
WEIGHTS.register("vit/videomae-k400-labels")(
    replace(K400, trained_on="Kinetics-400, with its labels", checked=LABELS, layout=layout(True, 400))
)
WEIGHTS.register("vit/videomae-ssv2-labels")(
    replace(SSV2, trained_on="Something-Something v2, with its labels", checked=LABELS, layout=layout(True, 174))
)
WEIGHTS.register("vit/videomae2-distilled")(
    replace(
        K400,
        licence="code MIT, weights at Hugging Face CC-BY-NC-4.0",
        trained_on="Kinetics 400, 600 and 700 with labels, distilled from a network of 1.35 M unlabelled clips",
        lists=(*KINETICS, "ssv2:train"),
        checked=LABELS,
        layout=layout(True, 710),
    )
)
