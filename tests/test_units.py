"""What can be said in two units is said in one, and what is given beats what a recipe or a preset says."""

from dataclasses import replace

import pytest
import torch

from ssl_video.backbones.base import build_backbone
from ssl_video.cli.pretrain_command import configure
from ssl_video.datasets.base import Video
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.errors import UserError
from ssl_video.eval.base import configured
from ssl_video.eval.features import Extraction
from ssl_video.eval.finetune import FinetuneConfig, _training, _view
from ssl_video.eval.propagation import PropagationConfig
from ssl_video.model import Model, load_model
from ssl_video.pretexts.base import build_pretext
from ssl_video.pretexts.contrastive_random_walk import ContrastiveRandomWalkConfig
from ssl_video.pretrain_config import PretrainConfig, changed, noted_by
from ssl_video.pretraining import pretrain, write_weights
from ssl_video.recipes import load_recipe
from ssl_video.run import Run
from ssl_video.tensors import load_tensors, save_tensors
from ssl_video.train.config import OptimConfig, TrainingConfig
from ssl_video.video.info import VideoInfo
from ssl_video.video.view import View
from tests.nets import tiny_backbone

RECIPE = {
    "pretext": {"name": "speediness", "frames": 4, "short_side": 18, "crop": 16, "min_size": 16, "max_size": 16},
    "backbone": {"name": "r2plus1d_4", "width": 2, "strides_t": [1, 1, 2, 1]},
    "batch_size": 4,
    "workers": 0,
    "held_out": 0,
    "precision": "fp32",
}
WALK = "contrastive_random_walk"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("units") / "videos"
    synthesize(folder, SyntheticConfig(train=8, test=0, size=32, frames=16), workers=1)
    return folder


def training_of(recipe, **changes) -> TrainingConfig:
    return PretrainConfig.from_mapping(changed(recipe, changes)).training


def test_an_epoch_is_at_least_one_step():
    assert TrainingConfig(epochs=1, batch_size=32).steps_over(3) == 1
    assert TrainingConfig(epochs=0.01, batch_size=32).steps_over(64) == 1
    assert TrainingConfig(epochs=3, batch_size=8).steps_over(64) == 24
    assert TrainingConfig(epochs=2, batch_size=4, optim=OptimConfig(accumulate=2)).steps_over(8) == 2


def test_without_steps_and_epochs_a_training_says_its_10000_steps():
    assert TrainingConfig().steps == TrainingConfig().steps_over(5) == 10_000
    assert TrainingConfig(epochs=1).steps is None


def test_what_is_given_beats_what_the_recipe_says_in_the_other_unit():
    epochs = training_of({"steps": 2000}, epochs=1)
    assert (epochs.steps, epochs.epochs) == (None, 1)
    steps = training_of({"epochs": 5}, steps=30)
    assert (steps.steps, steps.epochs) == (30, None)
    assert training_of({"steps": 2000}, epochs=None).steps == 2000
    assert training_of({"steps": 2000}, batch_size=4).steps == 2000


@pytest.mark.parametrize(("recipe", "changes"), [({"steps": 3, "epochs": 1}, {}), ({}, {"steps": 3, "epochs": 1})])
def test_steps_and_epochs_in_one_place_are_a_sentence(recipe, changes):
    with pytest.raises(UserError, match=r"^--steps and --epochs say one thing in two units; give one of them"):
        training_of(recipe, **changes)


def test_a_flag_beats_the_recipe_of_its_command_line():
    assert load_recipe("small")["steps"]
    for words in (["--epochs", "2"], ["--epochs=2"]):
        made = configure(["--data", "videos", "--config", "small", *words]).config.training
        assert (made.steps, made.epochs) == (None, 2.0)
    with pytest.raises(UserError, match="--steps and --epochs"):
        configure(["--data", "videos", "--config", "small", "--epochs", "2", "--steps", "3"])
    with pytest.raises(UserError, match=r"^--epochs must be a number above 0, not 0"):
        configure(["--data", "videos", "--epochs", "0"])


def test_a_run_notes_what_counted_and_is_resumed_by_it(videos, tmp_path):
    flat = changed(RECIPE | {"steps": 7}, {"data": str(videos), "epochs": 1})
    run = pretrain(PretrainConfig.from_mapping(flat), tmp_path / "run")
    noted = run.config()
    assert (noted["steps"], noted["epochs"]) == (None, 1.0) and run.last_step() == 2
    assert pretrain(PretrainConfig.from_mapping(noted), tmp_path / "run", resume=True).last_step() == 2
    with pytest.raises(UserError, match=r"but --epochs differs from that in"):
        pretrain(PretrainConfig.from_mapping(changed(noted, {"epochs": 2})), tmp_path / "run", resume=True)


def test_a_run_that_noted_both_units_is_resumed_by_the_one_that_counted(videos, tmp_path):
    flat = changed(RECIPE, {"data": str(videos), "steps": 3})
    run = pretrain(PretrainConfig.from_mapping(flat), tmp_path / "run")
    run.write_config(run.config() | {"epochs": 50.0})
    before = noted_by(run)
    assert (before["steps"], before["epochs"]) == (3, None)
    resumed = configure(["--out", str(run), "--resume"])
    assert resumed.config.training.steps_over(8) == 3
    assert pretrain(resumed.config, run.folder, resume=True).last_step() == 3


def test_a_stride_that_is_given_takes_the_place_of_a_walks_frames_a_second():
    for flat in (
        {"pretext": {"name": WALK, "stride": 3}},
        changed({"pretext": WALK}, {"pretext.stride": 3}),
        changed({"pretext": {"name": WALK, "fps": 5}}, {"pretext.stride": 3}),
    ):
        options = PretrainConfig.from_mapping(flat).pretext.options
        assert (options["stride"], options["fps"]) == (3, None)
    given = configure(["--data", "videos", "--pretext", WALK, "--pretext.stride", "3"]).config.pretext.options
    assert (given["stride"], given["fps"]) == (3, None)
    assert PretrainConfig.from_mapping({"pretext": WALK}).pretext.options["fps"] == 8
    with pytest.raises(UserError, match="fps and stride say one thing in two units"):
        ContrastiveRandomWalkConfig(stride=3)
    backbone = build_backbone("dense_resnet_8", width=2)
    assert build_pretext(WALK, backbone, {"stride": 3}).view == View(4, 3, 256, 256)
    assert build_pretext(WALK, backbone, {"fps": None}).view == View(4, 1, 256, 256)
    assert build_pretext(WALK, backbone, {}).view == View(4, 1, 256, 256, 8.0)


def test_a_walk_that_noted_a_stride_beside_its_frames_a_second_is_loaded(tmp_path, recwarn):
    run = Run(tmp_path / "run")
    write_weights(run, build_pretext(WALK, build_backbone("dense_resnet_8", width=2), {}))
    for file in (run.backbone_file, run.pretext_file):
        weights, header = load_tensors(file)
        header["pretext"]["options"]["stride"] = 1  # as version 0.1 wrote it
        save_tensors(file, weights, header)
    pretext = load_model(str(run)).pretext
    assert pretext is not None and pretext.view.fps == 8.0
    assert not [w for w in recwarn if "pretext is left out" in str(w.message)]


OWN = View(8, 1, 32, 24, 12.0, "gray")


@pytest.mark.parametrize(
    ("preset", "options", "view"),
    [
        ("default", {}, OWN),
        ("default", {"stride": 2}, replace(OWN, stride=2, fps=None)),
        ("default", {"fps": 5}, replace(OWN, fps=5.0)),
        ("rspnet", {"stride": 2}, View(16, 2, 128, 112, None, "gray")),
        ("vcop", {"fps": 5, "size": 64}, View(16, 1, 128, 64, 5.0, "gray")),
    ],
)
def test_fine_tuning_sees_clips_in_the_unit_that_is_given(preset, options, view):
    config = configured("finetune", preset, options)
    assert isinstance(config, FinetuneConfig) and _view(config, OWN) == view


def test_a_stride_and_a_rate_of_fine_tuning_at_once_are_a_sentence():
    with pytest.raises(UserError, match=r"^fps and stride say one thing in two units"):
        configured("finetune", "default", {"stride": 2, "fps": 5})


def test_fine_tuning_takes_at_least_one_step_and_at_most_its_max_steps(tmp_path):
    run = Run(tmp_path)
    assert _training(FinetuneConfig(epochs=0.01), 10, run, 0, 0).steps == 1
    assert _training(FinetuneConfig(epochs=10, batch_size=5), 10, run, 0, 0).steps == 20
    assert _training(FinetuneConfig(epochs=10, batch_size=5, max_steps=3), 10, run, 0, 0).steps == 3


def test_consecutive_frames_are_consecutive_for_a_network_of_frames_a_second(monkeypatch):
    from ssl_video.eval import svm as svm_module

    class Seen(Exception):
        pass

    def look(model: Model, _task, what: Extraction, calibrate: bool):
        raise Seen(model.view.offsets(Video("a.mp4", info=VideoInfo(99, 25.0, 8, 8, 3.96, "h264"))).tolist())

    monkeypatch.setattr(svm_module, "train_and_test_features", look)
    model = Model("tiny", tiny_backbone().eval(), View(4, 1, 12, 8, fps=5.0), {}, torch.device("cpu"))
    with pytest.raises(Seen, match=r"\[0, 1, 2\]"):
        svm_module.Svm().measure(model, None, configured("svm", "default", {"frames": 3}), 0)  # pyright: ignore


def test_results_of_others_are_measured_without_features():
    with pytest.raises(UserError, match="leave out results or features=lab"):
        PropagationConfig(results="masks", features="lab")
    with pytest.raises(UserError, match="results holds masks"):
        configured("propagation", "crw-jhmdb", {"results": "masks"})
