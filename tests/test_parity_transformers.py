"""Features against those of transformers' classes with random weights: ``pytest -m parity``, where it is installed.

Each network is written as transformers saves it, as it holds it in memory, and under the names of the authors.
"""

import re

import pytest
import torch
from torch import nn

from ssl_video.backbones.base import build_backbone

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed (pip install 'ssl-video[parity]')"
)
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

COMMON = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "attn_implementation": "eager"}
SIZES = {**COMMON, "image_size": 64, "patch_size": 16, "intermediate_size": 96}


def drawn(model):
    """The model with random weights, those of biases and norms too."""
    torch.manual_seed(0)
    for name, p in model.named_parameters():
        nn.init.normal_(p, mean=float("norm" in name and name.endswith("weight")), std=0.15)
    return model.eval()


def videomae(labels=False):
    config = transformers.VideoMAEConfig(
        **SIZES, num_frames=8, layer_norm_eps=1e-6, num_labels=400, use_mean_pooling=labels
    )
    kind = transformers.VideoMAEForVideoClassification if labels else transformers.VideoMAEForPreTraining
    return drawn(kind(config))


def vjepa2(side=64):
    config = transformers.VJEPA2Config(
        crop_size=side, patch_size=16, frames_per_clip=8, hidden_size=48, num_attention_heads=2, num_hidden_layers=2,
        pred_hidden_size=48, pred_num_attention_heads=2, pred_num_hidden_layers=2, attn_implementation="eager",
    )  # fmt: skip
    return drawn(transformers.VJEPA2Model(config))


def timesformer():
    return drawn(transformers.TimesformerModel(transformers.TimesformerConfig(**SIZES, num_frames=4)))


def vivit():
    sizes = {name: value for name, value in SIZES.items() if name != "patch_size"}
    return drawn(transformers.VivitModel(transformers.VivitConfig(**sizes, num_frames=8)))


def dinov2(registers=0):
    sizes = {**COMMON, "image_size": 56, "patch_size": 14, "mlp_ratio": 2}
    if registers:
        config = transformers.Dinov2WithRegistersConfig(**sizes, num_register_tokens=registers)
        return drawn(transformers.Dinov2WithRegistersModel(config))
    return drawn(transformers.Dinov2Model(transformers.Dinov2Config(**sizes)))


def renamed(state, *rules):
    """A state dict under other names: (pattern, replacement) after each other."""
    found = {}
    for name, tensor in state.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        found[name] = tensor
    return found


def side_by_side(state, query, key, value):
    """Three layers a block as one, called qkv; ``query`` and the others are ends of their names."""
    found = dict(state)
    for name in [n for n in state if n.endswith(f"{query}.weight")]:
        at = name.removesuffix(f"{query}.weight")
        for kind in ("weight", "bias"):
            parts = [found.pop(f"{at}{part}.{kind}") for part in (query, key, value)]
            found[f"{at}qkv.{kind}"] = torch.cat(parts)
    return found


BLOCKS = (
    (r"attention\.output\.dense", "attn.proj"), (r"intermediate\.dense", "mlp.fc1"), (r"output\.dense", "mlp.fc2"),
    (r"layernorm_before", "norm1"), (r"layernorm_after", "norm2"), (r"layernorm", "norm"),
    (r"embeddings\.patch_embeddings\.projection", "patch_embed.proj"), (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.position_embeddings", "pos_embed"), (r"embeddings\.time_embeddings", "time_embed"),
)  # fmt: skip


def original_videomae(state):
    """Names of MCG-NJU's code: encoder.blocks.N.attn.qkv.weight, q_bias, v_bias; no encoder. when fine-tuned."""
    found = {}
    for name, tensor in state.items():
        if re.search(r"attention\.attention\.(key|value)\.weight", name):
            continue
        if name.endswith("attention.attention.query.weight"):
            parts = [state[name.replace("query", part)] for part in ("query", "key", "value")]
            name, tensor = name.replace("attention.attention.query", "attn.qkv"), torch.cat(parts)
        found[name] = tensor
    rules = (
        (r"attention\.attention\.query\.bias", "attn.q_bias"), (r"attention\.attention\.value\.bias", "attn.v_bias"),
        (r"^classifier", "head"), (r"decoder\.decoder_layers", "decoder.blocks"), *BLOCKS,
        (r"^videomae\.encoder\.layer\.", "encoder.blocks."), (r"^videomae\.", "encoder."),
    )  # fmt: skip
    found = renamed(found, *rules)
    return found if "mask_token" in found else renamed(found, (r"^encoder\.", ""))


def original_vjepa2(state):
    """Names of Meta's code, in the wrapping of its checkpoints, with the positions that are stored and not used."""
    state = {name: tensor for name, tensor in state.items() if name.startswith("encoder.")}
    state = side_by_side(state, "query", "key", "value")
    rules = (
        (r"^encoder\.layer\.", "blocks."), (r"^encoder\.layernorm", "norm"), (r"\.attention\.", ".attn."),
        (r"^encoder\.embeddings\.patch_embeddings\.", "patch_embed."), (r"^", "module.backbone."),
    )  # fmt: skip
    found = renamed(state, *rules) | {"module.backbone.pos_embed": torch.ones(1, 64, 48)}
    return {"encoder": {name: 0 * t for name, t in found.items()}, "target_encoder": found, "epoch": 1}


def original_timesformer(state):
    """Names of the authors' code."""
    rules = (
        (r"temporal_attention\.output\.dense", "temporal_attn.proj"), (r"temporal_dense", "temporal_fc"),
        (r"temporal_attention\.attention", "temporal_attn"), (r"temporal_layernorm", "temporal_norm1"),
        (r"attention\.attention\.qkv", "attn.qkv"), *BLOCKS, (r"^encoder\.layer\.", "blocks."), (r"^", "model."),
    )  # fmt: skip
    return {"model_state": renamed(state, *rules) | {"model.head.weight": torch.ones(400, 48)}}


def original_dinov2(state):
    """Names of the authors' code."""
    state = side_by_side(state, "q_proj", "k_proj", "v_proj")
    rules = (
        (r"attention\.qkv", "attn.qkv"), (r"attention\.o_proj", "attn.proj"),
        (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"), (r"^embeddings\.(mask_token|register_tokens)", r"\1"),
        *BLOCKS, (r"^encoder\.layer\.", "blocks."),
    )  # fmt: skip
    return renamed(state, *rules)


def files(model, tmp_path, original=None):
    """The layouts of a model: as it is saved, as it is in memory, and the authors'."""
    model.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "memory.pth")
    yield tmp_path / "model.safetensors"
    yield tmp_path / "memory.pth"
    if original is not None:
        torch.save(original(model.state_dict()), tmp_path / "original.pth")
        yield tmp_path / "original.pth"


def ours(path, name, entry, **options):
    return build_backbone(name, weights=f"{entry}:{path}", **options).double().eval()


def clip(frames=8, side=64):
    return torch.randn(2, 3, frames, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def close(found, expected):
    assert found.shape == expected.shape and (found - expected).abs().max() < 1e-6 < expected.abs().mean()


@torch.no_grad()
def test_videomaes_encoder(tmp_path):
    model = videomae()
    for path in files(model, tmp_path, original_videomae):
        backbone = ours(path, "vit", "videomae-k400", heads=3, frames=8, side=64)
        close(backbone.network.tokens(clip()).x_BND, model.double().videomae(clip().transpose(1, 2)).last_hidden_state)
        model.float()


@torch.no_grad()
def test_videomae_with_labels_whose_norm_follows_the_mean(tmp_path):
    model = videomae(labels=True)
    for path in files(model, tmp_path, original_videomae):
        backbone = ours(path, "vit", "videomae-k400-labels", heads=3, frames=8, side=64)
        logits = model.double()(clip().transpose(1, 2)).logits
        close(model.classifier(model.fc_norm(backbone(clip()).mean((2, 3, 4)))), logits)
        model.float()


@pytest.mark.parametrize("side", [64, 96])
@torch.no_grad()
def test_vjepa2s_encoder_at_its_size_and_at_another(tmp_path, side):
    model = vjepa2(side)
    for path in files(model, tmp_path, original_vjepa2):
        backbone = ours(path, "vit", "vjepa2", heads=2, frames=8, side=64)
        expected = model.double()(pixel_values_videos=clip(8, side).transpose(1, 2), skip_predictor=True)
        close(backbone.network.tokens(clip(8, side)).x_BND, expected.last_hidden_state)
        model.float()


@torch.no_grad()
def test_timesformer(tmp_path):
    model = timesformer()
    for path in files(model, tmp_path, original_timesformer):
        backbone = ours(path, "vit", "timesformer-k400", heads=3)
        expected = model.double()(clip(4).transpose(1, 2)).last_hidden_state  # its cells are numbered place by place
        found = backbone.network.tokens(clip(4)).x_BND
        close(found[:, 0], expected[:, 0])
        close(found[:, 1:].unflatten(1, (4, 16)).transpose(1, 2).flatten(1, 2), expected[:, 1:])
        model.float()


@torch.no_grad()
def test_vivit_as_on_disk_and_as_in_memory(tmp_path):
    model = vivit()
    for path in files(model, tmp_path):
        backbone = ours(path, "vit", "vivit-k400", heads=3, frames=8)
        close(backbone.network.tokens(clip()).x_BND, model.double()(clip().transpose(1, 2)).last_hidden_state)
        model.float()


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("side", [56, 70])
@torch.no_grad()
def test_dinov2_at_the_size_of_its_positions_and_at_another(tmp_path, registers, side):
    model = dinov2(registers)
    for path in files(model, tmp_path, original_dinov2):
        backbone = ours(path, "dinov2", "lvd142m", heads=3)
        expected = model.double()(clip(1, side)[:, :, 0]).last_hidden_state
        found = backbone.network.tokens(clip(1, side)).x_BND
        close(found[:, :1], expected[:, :1])
        close(found[:, 1:], expected[:, 1 + registers :])
        model.float()
