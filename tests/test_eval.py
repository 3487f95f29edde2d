import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from torch import nn

from ssl_video.errors import UserError
from ssl_video.eval.accuracy import accuracies, average_scores, clip_accuracy, confusion, draw_confusion
from ssl_video.eval.base import EVALUATIONS, Task, evaluate
from ssl_video.eval.calibration import calibrate_batch_norm
from ssl_video.eval.features import ClipsOfVideos, Extraction, clip_starts
from ssl_video.eval.knn import knn_scores
from ssl_video.eval.linear import LinearConfig, sgd_scores
from ssl_video.eval.retrieval import recall_at
from ssl_video.eval.ridge import ridge_scores, standardise
from ssl_video.model import digest, pool
from ssl_video.video.view import View
from tests.nets import drawn_frames, drawn_task, tiny_model


def blobs(count=120, classes=3, dimensions=6, spread=0.8, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, dimensions))
    labels = np.arange(count) % classes
    return centres[labels] + spread * rng.normal(size=(count, dimensions)), labels


@pytest.fixture
def task(monkeypatch):
    return drawn_task(monkeypatch)


@pytest.fixture
def model():
    return tiny_model()


def test_ridge_agrees_with_scikit_learn_at_the_same_penalty():
    (x, y), (x_test, _) = blobs(), blobs(seed=1)
    ours = ridge_scores(x, y, x_test, 3, penalties=(10.0,))
    scaled, scaled_test = standardise(x, x_test)
    theirs = RidgeClassifier(alpha=10.0).fit(scaled, y).decision_function(scaled_test)
    assert np.allclose(ours, theirs, atol=1e-8)


def test_ridge_chooses_its_penalty_by_leaving_one_out():
    x, y = blobs(24, dimensions=20, spread=2.0)
    penalties = (0.01, 1.0, 100.0)
    right = []
    scaled, _ = standardise(x, x)
    target = np.where(np.arange(3) == y[:, None], 1.0, -1.0)
    for penalty in penalties:  # the slow way, with the standardisation of all videos
        hits, square = 0, 0.0
        for i in range(len(x)):
            rest = np.arange(len(x)) != i
            mean_x, mean_y = scaled[rest].mean(0), target[rest].mean(0)
            a = scaled[rest] - mean_x
            w = np.linalg.solve(a.T @ a + penalty * np.eye(20), a.T @ (target[rest] - mean_y))
            score = (scaled[i] - mean_x) @ w + mean_y
            hits += score.argmax() == y[i]
            square += ((score - target[i]) ** 2).mean()
        right.append((hits / len(x), -square / len(x)))
    best = penalties[right.index(max(right))]
    assert np.allclose(ridge_scores(x, y, x, 3, penalties), ridge_scores(x, y, x, 3, (best,)))


def test_a_constant_feature_does_no_harm():
    (x, y), (x_test, y_test) = blobs(spread=0.3), blobs(seed=1, spread=0.3)
    x[:, 0] = x_test[:, 0] = 7.0
    x_test[0, 0] = 8.0
    scores = ridge_scores(x, y, x_test, 3)
    assert np.isfinite(scores).all()
    assert accuracies(scores, y_test)["top1"] > 0.9


@pytest.mark.parametrize("preset", ["coclr", "severe"])
def test_the_trained_probes_learn_separable_classes(preset):
    (x, y), (x_test, y_test) = blobs(spread=0.3), blobs(seed=1, spread=0.3)
    config: LinearConfig = EVALUATIONS["linear"].presets[preset]
    scores = sgd_scores(x, y, x_test, 3, config, seed=0)
    assert accuracies(scores, y_test)["top1"] > 0.9


def test_accuracies_count_videos_and_classes():
    scores = np.eye(7)[[0, 0, 1, 2]]
    found = accuracies(scores, np.array([0, 0, 0, 2]))
    assert found["top1"] == 0.75
    assert found["mean_class_accuracy"] == pytest.approx((2 / 3 + 1) / 2)


def test_a_class_that_is_out_of_the_question_is_not_among_the_best_five():
    scores = np.full((2, 20), -np.inf)
    scores[:, 19] = 1.0  # all neighbours are of one class
    assert accuracies(scores, np.array([0, 19]))["top5"] == 0.5


def test_knn_votes_of_the_nearest():
    x, y = np.array([[1.0, 0], [0.9, 0.1], [0, 1.0]]), np.array([0, 0, 1])
    scores = knn_scores(x, y, np.array([[0.2, 1.0]]), 2, k=1, temperature=0.1)
    assert scores.argmax() == 1 and (scores > 0).sum() == 1


def test_recall_counts_a_hit_among_the_k_nearest():
    gallery, queries = np.eye(3), np.array([[1.0, 0.5, 0.1]])
    found = recall_at(queries, gallery, np.array([7]), np.array([5, 7, 7]), (1, 2, 50))
    assert found == {"recall@1": 0.0, "recall@2": 1.0, "recall@50": 1.0}
    groups = np.array([3]), np.array([3, -1, 4])
    assert recall_at(queries, gallery, np.array([7]), np.array([5, 7, 7]), (1,), groups) == {"recall@1": 1.0}


def test_clips_cover_the_video_from_its_first_to_its_last_frame():
    assert clip_starts(100, 10, 4).tolist() == [0, 30, 60, 90]
    assert clip_starts(100, 10, 0).tolist() == list(range(0, 91, 5))
    assert clip_starts(5, 10, 4).tolist() == [0]


def test_readouts_pool_as_they_say():
    x = torch.randn(2, 3, 4, 5, 5)
    assert torch.allclose(pool(x, "avg"), x.flatten(2).mean(2))
    assert torch.allclose(pool(x, "max"), x.flatten(3).max(3).values.mean(2))
    assert pool(x, "rich").shape == (2, 9)
    assert pool(x, "conv5").shape == (2, 3 * 4 * 2 * 2)
    with pytest.raises(UserError, match="no readout"):
        pool(x, "mx")


def test_calibration_gives_the_statistics_of_the_clips_and_leaves_the_model_alone(task, model):
    before = model.backbone.stages["stem"][1].running_mean.clone()
    calibrated = calibrate_batch_norm(model, task.train, at_most=16, workers=0)
    assert torch.equal(model.backbone.stages["stem"][1].running_mean, before)
    clips = torch.stack(
        [torch.from_numpy(model.view.prepare(drawn_frames(v, [0, 2, 4, 6]))) for v in task.train.videos]
    )
    conv: nn.Module = model.backbone.stages["stem"][0]
    with torch.no_grad():
        expected = conv(model.normalise(clips)).mean((0, 2, 3, 4))
    assert torch.allclose(calibrated.backbone.stages["stem"][1].running_mean, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("protocol", "preset"),
    [(p, s) for p in ("linear", "knn", "retrieval") for s in EVALUATIONS[p].presets],
)
def test_every_protocol_and_preset_measures_and_repeats(task, model, protocol, preset):
    first = evaluate(protocol, model, task, preset=preset)
    again = evaluate(protocol, model, Task("drawn", 1, task.train, task.test, workers=0), preset=preset)
    assert first.metrics == again.metrics
    assert all(0 <= v <= 1 for v in first.metrics.values())
    assert first.counts[next(iter(first.counts))] in (8, 16)
    assert not first.transductive


def test_testing_on_pretraining_videos_is_marked(task, model):
    model.run = {"videos": [digest(task.test.videos[3])]}
    assert evaluate("knn", model, task).transductive


def test_unlabelled_data_and_wrong_names_are_refused_in_one_sentence(task, model):
    with pytest.raises(UserError, match="one list only"):
        evaluate("linear", model, Task("d", 1, task.train, None, 0))
    with pytest.raises(UserError, match="did you mean 'coclr'"):
        evaluate("linear", model, task, preset="colcr")
    with pytest.raises(UserError, match="did you mean 'retrieval'"):
        evaluate("retreival", model, task)
    with pytest.raises(UserError, match="did you mean 'clips'"):
        evaluate("linear", model, task, options={"clip": 3})


def test_scores_of_clips_are_averaged_as_logits_or_as_probabilities():
    clips = [np.array([[2.0, 0.0], [0.0, 1.0]])]
    assert np.allclose(average_scores(clips, "logits"), [[1.0, 0.5]])
    p = 1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(1.0))
    assert np.allclose(average_scores(clips, "probabilities"), [[np.mean(p), 1 - np.mean(p)]])
    assert clip_accuracy(clips, np.array([0])) == {"clip_top1": 0.5}


def test_confusion_counts_what_was_taken_for_what_and_can_be_drawn(tmp_path):
    counts = confusion(np.eye(3)[[0, 1, 1, 2]], np.array([0, 1, 2, 2]))
    assert counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    draw_confusion(counts, ("a", "b", "c"), tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_the_reversed_control_shows_every_clip_backwards_and_is_kept_apart(task):
    view = View(4, 2, 12, 8)
    plain, turned = (
        [clips for _, _, clips in ClipsOfVideos(task.test.videos, view, Extraction(2, reversed=way))]
        for way in (False, True)
    )
    assert len(plain) == len(turned) == 8
    assert all(torch.equal(clips_KTHWC.flip(1), other) for clips_KTHWC, other in zip(plain, turned, strict=True))
    assert Extraction(reversed=True).noted() != Extraction().noted()
    assert "reversed" not in Extraction().noted()  # features that are kept already are found again


def test_the_linear_probe_has_three_controls(task, model):
    numbers = [
        evaluate("linear", model, task, options=options).predictions
        for options in ({}, {"still": True}, {"shuffle": True}, {"reversed": True})
    ]
    assert all(not np.allclose([p.score for p in numbers[0]], [p.score for p in other]) for other in numbers[1:])
