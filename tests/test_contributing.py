"""What CONTRIBUTING.md shows works as it stands there, loaded as a plug-in."""

import inspect
import itertools
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

from ssl_video.backbones.base import BACKBONES, build_backbone
from ssl_video.backbones.weights import WEIGHTS
from ssl_video.backbones.weights.entries import cached_file
from ssl_video.cli import main
from ssl_video.datasets.base import DATASETS
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.eval.base import EVALUATIONS
from ssl_video.pretexts.base import PRETEXTS
from ssl_video.registry import Registry, load_plugin
from tests import test_backbones, test_pretexts
from tests.listings import put, seen, write
from tests.pages import example
from tests.test_pretexts import batch_of, drawn  # noqa: F401  (fixtures of the contract)

RECIPE = example("CONTRIBUTING.md", "yaml", "name: brightness")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A function that loads the example that registers ``name`` and returns its file; forgotten after the tests."""
    with pytest.MonkeyPatch.context() as patch:

        def load(registry: Registry, variable: str, name: str) -> Path:
            patch.setattr(registry, "_members", {known: registry[known] for known in registry.names()})
            path = tmp_path_factory.mktemp("plugins") / f"{name.replace('/', '_')}.py"
            path.write_text(example("CONTRIBUTING.md", "python", f'{variable}.register("{name}")'))
            load_plugin(path)
            return path

        yield load


@pytest.fixture(scope="module")
def brightness(shown) -> Path:
    """The file of the pretext, which is known by now."""
    return shown(PRETEXTS, "PRETEXTS", "brightness")


def checks(contract: ModuleType) -> list:
    """The tests of a contract that every registered name is put through, with the values of their other parameters."""
    found = []
    for check in vars(contract).values():
        marks = [mark.args for mark in getattr(check, "pytestmark", []) if mark.name == "parametrize"]
        if "name" not in dict(marks):
            continue
        others = {name: values for name, values in marks if name != "name"}
        for values in itertools.product(*others.values()):
            words = "-".join([check.__name__, *map(str, values)])
            found.append(pytest.param(check, dict(zip(others, values, strict=True)), id=words))
    return found


@pytest.mark.parametrize(("check", "chosen"), checks(test_pretexts))
def test_the_pretext_keeps_the_contract(check, chosen, brightness, request, monkeypatch):
    monkeypatch.setattr(test_pretexts, "recipe_of", lambda name: yaml.safe_load(RECIPE)["small"])
    others = [name for name in inspect.signature(check).parameters if name not in ("name", *chosen)]
    check(name="brightness", **chosen, **{name: request.getfixturevalue(name) for name in others})


def test_the_pretext_trains_as_a_plug_in_of_the_command_line(brightness, tmp_path):
    synthesize(tmp_path / "videos", SyntheticConfig(frames=16, train=8, test=0), workers=1)
    recipe = write(tmp_path / "brightness.yaml", RECIPE)
    words = ["--config", recipe, "--data", tmp_path / "videos", "--out", tmp_path / "run", "--workers", 1]
    assert main(["pretrain", *map(str, words), "--steps", "2", "--plugin", str(brightness)]) == 0
    assert (tmp_path / "run" / "pretext.safetensors").is_file()


@pytest.fixture(scope="module")
def two_convolutions(shown) -> str:
    """The name of the backbone, which is known by now, and so are its weights."""
    shown(BACKBONES, "BACKBONES", "two_convolutions")
    shown(WEIGHTS, "WEIGHTS", "two_convolutions/kinetics")
    return "two_convolutions"


@pytest.mark.parametrize(("check", "chosen"), checks(test_backbones))
def test_the_backbone_keeps_the_contract(check, chosen, two_convolutions):
    check(name=two_convolutions, **chosen)


def test_the_weights_are_used_with_the_options_and_statistics_of_their_entry(two_convolutions, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    published = {f"module.{key}": x for key, x in build_backbone(two_convolutions, width=8).state_dict().items()}
    file = cached_file(WEIGHTS[f"{two_convolutions}/kinetics"])
    assert file.parent == tmp_path / "checkpoints" and file.name.endswith("two_convolutions_k400.pth")
    file.parent.mkdir()
    torch.save(published, file)
    backbone = build_backbone(two_convolutions, weights="kinetics")
    assert all(torch.equal(x, published[f"module.{key}"]) for key, x in backbone.state_dict().items())
    assert backbone.clip.mean == (0.45, 0.45, 0.45)


def test_the_data_set_reads_its_lists(shown, tmp_path):
    shown(DATASETS, "DATASETS", "two_lists")
    put(tmp_path, "run/a.mp4", "jump/b.mp4", "run/c.mp4")
    write(tmp_path / "train.txt", "run/a.mp4\njump/b.mp4\n")
    write(tmp_path / "test.txt", "run/c.mp4\n")
    splits = DATASETS["two_lists"](tmp_path, 1)
    assert seen(splits.train) == [("a.mp4", "run"), ("b.mp4", "jump")]
    assert seen(splits.test) == [("c.mp4", "run")]


def test_the_protocol_measures(shown, tmp_path, capsys):
    shown(EVALUATIONS, "EVALUATIONS", "centroids")
    synthesize(tmp_path / "videos", SyntheticConfig(size=32, frames=16, train=8, test=8), workers=1)
    words = ["--data", str(tmp_path / "videos"), "--model", "random:r2plus1d_4?width=2", "--workers", "0"]
    assert main(["evaluate", "centroids", *words]) == 0
    assert "top1" in capsys.readouterr().out
