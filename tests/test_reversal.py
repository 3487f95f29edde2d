"""The reversal control: networks that see single frames are at chance, by construction; those of motion are above."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ssl_video.backbones.base import ClipSpec, chain
from ssl_video.datasets.base import VideoSet
from ssl_video.errors import UserError
from ssl_video.eval.base import evaluate
from ssl_video.eval.reversal import PENALTIES, told_apart
from ssl_video.eval.ridge import standardise
from tests.nets import drawn_task, tiny_backbone, tiny_model, video_set


@pytest.fixture
def task(monkeypatch):
    return drawn_task(monkeypatch)


def pairs(count, seed, apart=1.0):
    """Videos of which each is somewhere, and its reversal lies in one direction of it."""
    rng = np.random.default_rng(seed)
    x_N2D = np.repeat(rng.normal(size=(count, 1, 12)), 2, 1) + 0.1 * rng.normal(size=(count, 2, 12))
    x_N2D[:, 1, 0] += apart
    return x_N2D


def test_a_network_that_sees_single_frames_is_at_chance_exactly(task):
    torch.manual_seed(0)
    conv = nn.Conv3d(3, 8, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    stages = {"stem": nn.Sequential(conv, nn.BatchNorm3d(8), nn.ReLU())}
    network = chain(stages, feature_dim=8, strides=(1, 2, 2), clip=ClipSpec(frames=4, size=8, min_size=4))
    metrics = evaluate("reversal", tiny_model(network), task).metrics
    assert set(metrics.values()) == {0.5}
    assert set(metrics) == {"accuracy", "mean_class_accuracy", "accuracy of class0", "accuracy of class1"}


def test_a_network_of_motion_is_above_chance_on_videos_that_have_a_direction(task):
    result = evaluate("reversal", tiny_model(), task)  # drawn videos grow brighter
    assert result.metrics["accuracy"] >= 0.75
    assert result.counts == {"train": 16, "test": 8, "classes": 2}
    assert np.mean(list(result.of_videos("accuracy").values())) == pytest.approx(result.metrics["accuracy"])


def test_the_mean_over_classes_is_that_of_the_accuracies_of_the_classes(task):
    test = replace(task.test, videos=task.test.videos[:5])
    metrics = evaluate("reversal", tiny_model(), replace(task, test=test)).metrics
    of_classes = [metrics["accuracy of class0"], metrics["accuracy of class1"]]
    assert metrics["mean_class_accuracy"] == pytest.approx(np.mean(of_classes))
    assert metrics["accuracy"] == pytest.approx(np.average(of_classes, weights=(3, 2)))


def test_a_class_without_training_videos_is_left_out_and_no_class_at_all_is_a_sentence(task):
    ones = tuple(v for v in task.train.videos if v.label == 1)
    result = evaluate("reversal", tiny_model(), replace(task, train=replace(task.train, videos=ones)))
    assert result.counts == {"train": 8, "test": 4, "classes": 1} and "accuracy of class0" not in result.metrics
    zeros = replace(task.test, videos=tuple(v for v in task.test.videos if v.label == 0))
    with pytest.raises(UserError, match=r"^No class of drawn has both [^\n]*$"):
        evaluate("reversal", tiny_model(), replace(task, train=replace(task.train, videos=ones), test=zeros))


def test_flow_is_not_what_is_played_backwards(task):
    network = tiny_backbone()
    network.clip = replace(network.clip, modality="flow")
    with pytest.raises(UserError, match=r"^reversal plays frames backwards, [^\n]*takes flow; [^\n]*$"):
        evaluate("reversal", tiny_model(network), task)


def test_pairs_that_are_the_same_are_half_right_whatever_the_classifier_says():
    test_M2D = pairs(6, seed=1)
    test_M2D[:3, 1] = test_M2D[:3, 0]
    assert told_apart(pairs(30, seed=0, apart=3.0), test_M2D)[:3].tolist() == [0.5, 0.5, 0.5]
    assert told_apart(pairs(30, seed=0, apart=3.0), pairs(20, seed=1, apart=3.0)).mean() > 0.9


def test_the_penalty_is_chosen_with_both_directions_of_a_video_left_out():
    train_N2D, test_M2D = pairs(12, seed=2), pairs(40, seed=3)
    x, x_test = standardise(train_N2D.reshape(24, 12), test_M2D.reshape(80, 12))
    y = np.tile([-1.0, 1.0], 12)
    found = []
    for penalty in PENALTIES:  # the slow way
        held_out = np.zeros(24)
        for n in range(0, 24, 2):
            rest = np.delete(np.arange(24), [n, n + 1])
            mean = x[rest].mean(0)
            centred = x[rest] - mean
            w_D = np.linalg.solve(centred.T @ centred + penalty * np.eye(12), centred.T @ y[rest])
            held_out[n : n + 2] = (x[n : n + 2] - mean) @ w_D
        found.append((float((held_out * y > 0).mean()), -float(((y - held_out) ** 2).mean()), penalty))
    penalty = max(found)[2]
    w_D = np.linalg.solve(x.T @ x + penalty * np.eye(12), x.T @ y)
    expected_M = (((x_test @ w_D) > 0).reshape(-1, 2) == [False, True]).mean(1)
    assert told_apart(train_N2D, test_M2D).tolist() == expected_M.tolist()


def test_one_video_of_a_class_is_enough(task):
    two = VideoSet("train", video_set(2).videos, task.train.classes)
    assert evaluate("reversal", tiny_model(), replace(task, train=two)).counts["classes"] == 2
