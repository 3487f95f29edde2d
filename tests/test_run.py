"""A run: what is exported, what is kept, and what may resume it."""

import json
from dataclasses import replace

import pytest
import torch

from ssl_video.datasets.base import VideoSet
from ssl_video.errors import UserError
from ssl_video.eval.classification import Classification, ClassificationConfig
from ssl_video.model import load_model
from ssl_video.pretexts.base import PRETEXTS
from ssl_video.pretrain_config import Choice, PretrainConfig, changed
from ssl_video.pretraining import pretrain, untrained, write_weights
from ssl_video.recipes import load_recipe, recipes, small_recipe
from ssl_video.run import Lists, Run
from ssl_video.tensors import load_tensors, save_tensors
from ssl_video.train.config import DataConfig, OptimConfig, TrainingConfig
from ssl_video.train.data import ClipDataset
from ssl_video.train.distributed import Ranks
from ssl_video.train.lists import check_same
from ssl_video.train.loop import train
from ssl_video.train.parallel import check
from ssl_video.video.info import Problem
from ssl_video.video.view import View
from tests.nets import drawn_frames, video_set

OPTIONS = {"frames": 4, "short_side": 18, "crop": 16, "min_size": 16, "max_size": 16}


def config(**training) -> PretrainConfig:
    backbone = Choice("r2plus1d_4", {"width": 2, "strides_t": (1, 1, 2, 1)})
    return PretrainConfig(Choice("speediness", OPTIONS), backbone, training=TrainingConfig(**training))


def trained(run: Run, made: PretrainConfig, monitors=()):
    """The pretext as it is after training, and what counts of it; the weights are written."""
    pretext = untrained(made)
    counts = train(pretext, ClipDataset(video_set(), pretext, 0, drawn_frames), made.training, run, monitors=monitors)
    write_weights(run, pretext, exported=counts.exported())
    return pretext, counts


def test_of_an_average_the_backbone_is_exported_and_the_pretext_keeps_what_was_trained(tmp_path):
    run, made = Run(tmp_path / "run"), config(steps=4, batch_size=4, workers=0, optim=OptimConfig(ema=0.9))
    seen = []
    student, average = trained(run, made, [lambda objective, step: seen.append(objective) or {}])
    assert seen == [average]  # monitors watch what is exported
    model = load_model(str(run))
    assert model.pretext is not None and model.pretext.backbone is not model.backbone
    for ours, theirs in ((model.backbone, average.backbone), (model.pretext, student)):
        assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in ours.state_dict().items())
    different = [
        k for k, v in model.backbone.state_dict().items() if not torch.equal(v, student.backbone.state_dict()[k])
    ]
    assert different


def test_without_an_average_pretext_and_evaluations_share_one_network(tmp_path):
    run = Run(tmp_path / "run")
    trained(run, config(steps=2, batch_size=4, workers=0))
    model = load_model(str(run))
    assert model.pretext is not None and model.pretext.backbone is model.backbone


def test_an_objective_may_export_a_teacher(tmp_path, monkeypatch):
    import copy

    cls = PRETEXTS["speediness"]
    pretext_of = cls.__init__

    def with_teacher(self, options, backbone):
        pretext_of(self, options, backbone)
        self.teacher = copy.deepcopy(backbone).requires_grad_(False)

    monkeypatch.setattr(cls, "__init__", with_teacher)
    monkeypatch.setattr(cls, "exported", lambda self: self.teacher)
    run = Run(tmp_path / "run")
    student, _ = trained(run, config(steps=2, batch_size=4, workers=0))
    exported = load_model(str(run)).backbone.state_dict()
    assert all(torch.equal(v, student.teacher.state_dict()[k]) for k, v in exported.items())


def test_lists_are_kept_as_they_were_chosen(tmp_path):
    videos = video_set(6)
    left_out = (Problem("/v/a\udce9.mp4", "truncated"),)
    lists = Lists(replace(videos, videos=videos.videos[:4], problems=left_out), VideoSet("kept", videos.videos[4:]))
    run = Run(tmp_path)
    assert run.lists() is None
    run.write_lists(lists)
    assert run.lists() == lists


def test_lists_that_are_damaged_are_a_sentence(tmp_path):
    run = Run(tmp_path)
    run.write_lists(Lists(video_set(2), VideoSet("kept", ())))
    next((tmp_path / "lists").glob("training*")).write_text('{"name": "x"')
    with pytest.raises(UserError, match="lists are damaged"):
        run.lists()


def test_a_configuration_is_the_same_from_its_flat_form(tmp_path):
    made = replace(config(steps=3, optim=OptimConfig(lr=0.5)), data=DataConfig("videos", held_out=0.25))
    run = Run(tmp_path)
    run.write_config(made.to_mapping())
    assert PretrainConfig.from_mapping(run.config()) == made
    assert json.dumps(made.to_mapping()["pretext"])  # plain types


def test_a_run_is_resumed_with_the_configuration_that_it_noted(tmp_path):
    run, made = Run(tmp_path), config(steps=3)
    run.write_config(made.to_mapping())
    with pytest.raises(UserError, match="keeps its configuration, but --seed differs"):
        pretrain(replace(made, training=replace(made.training, seed=5)), tmp_path, resume=True)
    run.records_file.write_text('{"step": 1, "loss": 0.5}\n')
    with pytest.raises(UserError, match="exists and is not empty"):
        pretrain(made, tmp_path)


def test_a_configuration_is_checked_where_it_is_made():
    for wrong, answer in (
        ({"pretext": Choice("speedines")}, "did you mean 'speediness'"),
        ({"pretext": Choice("speediness", {"frame": 3})}, "did you mean 'frames'"),
        ({"backbone": Choice("r2plus1d_4", {"width": "wide"})}, "width must be a whole number"),
    ):
        with pytest.raises(UserError, match=answer):
            PretrainConfig(**wrong)
    with pytest.raises(UserError, match="--batch-size must be a whole number of 1 or more"):
        TrainingConfig(batch_size=0)
    with pytest.raises(UserError, match="has no option 'stps'"):
        PretrainConfig.from_mapping({"stps": 3})


def test_options_of_another_pretext_or_backbone_do_not_carry_over():
    recipe = {"pretext": {"name": "speediness", "frames": 8}, "backbone": {"name": "r2plus1d_4", "width": 4}}
    new = changed(recipe, {"pretext": "clip_order", "backbone.width": 2})
    assert new == {"pretext": {"name": "clip_order"}, "backbone": {"name": "r2plus1d_4", "width": 2}}
    assert changed({}, {"pretext.frames": 4, "optim.lr": 1}) == {
        "pretext": {"name": "speediness", "frames": 4},
        "optim": {"lr": 1},
    }


def test_every_packaged_recipe_is_a_configuration():
    for name in recipes():
        PretrainConfig.from_mapping(load_recipe(name))
    assert all(small_recipe(name)["steps"] for name in PRETEXTS.names())


def test_statistics_over_ranks_need_gpus_and_a_batch_is_divided():
    two = Ranks(0, 2)
    with pytest.raises(UserError, match="--sync-bn needs a GPU"):
        check(TrainingConfig(sync_bn=True), two)
    with pytest.raises(UserError, match="--batch-size 3 cannot be divided among 2"):
        check(TrainingConfig(batch_size=3), two)
    check(TrainingConfig(sync_bn=True), Ranks())  # one process has the statistics of all


def test_a_finished_run_that_is_resumed_stays_as_it_is(tmp_path):
    run, made = Run(tmp_path / "run"), config(steps=2, batch_size=4, workers=0)
    run.write_config(made.to_mapping())
    trained(run, made)
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.is_file()}
    said: list[str] = []
    assert pretrain(made, run.folder, resume=True, say=said.append) == run
    assert said == [f"{run} is finished already."]
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.is_file()} == before


def test_only_the_folder_of_a_run_is_resumed(tmp_path):
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(UserError, match="no training"):
        pretrain(config(), tmp_path, resume=True)
    assert [p.name for p in tmp_path.iterdir()] == ["letters.txt"]


def test_other_videos_are_not_the_same_training(tmp_path):
    videos = video_set(6)
    run, noted = Run(tmp_path), Lists(video_set(4), VideoSet("kept", videos.videos[4:]))
    run.write_lists(noted)
    for now in (replace(noted, training=video_set(3)), replace(noted, held_out=VideoSet("kept", videos.videos[5:]))):
        with pytest.raises(
            UserError, match=r"videos of a list are gone \(the first: /v/class\d/\d.mp4\); bring them back"
        ):
            check_same(run, now)
    check_same(run, noted)


def test_a_run_that_accumulates_gradients_resumes_as_if_it_had_not_stopped(tmp_path):
    def made(steps, accumulate):
        optim = OptimConfig(schedule="constant", warmup=0.0, accumulate=accumulate)
        return config(steps=steps, batch_size=4, workers=0, checkpoint_every=2, optim=optim)

    run = Run(tmp_path / "stopped")
    trained(run, made(2, 2))
    _, resumed = trained(run, made(4, 2))  # from the checkpoint of step 2
    _, whole = trained(Run(tmp_path / "whole"), made(4, 2))
    _, without = trained(Run(tmp_path / "without"), made(4, 1))
    for one, other, alone in zip(*(list(m.parameters()) for m in (resumed, whole, without)), strict=True):
        assert torch.equal(one, other) and not torch.equal(one, alone)


def test_tensors_that_share_memory_are_written_each_by_itself(tmp_path):
    x = torch.arange(6.0)
    save_tensors(tmp_path / "x.safetensors", {"a": x, "b": x, "part": x[2:4]}, {})
    tensors, _ = load_tensors(tmp_path / "x.safetensors")
    assert torch.equal(tensors["a"], tensors["b"]) and tensors["part"].tolist() == [2.0, 3.0]


def test_normalising_leaves_the_clip_as_it_was():
    backbone = untrained(config()).backbone
    clip = torch.full((1, 2, 4, 4, 3), 7.0)
    backbone.normalise(clip)
    assert (clip == 7).all()


def test_fine_tuning_trains_what_the_pretext_had_frozen():
    backbone = untrained(config()).backbone
    next(backbone.parameters()).requires_grad_(False)
    made = Classification(ClassificationConfig(), backbone, View(4, 1, 18, 16), ("a", "b"))
    assert all(p.requires_grad for p in made.parameters())


def test_monitors_run_when_it_is_their_turn_whatever_the_log_does(tmp_path):
    seen = []
    every = {"log_every": 2, "monitor_every": 3, "checkpoint_every": 6}
    made = config(steps=6, batch_size=4, workers=0, **every)
    trained(Run(tmp_path), made, [lambda _objective, step: seen.append(step) or {"seen": 1.0}])
    assert seen == [3, 6]
    assert [r["step"] for r in Run(tmp_path).records() if "seen" in r] == [3, 6]
