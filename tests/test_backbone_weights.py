import argparse
import pickle
import urllib.error

import numpy as np
import pytest
import torch
import torch.hub
import torchvision
from safetensors.torch import save_file
from torch import nn

from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.weights import entries, load_weights
from ssl_video.errors import UserError
from ssl_video.model import load_model
from ssl_video.tensors import save_tensors


def net(classes: int = 3) -> nn.ModuleDict:
    return nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3), "bn": nn.BatchNorm2d(4), "fc": nn.Linear(4, classes)})


@pytest.fixture
def saved(tmp_path):
    """A network, and a file that torch.save made of its state dict."""
    torch.manual_seed(0)
    source = net()
    torch.save(source.state_dict(), tmp_path / "net.pth")
    return source, tmp_path / "net.pth"


def test_a_state_dict_is_loaded_whole(saved):
    source, path = saved
    target = net()
    report = load_weights(target, path)
    assert not report.missing and not report.left_out
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )


def test_safetensors_are_loaded_too(saved, tmp_path):
    source, target = saved[0], net()
    save_file(source.state_dict(), tmp_path / "net.safetensors")
    load_weights(target, tmp_path / "net.safetensors")
    assert torch.equal(source["conv"].weight, target["conv"].weight)


def test_a_checkpoint_of_a_parallel_network_is_unwrapped(saved, tmp_path):
    source, target = saved[0], net()
    state = {f"module.{k}": v for k, v in source.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "run.pth")
    load_weights(target, tmp_path / "run.pth")
    assert torch.equal(source["conv"].weight, target["conv"].weight)


def compiled(state):
    return {f"_orig_mod.{k}": v for k, v in state.items()}


def parallel(state):
    return {f"module.{k}": v for k, v in state.items()}


def averaged(state):
    return {"n_averaged": torch.tensor(3), **parallel(state)}


@pytest.mark.parametrize(
    "wrapped",
    [
        compiled,
        averaged,
        lambda state: parallel(compiled(state)),
        lambda state: compiled(parallel(state)),
        lambda state: averaged(compiled(state)),
        lambda state: {k.replace("conv.", "conv._orig_mod."): v for k, v in state.items()},
        lambda state: {"state_dict": parallel(state), "model": "resnet"},
        lambda state: {"model": "resnet", "state_dict": state, "state_dict_ema": {}},
        lambda state: {"model_state": state, "epoch": 1, "cfg": "x"},
        lambda state: {"encoder": state, "epoch": 1, "optimizer": {"state": {}, "param_groups": []}},
        lambda state: {"state_dict": state, "best_acc1": np.float64(3.0), "best": np.float32(1), "n": np.int64(2)},
        lambda state: {"state_dict": state, "args": argparse.Namespace(lr=1.0, betas=[0.9], where=None)},
        lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
        lambda state: {k: v.double() if v.is_floating_point() else v for k, v in state.items()},
    ],
)
def test_the_weights_in_common_wrappings_are_found(saved, tmp_path, wrapped):
    source, target = saved[0], net()
    torch.save(wrapped(source.state_dict()), tmp_path / "wrapped.pth")
    assert len(load_weights(target, tmp_path / "wrapped.pth").loaded) == len(source.state_dict())
    assert torch.allclose(source["conv"].weight, target["conv"].weight, atol=1e-3)


def test_of_what_lies_beside_the_weights_nothing_is_made(saved, tmp_path, monkeypatch):
    state = {"state_dict": saved[0].state_dict(), "args": argparse.Namespace(lr=1.0), "best": np.float64(1)}
    torch.save(state, tmp_path / "beside.pth")
    monkeypatch.setattr(argparse, "Namespace", None)
    load_weights(net(), tmp_path / "beside.pth")
    assert "Passed" not in str(torch.serialization.get_safe_globals())


@pytest.mark.parametrize("prefix", ["backbone.", "module.encoder_q.", "model.backbone."])
def test_words_that_all_names_begin_with_are_left_out_if_only_so_they_fit(tmp_path, prefix):
    torch.manual_seed(1)
    published = torchvision.models.resnet18().state_dict()
    torch.save({"state_dict": {f"{prefix}{k}": v for k, v in published.items()}}, tmp_path / "r.pth")
    backbone = build_backbone("resnet18", weights=str(tmp_path / "r.pth"))
    assert any(torch.equal(published["conv1.weight"], w) for w in backbone.parameters())
    torch.save({"encoder_q.conv1.weight": torch.ones(1), "encoder_k.conv1.weight": torch.ones(1)}, tmp_path / "two.pth")
    with pytest.raises(UserError, match="does not fit this architecture"):
        build_backbone("resnet18", weights=str(tmp_path / "two.pth"))


def test_of_several_networks_none_is_chosen(saved, tmp_path):
    state = saved[0].state_dict()
    torch.save({"teacher": state, "student": state}, tmp_path / "two.pth")
    with pytest.raises(UserError, match=r"two\.pth holds several networks \(teacher, student\); save the one"):
        load_weights(net(), tmp_path / "two.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_weights_that_are_not_finite_are_refused_with_the_first_and_their_number(saved, tmp_path, suffix, value):
    state, path = dict(saved[0].state_dict()), tmp_path / f"odd{suffix}"
    state["conv.bias"] = torch.tensor([0.0, 0.0, value, 0.0], dtype=torch.float64)
    state["bn.running_var"] = torch.full((4,), value, dtype=torch.float64)
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    target = net()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(UserError, match=rf"odd\{suffix} cannot be used: NaN .* 2 of 9 tensors \(the first: conv\.bias"):
        load_weights(target, path)
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8, torch.bool])
def test_integers_in_the_place_of_floats_are_refused(saved, tmp_path, kind):
    state = {k: v.to(kind) if v.is_floating_point() else v for k, v in saved[0].state_dict().items()}
    torch.save(state, tmp_path / "whole.pth")
    with pytest.raises(UserError, match=r"whole\.pth cannot be used: integers in 8 of 9 tensors \(the first: conv\.w"):
        load_weights(net(), tmp_path / "whole.pth")


def test_integers_are_refused_before_they_are_inflated(tmp_path):
    state = torchvision.models.resnet18().state_dict()
    torch.save({k: v.int() if v.is_floating_point() else v for k, v in state.items()}, tmp_path / "whole.pth")
    with pytest.raises(UserError, match=r"integers in \d+ of \d+ tensors \(the first: conv1\.weight\)"):
        build_backbone("i3d_resnet18", weights=str(tmp_path / "whole.pth"))


def test_a_head_may_hold_what_it_will(saved, tmp_path):
    """torchvision's VGG16 of IMAGENET1K_FEATURES has NaN in its classifier."""
    state = dict(saved[0].state_dict())
    state["fc.weight"], state["fc.bias"] = torch.full((3, 4), float("nan")), torch.zeros(3, dtype=torch.int32)
    torch.save(state, tmp_path / "net.pth")
    assert load_weights(net(), tmp_path / "net.pth", heads=("fc.",)).left_out == ("fc.weight", "fc.bias")


def test_a_mask_of_infinities_is_loaded(tmp_path):
    class Masked(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.register_buffer("mask", torch.full((2, 2), -float("inf")).triu(1))

    torch.save(Masked().state_dict(), tmp_path / "masked.pth")
    report = load_weights(Masked(), tmp_path / "masked.pth")
    assert not report.missing and not report.left_out


def test_a_head_of_other_classes_is_left_out_and_reported(saved):
    source, path = saved
    target = net(classes=7)
    report = load_weights(target, path, heads=("fc.",))
    assert report.left_out == ("fc.weight", "fc.bias") and not report.missing
    assert str(report) == f"loaded 7 tensors from {path}; left out fc.weight, fc.bias"
    assert torch.equal(source["conv"].weight, target["conv"].weight)


def test_old_files_without_batch_counters_are_loaded(saved, tmp_path):
    state = {k: v for k, v in saved[0].state_dict().items() if k != "bn.num_batches_tracked"}
    torch.save(state, tmp_path / "old.pth")
    assert load_weights(net(), tmp_path / "old.pth").missing == ("bn.num_batches_tracked",)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.pop("conv.bias"), "missing conv.bias"),
        (lambda state: state.update({"conv2.bias": torch.zeros(1)}), "unexpected conv2.bias"),
        (lambda state: state.update({"conv.bias": torch.zeros(5)}), r"conv.bias is \(5,\) and should be \(4,\)"),
    ],
)
def test_another_architecture_is_refused_and_the_network_is_unchanged(saved, tmp_path, change, reason):
    state, target = dict(saved[0].state_dict()), net()
    before = target["conv"].weight.clone()
    change(state)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(UserError, match=f"does not fit this architecture.*{reason}"):
        load_weights(target, tmp_path / "other.pth", heads=("fc.",))
    assert torch.equal(before, target["conv"].weight)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_truncated_file_is_refused(saved, tmp_path, suffix, share):
    whole = tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        save_file(saved[0].state_dict(), whole)
    content = whole.read_bytes()
    whole.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"not a whole (file of weights|safetensors file)"):
        load_weights(net(), whole)


class Malicious:
    def __reduce__(self):
        return (open, ("executed", "w"))


def torch_pickle(path):
    torch.save({"conv.weight": Malicious()}, path)


def plain_pickle(path):
    path.write_bytes(pickle.dumps({"conv.weight": Malicious()}))


@pytest.mark.parametrize("save", [torch_pickle, plain_pickle])
def test_code_in_a_file_is_not_executed(tmp_path, monkeypatch, save):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "evil.pth")
    with pytest.raises(UserError, match="could execute its code"):
        load_weights(net(), tmp_path / "evil.pth")
    assert not (tmp_path / "executed").exists()


def test_a_file_of_something_else_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="does not hold a state dict"):
        load_weights(net(), tmp_path / "list.pth")


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(UserError, match="There is no file of weights"):
        load_weights(net(), tmp_path / "nowhere.pth")


def test_a_backbone_starts_from_the_file_of_torchvision_and_forgets_its_name(tmp_path):
    torch.manual_seed(1)
    published = torchvision.models.resnet18()
    torch.save(published.state_dict(), tmp_path / "resnet18.pth")
    backbone = build_backbone("resnet18", weights=str(tmp_path / "resnet18.pth"))
    frames = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = nn.Sequential(*list(published.eval().children())[:-2])(frames)
        found = backbone.eval()(frames.transpose(0, 1)[None])
    assert torch.allclose(found[0].transpose(0, 1), expected, atol=1e-5)
    assert "weights" not in backbone.provenance.options


def test_the_file_of_another_network_is_refused(tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(UserError, match="does not fit this architecture"):
        build_backbone("resnet34", weights=str(tmp_path / "resnet18.pth"))


def test_a_network_of_our_own_starts_from_the_file_of_a_run(tmp_path):
    torch.manual_seed(2)
    source = build_backbone("r3d_10", width=4)
    save_file(source.state_dict(), tmp_path / "backbone.safetensors")
    target = build_backbone("r3d_10", width="4", weights=str(tmp_path / "backbone.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))
    count = len(source.state_dict())
    assert target.provenance.weights_report == f"loaded {count} tensors from {tmp_path / 'backbone.safetensors'}"


def test_a_network_of_torchvision_starts_from_the_file_of_a_run_too(tmp_path):
    torch.manual_seed(2)
    source = build_backbone("resnet18", output_stride=8)
    save_file(source.state_dict(), tmp_path / "backbone.safetensors")
    target = build_backbone("resnet18", weights=str(tmp_path / "backbone.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


def test_a_file_of_an_unknown_network_is_refused_by_one_of_our_own(saved):
    with pytest.raises(UserError, match="does not fit this architecture"):
        build_backbone("c3d", weights=str(saved[1]))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torchvision's cache, in a folder of the test; nothing can be fetched."""

    def offline(*_words, **_options):
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", offline)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize("choice", ["IMAGENET1K_V1", "DEFAULT"])
def test_torchvisions_weights_are_taken_from_its_cache(hub, choice, monkeypatch):
    torch.manual_seed(3)
    published = torchvision.models.resnet18()
    url = torchvision.models.ResNet18_Weights[choice].url
    torch.save(published.state_dict(), hub / url.rpartition("/")[2])
    monkeypatch.setattr(entries, "check_digest", lambda *_: None)
    backbone = build_backbone("resnet18", weights=f"torchvision:{choice}")
    assert torch.equal(next(backbone.parameters()), published.conv1.weight)
    said = f"loaded 120 tensors from torchvision:{choice}; left out fc.weight, fc.bias"
    assert backbone.provenance.weights_report == said


def test_weights_that_cannot_be_fetched_are_named(hub):
    with pytest.raises(UserError, match=r"https://.*/resnet18-f37072fd.pth could not be loaded.*no network"):
        build_backbone("resnet18", weights="torchvision:DEFAULT")


def test_weights_cut_off_in_the_cache_are_named(hub):
    (hub / "resnet18-f37072fd.pth").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"resnet18-f37072fd.pth was altered since it was fetched"):
        build_backbone("resnet18", weights="torchvision:DEFAULT")


def test_weights_that_torchvision_does_not_have_are_said():
    with pytest.raises(UserError, match="did you mean 'torchvision:IMAGENET1K_V1'"):
        build_backbone("resnet18", weights="torchvision:IMAGENET_V1")
    with pytest.raises(UserError, match="No published weights of c3d are known"):
        build_backbone("c3d", weights="torchvision:DEFAULT")


def test_weights_of_a_run_say_which_videos_they_have_seen(tmp_path):
    first = build_backbone("r2plus1d_4", width=4)
    save_tensors(tmp_path / "backbone.safetensors", first.state_dict(), {"videos": ["0a1b2c3d"]})
    second = build_backbone("r2plus1d_4", width=4, weights=str(tmp_path / "backbone.safetensors"))
    assert second.provenance.trained_on == {"0a1b2c3d"}
    model = load_model(f"net:r2plus1d_4?width=4&weights={tmp_path / 'backbone.safetensors'}")
    assert model.trained_on == {"0a1b2c3d"}
