"""DINOv2, with or without registers, of the authors and of Hugging Face. The giant one has SwiGLU and is refused.

M. Oquab et al.: "DINOv2: Learning Robust Visual Features without Supervision", TMLR 2024.
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


def options(outline: Outline, given: Mapping[str, object]) -> dict[str, object]:
    """Sizes, registers, and the side of the frames that the positions are laid out for."""
    found, patch = sizes(outline, given), outline["patch_embed.proj.weight"].shape[3]
    del found["tubelet"]
    registers = outline["register_tokens"].shape[1] if "register_tokens" in outline else 0
    return {**found, "patch": patch, "registers": registers, **side_of(outline["pos_embed"].shape[1] - 1, patch)}


def adapt(common: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """The authors' and Hugging Face's names -> the backbone's."""
    return ours(fused(with_positions(common)), backbone)


WEIGHTS.register("dinov2/lvd142m")(
    Entry(
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        licence="stated where the weights are published",
        trained_on="LVD-142M, images without labels",
        lists=("lvd142m:train",),
        checked="parity with transformers' Dinov2Model, with registers too, random weights, both layouts",
        layout=Layout(
            lambda o: has(o, r"blocks\.0\.ls1\.gamma") and {"cls_token", "pos_embed"} <= set(o),
            options,
            adapt,
            common_names,
            left_out=("mask_token", "head."),
        ),
    )
)
