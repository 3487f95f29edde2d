"""ViViT with joint attention, as Hugging Face publishes it: a class token, and the tanh of GELU.

A. Arnab et al.: "ViViT: A Video Vision Transformer", ICCV 2021. The authors' own files are of JAX, and are not read.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from ssl_video.backbones.weights.entries import WEIGHTS, Entry
from ssl_video.backbones.weights.layouts import Layout, Outline
from ssl_video.backbones.weights.transformer_names import (
    common_names,
    fused,
    has,
    ours,
    side_of,
    sizes,
    with_positions,
)


def is_vivit(outline: Outline) -> bool:
    """A class token, joint positions of tubelets, and queries, keys and values apart."""
    kernel = outline.get("patch_embed.proj.weight")
    apart = has(outline, r"blocks\.0\.attn\.k\.bias") and {"cls_token", "pos_embed"} <= set(outline)
    return apart and kernel is not None and kernel.ndim == 5 and not has(outline, r"blocks\.0\.ls1\.gamma")


def options(outline: Outline, given: Mapping[str, object]) -> dict[str, object]:
    """Sizes, and the side of the frames that the positions are laid out for."""
    frames, kernel = int(str(given.get("frames", 32))), outline["patch_embed.proj.weight"].shape
    found = {"positions": "learned", "cls": True, "frames": frames, "gelu": "tanh", **sizes(outline, given)}
    return {**found, **side_of((outline["pos_embed"].shape[1] - 1) * kernel[2] // frames, kernel[3])}


def adapt(common: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Hugging Face's names -> the backbone's."""
    return ours(fused(with_positions(common)), backbone)


WEIGHTS.register("vit/vivit-k400")(
    Entry(
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        frames=32,
        stride=2,
        licence="MIT",
        trained_on="Kinetics-400 with its labels, from ImageNet-21k",
        lists=("kinetics400:train", "imagenet21k:train"),
        checked="parity with transformers' VivitModel, random weights, as on disk and as in memory",
        layout=Layout(is_vivit, options, adapt, common_names, left_out=("pooler.", "classifier.", "head.")),
    )
)
