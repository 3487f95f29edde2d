import numpy as np
import pytest
import torch

from ssl_video.datasets.base import VideoSet
from ssl_video.errors import UserError
from ssl_video.eval import features as features_module
from ssl_video.eval.base import EVALUATIONS, Task, evaluate
from ssl_video.eval.features import clip_starts
from ssl_video.eval.svm import svm_scores
from ssl_video.model import Model
from ssl_video.video.view import View
from tests.nets import drawn_frames, tiny_backbone, video_set


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setattr(features_module, "read_video", drawn_frames)
    whole = video_set(24)
    train, test = (VideoSet(n, whole.videos[a:b], whole.classes) for n, a, b in (("train", 0, 16), ("test", 16, 24)))
    return Task("drawn", 1, train, test, workers=0)


@pytest.fixture
def model():
    return Model("tiny", tiny_backbone().eval(), View(4, 2, 12, 8), {}, torch.device("cpu"))


def test_two_points_are_parted_as_the_formula_says():
    """Of (x, y) = (1, +1) and (-1, -1), w minimises w^2 / 2 + 2 C (1 - w)^2, so that w = 4 C / (1 + 4 C)."""
    x, c = np.array([[1.0], [-1.0]]), 0.5
    scores = svm_scores(x, np.array([1, 0]), np.array([[1.0], [3.0]]), 2, c)
    assert np.allclose(scores, [[-2 / 3, 2 / 3], [-2, 2]], atol=1e-3)


def test_scores_are_of_all_classes_also_of_those_without_training_videos():
    x = np.eye(4)[[0, 1, 3, 0, 1, 3]]
    scores = svm_scores(x, np.array([0, 1, 3, 0, 1, 3]), np.eye(4)[[3, 0]], 5, 10.0)
    assert scores.shape == (2, 5) and scores.argmax(1).tolist() == [3, 0]
    assert np.isneginf(scores[:, [2, 4]]).all() and np.isfinite(scores[:, [0, 1, 3]]).all()


def test_one_class_is_refused():
    with pytest.raises(UserError, match="two classes or more; name such --data"):
        svm_scores(np.eye(2), np.array([1, 1]), np.eye(2), 2, 1.0)


@pytest.mark.parametrize("preset", [p for p in EVALUATIONS["svm"].presets if p != "trajectories"])
def test_every_preset_measures_and_repeats(task, model, preset):
    first = evaluate("svm", model, task, preset=preset)
    again = evaluate("svm", model, Task("drawn", 1, task.train, task.test, workers=0), preset=preset)
    assert first.metrics == again.metrics and 0 <= first.metrics["top1"] <= 1
    assert first.counts == {"train": 16, "test": 8, "classes": 2}


def test_c3d_takes_clips_of_16_frames_that_overlap_by_8(task, model, monkeypatch):
    seen = []
    monkeypatch.setattr(
        features_module, "read_video", lambda v, frames, each=None: seen.append(frames) or drawn_frames(v, frames)
    )
    evaluate("svm", model, task, preset="c3d")
    assert seen[0] == list(range(40))
    assert clip_starts(40, 16, EVALUATIONS["svm"].presets["c3d"].clips).tolist() == [0, 8, 16, 24]
