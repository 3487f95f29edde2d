"""A run: what is exported, what is kept, and what may resume it."""

import json
from dataclasses import replace

import pytest
import torch

from ssl_video.datasets.base import VideoSet
from ssl_video.errors import UserError
from ssl_video.model import load_model
from ssl_video.pretexts.base import PRETEXTS
from ssl_video.pretraining import Choice, PretrainConfig, changed, write_weights
from ssl_video.recipes import load_recipe, recipes, small_recipe
from ssl_video.run import Lists, Run
from ssl_video.train.config import DataConfig, OptimConfig, TrainingConfig
from ssl_video.train.data import ClipDataset
from ssl_video.train.distributed import Ranks
from ssl_video.train.loop import train
from ssl_video.train.parallel import check
from ssl_video.video.info import Problem
from tests.nets import drawn_frames, video_set

OPTIONS = {"frames": 4, "short_side": 18, "crop": 16, "min_size": 16, "max_size": 16}


def config(**training) -> PretrainConfig:
    backbone = Choice("r2plus1d_4", {"width": 2, "strides_t": (1, 1, 2, 1)})
    return PretrainConfig(Choice("speediness", OPTIONS), backbone, training=TrainingConfig(**training))


def trained(run: Run, made: PretrainConfig, monitors=()):
    """The pretext as it is after training, and what counts of it; the weights are written."""
    from ssl_video.pretraining import untrained

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


def test_a_configuration_is_checked_where_it_is_made():
    for wrong, answer in (
        ({"pretext": Choice("speedines")}, "did you mean 'speediness'"),
        ({"pretext": Choice("speediness", {"frame": 3})}, "did you mean 'frames'"),
        ({"backbone": Choice("r2plus1d_4", {"width": "wide"})}, "width must be a whole number"),
    ):
        with pytest.raises(UserError, match=answer):
            PretrainConfig(**wrong)
    with pytest.raises(UserError, match="--batch-size must be 1 or more"):
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
