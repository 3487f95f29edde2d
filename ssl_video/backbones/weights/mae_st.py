"""MAE-ST: masked autoencoders of video with positions of space and of time and a class token, which has no map.

C. Feichtenhofer, H. Fan, Y. Li, K. He: "Masked Autoencoders As Spatiotemporal Learners", NeurIPS 2022.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from ssl_video.backbones.weights.entries import WEIGHTS, Entry
from ssl_video.backbones.weights.layouts import Layout, Outline
from ssl_video.backbones.weights.transformer_names import common_names, fused, ours, side_of, sizes


def options(outline: Outline, given: Mapping[str, object]) -> dict[str, object]:
    """Sizes, and the clips that the positions are laid out for."""
    kernel = outline["patch_embed.proj.weight"].shape
    frames = outline["pos_embed_temporal"].shape[1] * kernel[2]
    side = side_of(outline["pos_embed_spatial"].shape[1], kernel[3])
    return {"positions": "learned", "cls": True, "frames": frames, **sizes(outline, given), **side}


def adapt(common: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """The two tables as one of all cells; the class token's position is added to it."""
    weights = dict(common)
    space_1SD, time_1TD = weights.pop("pos_embed_spatial"), weights.pop("pos_embed_temporal")
    weights["tables.0"] = (time_1TD[:, :, None] + space_1SD[:, None]).flatten(1, 2)
    weights["cls_token"] = weights["cls_token"] + weights.pop("pos_embed_class")
    return ours(fused(weights), backbone)


WEIGHTS.register("vit/mae_st-k400")(
    Entry(
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
        frames=16,
        stride=4,
        licence="CC-BY-NC-4.0",
        trained_on="Kinetics-400",
        lists=("kinetics400:train",),
        checked="a committed number of the authors' encoder, written again and filled without randomness",
        layout=Layout(
            lambda o: {"pos_embed_spatial", "pos_embed_temporal", "pos_embed_class", "cls_token"} <= set(o),
            options,
            adapt,
            common_names,
            left_out=("decoder_", "mask_token", "head."),
        ),
    )
)
