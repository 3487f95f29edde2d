"""Videos with several labels: measures, the linear probe, the probe on published features."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ssl_video.cli import main
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.spec import load_features
from ssl_video.datasets.tfrecord import crc32c
from ssl_video.datasets.youtube8m import FeatureSequence, FeatureSet
from ssl_video.errors import UserError
from ssl_video.eval import features as features_module
from ssl_video.eval import multilabel
from ssl_video.eval.base import EVALUATIONS, FeatureTask, Task, evaluate
from ssl_video.eval.feature_probe import FeatureProbeConfig, Scores, pool, shuffled, train_probe
from ssl_video.eval.linear import LinearConfig, logistic_scores, sgd_scores
from ssl_video.eval.ridge import standardise
from ssl_video.model import Model
from ssl_video.video.view import View
from tests import tfrecords as made
from tests.nets import drawn_frames, tiny_backbone, video_set


def scored(videos: int = 40, classes: int = 30, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are better than chance, and targets of which the last two classes have none."""
    rng = np.random.default_rng(0)
    targets = rng.random((videos, classes)) < 0.1
    targets[:, -2:] = False
    targets[:, 0] |= ~targets.any(1)
    scores = rng.normal(size=targets.shape) + targets
    return scores.round(1) if ties else scores, targets


# ---- measures


@pytest.mark.parametrize("k", [1, 5])
def test_a_hit_is_a_true_class_among_the_k_best(k):
    scores, targets = scored()
    hits = [any(targets[n, c] for c in sorted(range(30), key=lambda c, n=n: -scores[n, c])[:k]) for n in range(40)]
    assert multilabel.hit_at(scores, targets, k) == pytest.approx(np.mean(hits))


def obvious_average_precision(scores, targets) -> float:
    """The sum over thresholds, falling, of precision times gain in recall."""
    total, before = 0.0, 0
    for threshold in sorted(set(scores), reverse=True):
        chosen = scores >= threshold
        hits = targets[chosen].sum()
        total += hits / chosen.sum() * (hits - before) / targets.sum()
        before = hits
    return total


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_takes_equal_scores_together(ties):
    scores, targets = scored(ties=ties)
    for c in range(28):
        expected = obvious_average_precision(scores[:, c], targets[:, c])
        assert multilabel.average_precision(scores[:, c], targets[:, c]) == pytest.approx(expected)


def test_mean_average_precision_leaves_classes_without_positives_out_and_counts_the_others():
    scores, targets = scored()
    value, counted = multilabel.mean_average_precision(scores, targets)
    expected = np.mean([obvious_average_precision(scores[:, c], targets[:, c]) for c in range(28)])
    assert (value, counted) == (pytest.approx(expected), 28)
    assert np.isnan(multilabel.average_precision(scores[:, 29], targets[:, 29]))


def test_a_list_without_any_of_the_true_ones_has_a_precision_of_zero():
    assert multilabel.average_precision(np.arange(4.0), np.zeros(4, bool), positives=3) == 0


def test_global_average_precision_is_that_of_the_obvious_loop():
    scores, targets = scored()
    listed = []
    for n in range(40):
        best = sorted(range(30), key=lambda c, n=n: -scores[n, c])[:20]
        listed += [(scores[n, c], targets[n, c]) for c in best]
    right, total = 0, 0.0
    for place, (_, true) in enumerate(sorted(listed, key=lambda pair: -pair[0]), 1):
        right += true
        total += true * right / place
    assert multilabel.global_average_precision(scores, targets, 20) == pytest.approx(total / targets.sum())


def test_scores_kept_on_disk_give_the_measures_of_the_whole_matrix(tmp_path):
    scores, targets = scored(ties=True)
    scores = scores.astype(np.float32)
    kept = Scores(tmp_path, 30, held=8)
    for rows in np.array_split(np.arange(40), 9):
        kept.add(scores[rows], [tuple(np.flatnonzero(targets[n])) for n in rows])
    metrics, counted = kept.numbers()
    expected, counts = multilabel.multilabel_numbers(scores, targets)
    assert metrics == pytest.approx(expected)
    assert counts == {"classes_in_mAP": counted}
    assert len(list(tmp_path.iterdir())) > 1


# ---- the linear probe


def blobs(multi_label: bool, count: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features that are sums of the centres of a video's classes, and the classes."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(5, 16))
    labels = np.arange(count) % 5
    targets = np.eye(5, dtype=bool)[labels]
    if multi_label:
        targets |= rng.random((count, 5)) < 0.2
    x = targets @ centres + 0.8 * rng.normal(size=(count, 16))
    return x, targets if multi_label else labels


def test_logistic_regression_is_scikit_learns_at_the_same_penalty():
    (x, y), (x_test, _) = blobs(multi_label=False), blobs(multi_label=False, seed=1)
    ours = logistic_scores(x, y, x_test, 5, seed=0, penalties=(0.01,))
    scaled, scaled_test = standardise(x, x_test)
    theirs = LogisticRegression(C=1 / (0.01 * len(x)), tol=1e-8, max_iter=1000).fit(scaled, y)
    shown = torch.from_numpy(ours).softmax(1).numpy()
    assert np.allclose(shown, theirs.predict_proba(scaled_test), atol=1e-3)


def test_with_several_labels_each_class_is_a_regression_of_its_own():
    (x, y), (x_test, _) = blobs(multi_label=True), blobs(multi_label=True, seed=1)
    ours = logistic_scores(x, y, x_test, 5, seed=0, penalties=(0.01,))
    scaled, scaled_test = standardise(x, x_test)
    for c in range(5):
        theirs = LogisticRegression(C=1 / (0.01 * len(x)), tol=1e-8, max_iter=1000).fit(scaled, y[:, c])
        assert np.allclose(ours[:, c], theirs.decision_function(scaled_test), atol=1e-2)


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_penalty_is_chosen_on_held_out_videos(multi_label):
    (x, y), (x_test, _) = blobs(multi_label, 60), blobs(multi_label, seed=1)
    chosen = logistic_scores(x, y, x_test, 5, seed=0, penalties=(1e4, 0.01))
    assert np.allclose(chosen, logistic_scores(x, y, x_test, 5, seed=0, penalties=(0.01,)), atol=0.05)


@pytest.mark.parametrize("preset", ["coclr", "severe"])
def test_the_trained_probes_learn_several_labels(preset):
    (x, y), (x_test, y_test) = blobs(multi_label=True), blobs(multi_label=True, seed=1)
    config: LinearConfig = EVALUATIONS["linear"].presets[preset]
    assert multilabel.mean_average_precision(sgd_scores(x, y, x_test, 5, config, 0), y_test)[0] > 0.85


def test_a_trained_probe_reads_features_from_a_mapped_file(tmp_path):
    (x, y), (x_test, _) = blobs(multi_label=False), blobs(multi_label=False, seed=1)
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    config: LinearConfig = EVALUATIONS["linear"].presets["severe"]
    in_memory = sgd_scores(x.astype(np.float32), y, x_test, 5, config, 0)
    assert np.array_equal(sgd_scores(mapped, y, x_test, 5, config, 0), in_memory)


ONE_LABEL = {v.path: v for v in video_set(24).videos}


def labelled(videos: VideoSet, labels) -> VideoSet:
    """The videos with other labels, of three classes."""
    relabelled = tuple(Video(v.path, labels(i), info=v.info) for i, v in enumerate(videos.videos))
    return VideoSet(videos.name, relabelled, ("a", "b", "c"))


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setattr(
        features_module, "read_video", lambda v, frames, each=None: drawn_frames(ONE_LABEL[v.path], frames)
    )
    whole = labelled(video_set(24), lambda i: (0, 1) if i % 3 == 0 else (i % 2,))
    train, test = (VideoSet(n, whole.videos[a:b], whole.classes) for n, a, b in (("train", 0, 16), ("test", 16, 24)))
    return Task("drawn", 1, train, test, workers=0)


@pytest.fixture
def model():
    return Model("tiny", tiny_backbone().eval(), View(4, 2, 12, 8), {}, torch.device("cpu"))


@pytest.mark.parametrize("preset", sorted(EVALUATIONS["linear"].presets))
def test_every_preset_of_linear_takes_several_labels(task, model, preset):
    result = evaluate("linear", model, task, preset=preset)
    assert sorted(result.metrics) == ["GAP@20", "hit@1", "hit@5", "mAP"]
    assert result.counts["classes_in_mAP"] == 2  # no video has the label c


@pytest.mark.parametrize(
    ("protocol", "options", "said"),
    [
        ("knn", {}, "needs one label a video, but train has videos with several"),
        ("retrieval", {}, "needs one label a video"),
        ("linear", {"classifier": "ridge"}, "use classifier=logistic"),
        ("features", {}, "takes published features"),
    ],
)
def test_protocols_that_cannot_use_several_labels_say_so(task, model, protocol, options, said):
    with pytest.raises(UserError, match=said):
        evaluate(protocol, model, task, options=options)


@pytest.mark.parametrize("classifier", ["ridge", "logistic"])
def test_a_class_without_training_videos_is_a_miss_and_nothing_worse(task, model, classifier):
    train, test = labelled(task.train, lambda i: (i % 2,)), labelled(task.test, lambda i: (i % 2 + 1,))
    result = evaluate("linear", model, Task("d", 1, train, test, 0), options={"classifier": classifier})
    assert result.metrics["top1"] <= 0.5 and result.counts["classes"] == 3


# ---- the probe on published features


def write_shards(root, kind: str, videos: int, seed: int) -> None:
    """A class shows as a raised stretch of the picture's features in one of three seconds; some videos have two."""
    rng = np.random.default_rng(seed)
    records = []
    for n in range(videos):
        labels = {n % 4, int(rng.integers(4))} if n % 3 == 0 else {n % 4}
        rgb = rng.integers(100, 156, (3, 1024), np.uint8)
        for label in labels:
            rgb[rng.integers(3), label * 100 : label * 100 + 100] += 90
        audio = rng.integers(0, 256, (3, 128), np.uint8)
        records.append(made.seconds_of_features(labels, rgb, audio, b"%04d" % n))
    for file in range(3):
        made.write(root / f"{kind}{file}.tfrecord", records[file::3])


@pytest.fixture(scope="module")
def youtube(tmp_path_factory):
    root = tmp_path_factory.mktemp("yt8m")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "crc32c", crc32c)  # the bitwise one would take seconds
        write_shards(root, "train", 96, 0)
        write_shards(root, "validate", 48, 1)
    (root / "vocabulary.csv").write_text("Index,Name\n0,a\n1,b\n2,c\n3,d\n4,e\n")
    return root


@pytest.mark.parametrize("preset", sorted(EVALUATIONS["features"].presets))
def test_the_probe_on_features_learns_what_they_show_and_repeats(youtube, preset):
    found = load_features(f"youtube8m:{youtube}")
    task = FeatureTask("yt8m", 1, found.train, found.test)
    options = {"batch_size": 8, "epochs": 3, "audio": False}
    first, again = (evaluate("features", None, task, preset=preset, options=options) for _ in range(2))
    assert first.metrics == again.metrics
    assert first.metrics["hit@1"] > 0.8 and first.metrics["mAP"] > 0.8
    assert first.counts == {"train": 96, "test": 48, "classes": 5, "classes_in_mAP": 4}


def test_the_command_evaluates_features_without_a_model(youtube, tmp_path, capsys):
    words = ["evaluate", "features", "--data", f"youtube8m:{youtube}", "--out", str(tmp_path / "r.json")]
    assert main([*words, "--option", "epochs=1"]) == 0
    assert "GAP@20" in capsys.readouterr().out and (tmp_path / "r.json").exists()
    assert main([*words, "--model", "random:r2plus1d_4"]) == 2
    assert "takes no model" in capsys.readouterr().err
    assert main(["evaluate", "linear", "--data", f"youtube8m:{youtube}", "--model", "random:r2plus1d_4"]) == 2
    assert "evaluate features" in capsys.readouterr().err


def test_damaged_records_are_counted_once(youtube, tmp_path):
    for path in youtube.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "train0.tfrecord").write_bytes((youtube / "train0.tfrecord").read_bytes()[:-1])
    found = load_features(f"youtube8m:{tmp_path}")
    result = evaluate("features", None, FeatureTask("yt8m", 1, found.train, found.test), options={"epochs": 2})
    assert result.counts["train"] == 95
    assert [s["reason"] for s in result.skipped] == ["the file ends within a record"]


def test_shards_without_a_label_are_a_sentence(tmp_path):
    lists = {"rgb": [made.of_bytes(bytes(1024))], "audio": [made.of_bytes(bytes(128))]}
    made.write(tmp_path / "train0.tfrecord", [made.sequence_example({"id": made.of_bytes(b"x")}, lists)])
    shards = load_features(f"youtube8m:{tmp_path}").train
    with pytest.raises(UserError, match=r"No video of .* has features and a label"):
        train_probe(FeatureSet(shards), FeatureProbeConfig(), 0, [])


def test_pooling_is_over_time_and_late_fusion_keeps_evenly_spaced_seconds():
    sequence = FeatureSequence("x", (0,), np.arange(20, dtype=np.float32).reshape(10, 2))
    assert pool(sequence, FeatureProbeConfig(normalise="none")).tolist() == [[9, 10]]
    assert pool(sequence, FeatureProbeConfig("max", normalise="none")).tolist() == [[18, 19]]
    assert pool(sequence, FeatureProbeConfig("late", normalise="none", seconds=4))[:, 0].tolist() == [0, 6, 12, 18]
    assert np.allclose(np.linalg.norm(pool(sequence, FeatureProbeConfig("late")), axis=1), 1)


@pytest.mark.parametrize("held", [1, 3, 100])
def test_shuffling_loses_nothing_and_repeats(held):
    items = [(np.full((1, 1), n), (n,)) for n in range(20)]
    first, again = ([i[1][0] for i in shuffled(items, held, np.random.default_rng(0))] for _ in range(2))
    assert first == again and sorted(first) == list(range(20))
