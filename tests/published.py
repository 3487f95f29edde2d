"""Tiny files of weights in the layouts that others publish, drawn or filled without randomness."""

from collections.abc import Mapping

import torch
from torch import Tensor

WIDTH, HEADS, DEPTH = 48, 3, 2
Shapes = dict[str, tuple[int, ...]]


def filled(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Value j of the i-th tensor by name is .05 sin(.7 j + 1.3 i), and 1 more in weights of norms; float64."""
    found = {}
    for i, name in enumerate(sorted(shapes)):
        size = torch.Size(shapes[name])
        value = 0.05 * torch.sin(0.7 * torch.arange(size.numel(), dtype=torch.float64) + 1.3 * i)
        found[name] = value.reshape(size) + float("norm" in name and name.endswith("weight"))
    return found


def drawn(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Random numbers."""
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def wide(shapes: Shapes) -> Shapes:
    """Four times as wide, a width of which the number of heads is known."""
    return {name: tuple(4 * n if n % WIDTH == 0 else n for n in shape) for name, shape in shapes.items()}


def clip(frames: int, side: int, batch: int = 2) -> Tensor:
    """clip_BCTHW of sin(.37 j), numbered in the order (B, T, C, H, W); float64."""
    numbers = torch.arange(batch * frames * 3 * side * side, dtype=torch.float64)
    return torch.sin(0.37 * numbers).reshape(batch, frames, 3, side, side).transpose(1, 2)


def linear(name: str, to: int, of: int) -> Shapes:
    """A linear layer."""
    return {f"{name}.weight": (to, of), f"{name}.bias": (to,)}


def norm(name: str, width: int = WIDTH) -> Shapes:
    """A layer norm."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def hf_layer(start: str, width: int, between: int) -> Shapes:
    """A block as transformers 5 holds VideoMAE's in memory: no bias of keys."""
    at = f"{start}attention.attention"
    shapes = {f"{at}.{part}.weight": (width, width) for part in ("query", "key", "value")}
    shapes |= {f"{at}.query.bias": (width,), f"{at}.value.bias": (width,)}
    shapes |= linear(f"{start}attention.output.dense", width, width)
    shapes |= linear(f"{start}intermediate.dense", between, width) | linear(f"{start}output.dense", width, between)
    return shapes | norm(f"{start}layernorm_before", width) | norm(f"{start}layernorm_after", width)


def hf_videomae() -> Shapes:
    """VideoMAEForPreTraining."""
    shapes: Shapes = {"mask_token": (1, 1, 32), "encoder_to_decoder.weight": (32, WIDTH)}
    shapes |= hf_layer("decoder.decoder_layers.0.", 32, 64) | norm("decoder.norm", 32)
    shapes |= linear("decoder.head", 2 * 16 * 16 * 3, 32)
    shapes |= {"videomae.embeddings.patch_embeddings.projection.weight": (WIDTH, 3, 2, 16, 16)}
    shapes |= {"videomae.embeddings.patch_embeddings.projection.bias": (WIDTH,)}
    for number in range(DEPTH):
        shapes |= hf_layer(f"videomae.encoder.layer.{number}.", WIDTH, 96)
    return shapes | norm("videomae.layernorm")


def blocks(between: int, start: str = "") -> Shapes:
    """Blocks under the names of timm, with all biases."""
    shapes: Shapes = {}
    for number in range(DEPTH):
        at = f"{start}blocks.{number}."
        shapes |= norm(f"{at}norm1") | norm(f"{at}norm2") | linear(f"{at}attn.qkv", 3 * WIDTH, WIDTH)
        shapes |= linear(f"{at}attn.proj", WIDTH, WIDTH)
        shapes |= linear(f"{at}mlp.fc1", between, WIDTH) | linear(f"{at}mlp.fc2", WIDTH, between)
    return shapes


def patches(*tubelet: int, start: str = "") -> Shapes:
    """A convolution that strides by its kernel."""
    return {f"{start}patch_embed.proj.weight": (WIDTH, 3, *tubelet), f"{start}patch_embed.proj.bias": (WIDTH,)}


def videomae() -> Shapes:
    """The authors' pretraining file."""
    shapes = patches(2, 16, 16, start="encoder.") | norm("encoder.norm")
    for name, shape in blocks(96, "encoder.").items():
        if not name.endswith("qkv.bias"):
            shapes[name] = shape
    for number in range(DEPTH):
        shapes |= {f"encoder.blocks.{number}.attn.{part}_bias": (WIDTH,) for part in "qv"}
    decoder = {"mask_token": (1, 1, 32), "encoder_to_decoder.weight": (32, WIDTH), "decoder.norm.weight": (32,)}
    return shapes | decoder


def videomae_labels(classes: int = 400) -> Shapes:
    """The authors' fine-tuned file: a norm behind the mean, and a classifier."""
    shapes = {name.removeprefix("encoder."): shape for name, shape in videomae().items() if name.startswith("encoder.")}
    shapes = {name: shape for name, shape in shapes.items() if not name.startswith("norm.")}
    return shapes | norm("fc_norm") | linear("head", classes, WIDTH)


def vjepa(tokens: int = 64) -> Shapes:
    """The encoder of V-JEPA, and of V-JEPA 2, which stores positions too."""
    return blocks(4 * WIDTH) | norm("norm") | patches(2, 16, 16) | {"pos_embed": (1, tokens, WIDTH)}


def hf_vjepa2() -> Shapes:
    """The encoder of VJEPA2Model."""
    at = "encoder.embeddings.patch_embeddings.proj"
    shapes: Shapes = {f"{at}.weight": (WIDTH, 3, 2, 16, 16), f"{at}.bias": (WIDTH,)}
    for number in range(DEPTH):
        at = f"encoder.layer.{number}."
        for part in ("query", "key", "value", "proj"):
            shapes |= linear(f"{at}attention.{part}", WIDTH, WIDTH)
        shapes |= norm(f"{at}norm1") | norm(f"{at}norm2")
        shapes |= linear(f"{at}mlp.fc1", 4 * WIDTH, WIDTH) | linear(f"{at}mlp.fc2", WIDTH, 4 * WIDTH)
    return shapes | norm("encoder.layernorm")


def levjepa() -> Shapes:
    """The encoder of LeVJEPA."""
    return blocks(4 * WIDTH) | norm("norm") | patches(1, 16, 16) | {"cls_token": (1, 1, WIDTH)}


def mae_st() -> Shapes:
    """The authors' pretraining file, with a piece of its decoder."""
    shapes = patches(2, 16, 16) | norm("norm") | {"cls_token": (1, 1, WIDTH), "pos_embed_class": (1, 1, WIDTH)}
    shapes |= {"pos_embed_spatial": (1, 16, WIDTH), "pos_embed_temporal": (1, 4, WIDTH)}
    for name, shape in blocks(4 * WIDTH).items():
        if ".qkv." not in name:
            shapes[name] = shape
    for number in range(DEPTH):
        for part in "qkv":
            shapes |= linear(f"blocks.{number}.attn.{part}", WIDTH, WIDTH)
    return shapes | {
        "decoder_embed.weight": (32, WIDTH),
        "mask_token": (1, 1, 32),
        "decoder_pos_embed_class": (1, 1, 32),
    }


def timesformer(classes: int = 400) -> Shapes:
    """The authors' file."""
    shapes = {"time_embed": (1, 4, WIDTH), "pos_embed": (1, 17, WIDTH), "cls_token": (1, 1, WIDTH)}
    shapes |= patches(16, 16) | norm("norm") | blocks(96) | linear("head", classes, WIDTH)
    for number in range(DEPTH):
        at = f"blocks.{number}.temporal_"
        shapes |= norm(f"{at}norm1") | linear(f"{at}attn.qkv", 3 * WIDTH, WIDTH)
        shapes |= linear(f"{at}attn.proj", WIDTH, WIDTH) | linear(f"{at}fc", WIDTH, WIDTH)
    return {f"model.{name}": shape for name, shape in shapes.items()}


def hf_timesformer() -> Shapes:
    """TimesformerModel."""
    shapes = hf_embeddings(17, 16, 16) | {"embeddings.time_embeddings": (1, 4, WIDTH)} | norm("layernorm")
    for number in range(DEPTH):
        at = f"encoder.layer.{number}."
        for word in ("attention", "temporal_attention"):
            shapes |= linear(f"{at}{word}.attention.qkv", 3 * WIDTH, WIDTH)
            shapes |= linear(f"{at}{word}.output.dense", WIDTH, WIDTH)
        shapes |= linear(f"{at}temporal_dense", WIDTH, WIDTH) | norm(f"{at}temporal_layernorm")
        shapes |= norm(f"{at}layernorm_before") | norm(f"{at}layernorm_after")
        shapes |= linear(f"{at}intermediate.dense", 96, WIDTH) | linear(f"{at}output.dense", WIDTH, 96)
    return shapes


def hf_embeddings(rows: int, *tubelet: int) -> Shapes:
    """Class token, positions and patches of transformers."""
    shapes: Shapes = {"embeddings.cls_token": (1, 1, WIDTH), "embeddings.position_embeddings": (1, rows, WIDTH)}
    shapes["embeddings.patch_embeddings.projection.weight"] = (WIDTH, 3, *tubelet)
    return shapes | {"embeddings.patch_embeddings.projection.bias": (WIDTH,)}


def hf_projections(at: str) -> Shapes:
    """The four layers of attention as transformers 5 names them in memory."""
    layers = [linear(f"{at}attention.{part}_proj", WIDTH, WIDTH) for part in "qkvo"]
    return {name: shape for layer in layers for name, shape in layer.items()}


def hf_vivit() -> Shapes:
    """VivitModel."""
    shapes = hf_embeddings(65, 2, 16, 16) | norm("layernorm") | linear("pooler.dense", WIDTH, WIDTH)
    for number in range(DEPTH):
        at = f"layers.{number}."
        shapes |= hf_projections(at) | norm(f"{at}layernorm_before") | norm(f"{at}layernorm_after")
        shapes |= linear(f"{at}mlp.fc1", 96, WIDTH) | linear(f"{at}mlp.fc2", WIDTH, 96)
    return shapes


def hf_dinov2(registers: int = 0) -> Shapes:
    """Dinov2Model; Dinov2WithRegistersModel."""
    shapes = hf_embeddings(17, 14, 14) | norm("layernorm") | {"embeddings.mask_token": (1, WIDTH)}
    shapes |= {"embeddings.register_tokens": (1, registers, WIDTH)} if registers else {}
    for number in range(DEPTH):
        at = f"encoder.layer.{number}."
        shapes |= hf_projections(at) | norm(f"{at}norm1") | norm(f"{at}norm2")
        shapes |= {f"{at}layer_scale{i}.lambda1": (WIDTH,) for i in (1, 2)}
        shapes |= linear(f"{at}mlp.fc1", 96, WIDTH) | linear(f"{at}mlp.fc2", WIDTH, 96)
    return shapes


def dinov2(registers: int = 0) -> Shapes:
    """The authors' file."""
    shapes = {"cls_token": (1, 1, WIDTH), "pos_embed": (1, 17, WIDTH), "mask_token": (1, WIDTH)}
    shapes |= patches(14, 14) | norm("norm") | blocks(96)
    shapes |= {"register_tokens": (1, registers, WIDTH)} if registers else {}
    return shapes | {f"blocks.{n}.ls{i}.gamma": (WIDTH,) for n in range(DEPTH) for i in (1, 2)}
