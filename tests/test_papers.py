"""Presets and recipes have the settings that they claim, told apart from how the library states them."""

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_video import recipes as recipes_module
from ssl_video.datasets.base import VideoSet
from ssl_video.eval import finetune as finetune_module
from ssl_video.eval import retrieval as retrieval_module
from ssl_video.eval.base import EVALUATIONS, Task
from ssl_video.eval.classification import Classification, ClassificationConfig
from ssl_video.eval.features import Features, clip_starts
from ssl_video.eval.linear import sgd_scores
from ssl_video.model import load_model
from ssl_video.model.readout import pool
from ssl_video.pretexts.base import PRETEXTS, Progress, View
from ssl_video.pretrain_config import PretrainConfig
from ssl_video.recipes import load_recipe
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
    assert (FINETUNE[preset].use, FINETUNE[preset].best_by) == ("best", "loss")
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


WALK = stepped(1e-4, 25, 20, 30, 40, gamma=0.3)
PAPER = {
    # pretext: optimiser, momentum or beta1, weight decay, of everything, batch, batches a step, {step or epoch: rate}
    "tuple_verification": ("SGD", 0.9, 5e-4, False, 32, 4, {0: 1e-3, 79_999: 1e-3, 80_000: 1e-4, 99_999: 1e-4}),
    "order_prediction": ("SGD", 0.9, 5e-4, False, 64, 1, {0: 1e-2, 129_999: 1e-2, 130_000: 1e-3, 169_999: 1e-3}),
    "arrow_of_time": ("SGD", 0.9, 5e-4, True, 32, 3, {0: 1e-2, 4_999: 1e-2, 5_000: 1e-3, 99_999: 1e-3}),
    "temporal_cycle_consistency": ("Adam", 0.9, 2e-6, False, 2, 1, {0: 1e-4, 75_000: 1e-4, 149_999: 1e-4}),
    "colorization": ("Adam", 0.9, 0.0, False, 32, 1, {0: 1e-3, 59_999: 1e-3, 60_000: 1e-4, 399_999: 1e-4}),
    "clip_order": ("SGD", 0.9, 5e-4, True, 8, 1, dict.fromkeys(range(300), 1e-3)),
    "contrastive_random_walk": (
        "Adam",
        0.9,
        0.0,
        False,
        20,
        1,
        dict(enumerate(stepped(1e-4, 25, 20, 30, 40, gamma=0.3))),
    ),
    "cycle_tracking": ("Adam", 0.5, 0.0, False, 36, 1, dict.fromkeys(range(30), 2e-4)),
    "dense_predictive_coding": ("Adam", 0.9, 1e-5, True, 128, 1, dict.fromkeys(range(300), 1e-3)),
}
# the test of a pretext may have its own, as PAPER
for _name in set(PRETEXTS.names()) - set(PAPER):
    if paper := getattr(importlib.import_module(f"tests.test_{_name}"), "PAPER", None):
        PAPER[_name] = paper
UNKNOWN = {"cubic_puzzles", "speediness", "video_diffusion", "video_upscaling"}
"""No code of the authors was found, and no statement of the optimiser."""


def test_every_paper_recipe_is_compared_or_is_said_to_be_unknown():
    assert {*PAPER, *UNKNOWN} == set(PRETEXTS.names())
    for name in UNKNOWN:
        assert "steps, the batch and the optimiser are ours" in first_lines(name)


def first_lines(name: str) -> str:
    """The head of the paper's recipe of a pretext, as one line."""
    text = (Path(recipes_module.__file__).parent / f"{name}.yaml").read_text(encoding="utf-8")
    return " ".join(text.partition("\npaper:")[2].partition("\n  pretext:")[0].replace("#", " ").split())


@pytest.mark.parametrize("name", sorted(PAPER))
def test_a_paper_recipe_trains_as_the_code_does(name):
    kind, beta, decay, everything, batch, accumulated, rates = PAPER[name]
    training = PretrainConfig.from_mapping(load_recipe(f"{name}:paper")).training
    assert (training.batch_size, training.optim.accumulate) == (batch, accumulated)
    clips = 3000 * training.clips_per_video
    steps = training.steps_over(3000)
    assert steps == (max(rates) + 1 if training.steps else round((max(rates) + 1) * clips / batch))
    for at, rate in rates.items():
        step = at if training.steps else -(-at * clips // batch)  # the first whole step of an epoch
        assert learning_rate(training.optim, Progress(step, steps)) == pytest.approx(rate), at

    objective = Classification(
        ClassificationConfig(), load_model("random:r2plus1d_4").backbone, View(4, 2, 12, 8), ("a",)
    )
    optimizer = build_optimizer(training.optim, objective)
    set_schedules(optimizer, training.optim, Progress(0, steps))
    assert type(optimizer).__name__ == kind
    for group in optimizer.param_groups:
        assert (group["betas"][0] if kind in ("Adam", "AdamW") else group["momentum"]) == beta
        decayed = everything or all(p.ndim > 1 for p in group["params"])
        assert group["weight_decay"] == (decay if decayed else 0.0)
    assert training.optim.clip_norm == (10 if name in ("cycle_tracking", "vjepa") else None)
    assert (training.optim.ema is None) == (name != "levjepa")


def test_vcop_holds_800_videos_out_of_its_pretraining():
    assert PretrainConfig.from_mapping(load_recipe("clip_order:paper")).data.held_out == 800


def features_of(count, seed, classes=4, clips=3):
    """Features of drawn videos, (clips, 6) each, off the origin as those of networks are."""
    rng = np.random.default_rng(seed)
    videos = [replace(v, labels=(n % classes,)) for n, v in enumerate(video_set(count).videos)]
    rows = [2 + rng.normal(size=(clips, 6)) + 0.5 * v.labels[0] for v in videos]
    return Features(videos, [r.astype(np.float32) for r in rows], [np.arange(clips)] * count, [])


@pytest.mark.parametrize("preset", ["vcop", "coclr"])
def test_retrieval_finds_what_the_papers_code_finds_without_dropping_a_video(preset, monkeypatch):
    gallery, queries = features_of(37, 0), features_of(13, 1)  # no multiples of a batch
    monkeypatch.setattr(retrieval_module, "train_and_test_features", lambda *_a, **_o: (gallery, queries))
    config = EVALUATIONS["retrieval"].presets[preset]
    task = Task("drawn", 1, VideoSet("train", tuple(gallery.videos), tuple("abcd")), None)
    model = load_model("random:r2plus1d_4?width=4")
    found = EVALUATIONS["retrieval"]().measure(model, task, config, seed=0)
    x, y = (np.stack([c.mean(0) for c in f.clips_KD]).astype(float) for f in (queries, gallery))
    if preset == "coclr":  # each list by its own mean
        x, y = x - x.mean(0), y - y.mean(0)
    cosines = (x / np.linalg.norm(x, axis=1)[:, None]) @ (y / np.linalg.norm(y, axis=1)[:, None]).T
    order = np.argsort(-cosines, axis=1)
    hits = gallery.labels_N[order] == queries.labels_N[:, None]
    assert found.metrics == {f"recall@{k}": pytest.approx(hits[:, :k].any(1).mean()) for k in (1, 5, 10, 20, 50)}
    assert (found.counts["queries"], found.counts["gallery"]) == (13, 37)
    assert (config.clips, config.readout) == {"vcop": (10, "conv5"), "coclr": (0, "avg")}[preset]
    assert not config.calibrate


@pytest.mark.parametrize("frames", [16, 17, 29, 64, 120, 301])
def test_vcops_clips_start_where_its_code_starts_them_or_a_frame_later(frames):
    theirs = {int(centre - 8) for centre in np.linspace(8, frames - 8, 10)}
    ours = set(clip_starts(frames, 16, 10).tolist())
    assert all({start, start + 1} & ours for start in theirs)
    assert all({start, start - 1} & theirs for start in ours)


def test_vcop_retrieves_by_maxima_over_two_by_two_cells_of_every_frame():
    x_BDthw = torch.randn(2, 5, 2, 7, 7, generator=torch.Generator().manual_seed(0))
    blocks = x_BDthw[..., :6, :6].unflatten(4, (3, 2)).unflatten(3, (3, 2))  # the seventh row and column are left over
    expected = blocks.amax((4, 6)).flatten(1)
    assert torch.equal(pool(x_BDthw, EVALUATIONS["retrieval"].presets["vcop"].readout), expected)
    assert expected.shape == (2, 5 * 2 * 3 * 3)


@pytest.mark.parametrize(
    ("preset", "kind", "rates", "batch", "decay"),
    [
        ("coclr", "SGD", [1.0] * 60 + [0.1] * 20 + [0.01] * 20, 1024, 1e-3),
        ("severe", "Adam", stepped(0.01, 10, 4, 8, 10, gamma=0.3), 128, 0.0),
    ],
)
def test_linear_probes_have_the_papers_optimiser_in_every_epoch(preset, kind, rates, batch, decay, monkeypatch):
    seen = []

    class Watched(getattr(torch.optim, kind)):
        def step(self, *words):
            seen.append([(g["lr"], g["weight_decay"], g.get("momentum")) for g in self.param_groups])
            return super().step(*words)

    monkeypatch.setattr(torch.optim, kind, Watched)
    config = EVALUATIONS["linear"].presets[preset]
    assert config.batch_size == batch
    x, y = np.random.default_rng(0).normal(size=(batch + 2, 8)), np.arange(batch + 2) % 3
    sgd_scores(x, y, x[:5], 3, config, seed=0)
    assert len(seen) == 2 * len(rates)  # a whole batch an epoch, and what is left
    assert [step[0][0] for step in seen[::2]] == pytest.approx(rates)
    assert {step[0][1:] for step in seen} == {(decay, 0.9 if kind == "SGD" else None)}
