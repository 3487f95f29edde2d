"""The networks that come with ssl-video: what holds for every one of them, and where they serve."""

import json
import re
import shutil

import numpy as np
import pytest
import torch

import ssl_video as sv
from ssl_video.apps import shipping
from ssl_video.apps.catalogue import lines_of
from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.weights import WEIGHTS, packaged
from ssl_video.backbones.weights.packaged import FOLDER, packaged_names
from ssl_video.cli import main
from ssl_video.cli.pretrain_command import configure
from ssl_video.datasets.synthetic import draw
from ssl_video.errors import UserError
from ssl_video.files import sha256
from ssl_video.model import load_model, untrained_twin
from ssl_video.pretrain_config import PretrainConfig
from ssl_video.tensors import read_header
from ssl_video.video.writer import write_video
from tests import speed_run

MOST_BYTES = 8_000_000
FIELDS = {"name", "purpose", "recipe", "config", "seed", "trained_on", "drawn", "results", "licence", "check", "value"}


def file_of(name):
    return FOLDER / f"{name}.safetensors"


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """Where copies of the packaged files are taken to lie."""
    shutil.copytree(FOLDER, tmp_path / "data")
    monkeypatch.setattr(packaged, "FOLDER", tmp_path / "data")
    return tmp_path / "data"


def flipped(path):
    """The file with one bit of its last weight changed."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A drawn video with objects."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, draw("tracks", 0, frames=12).frames_THWC)
    return path


def test_all_of_them_together_are_small():
    assert {"clips", "dense", "speed"} <= set(packaged_names())
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MOST_BYTES


@pytest.mark.parametrize("name", packaged_names())
def test_a_file_is_the_one_of_its_description(name):
    described = json.loads((FOLDER / f"{name}.json").read_text())
    header = read_header(file_of(name))
    assert header is not None and header.pop("videos")
    assert described == {"sha256": sha256(file_of(name)), "bytes": file_of(name).stat().st_size, "header": header}


@pytest.mark.parametrize("name", packaged_names())
def test_a_header_says_all_that_there_is_to_say_and_names_no_folder(name):
    header = packaged.packaged(name)
    said = header["packaged"]
    assert said.keys() >= FIELDS and header["version"] and said["name"] == name
    PretrainConfig.from_mapping(said["config"] | {"data": "synthetic"})
    for result in said["results"]:
        assert result.keys() >= {"metric", "value", "untrained", "protocol", "data"}
    assert not re.search(r'"/|/tmp/|/home/', json.dumps(header))


@pytest.mark.parametrize("name", packaged_names())
def test_a_network_gives_the_number_of_its_header(name):
    said = packaged.packaged(name)["packaged"]
    check, model = shipping.CHECKS[said["check"]], load_model(f"net:{name}")
    assert check(model) == pytest.approx(said["value"], abs=0.06)


@pytest.mark.parametrize("name", packaged_names())
def test_a_network_is_a_model_weights_and_its_own_untrained_twin(name):
    model, header = load_model(f"net:{name}"), packaged.packaged(name)
    assert model.pretext is not None and model.trained_on
    options = header["options"] | {"weights": name}
    again = build_backbone(header["architecture"], **options)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.backbone.state_dict().items())
    assert again.provenance.trained_on == model.trained_on and again.clip.mean == model.backbone.clip.mean
    twin = load_model(untrained_twin(f"net:{name}"))
    assert twin.view == model.view and not twin.trained_on
    assert not torch.equal(next(twin.backbone.parameters()), next(model.backbone.parameters()))
    own = load_model(file_of(name))
    assert own.pretext is not None and torch.equal(next(own.pretext.parameters()), next(model.pretext.parameters()))


@pytest.mark.parametrize("name", packaged_names())
def test_the_list_says_what_each_is_for_how_large_it_is_and_what_it_came_to(name):
    header = packaged.packaged(name)
    line = lines_of("weights")[f"{header['architecture']}/{name}"]
    said = header["packaged"]
    assert f"net:{name}, for {said['purpose']}: " in line and " MB, trained on " in line
    assert f"{said['results'][0]['value']:.3g}" in line


@pytest.mark.parametrize("spec", ["net:{}", "random:net:{}", "net:{network}?weights={}"])
def test_an_altered_file_is_said_to_be_altered(copies, monkeypatch, spec):
    flipped(copies / "dense.safetensors")
    entry = packaged._entry("dense")
    monkeypatch.setitem(WEIGHTS._members, "dense_resnet_8/dense", entry)
    with pytest.raises(UserError, match=r"dense\.safetensors was altered since it was installed; install ssl-video ag"):
        load_model(spec.format("dense", network="dense_resnet_8"))


def test_a_missing_file_and_a_damaged_description_are_said_in_one_sentence(copies):
    (copies / "dense.safetensors").unlink()
    with pytest.raises(UserError, match=r"dense\.safetensors is not there, .*; install ssl-video again"):
        load_model("net:dense")
    (copies / "clips.json").write_text('{"sha256": 3}')
    with pytest.raises(UserError, match=r"clips\.json is damaged .*; install ssl-video again"):
        load_model("net:clips")


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        ("clips", "write net:clips for the one that comes with ssl-video"),
        ("net:clips?width=4", "takes no options; write net:clips"),
        ("net:clisp", "net:clips"),
        ("net:r3d_10?weights=clips", "clips are weights of r2plus1d_4, not of r3d_10"),
    ],
)
def test_a_wrong_name_is_answered_with_what_to_write(spec, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        load_model(spec)
    assert answer in str(error.value)


def test_another_network_is_two_files(copies):
    for suffix in ("json", "safetensors"):
        shutil.copy(copies / f"dense.{suffix}", copies / f"fourth.{suffix}")
    assert "fourth" in packaged_names() and load_model("net:fourth").backbone.architecture == "dense_resnet_8"


def test_track_takes_the_one_for_tracking_and_says_so(clip, tmp_path, capsys):
    assert main(["track", str(clip), "--box", "20,20,40,40", "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "No model was named: net:dense is used, dense_resnet_8 trained on " in said and "by --model." in said


def test_an_altered_file_ends_a_command_with_one_sentence(clip, copies, tmp_path, capsys):
    flipped(copies / "dense.safetensors")
    assert main(["track", str(clip), "--box", "20,20,40,40", "--out", str(tmp_path / "out"), "--device", "cpu"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", ["speedup", "speediness"])
def test_speed_takes_the_one_for_speed_and_says_so(command, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mp4", draw("clips", 0, frames=96).frames_THWC)
    assert main([command, "clip.mp4", "--step", "8", "--device", "cpu"]) == 0
    assert "No model was named: net:speed is used, " in capsys.readouterr().out


def test_an_index_takes_the_one_for_clips_says_so_and_knows_it_later(tmp_path, capsys):
    for number in range(2):
        write_video(tmp_path / "videos" / f"{number}.mp4", draw("clips", number, frames=24).frames_THWC)
    words = ["index", "--data", str(tmp_path / "videos"), "--out", str(tmp_path / "index"), "--workers", "0"]
    assert main([*words, "--device", "cpu"]) == 0
    assert "No model was named: net:clips is used, " in "".join(capsys.readouterr())
    assert json.loads((tmp_path / "index" / "header.json").read_text())["model"] == "net:clips"
    assert main([*words, "--device", "cpu"]) == 0
    assert "No model was named" not in "".join(capsys.readouterr())
    assert sv.search(tmp_path / "index", tmp_path / "videos" / "0.mp4", k=1, progress=False)


def test_a_damaged_index_is_not_made_again_by_another_model_than_it_had(tmp_path):
    write_video(tmp_path / "videos" / "a.mp4", draw("clips", 0, frames=24).frames_THWC)
    out = tmp_path / "index"
    sv.index(tmp_path / "videos", "random:r2plus1d_4?width=4", out, device="cpu", progress=False)
    (out / "header.json").write_text("{")
    rebuild = ["--data", str(tmp_path / "videos"), "--rebuild", "--out", str(out), "--device", "cpu"]
    assert main(["index", *rebuild]) == 2


def test_in_python_none_means_the_packaged_one_and_the_log_says_so(clip, tmp_path, caplog):
    caplog.set_level("INFO", "ssl_video")
    z_1D = sv.embed(clip, progress=False)
    assert np.array_equal(z_1D, sv.embed(clip, "net:clips", progress=False))
    sv.track(clip, out=tmp_path / "out", points=[(30, 30)], progress=False)
    index = sv.index(clip, out=tmp_path / "index", progress=False)
    assert index.model.name == "net:clips"
    said = [record.getMessage() for record in caplog.records if "No model was named" in record.getMessage()]
    assert [re.search(r"net:\w+", line)[0] for line in said] == ["net:clips", "net:dense", "net:clips"]


def noted(*words):
    return configure(["--data", "v", *words]).config.backbone


def test_init_takes_the_weights_and_their_network():
    started = noted("--init", "dense", "--pretext", "colorization")
    assert started.name == "dense_resnet_8" and started.options["weights"] == "dense"
    assert noted("--init", "net:dense", "--pretext", "colorization") == started
    assert started == noted("--backbone", "dense_resnet_8", "--init", "dense", "--pretext", "colorization")


def test_init_continues_from_a_run_with_the_options_of_its_network(tmp_path):
    run = speed_run.save(tmp_path / "run")
    header = load_model(run).run
    for named in (run, run / "backbone.safetensors"):
        started = noted("--init", str(named))
        assert started.name == header["architecture"] and started.options["weights"].endswith("backbone.safetensors")
        assert started.options["width"] == 2 and list(started.options["strides_t"]) == header["options"]["strides_t"]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--init", "clips", "--backbone", "r3d_10"], "--init clips is of r2plus1d_4, not of r3d_10"),
        (["--init", "clips", "--backbone.weights", "clips"], "leave out one of the two"),
        (["--init", "nowhere.safetensors"], "There is no file of weights nowhere.safetensors"),
        (["--init", "."], "holds no backbone.safetensors"),
        (["--backbone", "r3d_10", "--backbone.weights", "clips"], "clips are weights of r2plus1d_4, not of r3d_10"),
    ],
)
def test_init_of_another_network_is_one_sentence(words, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        backbone = noted(*words)
        build_backbone(backbone.name, **backbone.options)
    assert answer in str(error.value)


def test_a_training_continues_from_a_packaged_network(tmp_path, capsys):
    for number in range(4):
        write_video(tmp_path / "videos" / f"{number}.mp4", draw("clips", number, frames=64).frames_THWC)
    small = {"steps": 1, "batch_size": 2, "workers": 0, "held_out": 0.0, "cache": "none", "probe": False}
    run = sv.pretrain(tmp_path / "videos", init="clips", out=tmp_path / "run", progress=False, optim__lr=1e-12, **small)
    trained, start = load_model(run), load_model("net:clips")
    assert torch.allclose(next(trained.backbone.parameters()), next(start.backbone.parameters()), atol=1e-6)
    assert start.trained_on < trained.trained_on
    assert run.config()["backbone"]["weights"] == "clips"
