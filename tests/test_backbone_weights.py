import pickle
import urllib.error

import pytest
import torch
import torch.hub
import torchvision
from safetensors.torch import save_file
from torch import nn

from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.weights import load_weights
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
    with pytest.raises(UserError, match="not a whole file of weights"):
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
def test_torchvisions_weights_are_taken_from_its_cache(hub, choice):
    torch.manual_seed(3)
    published = torchvision.models.resnet18()
    url = torchvision.models.ResNet18_Weights[choice].url
    torch.save(published.state_dict(), hub / url.rpartition("/")[2])
    backbone = build_backbone("resnet18", weights=f"torchvision:{choice}")
    assert torch.equal(next(backbone.parameters()), published.conv1.weight)
    said = f"loaded 120 tensors from torchvision:{choice}; left out fc.weight, fc.bias"
    assert backbone.provenance.weights_report == said


def test_weights_that_cannot_be_fetched_are_named(hub):
    with pytest.raises(UserError, match=r"https://.*/resnet18-f37072fd.pth could not be loaded.*no network"):
        build_backbone("resnet18", weights="torchvision:DEFAULT")


def test_weights_cut_off_in_the_cache_are_named(hub):
    (hub / "resnet18-f37072fd.pth").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"resnet18-f37072fd.pth could not be loaded"):
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
