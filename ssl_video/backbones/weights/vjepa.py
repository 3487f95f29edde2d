"""V-JEPA and V-JEPA 2: encoders that were pretrained by masked latents.

A. Bardes et al.: "Revisiting Feature Prediction for Learning Visual Representations from Video", TMLR 2024.
M. Assran et al.: "V-JEPA 2", arXiv 2506.09985. Of the networks in a file of the authors the teacher is read; Hugging
Face publishes the student. V-JEPA 2.1 is another network, and is refused.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from ssl_video.backbones.weights.entries import WEIGHTS, Entry
from ssl_video.backbones.weights.layouts import Layout, Outline
from ssl_video.backbones.weights.transformer_names import (
    HEADS,
    check_table,
    common_names,
    fused,
    has,
    ours,
    side_of,
    sizes,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TOKENS_1, TOKENS_2 = (1568, 4608), (2048, 8192, 18432)
"""How many positions published files hold; V-JEPA 2's files hold some, too, which it does not use."""
KINETICS = ("kinetics400:train", "kinetics600:train", "kinetics700:train")


def _is_jepa(outline: Outline) -> bool:
    blocks = has(outline, r"blocks\.0\.attn\.(qkv|k)\.bias") and "norm.weight" in outline
    return blocks and not has(outline, r"cls_token|blocks\.0\.ls1\.gamma|.*pos_embed_spatial|time_embed")


def _tokens(outline: Outline) -> int:
    return outline["pos_embed"].shape[1] if "pos_embed" in outline else 0


def options_1(outline: Outline, given: Mapping[str, object]) -> dict[str, object]:
    """Sizes, and the side of the frames that the stored positions are laid out for."""
    frames = int(str(given.get("frames", 16)))
    found = {"positions": "sincos3d", "frames": frames, **sizes(outline, given)}
    kernel = outline["patch_embed.proj.weight"].shape
    return {**found, **side_of(_tokens(outline) * kernel[2] // frames, kernel[3])}


def adapt_1(common: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Positions are fixed, though stored: they are compared."""
    weights = dict(common)
    check_table(weights.pop("pos_embed"), backbone, "A file of V-JEPA")
    return ours(weights, backbone)


def options_2(outline: Outline, given: Mapping[str, object]) -> dict[str, object]:
    """Sizes; positions are rotary."""
    return {"positions": "rope3d", "frames": 64, "side": 256, **sizes(outline, given, {**HEADS, 1408: 22})}


def adapt_2(common: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """The authors' and Hugging Face's names -> the backbone's."""
    return ours(fused(common), backbone)


WEIGHTS.register("vit/vjepa")(
    Entry(
        mean=MEAN,
        std=STD,
        frames=16,
        stride=4,
        licence="CC-BY-NC-4.0",
        trained_on="Kinetics 400, 600 and 700, Something-Something v2 and HowTo100M, without labels",
        lists=(*KINETICS, "ssv2:train", "howto100m:train"),
        checked="a committed number of the authors' encoder, filled without randomness",
        layout=Layout(
            lambda o: _is_jepa(o) and "pos_embed" in o and _tokens(o) not in TOKENS_2,
            options_1,
            adapt_1,
            common_names,
        ),
    )
)
WEIGHTS.register("vit/vjepa2")(
    Entry(
        mean=MEAN,
        std=STD,
        frames=64,
        stride=8,
        licence="code MIT; that of the weights is stated where they are published",
        trained_on="Something-Something v2, Kinetics 400, 600 and 700, HowTo100M, YT-Temporal-1B, ImageNet; no labels",
        lists=(*KINETICS, "ssv2:train", "howto100m:train", "imagenet1k:train"),
        checked="parity with transformers' VJEPA2Model, random weights, both layouts",
        layout=Layout(
            lambda o: _is_jepa(o) and _tokens(o) not in TOKENS_1,
            options_2,
            adapt_2,
            common_names,
            left_out=("pos_embed", "predictor.", "pooler.", "classifier."),
        ),
    )
)
