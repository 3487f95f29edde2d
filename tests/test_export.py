"""Exported networks: the same features, in every format, in plain PyTorch and torchvision too."""

import contextlib
import io
import json
import re
import sys
from functools import lru_cache

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from ssl_video.apps import export as exporting
from ssl_video.apps.export import NotTheSame, Parity, export, random_clips, torchvision_name, without_folders
from ssl_video.backbones.base import ClipSpec, build_backbone, chain
from ssl_video.cli import main
from ssl_video.datasets.base import Video
from ssl_video.files import folder_written_aside
from ssl_video.model import Classifier, Model, digest, load_model
from ssl_video.pretexts.base import View, build_pretext
from ssl_video.pretraining import write_weights
from ssl_video.run import Run
from ssl_video.video.info import VideoInfo
from tests.test_cli import said

PRETEXT = {"frames": 8, "short_side": 32, "crop": 32, "min_size": 32, "max_size": 32}
VIDEO = Video("/home/somebody/secret/videos/jump/1.mp4", info=VideoInfo(40, 25.0, 12, 12, 1.6, "h264"))


def run_of(folder, backbone: str = "r2plus1d_4", **options) -> Model:
    """A run with random weights, and batch norms that are not those of the start."""
    torch.manual_seed(0)
    pretext = build_pretext("speediness", build_backbone(backbone, **options), PRETEXT)
    for norm in pretext.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
    data = {"spec": "ucf101:/home/somebody/secret/UCF", "split": 1, "hash": "0", "videos": 1}
    write_weights(Run(folder), pretext, data, [VIDEO])
    return load_model(str(folder))


@pytest.fixture
def run(tmp_path):
    run_of(tmp_path / "run", width=4)
    return tmp_path / "run"


def code(folder, title: str) -> str:
    """The code under a heading of the model card."""
    card = (folder / "README.md").read_text()
    return re.search(rf"## {title}\n\n```python\n(.*?)```", card, re.DOTALL)[1]


def run_code(folder, title: str, monkeypatch) -> dict:
    """What the code of the model card leaves behind when it runs in the folder."""
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(code(folder, title), names)
    return names


def features(model: Model, clips_BTHWC) -> np.ndarray:
    return model.clip_features(torch.as_tensor(clips_BTHWC)).numpy()


def needs_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed (pip install '.[export]')")


@pytest.fixture(scope="module", params=["safetensors", "onnx", "torch-export"])
def exported(request, tmp_path_factory):
    """The format, the original, the exported folder and what the command said."""
    if request.param == "onnx":
        needs_onnx()
    folder, said_of = tmp_path_factory.mktemp("exported"), io.StringIO()
    model = run_of(folder / "run", width=4)
    with contextlib.redirect_stdout(said_of):
        assert (
            main(["export", "--model", str(folder / "run"), "--out", str(folder / "out"), "--format", request.param])
            == 0
        )
    return request.param, model, folder / "out", said_of.getvalue()


def test_the_command_says_how_far_every_file_is_from_the_original(exported):
    form, _, out, said_of = exported
    more = {"onnx": {"model.onnx"}, "torch-export": {"model.pt2"}}.get(form, set())
    assert {p.name for p in out.iterdir()} == {"README.md", "config.json", "model.safetensors"} | more
    for batch in ("1 clip", "3 clips"):
        assert f"model.safetensors, {batch}: max abs difference of the features 0 " in said_of
        assert all(f"{name}, {batch}: max abs difference" in said_of for name in more)


def test_an_exported_folder_is_a_model_with_the_same_features(exported):
    _, original, out, _ = exported
    again, clips = load_model(str(out)), random_clips(original, 2)
    np.testing.assert_array_equal(features(original, clips), features(again, clips))
    assert (again.view, again.backbone.clip) == (original.view, original.backbone.clip)
    assert digest(VIDEO) in again.trained_on


def test_the_code_of_the_model_card_runs_on_any_batch(exported, monkeypatch):
    form, model, out, _ = exported
    title = {"onnx": "ONNX Runtime", "torch-export": "torch.export", "safetensors": "ssl-video"}[form]
    names = run_code(out, title, monkeypatch)
    np.testing.assert_allclose(names["features_BD"], features(model, names["clips_BTHWC"]), rtol=1e-4, atol=1e-4)
    five = random_clips(model, 5)
    if form == "onnx":
        answer, _ = names["session"].run(["features", "map"], {"clips": five.numpy()})
    elif form == "torch-export":
        answer = names["network"](five)[0].detach().numpy()
    else:
        answer = names["model"].clip_features(five).numpy()
    np.testing.assert_allclose(answer, features(model, five), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def with_their_names(tmp_path_factory):
    """A function from the name of a backbone to a model and its exported folder."""

    @lru_cache
    def exported(name: str):
        folder = tmp_path_factory.mktemp(name)
        model = run_of(folder / "run", name)
        export(model, folder / "out", "safetensors")
        return model, folder / "out"

    return exported


@pytest.mark.parametrize("name", ["resnet18", "mc3_18", "r3d_18", "s3d"])
def test_torchvision_loads_the_weights_into_its_own_network(with_their_names, monkeypatch, name):
    model, out = with_their_names(name)
    names = run_code(out, "PyTorch and torchvision", monkeypatch)
    assert type(names["network"]).__module__.startswith("torchvision.models")
    expected = features(model, names["clips_BTHWC"])
    np.testing.assert_allclose(names["features_BD"], expected, rtol=1e-4, atol=1e-4 * abs(expected).max())


@pytest.mark.parametrize("name", ["resnet18", "mc3_18"])
def test_weights_with_torchvisions_names_are_a_model_and_a_start_of_training(with_their_names, name):
    model, out = with_their_names(name)
    started = build_backbone(name, weights=str(out / "model.safetensors"))
    for network in (load_model(str(out)).backbone, started):
        for key, value in model.backbone.state_dict().items():
            torch.testing.assert_close(network.state_dict()[key], value, rtol=0, atol=0)
    assert digest(VIDEO) in started.provenance.trained_on


def test_a_network_whose_strides_are_not_torchvisions_is_not_said_to_be_its(tmp_path):
    model = run_of(tmp_path / "run", "resnet18", output_stride=8)
    checks = export(model, tmp_path / "out", "safetensors")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "its forward pass does not give these features" in card and "import torchvision" not in card
    assert not any("torchvision" in check.what for check in checks)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("swin3d_t", "swin3d_t"), ("i3d_resnet18", None), ("flow_stack", None), ("c3d", None)],
)
def test_only_networks_with_torchvisions_tensors_get_its_names(name, theirs):
    backbone = build_backbone(name)
    model = Model(name, backbone, View(8, 1, 32, 32), {}, torch.device("cpu"))
    assert torchvision_name(model) == theirs


def test_an_exported_model_has_a_random_baseline(run, tmp_path):
    assert main(["export", "--model", str(run), "--out", str(tmp_path / "out")]) == 0
    assert load_model(f"random:{tmp_path / 'out'}").view == load_model(str(run)).view


def test_a_random_network_can_be_exported(tmp_path):
    assert main(["export", "--model", "random:r2plus1d_4?width=4", "--out", str(tmp_path / "out")]) == 0
    assert "with random weights" in (tmp_path / "out" / "README.md").read_text()


def test_weights_of_a_file_are_not_called_random(run, tmp_path):
    out = tmp_path / "out"
    assert (
        main(["export", "--model", f"net:r2plus1d_4?width=4&weights={run}/backbone.safetensors", "--out", str(out)])
        == 0
    )
    card = (out / "README.md").read_text()
    assert "with the weights of a file" in card and str(tmp_path) not in card


def test_the_model_card_and_the_configuration_can_be_read_and_name_no_folder_of_the_machine(run, tmp_path):
    out = tmp_path / "out"
    export(load_model(str(run)), out, "safetensors")
    _, head, body = (out / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "ssl-video"
    assert "8 frames, one of every 1" in body and r"ucf101:UCF" in body
    config = json.loads((out / "config.json").read_text())
    assert config["architecture"] == "r2plus1d_4" and config["options"]["width"] == 4
    assert config["data"]["spec"] == "ucf101:UCF" and config["feature_dim"] == 32
    for file in out.iterdir():
        assert b"secret" not in file.read_bytes()


def test_the_classifier_of_a_model_is_left_out_and_that_is_said(run, tmp_path, monkeypatch, capsys):
    model = load_model(str(run))
    model.classifier = Classifier(model.backbone.feature_dim, ("a", "b"))
    monkeypatch.setattr("ssl_video.model.load_model", lambda _spec: model)
    assert main(["export", "--model", str(run), "--out", str(tmp_path / "out")]) == 0
    assert "classifier is left out" in capsys.readouterr().out
    assert load_model(str(tmp_path / "out")).classifier is None


def test_another_network_than_the_original_is_not_left_behind(run, tmp_path, monkeypatch, capsys):
    right = exporting.save_tensors

    def wrong(path, tensors, header):
        right(path, {k: v + 0.01 if v.is_floating_point() else v for k, v in tensors.items()}, header)

    monkeypatch.setattr(exporting, "save_tensors", wrong)
    out = tmp_path / "new" / "out"
    assert main(["export", "--model", str(run), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "is not the original, and nothing was written" in error and error.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"run"}


def test_a_traced_file_that_answers_otherwise_is_not_left_behind(run, tmp_path, monkeypatch):
    model = load_model(str(run))

    def wrong(clips_BTHWC):
        return tuple(y + 0.1 for y in exporting.answers(model, clips_BTHWC))

    monkeypatch.setattr(exporting, "_traced", lambda *_: ("model.pt2", wrong))
    with pytest.raises(NotTheSame, match=r"model\.pt2, 1 clip"):
        export(model, tmp_path / "out", "torch-export")
    assert {p.name for p in tmp_path.iterdir()} == {"run"}


@pytest.mark.parametrize(
    ("difference", "largest", "holds"), [(0.0, 0.0, True), (1e-5, 1.0, True), (1e-3, 1.0, False), (1e-3, 100.0, True)]
)
def test_a_difference_may_be_a_small_part_of_the_largest_value(difference, largest, holds):
    assert Parity("x", 1, "features", difference, largest).holds is holds


def test_a_nan_is_never_the_same():
    assert not Parity("x", 1, "features", float("nan"), 1.0).holds
    assert not Parity("x", 1, "features", 0.0, float("nan")).holds


class OneBatch(nn.Module):
    """Works on two clips only."""

    def forward(self, x):
        return x.reshape(2, *x.shape[1:])


def test_a_network_that_cannot_be_traced_is_one_sentence(run, tmp_path, monkeypatch):
    model = load_model(str(run))
    clip = ClipSpec(frames=4, size=16, min_size=4)
    model.backbone = chain(
        {**model.backbone.stages, "last": OneBatch()}, feature_dim=32, strides=(8, 16, 16), clip=clip
    )
    with pytest.raises(exporting.UserError, match="use --format safetensors"):
        exporting._traced(model, tmp_path, "torch-export")


def test_a_package_that_is_missing_is_named(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    answer = said(capsys, "export", "--model", run, "--out", tmp_path / "out", "--format", "onnx")
    assert "onnxruntime" in answer and "pip install onnx onnxscript onnxruntime" in answer
    assert not (tmp_path / "out").exists()


def test_options_that_name_a_folder_keep_its_last_part():
    options = {"teacher": "frozen:/home/me/secret/runs/mae", "crop": 16, "own": ["runs/one", "fixed"], "none": None}
    assert without_folders(options) == {"teacher": "frozen:mae", "crop": 16, "own": ["one", "fixed"], "none": None}


def test_a_folder_in_use_is_refused_and_an_empty_one_is_taken(run, tmp_path, capsys):
    assert "not empty" in said(capsys, "export", "--model", run, "--out", run)
    (tmp_path / "out").mkdir()
    assert main(["export", "--model", str(run), "--out", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--model", "nowhere", "--out", "x"], "does not exist"),
        (["--model", "improved-trajectories", "--out", "x"], "is an encoder"),
        (["--model", "random:r2plus1d_4", "--out", "x", "--format", "tflite"], "format"),
        (["--model", "random:r2plus1d_4"], "--out"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(capsys, tmp_path, monkeypatch, words, answer):
    monkeypatch.chdir(tmp_path)
    assert answer in said(capsys, "export", *words)
    assert not list(tmp_path.iterdir())


def test_an_unfinished_run_is_one_sentence(run, tmp_path, capsys):
    (run / "backbone.safetensors").unlink()
    assert "is its training finished?" in said(capsys, "export", "--model", run, "--out", tmp_path / "out")


def test_a_folder_that_fails_half_way_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), folder_written_aside(tmp_path / "a" / "b") as aside:
        (aside / "half").write_text("")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
