"""LeVJEPA: an encoder with a class token, rotary positions and block-causal attention, without teacher or predictor.

L. Kuhn et al.: "LeVJEPA", arXiv 2608.27395. With full attention its weights would run and be silently worse.
"""

from collections.abc import Mapping

from ssl_video.backbones.weights.entries import WEIGHTS, Entry
from ssl_video.backbones.weights.layouts import Layout, Outline
from ssl_video.backbones.weights.transformer_names import common_names, has, sizes
from ssl_video.backbones.weights.vjepa import MEAN, STD, adapt_2


def is_levjepa(outline: Outline) -> bool:
    """A class token, and no positions."""
    blocks = has(outline, r"blocks\.0\.attn\.qkv\.bias") and {"cls_token", "norm.weight"} <= set(outline)
    return blocks and not has(outline, r".*pos_embed.*|time_embed|blocks\.0\.ls1\.gamma|register_tokens")


def options(outline: Outline, given: Mapping[str, object]) -> dict[str, object]:
    """Sizes and what no tensor tells."""
    return {
        "positions": "rope3d",
        "cls": True,
        "attention": "block_causal",
        "frames": 16,
        "side": 224,
        **sizes(outline, given),
    }


WEIGHTS.register("vit/levjepa-videomix")(
    Entry(
        mean=MEAN,
        std=STD,
        frames=16,
        stride=4,
        licence="CC-BY-NC-4.0",
        trained_on="Kinetics 400, 600 and 700, Something-Something v2, Walking Tours and PE-Video, without labels",
        lists=("kinetics400:train", "kinetics600:train", "kinetics700:train", "ssv2:train"),
        checked="a committed number of the authors' encoder, written again and filled without randomness",
        layout=Layout(is_levjepa, options, adapt_2, common_names, left_out=("projector.",)),
    )
)
