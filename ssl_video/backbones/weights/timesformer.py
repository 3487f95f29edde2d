"""TimeSformer: divided attention with a class token, of the authors and of Hugging Face.

G. Bertasius, H. Wang, L. Torresani: "Is Space-Time Attention All You Need for Video Understanding?", ICML 2021.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from ssl_video.backbones.weights.entries import WEIGHTS, Entry
from ssl_video.backbones.weights.layouts import Layout, Outline
from ssl_video.backbones.weights.transformer_names import common_names, has, ours, side_of, sizes, with_positions


def is_timesformer(outline: Outline, classes: int) -> bool:
    """Blocks that attend over time too, of 8 frames or about: the longer ones take other strides."""
    head = next((outline[name] for name in ("head.weight", "classifier.weight") if name in outline), None)
    short = "time_embed" in outline and outline["time_embed"].shape[1] < 16
    return short and has(outline, r"blocks\.0\.temporal_fc\.weight") and (head is None or head.shape[0] == classes)


def options(outline: Outline, given: Mapping[str, object]) -> dict[str, object]:
    """Sizes, and the clips that the positions are laid out for."""
    frames, cells = outline["time_embed"].shape[1], outline["pos_embed"].shape[1] - 1
    found = sizes(outline, given) | {"positions": "learned", "cls": True, "attention": "divided", "frames": frames}
    return {**found, **side_of(cells, outline["patch_embed.proj.weight"].shape[3])}


def adapt(common: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Positions of time and of space."""
    weights = with_positions(common)
    weights["tables.1"], weights["tables.0"] = weights.pop("tables.0"), weights.pop("time_embed")
    return ours(weights, backbone)


def layout(classes: int) -> Layout:
    """That of a file whose classifier, if it is there, has so many classes."""
    return Layout(
        lambda outline: is_timesformer(outline, classes), options, adapt, common_names, ("head.", "classifier.")
    )


K400 = Entry(
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
    frames=8,
    stride=32,
    licence="CC-BY-NC-4.0",
    trained_on="Kinetics-400 with its labels, from ImageNet",
    lists=("kinetics400:train", "imagenet1k:train"),
    checked="parity with transformers' TimesformerModel, random weights, both layouts",
    layout=layout(400),
)
WEIGHTS.register("vit/timesformer-k400")(K400)
WEIGHTS.register("vit/timesformer-k600")(
    replace(
        K400,
        trained_on="Kinetics-600 with its labels, from ImageNet",
        lists=("kinetics600:train", "imagenet1k:train"),
        layout=layout(600),
    )
)
