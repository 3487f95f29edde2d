"""Files of published video transformers, in every layout: features to the numbers of the original code, none silent."""

import argparse
import fractions

import pytest
import torch
from safetensors.torch import save_file

from ssl_video.backbones.base import build_backbone
from ssl_video.capabilities import TokenNetwork
from ssl_video.errors import UserError
from ssl_video.model.loading import anywhere, load_model, untrained_twin
from ssl_video.pretrain_config import Choice, PretrainConfig
from tests import published
from tests.published import drawn, filled

TINY = {"heads": 3, "frames": 8, "side": 64}
FILES = {  # shapes of a file, its network, entry and options that no tensor of a tiny file tells
    "videomae": (published.videomae, "vit", "videomae-k400", TINY),
    "hf videomae": (published.hf_videomae, "vit", "videomae-k400", TINY),
    "videomae labels": (published.videomae_labels, "vit", "videomae-k400-labels", TINY),
    "vjepa2": (published.vjepa, "vit", "vjepa2", TINY),
    "hf vjepa2": (published.hf_vjepa2, "vit", "vjepa2", TINY),
    "levjepa": (published.levjepa, "vit", "levjepa-videomix", TINY),
    "mae_st": (published.mae_st, "vit", "mae_st-k400", {"heads": 3}),
    "timesformer": (published.timesformer, "vit", "timesformer-k400", {"heads": 3}),
    "hf timesformer": (published.hf_timesformer, "vit", "timesformer-k400", {"heads": 3}),
    "hf vivit": (published.hf_vivit, "vit", "vivit-k400", {"heads": 3, "frames": 8}),
    "hf dinov2": (published.hf_dinov2, "dinov2", "lvd142m", {"heads": 3}),
    "dinov2": (lambda: published.dinov2(registers=2), "dinov2", "lvd142m", {"heads": 3}),
}


def written(path, tensors):
    """A file of weights, as torch saves it."""
    torch.save(tensors, path)
    return path


def network(path, name, entry, options):
    return build_backbone(name, weights=f"{entry}:{path}", **options).eval()


def mean_of(backbone, clip):
    """Of the absolute values of all tokens behind the last block, class token included, in float64."""
    with torch.no_grad():
        return backbone.double().network.tokens(clip).x_BND.abs().mean().item()


@pytest.mark.parametrize(
    ("kind", "clip", "expected"),
    [
        ("hf videomae", (8, 64), 0.892823066840918),
        ("hf vjepa2", (8, 64), 0.901737728862647),
        ("hf timesformer", (4, 64), 0.8247617459075308),
        ("hf vivit", (8, 64), 0.9009859798909312),
        ("hf dinov2", (1, 56), 0.8889067144579207),
    ],
)
def test_filled_without_randomness_a_network_gives_the_number_of_the_original(tmp_path, kind, clip, expected):
    shapes, name, entry, options = FILES[kind]
    heads = 2 if kind == "hf vjepa2" else 3
    names = {n: s for n, s in shapes().items() if kind != "mae_st" or not n.startswith(("decoder", "mask"))}
    path = written(tmp_path / "w.pth", filled(names))
    backbone = network(path, name, entry, {**options, "heads": heads})
    assert mean_of(backbone, published.clip(*clip)) == pytest.approx(expected, abs=1e-8)


def test_vjepa2s_rotary_positions_are_those_of_the_clips_grid_at_any_size(tmp_path):
    shapes, name, entry, options = FILES["hf vjepa2"]
    backbone = network(written(tmp_path / "w.pth", filled(shapes())), name, entry, {**options, "heads": 2})
    assert mean_of(backbone, published.clip(12, 96)) == pytest.approx(0.9061241526598361, abs=1e-8)


def filled_vjepa(path):
    """V-JEPA's encoder in the wrapping of its checkpoints, with the positions that its code fills in."""
    from ssl_video.backbones.positions import sincos_3d

    weights = filled(published.vjepa()) | {"pos_embed": sincos_3d((4, 4, 4), published.WIDTH).float()[None]}
    wrapped = {f"module.backbone.{name}": tensor for name, tensor in weights.items()}
    student = {name: torch.zeros_like(tensor) for name, tensor in wrapped.items()}
    return written(path, {"encoder": student, "predictor": {"a": torch.ones(1)}, "target_encoder": wrapped, "epoch": 3})


def test_vjepas_encoder_gives_the_number_of_its_code_on_all_tokens_and_on_its_context(tmp_path):
    backbone = network(filled_vjepa(tmp_path / "w.pth"), "vit", "vjepa", TINY)
    assert mean_of(backbone, published.clip(8, 64)) == pytest.approx(0.8955286560699062, abs=1e-8)
    hidden = {16 * t + 4 * y + x for t in range(4) for y in (0, 1) for x in (0, 1, 2)}
    keep_BK = torch.tensor([n for n in range(64) if n not in hidden]).expand(2, -1)
    tokens = backbone.network
    assert isinstance(tokens, TokenNetwork)
    with torch.no_grad():
        seen = tokens.blocks(tokens.embed(published.clip(8, 64), keep_BK)).x_BND
    assert seen.abs().mean().item() == pytest.approx(0.8946812092412492, abs=1e-8)


@pytest.mark.parametrize("kind", FILES)
def test_a_whole_file_is_loaded_with_its_options_and_what_is_left_out_is_said(tmp_path, kind):
    shapes, name, entry, options = FILES[kind]
    backbone = network(written(tmp_path / "w.pth", drawn(shapes())), name, entry, options)
    assert backbone.provenance.options["width"] == 48 and backbone.provenance.options["depth"] == 2
    report = backbone.provenance.weights_report
    assert report.startswith(f"loaded {len(backbone.state_dict())} tensors from {tmp_path / 'w.pth'}")
    left = [n for n in shapes() if "decoder" in n or n.startswith(("head", "mask_token", "pooler", "fc_norm"))]
    assert all(n in report or "more" in report for n in left if left) and ("left out" in report) >= bool(left)
    assert all(torch.isfinite(p).all() for p in backbone.parameters())


@pytest.mark.parametrize("kind", FILES)
def test_a_tensor_that_is_missing_too_many_or_of_another_shape_is_named_and_refused(tmp_path, kind):
    shapes, name, entry, options = FILES[kind]
    whole = drawn(shapes())
    block = next(n for n in whole if ".1." in n and n.endswith(("fc2.weight", ".output.dense.weight")))
    for change, reason in (
        ({block: None}, r"missing network\.stack\.1\."),
        ({"blocks.0.attn.stranger": torch.ones(2)}, r"unexpected blocks\.0\.attn\.stranger"),
        ({block: torch.ones(7, 7)}, r"network\.stack\.1\.[a-z.0-9]+ is \(7, 7\) and should be \(48, "),
    ):
        changed = {n: t for n, t in {**whole, **change}.items() if t is not None}
        with pytest.raises(UserError, match=f"does not fit this architecture: .*{reason}"):
            network(written(tmp_path / "w.pth", changed), name, entry, options)


def test_a_bias_that_is_missing_in_a_file_that_should_have_it_is_named(tmp_path):
    for kind, lost in (("hf dinov2", "k_proj.bias"), ("mae_st", "attn.k.bias"), ("hf videomae", "query.bias")):
        shapes, name, entry, options = FILES[kind]
        weights = {n: t for n, t in drawn(shapes()).items() if ".1." not in n or not n.endswith(lost)}
        with pytest.raises(UserError, match=r"missing network\.stack\.1\.attention\.qkv\.bias"):
            network(written(tmp_path / "w.pth", weights), name, entry, options)


@pytest.mark.parametrize("kind", ["videomae", "hf videomae"])
def test_biases_of_queries_and_values_are_not_lost(tmp_path, kind):
    shapes, name, entry, options = FILES[kind]
    weights = drawn(shapes())
    features = []
    for lost in ("nothing", "q", "v"):
        ends = (f".{lost}_bias", {"q": "query.bias", "v": "value.bias"}.get(lost, "-"))
        some = {n: torch.zeros_like(t) if n.endswith(ends) else t for n, t in weights.items()}
        backbone = network(written(tmp_path / f"{lost}.pth", some), name, entry, options)
        with torch.no_grad():
            features.append(backbone(published.clip(8, 64).float()))
    assert not torch.allclose(features[0], features[1], atol=1e-3)
    assert not torch.allclose(features[0], features[2], atol=1e-3)


def test_biases_that_transformers_5_writes_are_read_under_both_of_their_names(tmp_path):
    shapes, name, entry, options = FILES["hf videomae"]
    memory = drawn(shapes())
    disk = {n.replace("query.bias", "q_bias").replace("value.bias", "v_bias"): t for n, t in memory.items()}
    one, other = (network(written(tmp_path / "w.pth", w), name, entry, options) for w in (memory, disk))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_options_of_a_training_beside_the_weights_are_passed_over_and_other_objects_refused(tmp_path):
    shapes, name, entry, options = FILES["videomae"]
    weights = drawn(shapes())
    path = tmp_path / "w.pth"
    torch.save({"model": weights, "args": argparse.Namespace(lr=1.0), "epoch": 3}, path)
    assert network(path, name, entry, options).provenance.weights_report.startswith("loaded")
    torch.save({"model": weights, "args": fractions.Fraction(1, 3)}, path)
    with pytest.raises(UserError, match="could execute its code"):
        network(path, name, entry, options)


def test_safetensors_are_read_by_their_layout_too(tmp_path):
    shapes, name, _, options = FILES["hf dinov2"]
    save_file(drawn(shapes()), tmp_path / "model.safetensors")
    backbone = build_backbone(name, weights=str(tmp_path / "model.safetensors"), **options)
    assert backbone.provenance.entry is not None and "dinov2/lvd142m" not in backbone.provenance.options
    assert "imagenet" not in str(backbone.provenance.trained_on) and "lvd142m:train" in backbone.provenance.trained_on


def test_a_file_is_of_the_one_entry_that_it_fits_and_brings_what_that_was_trained_on(tmp_path):
    path = written(tmp_path / "w.pth", drawn(published.timesformer()))
    backbone = build_backbone("vit", weights=str(path), heads=3)
    assert backbone.clip.mean == (0.45,) * 3 and backbone.provenance.options["attention"] == "divided"
    assert {"kinetics400:train", "imagenet1k:train"} <= backbone.provenance.trained_on


def test_a_file_that_several_entries_fit_is_asked_about(tmp_path):
    path = written(tmp_path / "w.pth", drawn(published.videomae()))
    with pytest.raises(UserError, match=r"may be videomae-k400, videomae-ssv2, videomae-ucf101, .*videomae-k400:"):
        build_backbone("vit", weights=str(path), **TINY)
    assert build_backbone("vit", weights=f"videomae-ssv2:{path}", **TINY).provenance.entry.stride == 2


def test_the_classes_of_a_fine_tuned_file_say_which_it_is(tmp_path):
    for classes, lists in ((400, {"kinetics400:train"}), (174, {"ssv2:train"})):
        path = written(tmp_path / f"{classes}.pth", drawn(published.videomae_labels(classes)))
        assert build_backbone("vit", weights=str(path), **TINY).provenance.trained_on == lists


def test_a_file_that_is_not_of_the_entry_named_is_refused(tmp_path):
    path = written(tmp_path / "w.pth", drawn(published.mae_st()))
    with pytest.raises(UserError, match=r"w\.pth is not laid out as vit/videomae-k400; 'ssl-video weights "):
        build_backbone("vit", weights=f"videomae-k400:{path}", **TINY)
    with pytest.raises(UserError, match=r"vit/vjepa is of a file that you have: write weights=vjepa:FILE"):
        build_backbone("vit", weights="vjepa")
    with pytest.raises(UserError, match=r"There is no file of weights .*nowhere\.pth"):
        build_backbone("vit", weights="vjepa:nowhere.pth")


def test_positions_of_v_jepa_that_are_not_its_sines_or_of_other_clips_are_refused(tmp_path):
    path = written(tmp_path / "w.pth", drawn(published.vjepa()))
    with pytest.raises(UserError, match="positions that are not the sines of its code"):
        network(path, "vit", "vjepa", TINY)
    with pytest.raises(UserError, match="positions of 64 tokens of 48 channels, and the network of 128 of 48"):
        network(path, "vit", "vjepa", {"heads": 3})


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("blocks.0.attn.scale", "cosine attention"),
        ("patch_embed_img.proj.weight", r"V-JEPA 2\.1"),
        ("blocks.0.mlp.w12.weight", "SwiGLU"),
    ],
)
def test_a_network_whose_features_would_be_wrong_is_refused(tmp_path, name, of):
    path = written(tmp_path / "w.pth", drawn(published.vjepa() | {name: (3,)}))
    with pytest.raises(UserError, match=f"holds weights of .*{of}"):
        build_backbone("vit", weights=str(path))


@pytest.mark.parametrize("suffix", [".npz", ".msgpack", ".h5"])
def test_files_of_other_libraries_are_refused_with_a_sentence(tmp_path, suffix):
    (tmp_path / f"vivit{suffix}").write_bytes(b"x")
    with pytest.raises(UserError, match="a file of JAX, TensorFlow or another library"):
        build_backbone("vit", weights=str(tmp_path / f"vivit{suffix}"))


def test_two_networks_under_one_name_are_refused(tmp_path):
    weights = drawn(published.levjepa())
    both = {**{f"encoder.{n}": t for n, t in weights.items()}, **{f"model.{n}": t for n, t in weights.items()}}
    with pytest.raises(UserError, match=r"w\.pth"):
        build_backbone("vit", weights=f"levjepa-videomix:{written(tmp_path / 'w.pth', both)}")


def test_levjepas_weights_get_the_attention_that_they_were_trained_with(tmp_path):
    path = written(tmp_path / "w.pth", drawn(published.levjepa()))
    backbone = network(path, "vit", "levjepa-videomix", TINY)
    assert backbone.provenance.options["attention"] == "block_causal" and backbone.provenance.options["cls"]


def test_a_network_that_was_loaded_by_a_layout_is_built_again_without_the_file(tmp_path):
    path = written(tmp_path / "w.pth", drawn(published.mae_st()))
    first = build_backbone("vit", weights=str(path), heads=3)
    path.unlink()
    again = build_backbone("vit", **first.provenance.options)
    again.load_state_dict(first.state_dict())
    assert again.provenance.options == first.provenance.options


@torch.no_grad()
def test_the_weights_of_a_run_of_the_same_network_are_no_published_file(tmp_path):
    options = {"width": 24, "depth": 1, "heads": 2, "cls": True}
    first = build_backbone("vit", **options)
    save_file(first.state_dict(), tmp_path / "backbone.safetensors")
    again = build_backbone("vit", weights=str(tmp_path / "backbone.safetensors"), **options)
    assert again.provenance.entry is None
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_a_model_is_named_with_its_entry_and_its_file_from_any_folder(tmp_path, monkeypatch):
    written(tmp_path / "w.pth", drawn(published.videomae()))
    monkeypatch.chdir(tmp_path)
    name = "net:vit?weights=videomae-ssv2:w.pth&heads=3&frames=8&side=64"
    model = load_model(name)
    assert model.view.stride == 2 and model.trained_on == {"ssv2:train"}
    assert (model.view.frames, model.view.size) == (8, 64)  # as told, where the entry's are 16 of 224
    twin = load_model(untrained_twin(name))
    assert twin.view == model.view and not twin.trained_on
    whole = anywhere(name)
    monkeypatch.chdir("/")
    assert f"weights=videomae-ssv2:{tmp_path}/w.pth" in whole and load_model(whole).view == model.view


def test_a_training_takes_the_network_of_a_published_file(tmp_path):
    path = written(tmp_path / "w.pth", drawn(published.mae_st()))
    config = PretrainConfig(backbone=Choice("vit", {"weights": str(path), "heads": 3}))
    assert config.backbone.options["width"] == 48 and config.backbone.options["cls"]
    path.unlink()  # a resumed training needs it no more
    assert PretrainConfig.from_mapping(config.to_mapping()) == config
