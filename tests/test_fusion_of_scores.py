from dataclasses import replace

import numpy as np
import pytest
import torch

from ssl_video.datasets.base import VideoSet
from ssl_video.errors import UserError
from ssl_video.eval import fusion as fusion_module
from ssl_video.eval.base import Task, evaluate
from ssl_video.eval.features import Features
from ssl_video.model import Model, digest
from ssl_video.video.info import Problem
from ssl_video.video.view import View
from tests.nets import tiny_backbone, video_set

WHOLE = video_set(24)


@pytest.fixture
def task():
    train, test = (VideoSet(n, WHOLE.videos[a:b], WHOLE.classes) for n, a, b in (("train", 0, 16), ("test", 16, 24)))
    return Task("drawn", 1, train, test, workers=0)


def model(name):
    return Model(name, tiny_backbone().eval(), View(4, 2, 12, 8), {}, torch.device("cpu"))


@pytest.fixture(autouse=True)
def streams(monkeypatch):
    """One stream knows class 0 only by halves, the other one is sure of class 1, one of its videos is unreadable."""

    def predict(model, videos, *, clips, crops, workers, batch):
        kept = [v for v in videos.videos if not (model.name == "flow" and v.path.endswith("/17.mp4"))]
        logits = {"rgb": ([0.2, 0.0], [0.1, 0.0]), "flow": ([0.1, 0.0], [0.0, 3.0])}[model.name]
        rows = [np.array([logits[v.label]] * 3) for v in kept]
        lost = [Problem("17.mp4", "damaged")] if len(kept) < len(videos.videos) else []
        return Features(kept, rows, [], lost)

    monkeypatch.setattr(fusion_module, "predict", predict)
    monkeypatch.setattr(fusion_module, "load_model", lambda spec, _device: model(spec))


@pytest.mark.parametrize("preset", ["default", "svm"])
def test_two_streams_together_know_what_one_alone_does_not(task, preset):
    result = evaluate("fusion", model("rgb"), task, preset=preset, options={"partner": "flow"})
    assert result.metrics["top1_model"] < 0.6
    assert result.metrics["top1"] == result.metrics["top1_partner"] == 1.0
    assert result.counts["test"] == 7 and result.skipped == [{"path": "17.mp4", "reason": "damaged"}]


def test_a_test_video_that_only_the_partner_was_trained_on_is_told(task, monkeypatch):
    partner = model("flow")
    partner.run = {"videos": [digest(task.test.videos[2])]}
    monkeypatch.setattr(fusion_module, "load_model", lambda _spec, _device: partner)
    result = evaluate("fusion", model("rgb"), task, options={"partner": "flow"})
    assert result.transductive and list(result.seen) == [task.test.videos[2].path]


def test_the_average_is_that_of_probabilities(task):
    one, other = (model(n) for n in ("rgb", "flow"))
    config = fusion_module.FusionConfig(partner="flow", weight=0.25)
    _, scores, _ = fusion_module.Fusion()._scores(one, other, replace(task, test=task.train), config)
    e = np.exp
    p_rgb, p_flow = e(0.1) / (1 + e(0.1)), 1 / (1 + e(3.0))
    assert scores[1, 0] == pytest.approx(0.75 * p_rgb + 0.25 * p_flow)


def test_a_missing_partner_is_said(task):
    with pytest.raises(UserError, match="partner=FOLDER"):
        evaluate("fusion", model("rgb"), task)
