"""What every protocol promises, on a tiny task of what it takes. A protocol without a case here fails."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssl_video.backbones.base import build_backbone
from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.spec import load_features, load_splits, scanned
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.encoders.base import Encoded, Encoder
from ssl_video.errors import UserError
from ssl_video.eval.base import EVALUATIONS, FeatureTask, Task, configured, evaluate
from ssl_video.eval.results import Result
from ssl_video.model import Model, load_model
from ssl_video.pretexts.base import build_pretext
from ssl_video.pretraining import write_weights
from ssl_video.run import Run
from ssl_video.video.reader import iterate_frames
from ssl_video.video.view import View
from tests import speed_run, tfrecords
from tests.numbers_of import cases as numbers_of

VIEW = View(4, 2, 24, 16)
every_protocol = pytest.mark.parametrize("name", EVALUATIONS.names())


@dataclass
class Case:
    """A protocol's tiny task: a folder of everything to a model and the task, and options that make it short."""

    make: Callable[["Things"], tuple[Model | None, Task | FeatureTask]]
    options: dict[str, Any] = field(default_factory=dict)


class Things:
    """Models and data that cases are made of, each made once."""

    def __init__(self, folder: Path):
        self.folder = folder
        synthesize(folder / "clips", SyntheticConfig(train=8, test=8, size=32, frames=24), workers=1)
        synthesize(folder / "sequences", SyntheticConfig("sequences", train=2, test=3, size=32, frames=16), workers=1)
        synthesize(folder / "tracks", SyntheticConfig("tracks", train=1, test=1, size=128, frames=8), workers=1)
        self.runs = 0

    def task(self, name: str) -> Task:
        """The lists of a drawn set, with a folder that no other task has."""
        splits = load_splits(str(self.folder / name))
        assert splits.test is not None
        self.runs += 1
        folder = self.folder / "runs" / str(self.runs)
        return Task(name, 1, scanned(splits.train), scanned(splits.test), workers=0, folder=folder)

    def of_network(self, name: str = "clips", network: str = "r2plus1d_4?width=2") -> tuple[Model, Task]:
        torch.manual_seed(0)
        return replace(load_model(f"random:{network}"), view=VIEW), self.task(name)

    def of_run(self) -> tuple[Model, Task]:
        return load_model(str(speed_run.save(self.folder / "run"))), self.task("clips")

    def of_classifier(self) -> tuple[Model, Task]:
        return load_model(self.classifier()), self.task("clips")

    def of_generator(self) -> tuple[Model, Task]:
        folder = self.folder / "generator"
        if not folder.exists():
            torch.manual_seed(0)
            backbone = build_backbone("stunet", channels=(8, 16, 24), frames=8)
            options = {"frames": 4, "stride": 2, "short_side": 18, "size": 16}
            write_weights(Run(folder), build_pretext("video_diffusion", backbone, options))
        return load_model(str(folder)), self.task("clips")

    def of_features(self) -> tuple[None, FeatureTask]:
        root = self.folder / "yt8m"
        for kind in ("train", "validate"):
            tfrecords.write(root / f"{kind}0.tfrecord", [_record(n) for n in range(4)])
        splits = load_features(f"youtube8m:{root}")
        return None, FeatureTask("yt8m", 1, splits.train, splits.test)

    def classifier(self) -> str:
        """The folder of a network that tells the classes of the drawn clips, as far as chance does."""
        folder = self.folder / "classifier"
        if not folder.exists():
            speed_run.save_finetuned(folder, load_splits(str(self.folder / "clips")).train.classes)
        return str(folder)


def _record(n: int) -> bytes:
    rgb = np.random.default_rng(n).integers(0, 256, (2, 1024), np.uint8)
    context = {"id": tfrecords.of_bytes(b"%d" % n), "labels": tfrecords.of_integers({n % 2})}
    return tfrecords.sequence_example(context, {"rgb": [tfrecords.of_bytes(row.tobytes()) for row in rgb]})


CASES = {
    "alignment": Case(lambda t: t.of_network("sequences"), {"episodes": 2, "shots": "1"}),
    "attentive": Case(Things.of_network, {"clips": 2, "epochs": 2, "batch_size": 4}),
    "features": Case(Things.of_features, {"audio": False, "epochs": 1, "batch_size": 2}),
    "finetune": Case(Things.of_network, {"max_steps": 1, "batch_size": 4, "clips": 1}),
    "fusion": Case(Things.of_classifier, {"clips": 2}),
    "generation": Case(Things.of_generator, {"clips": 8, "steps": 1, "loss_clips": 1}),
    "knn": Case(Things.of_network, {"clips": 2}),
    "linear": Case(Things.of_network, {"clips": 2}),
    "pretext": Case(Things.of_run, {"clips": 1}),
    "propagation": Case(lambda t: t.of_network("tracks", "dense_resnet_8?width=2"), {"side": 32}),
    "retrieval": Case(Things.of_network, {"clips": 2}),
    "reversal": Case(Things.of_network, {"clips": 2}),
    "svm": Case(Things.of_network, {"clips": 2}),
}


@pytest.fixture(scope="module")
def things(tmp_path_factory) -> Things:
    return Things(tmp_path_factory.mktemp("protocols"))


def measured(name: str, things: Things, **options: Any) -> Result:
    return evaluated(name, *CASES[name].make(things), things, **options)


def evaluated(name: str, model: Model | None, task: Task | FeatureTask, things: Things, **options: Any) -> Result:
    if name == "fusion":
        options = {"partner": things.classifier(), **options}
    return evaluate(name, model, task, options={**CASES[name].options, **options})


@pytest.fixture(scope="module")
def results(things) -> Callable[[str], Result]:
    """The result of a protocol's case, measured once."""
    found: dict[str, Result] = {}

    def result(name: str) -> Result:
        if name not in found:
            found[name] = measured(name, things)
        return found[name]

    return result


def test_every_protocol_has_a_case():
    assert sorted(CASES) == EVALUATIONS.names()


@every_protocol
def test_every_preset_can_be_made_and_survives_being_written(name):
    assert "default" in EVALUATIONS[name].presets
    for preset, config in EVALUATIONS[name].presets.items():
        assert configured(name, preset, {}) == config


@every_protocol
def test_it_measures_finite_numbers_and_repeats_them(name, things, results):
    first, again = results(name), measured(name, things)
    assert first.metrics and all(math.isfinite(value) for value in first.metrics.values())
    assert first.counts and all(count >= 0 for count in first.counts.values())
    assert again.metrics == first.metrics and again.predictions == first.predictions


def turned_round(task: Task | FeatureTask) -> Task | FeatureTask:
    """The same lists, each the other way round."""
    if isinstance(task, FeatureTask):
        assert task.test is not None
        train, test = (replace(f, shards=f.shards[::-1]) for f in (task.train, task.test))
    else:
        assert task.test is not None
        train, test = (replace(v, videos=v.videos[::-1]) for v in (task.train, task.test))
    return replace(task, train=train, test=test)


@every_protocol
def test_its_numbers_depend_on_no_order_no_workers_and_no_batch_of_the_device(name, things, results):
    model, task = CASES[name].make(things)
    task = turned_round(task)
    if isinstance(task, Task):
        task = replace(task, workers=2, batch=3)
    found = evaluated(name, model, task, things)
    expected = results(name)
    assert found.metrics == expected.metrics and found.counts == expected.counts
    assert found.confusion == expected.confusion and found.per_video == expected.per_video
    assert [(p.path, p.ranked) for p in found.predictions] == [(p.path, p.ranked) for p in expected.predictions][::-1]
    assert found.data_hash == expected.data_hash


@pytest.mark.parametrize(
    ("name", "option", "value"), numbers_of({name: EVALUATIONS[name].Config for name in EVALUATIONS.names()})
)
def test_it_measures_with_zero_and_minus_one_or_refuses_them_at_once(name, option, value, things):
    try:
        configured(name, "default", {option: value})
    except UserError:
        return
    assert all(math.isfinite(value) for value in measured(name, things, **{option: value}).metrics.values())


@every_protocol
def test_a_result_is_the_same_after_a_way_through_json(name, results):
    whole = json.loads(json.dumps(results(name).to_dict(predictions=True), allow_nan=False))
    assert Result.from_dict(whole) == results(name)
    assert not results(name).to_dict()["predictions"]
    assert bool(results(name).to_dict()["per_video"]) == (name == "propagation")  # the others: a metric of hundreds


@every_protocol
def test_a_result_is_a_flat_row(name, results):
    row = results(name).row()
    assert row["protocol"] == name and results(name).metrics.items() <= row.items()
    assert not any(isinstance(value, dict) for value in row.values())


@every_protocol
def test_what_is_said_of_every_test_video_is_what_the_accuracy_counts(name, results):
    result = results(name)
    of_videos = {"top1": result.metrics.get("top1"), "recall@1": result.metrics.get("recall@1")}
    accuracy = next((value for value in of_videos.values() if value is not None), None)
    if accuracy is None:
        assert not result.predictions
        return
    assert len(result.predictions) == 8
    assert np.mean([p.label == p.predicted for p in result.predictions]) == pytest.approx(accuracy)
    assert all(p.ranked[0] == p.predicted and math.isfinite(p.score) for p in result.predictions)


@every_protocol
def test_what_each_test_video_has_of_a_metric_comes_to_the_metric(name, results):
    shown = {"alignment": "kendalls_tau", "pretext": "accuracy", "propagation": "J&F", "retrieval": "recall@1"}
    shown["reversal"] = "accuracy"
    metric = shown.get(name, "top1")
    of_videos = results(name).of_videos(metric)
    if name == "features" or metric not in results(name).metrics:  # of features there is no file
        assert not of_videos
        return
    assert np.mean(list(of_videos.values())) == pytest.approx(results(name).metrics[metric])
    assert len(of_videos) == (results(name).counts.get("test") or len(of_videos)) > 0


@every_protocol
@pytest.mark.parametrize("option", ["no_such_option", "no.such.option"])
def test_an_unknown_option_is_a_sentence(name, things, option):
    with pytest.raises(UserError, match=r"has no option '[^\n]*'; [^\n]*$"):
        measured(name, things, **{option: 1})


@every_protocol
def test_it_takes_a_model_or_says_that_it_does_not(name, things):
    _, task = CASES[name].make(things)
    needs = EVALUATIONS[name].takes_model
    if needs == "always":
        with pytest.raises(UserError, match=f"^{name} needs a model"):
            evaluate(name, None, task)
    if needs == "never":
        with pytest.raises(UserError, match=f"^{name} takes no model"):
            evaluate(name, things.of_network()[0], task)


@every_protocol
def test_data_of_another_kind_is_a_sentence(name, things):
    of_files = EVALUATIONS[name].takes.of_files
    _, other = things.of_features() if of_files else things.of_network()
    with pytest.raises(UserError, match=r"holds (features|videos)"):
        evaluate(name, CASES[name].make(things)[0], other)


@pytest.mark.parametrize("name", [n for n in EVALUATIONS.names() if hasattr(EVALUATIONS[n].Config, "stage")])
def test_a_stage_that_the_network_has_not_is_said_with_those_that_it_has(name, things):
    first = next(iter(CASES[name].make(things)[0].backbone.stages))
    assert measured(name, things, stage=first).metrics
    with pytest.raises(UserError, match=f"no stage 'nowhere'.*{first}"):
        measured(name, things, stage="nowhere")


def with_nan(weight: torch.Tensor) -> None:
    weight.view(-1)[0] = float("nan")


def overflowing(weight: torch.Tensor) -> None:
    if weight.ndim > 1:
        weight.mul_(1e20)


TAKES_MODEL = [name for name in EVALUATIONS.names() if EVALUATIONS[name].takes_model != "never"]


@pytest.mark.parametrize("name", TAKES_MODEL)
@pytest.mark.parametrize("spoil", [with_nan, overflowing])
def test_a_network_whose_weights_or_features_are_not_finite_gives_one_sentence_and_no_number(name, spoil, things):
    model, task = CASES[name].make(things)
    assert model is not None and isinstance(task, Task)
    with torch.no_grad():
        for weight in (model.pretext or model.backbone).parameters():
            spoil(weight)
    options = {**CASES[name].options, **({"partner": things.classifier()} if name == "fusion" else {})}
    said = r"(NaN or infinite numbers in|not finite|became nan|is (nan|inf))"
    with pytest.raises(UserError, match=rf"^[^\n]*{said}[^\n]*; [^\n]*$"):
        evaluate(name, model, task, options=options)
    assert task.folder is None or not list(task.folder.rglob("*.safetensors"))


class MeanColour(Encoder):
    """A video to its mean colour."""

    name = "mean-colour"

    def fit(self, train: VideoSet, workers: int) -> None:
        pass

    def encode(self, videos: VideoSet, workers: int) -> Encoded:
        means = [np.mean([f.mean((0, 1)) for f in iterate_frames(v.path)], axis=0) for v in videos.videos]
        return Encoded(np.stack(means).astype(np.float32), list(videos.videos), [])


@every_protocol
def test_it_measures_encoders_or_says_who_does(name, things):
    _, task = CASES[name].make(things)
    if EVALUATIONS[name].takes_encoders:
        assert len(evaluate(name, MeanColour(), task).predictions) == 8
    else:
        with pytest.raises(UserError, match=r"takes no model|encoders go with"):
            evaluate(name, MeanColour(), task)


class NoColour(MeanColour):
    """Of half of the videos it says nothing that is finite."""

    name = "no-colour"

    def encode(self, videos: VideoSet, workers: int) -> Encoded:
        found = super().encode(videos, workers)
        found.features_ND[::2] = np.nan
        return found


@pytest.mark.parametrize("name", [name for name in EVALUATIONS.names() if EVALUATIONS[name].takes_encoders])
def test_an_encoder_whose_features_are_not_finite_gives_one_sentence_and_no_number(name, things):
    with pytest.raises(UserError, match=r"^no-colour cannot be used: its features of 4 of 8 videos of [^\n]*$"):
        evaluate(name, NoColour(), CASES[name].make(things)[1])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_probe_on_published_features_that_diverges_gives_one_sentence_and_no_number(things, optimizer):
    with pytest.raises(UserError, match=r"^The training of the classifier diverged \([^\n]*--option lr=[^\n]*$"):
        measured("features", things, optimizer=optimizer, lr=1e37, epochs=3, normalise="none")
