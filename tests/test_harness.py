"""Evaluations and extractions as a library: models and data by their names, nothing printed."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.spec import load_splits
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.errors import UserError
from ssl_video.eval import features as features_module
from ssl_video.eval.accuracy import draw_confusion
from ssl_video.eval.base import Task, evaluate
from ssl_video.eval.features import Extraction, FeatureStore
from ssl_video.eval.harness import (
    EvaluationConfig,
    ExtractionConfig,
    Reading,
    compare,
    evaluate_on,
    extract_on,
    save_results,
)
from ssl_video.eval.results import Result, predictions_of, read_results, side_by_side
from ssl_video.model import load_model
from ssl_video.train.loop import Interrupted
from tests.nets import drawn_frames, video_set

MODEL = "random:r2plus1d_4?width=2"
ALONE = Reading(workers=0)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("harness") / "drawn"
    synthesize(folder, SyntheticConfig(train=8, test=4, size=32, frames=16), workers=1)
    return str(folder)


def knn(data, **changed) -> EvaluationConfig:
    return EvaluationConfig("knn", data, options={"clips": 1}, reading=ALONE, **changed)


def test_a_model_and_data_by_their_names_give_a_result_for_each_seed(drawn, capfd):
    as_they_came = []
    results = evaluate_on(MODEL, knn(drawn, seeds=(0, 3)), found=as_they_came.append)
    assert results == as_they_came and [r.seed for r in results] == [0, 3]
    assert results[0].model == MODEL and results[0].data == drawn and len(results[0].predictions) == 4
    assert capfd.readouterr() == ("", "")


def test_lists_and_a_model_in_memory_give_the_same_numbers_as_their_names(drawn):
    (named,) = evaluate_on(MODEL, knn(drawn))
    torch.manual_seed(0)
    (given,) = evaluate_on(load_model(MODEL), knn(load_splits(drawn)))
    assert given.metrics == named.metrics and given.data_hash == named.data_hash


def test_what_is_doubtful_about_the_data_is_told(drawn):
    said = []
    evaluate_on(MODEL, knn(drawn), say=said.append)
    assert any(line.startswith("warning: ") and "classes have no video" in line for line in said)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"protocol": "liner"}, "did you mean 'linear'"),
        ({"preset": "defualt"}, "has no preset 'defualt'"),
        ({"options": {"klips": 1}}, "did you mean 'clips'"),
        ({"options": {"clips": "many"}}, "clips must be a whole number"),
    ],
)
def test_wrong_names_are_said_before_anything_is_read(changed, sentence):
    with pytest.raises(UserError, match=sentence):
        EvaluationConfig(**{"protocol": "linear", "data": "nowhere", **changed})


def test_a_missing_model_is_said_before_anything_is_read():
    with pytest.raises(UserError, match="linear needs a model"):
        evaluate_on(None, EvaluationConfig("linear", "nowhere"))


def test_a_training_that_was_stopped_says_in_which_folder(drawn, tmp_path, monkeypatch):
    def stopped(*_args, **_options):
        raise Interrupted("stopped after step 1")

    monkeypatch.setattr("ssl_video.eval.finetune.train", stopped)
    config = EvaluationConfig("finetune", drawn, folder=tmp_path / "run", reading=ALONE)
    with pytest.raises(Interrupted, match=f"stopped after step 1, in {tmp_path / 'run'}"):
        evaluate_on(MODEL, config)


def test_results_are_written_with_a_picture_and_read_again(drawn, tmp_path):
    results = evaluate_on(MODEL, knn(drawn))
    written = save_results(tmp_path / "r.json", results)
    assert written == [tmp_path / "r.json", tmp_path / "r.confusion.png"] and all(p.exists() for p in written)
    (again,) = read_results(tmp_path / "r.json")
    assert again == replace(results[0], predictions=[])
    save_results(tmp_path / "whole.json", results, predictions=True)
    assert read_results(tmp_path / "whole.json") == results


def test_a_result_of_another_version_is_read():
    old = {"protocol": "knn", "preset": "default", "metrics": {"top1": 0.5}, "counts": {"test": 2}, "field": 1}
    old["parts"] = {"a.mp4": {"J": 0.5}}
    result = Result.from_dict(old)
    assert result.metrics == {"top1": 0.5} and result.predictions == [] and result.split == 1
    assert result.per_video == {"a.mp4": {"J": 0.5}}


def test_the_best_classes_of_a_video_are_ranked_and_several_labels_named_together():
    videos = [replace(v, labels=labels) for v, labels in zip(video_set(2).videos, ((1,), (0, 2)), strict=True)]
    one, other = predictions_of(videos, ("a", "b", "c"), np.array([[0.1, 0.2, 0.7], [3.0, 1.0, 2.0]]))
    assert (one.path, one.label, one.predicted, one.score) == (videos[0].path, "b", "c", 0.7)
    assert (other.label, other.ranked) == ("a|c", ("a", "c", "b"))


@pytest.fixture
def reads(monkeypatch):
    """Paths of the drawn videos that were read."""
    seen: list[str] = []
    monkeypatch.setattr(
        features_module, "read_video", lambda v, frames, each=None: seen.append(v.path) or drawn_frames(v, frames)
    )
    return seen


@pytest.fixture
def task():
    whole = video_set(24)
    train, test = (VideoSet(n, whole.videos[a:b], whole.classes) for n, a, b in (("train", 0, 16), ("test", 16, 24)))
    return Task("drawn", 1, train, test, workers=0)


def tiny(seed=0):
    torch.manual_seed(seed)
    return load_model("random:r2plus1d_4?width=2")


def test_two_protocols_on_one_network_extract_its_features_once(task, reads):
    evaluate("knn", tiny(), task)
    count = len(reads)
    evaluate("retrieval", tiny(), replace(task, folder=None))
    assert len(reads) == count  # a model of the same weights is the same network


@pytest.mark.parametrize("other", ["weights", "options", "videos", "store"])
def test_features_of_anything_else_are_extracted_anew(task, reads, other):
    evaluate("knn", tiny(), task, options={"calibrate": False})
    reads.clear()
    options = {"calibrate": False} | ({"stage": "stage1"} if other == "options" else {})
    fewer = replace(task.test, videos=task.test.videos[1:])
    again = {"videos": replace(task, test=fewer), "store": replace(task, features=FeatureStore())}.get(other, task)
    evaluate("knn", tiny(seed=int(other == "weights")), again, options=options)
    assert len(reads) == len(again.train.videos) + len(again.test.videos)


def test_models_are_compared_side_by_side(task, reads):
    models = [replace(tiny(seed), name=name) for seed, name in enumerate(("trained", "untrained"))]
    results = compare(models, ["knn", "retrieval"], task)
    assert [(r.protocol, r.model) for r in results[:2]] == [("knn", "trained"), ("knn", "untrained")]
    head, first, *_, last = side_by_side(results, {"trained": "after", "untrained": "before"}).splitlines()
    assert head.split()[-2:] == ["after", "before"] and first.startswith("knn top1")
    assert last == "chance among the 2 classes: 0.500; 8 test videos; in brackets: 95 % intervals"


def test_an_extraction_writes_both_lists_and_tells_what_it_left_out(drawn, tmp_path, capfd):
    said = []
    config = ExtractionConfig(drawn, tmp_path / "f", Extraction(2, stage="stage1"), reading=ALONE)
    found = extract_on(MODEL, config, said.append)
    assert [len(found[name].videos) for name in ("train", "test")] == [8, 4]
    assert all(len(clips_KD) <= 2 for clips_KD in found["test"].clips_KD)
    assert said == [f"{tmp_path / 'f' / n}: {c} videos, 0 were left out." for n, c in (("train", 8), ("test", 4))]
    assert capfd.readouterr().out == ""


def test_an_extraction_to_parquet_is_one_table_of_both_lists(drawn, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    said, what = [], Extraction(2, stage="stage1")
    arrays = extract_on(MODEL, ExtractionConfig(drawn, tmp_path / "f", what, reading=ALONE))
    config = ExtractionConfig(drawn, tmp_path / "p", what, reading=ALONE, format="parquet")
    found = extract_on(MODEL, config, said.append)
    assert said[0] == f"{tmp_path / 'p' / 'parquet'}/train-*.parquet: 8 videos, 0 were left out."
    rows = pq.read_table(tmp_path / "p" / "parquet").to_pylist()
    assert [r["split"] for r in rows].count("test") == sum(map(len, found["test"].starts))
    assert set(rows[0]) == {"path", "start_s", "end_s", "labels", "split", "features"}
    for name in ("train", "test"):
        here = [r for r in rows if r["split"] == name]
        expected = np.concatenate(arrays[name].clips_KD)
        assert (np.array([r["features"] for r in here], np.float32) == expected).all()
        assert [r["path"] for r in here] == [
            v.source for v, s in zip(found[name].videos, found[name].starts, strict=True) for _ in s
        ]
        assert all(Path(r["path"]).parent.name == r["labels"][0] and r["start_s"] < r["end_s"] for r in here)
    assert not list((tmp_path / "p").rglob("*.npy"))


def test_a_killed_extraction_to_parquet_is_resumed_and_its_folder_is_not_filled_with_arrays(drawn, tmp_path):
    pytest.importorskip("pyarrow")
    config = ExtractionConfig(drawn, tmp_path / "p", Extraction(1), reading=ALONE, format="parquet")
    extract_on(MODEL, config)
    tables = tmp_path / "p" / "parquet"
    whole, kept = (tables / "test-00000.parquet").read_bytes(), (tables / "train-00000.parquet").stat().st_mtime_ns
    (tmp_path / "p" / "test" / "00000.json").unlink()  # it is written last
    (tables / "test-00000.parquet").write_bytes(b"half")
    extract_on(MODEL, config)
    assert (tables / "test-00000.parquet").read_bytes() == whole
    assert (tables / "train-00000.parquet").stat().st_mtime_ns == kept
    with pytest.raises(UserError, match="another model, other videos, copies or options"):
        extract_on(MODEL, replace(config, format="npy"))


def test_without_pyarrow_parquet_is_refused_before_the_work(drawn, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    config = ExtractionConfig(drawn, tmp_path / "p", format="parquet")
    with pytest.raises(UserError, match=r"pip install pyarrow"):
        extract_on(MODEL, config)
    assert not (tmp_path / "p").exists()


def test_a_confusion_matrix_is_drawn_whatever_the_classes_are_called(tmp_path):
    draw_confusion(np.eye(2, dtype=int), ["a$^$b", "$c"], tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
