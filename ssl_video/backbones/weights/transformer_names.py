"""Names of tensors in files of video transformers: those of the authors and of Hugging Face, and ours.

All of them are brought to one set of common names first, those of the authors' code where they agree:
``patch_embed.proj``, ``blocks.N.norm1``, ``blocks.N.attn.q``, ``blocks.N.mlp.fc1``, ``norm``.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ssl_video.backbones.weights.layouts import Outline
from ssl_video.errors import UserError

PREFIXES = re.compile(r"^((module|backbone|model|encoder|videomae|vjepa2|timesformer|vivit|dinov2|levjepa)\.)+")
TO_COMMON = [
    (re.compile(pattern), common)
    for pattern, common in (
        (r"^embeddings\.patch_embeddings\.(projection|proj)\.", r"patch_embed.proj."),
        (r"^embeddings\.cls_token$", "cls_token"),
        (r"^embeddings\.mask_token$", "mask_token"),
        (r"^embeddings\.register_tokens$", "register_tokens"),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.time_embeddings$", "time_embed"),
        (r"^layernorm\.", "norm."),
        (r"^layers?\.(\d+)\.", r"blocks.\1."),
        (r"^(blocks\.\d+\.)temporal_attention\.attention\.qkv\.", r"\1temporal_attn.qkv."),
        (r"^(blocks\.\d+\.)temporal_attention\.output\.dense\.", r"\1temporal_attn.proj."),
        (r"^(blocks\.\d+\.)temporal_dense\.", r"\1temporal_fc."),
        (r"^(blocks\.\d+\.)temporal_layernorm\.", r"\1temporal_norm1."),
        (r"^(blocks\.\d+\.)attention\.output\.dense\.", r"\1attn.proj."),
        (r"^(blocks\.\d+\.)attention\.(o_proj|proj)\.", r"\1attn.proj."),
        (r"^(blocks\.\d+\.)attention\.attention\.(q|v)_bias$", r"\1attn.\2.bias"),
        (r"^(blocks\.\d+\.)attn\.(q|v)_bias$", r"\1attn.\2.bias"),
        (r"^(blocks\.\d+\.)attention\.(?:attention\.)?(q|k|v)(?:uery|ey|alue|_proj)\.", r"\1attn.\2."),
        (r"^(blocks\.\d+\.)attention\.attention\.qkv\.", r"\1attn.qkv."),
        (r"^(blocks\.\d+\.)intermediate\.dense\.", r"\1mlp.fc1."),
        (r"^(blocks\.\d+\.)output\.dense\.", r"\1mlp.fc2."),
        (r"^(blocks\.\d+\.)layernorm_before\.", r"\1norm1."),
        (r"^(blocks\.\d+\.)layernorm_after\.", r"\1norm2."),
        (r"^(blocks\.\d+\.)layer_scale([12])\.lambda1$", r"\1ls\2.gamma"),
    )
]
TO_OURS = [
    (re.compile(pattern), ours)
    for pattern, ours in (
        (r"^patch_embed\.proj\.", "tubelets.projection."),
        (r"^norm\.", "norm."),
        (r"^blocks\.(\d+)\.norm1\.", r"stack.\1.norm."),
        (r"^blocks\.(\d+)\.attn\.qkv\.", r"stack.\1.attention.qkv."),
        (r"^blocks\.(\d+)\.attn\.proj\.", r"stack.\1.attention.projection."),
        (r"^blocks\.(\d+)\.norm2\.", r"stack.\1.mlp.0."),
        (r"^blocks\.(\d+)\.mlp\.fc1\.", r"stack.\1.mlp.1."),
        (r"^blocks\.(\d+)\.mlp\.fc2\.", r"stack.\1.mlp.3."),
        (r"^blocks\.(\d+)\.temporal_norm1\.", r"stack.\1.norm_t."),
        (r"^blocks\.(\d+)\.temporal_attn\.qkv\.", r"stack.\1.attention_t.qkv."),
        (r"^blocks\.(\d+)\.temporal_attn\.proj\.", r"stack.\1.attention_t.projection."),
        (r"^blocks\.(\d+)\.temporal_fc\.", r"stack.\1.linear_t."),
        (r"^blocks\.(\d+)\.ls1\.gamma$", r"stack.\1.scale_attention"),
        (r"^blocks\.(\d+)\.ls2\.gamma$", r"stack.\1.scale_mlp"),
        (r"^cls_token$", "cls"),
        (r"^register_tokens$", "registers"),
        (r"^tables\.(\d)$", r"positions.tables.\1"),
    )
]
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}
"""Width -> heads of the published sizes, which no tensor tells."""


def common_names(names: Mapping[str, Tensor]) -> dict[str, str]:
    """Theirs -> common ones."""
    found = {}
    for name in names:
        common = PREFIXES.sub("", name)
        for pattern, new in TO_COMMON:
            common, count = pattern.subn(new, common)
            if count and not pattern.pattern.startswith(r"^layers?"):
                break
        found[name] = common
    return found


def fused(common: Mapping[str, Tensor], key_bias: bool = True) -> dict[str, Tensor]:
    """Queries, keys and values side by side in ``qkv``, where a file has them apart.

    Without ``key_bias`` a file has biases of queries and of values alone, as VideoMAE's: zeros are those of the keys,
    which would cancel in the softmax.
    """
    found = dict(common)
    for name in [n for n in common if n.endswith(("attn.q.weight", "attn.q.bias"))]:
        start, _, kind = name.rpartition("q.")
        parts = {part: f"{start}{part}.{kind}" for part in "qkv"}
        if kind == "bias" and not key_bias:
            found.setdefault(parts["k"], torch.zeros_like(common[name]))
        if all(part in found for part in parts.values()):
            found[f"{start}qkv.{kind}"] = torch.cat([found.pop(part) for part in parts.values()])
    return found


def ours(common: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Common names and shapes -> the backbone's own; unknown names stay. See ``Layout.adapt``."""
    own, found = backbone.state_dict(), {}
    for name, tensor in common.items():
        new = name
        for pattern, word in TO_OURS:
            if pattern.search(name):
                new = f"network.{pattern.sub(word, name)}"
        if new.endswith("tubelets.projection.weight"):
            tensor = tensor.flatten(1)  # a convolution that strides by its kernel
        if ".positions.tables." in new and new in own and tensor.numel() == own[new].numel():
            tensor = tensor.transpose(1, 2).reshape(own[new].shape)  # (1, N, D), the cells row by row
        found[new] = tensor
    return found


def with_positions(common: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A table of positions whose first row is the class token's: that is added to the token itself."""
    found = dict(common)
    table_1ND = found.pop("pos_embed")
    found["cls_token"] = found["cls_token"] + table_1ND[:, :1]
    found["tables.0"] = table_1ND[:, 1:]
    return found


def check_table(table_1ND: Tensor, backbone: nn.Module, what: str) -> None:
    """Raise UserError unless a stored table of positions is the fixed one that the backbone has."""
    own_1ND = backbone.get_submodule("network.positions").get_buffer("table").flatten(2).transpose(1, 2)
    if table_1ND.shape != own_1ND.shape:
        raise UserError(
            f"{what} has positions of {table_1ND.shape[1]} tokens of {table_1ND.shape[2]} channels, and the network of "
            f"{own_1ND.shape[1]} of {own_1ND.shape[2]}; give its frames and side (weights=FILE&frames=N&side=N)."
        )
    if not table_1ND.is_meta and not torch.allclose(table_1ND.to(own_1ND), own_1ND, atol=1e-4):
        raise UserError(f"{what} has positions that are not the sines of its code; its layout is another one.")


def has(outline: Outline, pattern: str) -> bool:
    """Whether a name matches, from its beginning to its end."""
    return any(re.fullmatch(pattern, name) for name in outline)


def sizes(outline: Outline, given: Mapping[str, object], heads: Mapping[int, int] = HEADS) -> dict[str, object]:
    """width, depth, heads, mlp_ratio and tubelet of the network that an outline is for, where it tells.

    Raises UserError for a width that is not published, unless heads are ``given``: other ones would load all the same.
    """
    found: dict[str, object] = {}
    kernel = outline.get("patch_embed.proj.weight")
    if kernel is not None and kernel.ndim in (4, 5):
        width, _, *tubelet = kernel.shape
        found |= {"width": width, "tubelet": (*([1] if len(tubelet) == 2 else []), *tubelet)}
        if width not in heads and "heads" not in given:
            raise UserError(
                f"No tensor tells the heads of a network of width {width}; give them (weights=FILE&heads=N)."
            )
        found |= {"heads": given.get("heads", heads.get(width))}
        if (first := outline.get("blocks.0.mlp.fc1.weight")) is not None:
            found["mlp_ratio"] = first.shape[0] / width
    numbers = [int(name.split(".")[1]) for name in outline if re.match(r"blocks\.\d+\.", name)]
    return {**found, "depth": 1 + max(numbers)} if numbers else found


def side_of(cells: int, patch: int) -> dict[str, object]:
    """The side of square frames of so many cells; nothing if they are none."""
    root = round(cells**0.5)
    return {"side": root * patch} if root * root == cells else {}
