"""Files of CoCLR, RSPNet and PySlowFast: renamed whole, with nothing silent."""

import re

import pytest
import torch
from torch import nn

from ssl_video.apps.weights_file import identify
from ssl_video.backbones.base import build_backbone, unloaded_backbone
from ssl_video.backbones.weights.slowfast import to_pytorchvideo
from ssl_video.errors import UserError
from tests import published
from tests.published import filled

S3D = {0: "Conv_1a", 2: "Conv_2b", 3: "Conv_2c", 5: "Mixed_3b", 6: "Mixed_3c", 8: "Mixed_4b", 9: "Mixed_4c"}
S3D |= {10: "Mixed_4d", 11: "Mixed_4e", 12: "Mixed_4f", 14: "Mixed_5b", 15: "Mixed_5c"}
"""Number in torchvision's network -> CoCLR's name of the layer."""
ONE = {"0": "conv", "1": "bn"}
TWO = {"0.0": "conv1", "0.1": "bn1", "1.0": "conv2", "1.1": "bn2"}


def published_state(name, **options):
    """The weights of a network of ours, drawn, under the names of the network that it is made of."""
    torch.manual_seed(0)
    backbone = unloaded_backbone(name, **options)
    names = backbone.provenance.names.published
    return {names[k]: v for k, v in backbone.state_dict().items()}, backbone


def in_coclr(name):
    """A name of torchvision's network in CoCLR's code, as its classes spell it."""
    number, rest = name.removeprefix("features.").split(".", 1)
    layer = S3D[int(number)]
    branch = re.match(r"branch(0|[12]\.[01]|3\.1)\.", rest)
    at, rest = (branch[0], rest.removeprefix(branch[0])) if branch else ("", rest)
    words = TWO if layer in ("Conv_1a", "Conv_2c") or (at.endswith(".1.") and at[6] in "12") else ONE
    place, end = rest.rsplit(".", 1)
    return f"{layer}.{'branch0.0.' if at == 'branch0.' else at}{words[place]}.{end}"


def coclr():
    """Each layer twice, both networks, and a projection."""
    state, backbone = published_state("s3d")
    found = {f"encoder_q.0.{in_coclr(name)}": tensor for name, tensor in state.items()}
    twice = {"Conv_1a": "block1.0", "Conv_2b": "block2.1", "Mixed_3c": "block3.2", "Mixed_5c": "block5.2"}
    for layer, block in twice.items():
        found |= {n.replace(layer, block): t.clone() for n, t in found.items() if f".{layer}." in n}
    keys = {n.replace("encoder_q", "encoder_k"): 0 * t for n, t in found.items()}
    return {**found, **keys, "queue": torch.ones(3), "encoder_q.2.weight": torch.ones(3)}, backbone


def test_names_of_coclr_are_those_of_its_code():
    assert in_coclr("features.0.1.1.running_var") == "Conv_1a.bn2.running_var"
    assert in_coclr("features.2.0.weight") == "Conv_2b.conv.weight"
    assert in_coclr("features.5.branch0.1.bias") == "Mixed_3b.branch0.0.bn.bias"
    assert in_coclr("features.15.branch2.1.0.0.weight") == "Mixed_5c.branch2.1.conv1.weight"
    assert in_coclr("features.15.branch3.1.0.weight") == "Mixed_5c.branch3.1.conv.weight"


def rspnet():
    state, backbone = published_state("resnet3d_18", shortcut="B")
    found = {f"encoder_q.encoder.{k}": v for k, v in state.items()}
    keys = {n.replace("encoder_q", "encoder_k"): 0 * t for n, t in found.items()}
    heads = {"encoder_q.encoder.fc.weight": torch.ones(1, 512), "encoder_q.fc1.2.weight": torch.ones(128, 512)}
    return {**found, **keys, **heads, "queue": torch.ones(128, 4)}, backbone


def in_pyslowfast(name):
    """A name of PyTorchVideo's network in PySlowFast's code."""
    pathway = re.search(r"multipathway_blocks\.(\d)\.", name)
    way, name = f"pathway{pathway[1] if pathway else 0}", re.sub(r"multipathway_blocks\.\d\.", "", name)
    _, number, rest = name.split(".", 2)
    stage = f"s{int(number) + 1}"
    rest = re.sub(r"^conv\.", f"{way}_stem.conv.", re.sub(r"^norm\.", f"{way}_stem.bn.", rest))
    rest = re.sub(r"^res_blocks\.", f"{way}_res", rest)
    if rest.startswith("multipathway_fusion."):
        rest = rest.removeprefix("multipathway_fusion.").replace("conv_fast_to_slow", "conv_f2s").replace("norm", "bn")
        return f"{stage}_fuse.{rest}"
    rest = rest.replace("branch1_conv", "branch1").replace("branch1_norm", "branch1_bn")
    return f"{stage}." + re.sub(r"conv_([abc])\.", r"\1.", re.sub(r"norm_([abc])\.", r"\1_bn.", rest))


def slow(name="slow_r50", contrast=False):
    """With a classifier, or with what contrast needs and split batch norms."""
    state, backbone = published_state(name)
    found = {in_pyslowfast(old): tensor for old, tensor in state.items()}
    if not contrast:
        return {**found, "head.projection.weight": torch.ones(400, 2048)}, backbone
    split = {re.sub(r"(bn)\.(running_\w+|num_\w+)$", r"\1.bn.\2", n): t for n, t in found.items()}
    split |= {n.replace(".bn.run", ".split_bn.run"): 0 * t for n, t in split.items() if ".bn.run" in n}
    past = {f"backbone_hist.{n}": 0 * t for n, t in found.items()}
    return {**{f"backbone.{n}": t for n, t in split.items()}, **past, "queue_x": torch.ones(4)}, backbone


FILES = {
    "coclr": (coclr, "s3d", "coclr-k400"),
    "rspnet": (rspnet, "resnet3d_18", "rspnet-k400"),
    "slow": (slow, "slow_r50", "pyslowfast-k400"),
    "contrast": (lambda: slow(contrast=True), "slow_r50", "pyslowfast-contrast-k400"),
    "slowfast": (lambda: slow("slowfast_r50"), "slowfast_r50", "pyslowfast-k400"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_recognised_and_every_tensor_comes_to_its_place(tmp_path, kind):
    make, name, entry = FILES[kind]
    weights, source = make()
    torch.save({"model_state" if "slow" in name else "model": weights, "epoch": 1}, tmp_path / "w.pyth")
    (fit,) = identify(tmp_path / "w.pyth").fits
    assert fit.key == f"{name}/{entry}" and fit.usable and fit.left_out
    target = build_backbone(name, weights=str(tmp_path / "w.pyth"))
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in target.state_dict().items())
    assert ("unchecked" in target.provenance.weights_report) == (kind != "coclr")
    assert "left out" in target.provenance.weights_report


@pytest.mark.parametrize("kind", ["coclr", "slow"])
def test_a_tensor_too_many_or_missing_is_refused(tmp_path, kind):
    make, name, entry = FILES[kind]
    weights, _ = make()
    first = next(n for n in weights if "5" in n and n.endswith("weight"))
    for change in ({f"{first}_stranger": torch.ones(1)}, {first: torch.ones(2)}):
        torch.save(weights | change, tmp_path / "w.pth")
        with pytest.raises(UserError, match="does not fit this architecture"):
            build_backbone(name, weights=f"{entry}:{tmp_path / 'w.pth'}")


def test_coclrs_batch_norms_have_their_own_epsilon_and_its_clips_their_size(tmp_path):
    torch.save(coclr()[0], tmp_path / "w.pth")
    backbone = build_backbone("s3d", weights=str(tmp_path / "w.pth"))
    assert {m.eps for m in backbone.modules() if isinstance(m, nn.BatchNorm3d)} == {1e-5}
    assert (backbone.clip.size, backbone.clip.frames) == (128, 32)
    assert {m.eps for m in build_backbone("s3d").modules() if isinstance(m, nn.BatchNorm3d)} == {1e-3}


def test_coclrs_network_filled_without_randomness_gives_the_number_of_its_code(tmp_path):
    state, _ = published_state("s3d")
    shapes = {in_coclr(n): t.shape for n, t in state.items() if "num_batches" not in n}
    weights = filled(shapes)  # no name has "norm" in it
    weights = {n: t + ("bn" in n and n.endswith(("weight", "running_var"))) for n, t in weights.items()}
    weights |= {in_coclr(n): t for n, t in state.items() if "num_batches" in n}
    torch.save({f"encoder_q.0.{n}": t for n, t in weights.items()}, tmp_path / "w.pth")
    backbone = build_backbone("s3d", weights=str(tmp_path / "w.pth")).double().eval()
    with torch.no_grad():
        found = backbone(published.clip(16, 64, batch=1)).abs().mean().item()
    assert found == pytest.approx(0.02976613204814245, abs=1e-10)


def test_layers_that_a_file_holds_twice_must_be_equal(tmp_path):
    weights, _ = coclr()
    weights["encoder_q.0.block5.2.branch0.0.conv.weight"] += 1
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"two tensors for Mixed_5c\.branch0\.0\.conv\.weight"):
        build_backbone("s3d", weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("s1.pathway0_stem.conv.weight", "blocks.0.multipathway_blocks.0.conv.weight"),
        ("s1_fuse.conv_f2s.weight", "blocks.0.multipathway_fusion.conv_fast_to_slow.weight"),
        ("s2.pathway1_res0.branch2.a_bn.bias", "blocks.1.multipathway_blocks.1.res_blocks.0.branch2.norm_a.bias"),
        ("s5.pathway0_res2.branch1_bn.weight", "blocks.4.multipathway_blocks.0.res_blocks.2.branch1_norm.weight"),
    ],
)
def test_names_of_pyslowfast_are_those_of_pytorchvideo(theirs, ours):
    assert to_pytorchvideo(theirs, 2) == ours
    assert to_pytorchvideo("s3.pathway0_res1.branch2.c.weight", 1) == "blocks.2.res_blocks.1.branch2.conv_c.weight"
