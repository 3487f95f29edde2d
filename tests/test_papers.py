"""Presets and recipes have the settings that they claim, told apart from how the library states them."""

from dataclasses import replace

import pytest
import torch

from ssl_video.datasets.base import VideoSet
from ssl_video.eval import finetune as finetune_module
from ssl_video.eval.base import EVALUATIONS, Task
from ssl_video.eval.classification import Classification
from ssl_video.model import load_model
from ssl_video.pretexts.base import Progress, View
from ssl_video.run import Run
from ssl_video.train.optim import build_optimizer, learning_rate, set_schedules
from tests.nets import video_set

FINETUNE = EVALUATIONS["finetune"].presets


class TrainsNotError(Exception):
    """What would be trained was seen."""


def prepared(monkeypatch, tmp_path, preset, videos):
    """What fine-tuning hands to the loop: (classification, data set, its TrainingConfig, the videos that are kept)."""
    seen = {}

    def train(classification, dataset, config, *_more):
        seen["all"] = classification, dataset, config
        raise TrainsNotError

    monkeypatch.setattr(finetune_module, "train", train)
    monkeypatch.setattr(finetune_module, "validation", lambda kept, *_more: seen.setdefault("kept", kept))
    model = load_model("random:r2plus1d_4?width=4&strides_t=1,1")
    whole = video_set(videos)
    task = Task("drawn", 1, VideoSet("train", whole.videos, whole.classes), None, folder=tmp_path)
    with pytest.raises(TrainsNotError):
        finetune_module.finetune(replace(model, view=View(4, 2, 12, 8)), task, FINETUNE[preset], 0, Run(tmp_path))
    return *seen["all"], seen.get("kept")


def stepped(rate, epochs, *milestones, gamma=0.1):
    return [rate * gamma ** sum(epoch >= m for m in milestones) for epoch in range(epochs)]


@pytest.mark.parametrize(
    ("preset", "rates"),
    [
        ("vcop", [1e-3] * 150),
        ("vcop-hmdb", [1e-3] * 150),
        ("ctp", stepped(0.01, 150, 60, 120)),
        ("coclr", stepped(1e-3, 500, 400, 450)),
        ("dpc", [1e-3] * 60 + [1e-4] * 20 + [1e-5] * 20 + [1e-6] * 200),
        ("dpc-224", [1e-3] * 300 + [1e-4] * 100 + [1e-5] * 100),
        ("dpc-hmdb", [1e-3] * 150 + [1e-4] * 100 + [1e-5] * 50),
        ("rspnet-hmdb", stepped(0.01, 100, 50, 70, 90)),
        ("severe", stepped(1e-4, 16, 6, 10, 14, gamma=0.3)),
    ],
)
def test_fine_tuning_has_the_papers_learning_rate_in_every_epoch(preset, rates, monkeypatch, tmp_path):
    classification, dataset, config, kept = prepared(monkeypatch, tmp_path, preset, 1001)
    videos = 1001 - (len(kept.videos) if kept else 0)
    assert len(dataset.videos.videos) == videos
    per_epoch = -(-videos * config.clips_per_video // config.batch_size)
    assert config.steps == len(rates) * per_epoch
    for last in (0, per_epoch - 1):  # the first step of each epoch, and the last
        found = [learning_rate(config.optim, Progress(e * per_epoch + last, config.steps)) for e in range(len(rates))]
        assert found == pytest.approx(rates)
    optimizer = build_optimizer(config.optim, classification)
    set_schedules(optimizer, config.optim, Progress(0, config.steps))
    of_backbone = {id(p) for p in classification.backbone.parameters()}
    tenth = 0.1 if preset == "coclr" or preset.startswith("dpc") else 1.0
    for group in optimizer.param_groups:
        backbone = {id(p) in of_backbone for p in group["params"]}
        assert [group["lr"]] == pytest.approx([rates[0] * (tenth if backbone == {True} else 1.0)])
        assert group["weight_decay"] == {"vcop": 5e-4, "ctp": 5e-4, "rspnet": 1e-4, "severe": 0.0}.get(
            preset.partition("-")[0], 1e-3
        )


@pytest.mark.parametrize(("preset", "count"), [("vcop", 800), ("vcop-hmdb", 400)])
def test_vcop_keeps_a_number_of_videos_for_validation_after_every_epoch_and_tests_the_best(
    preset, count, monkeypatch, tmp_path
):
    classification, dataset, config, kept = prepared(monkeypatch, tmp_path, preset, 1001)
    assert len(kept.videos) == count
    assert not {v.source for v in kept.videos} & {v.source for v in dataset.videos.videos}
    assert config.monitor_every == -(-(1001 - count) // 8)
    assert FINETUNE[preset].use == "best"
    assert classification.classifier.dropout.p == 0


@pytest.mark.parametrize("preset", ["dpc", "dpc-224", "dpc-hmdb"])
def test_dpc_classifies_by_batch_norm_dropout_and_an_orthogonal_layer(preset, monkeypatch, tmp_path):
    classification: Classification = prepared(monkeypatch, tmp_path, preset, 8)[0]
    norm, dropout, linear = classification.classifier.children()
    assert isinstance(norm, torch.nn.BatchNorm1d) and norm.weight.eq(1).all() and norm.bias.eq(0).all()
    assert isinstance(dropout, torch.nn.Dropout) and dropout.p == 0.5
    assert isinstance(linear, torch.nn.Linear) and linear.bias.eq(0).all()
    wide = linear.weight if len(linear.weight) <= linear.in_features else linear.weight.T
    torch.testing.assert_close(wide @ wide.T, torch.eye(len(wide)))


@pytest.mark.parametrize(("preset", "crop"), [("coclr", (224, 128)), ("dpc", (224, 128)), ("dpc-224", (224, 224))])
def test_a_test_crop_shows_as_much_of_a_frame_as_the_code_cuts_out_of_256_pixels(preset, crop):
    cut, shown = crop
    config = FINETUNE[preset]
    assert config.size == shown
    assert config.size / config.short_side == pytest.approx(cut / 256, abs=0.003)
