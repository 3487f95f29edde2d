import pickle

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.weights import load_weights
from ssl_video.errors import UserError


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
    assert not report.missing and not report.unexpected
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
    assert report.unexpected == report.missing == ("fc.weight", "fc.bias")
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
    assert "weights" not in backbone.options


def test_the_file_of_another_network_is_refused(tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(UserError, match="does not fit this architecture"):
        build_backbone("resnet34", weights=str(tmp_path / "resnet18.pth"))
