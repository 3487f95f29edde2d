"""What is not finite never becomes a number, a neighbour or a file: a sentence says whose fault it is."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from ssl_video.apps.embedding import embed_frames
from ssl_video.apps.export import export
from ssl_video.encoders.improved_trajectories import _load
from ssl_video.errors import UserError
from ssl_video.eval import features as features_module
from ssl_video.eval import shards as shards_module
from ssl_video.eval.alignment import AlignmentConfig, Embedded, measure
from ssl_video.eval.base import EVALUATIONS, Evaluation, Outcome, Task, configured, evaluate
from ssl_video.eval.dense import network_features
from ssl_video.eval.features import Extraction, extract
from ssl_video.eval.linear import LinearConfig, classify, logistic_scores, sgd_scores
from ssl_video.eval.multilabel import multilabel_numbers
from ssl_video.eval.online import monitors_for
from ssl_video.eval.pretext import check_loss
from ssl_video.eval.results import Result, predictions_of
from ssl_video.eval.retrieval import neighbours
from ssl_video.eval.ridge import ridge_scores
from ssl_video.eval.shards import FeatureFolder, extract_to, fingerprint
from ssl_video.model import Model, count_bad
from ssl_video.model.finite import LARGEST
from ssl_video.tensors import not_finite
from ssl_video.train.config import TrainingConfig
from ssl_video.train.distributed import Ranks
from ssl_video.video.view import View
from tests.nets import tiny_backbone, video_set

NAN, INF = float("nan"), float("inf")


class Bright(nn.Module):
    """A stage that gives ``value`` for clips of which a pixel is as bright as that of a video with a high number."""

    def __init__(self, value: float):
        super().__init__()
        self.value = value

    def forward(self, x_BCTHW):
        bright_B = x_BCTHW.flatten(1).amax(1) > 1.5
        return torch.where(bright_B[:, None, None, None, None], self.value, x_BCTHW)


@pytest.fixture(autouse=True)
def read(monkeypatch):
    """Videos drawn black, but numbers 3 and 8, which are white."""

    def frames_of(video, frames, each=None):
        number = int(Path(video.path).stem)
        return np.full((len(frames), 12, 12, 3), 255 if number in (3, 8) else 0, np.uint8)

    monkeypatch.setattr(features_module, "read_video", frames_of)
    monkeypatch.setattr(shards_module, "SHARD", 4)


def model_of(value: float = NAN, name: str = "runs/odd") -> Model:
    backbone = tiny_backbone(bright=nn.Identity()).eval()
    with torch.no_grad():  # the map of a clip is its brightness
        backbone.stages["stem"][0].weight.fill_(0)
        backbone.stages["stem"][0].weight[:, 0, 1, 1, 1] = 1
    backbone.network.bright = Bright(value)
    backbone._taps["bright"] = replace(backbone._taps["bright"], module=backbone.network.bright)
    return Model(name, backbone, View(4, 2, 12, 8), {}, torch.device("cpu"))


def broken(model: Model, value: float = NAN) -> Model:
    """The model with ``value`` in its first weight."""
    with torch.no_grad():
        next(model.backbone.parameters()).view(-1)[0] = value
    return model


def test_features_that_are_not_finite_name_the_network_and_count_the_videos():
    with pytest.raises(
        UserError, match=r"^runs/odd cannot be used: its features of 2 of the first 10 videos"
    ) as caught:
        extract(model_of(), video_set(10), Extraction(2), workers=0)
    assert "\n" not in str(caught.value) and "lower learning rate" in str(caught.value)


def test_an_extraction_stops_at_the_first_batch_that_is_not_finite():
    with pytest.raises(UserError, match=r"of 1 of the first 4 videos"):
        extract(model_of(), video_set(10), Extraction(1, batch=2), workers=0)


@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e30])
def test_what_is_infinite_or_would_be_when_squared_is_refused_like_nan(value):
    with pytest.raises(UserError, match="are not finite"):
        extract(model_of(value), video_set(10), Extraction(1), workers=0)
    assert len(extract(model_of(1e6), video_set(10), Extraction(1), workers=0).videos) == 10


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_weights_that_are_not_finite_are_named_before_a_video_is_read(value, monkeypatch):
    monkeypatch.setattr(features_module, "read_video", None)
    with pytest.raises(
        UserError, match=r"^runs/odd cannot be used: NaN .* in 1 of 6 tensors \(the first: network\.stem"
    ):
        extract(broken(model_of(), value), video_set(4), Extraction(1), workers=0)


def test_a_statistic_of_a_batch_norm_counts_as_a_weight_and_a_mask_does_not():
    norm = nn.BatchNorm1d(3)
    norm.register_buffer("mask", torch.tensor([0.0, -INF]))
    assert not_finite(norm) == []
    norm.running_var[0] = INF
    assert not_finite(norm) == ["running_var"]
    norm.mask[0] = NAN
    assert not_finite(norm) == ["running_var", "mask"]


def test_the_largest_feature_whose_squares_can_be_summed_up_is_finite():
    rows = [np.array([LARGEST, 0.0]), np.array([-2 * LARGEST, 0.0]), np.array([NAN, 0.0]), torch.tensor([1.0, INF])]
    assert [count_bad([row]) for row in rows] == [0, 1, 1, 1]
    assert np.isfinite(np.full(10**6, LARGEST, np.float32).var())


def test_kept_features_are_checked_before_they_are_written_and_when_they_are_read(tmp_path):
    videos, model = video_set(10), model_of()
    kept = FeatureFolder(tmp_path / "kept", fingerprint(model))
    with pytest.raises(UserError, match="of 1 of the first 4 videos"):
        extract_to(kept, model, videos, Extraction(1), workers=0)
    assert not list(kept.folder.glob("*.npy"))

    model = model_of(1.0)
    kept = FeatureFolder(tmp_path / "older", fingerprint(model))
    extract_to(kept, model, videos, Extraction(1), workers=0)
    rows = np.load(kept.folder / "00001.npy")
    rows[2, 0] = NAN  # as an older version may have written it
    np.save(kept.folder / "00001.npy", rows)
    with pytest.raises(UserError, match=r"older/00001\.npy cannot be used: the features of 1 of its 4 videos.*remove"):
        extract_to(kept, model, videos, Extraction(1), workers=0)


def test_descriptors_that_are_not_finite_name_their_file(tmp_path):
    np.savez(tmp_path / "one.npz", hog=np.array([[1, INF]], np.float16))
    with pytest.raises(UserError, match=r"one\.npz holds descriptors that are not finite; remove it"):
        _load(tmp_path / "one.npz")


def test_frames_at_hand_are_embedded_finitely_or_not_at_all():
    frames = np.zeros((3, 8, 12, 12, 3), np.uint8)
    assert embed_frames(frames, model_of(), 1, "avg").shape == (3, 8)
    frames[1] = 255
    with pytest.raises(UserError, match=r"^runs/odd cannot be used: its features of 1 of the first 3 videos"):
        embed_frames(frames, model_of(), 1, "avg")
    with pytest.raises(UserError, match=r"^runs/odd cannot be used: NaN"):
        embed_frames(frames[:1], broken(model_of()), 1, "avg")


def test_maps_are_finite_wherever_they_are_used():
    clip = torch.full((2, 4, 8, 8, 3), 255, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"its features of 2 of the first 2 clips are not finite"):
        model_of().dense_map(clip)
    with pytest.raises(UserError, match=r"its features of a clip are not finite"):
        model_of().dense_map(clip[:1])


def test_labels_are_not_carried_by_weights_that_are_not_finite():
    with pytest.raises(UserError, match=r"^runs/odd cannot be used: NaN"):
        network_features(broken(model_of()))


def test_nothing_is_exported_of_weights_that_are_not_finite(tmp_path):
    with pytest.raises(UserError, match=r"^runs/odd cannot be used: NaN"):
        export(broken(model_of()), tmp_path / "out", "safetensors")
    assert not (tmp_path / "out").exists()


def test_a_monitor_says_so_of_the_network_in_training():
    class Odd(nn.Module):
        view = View(4, 2, 12, 8)

        def exported(self):
            return model_of().backbone

    _, probe = monitors_for(video_set(10), video_set(10), Ranks(), TrainingConfig(workers=0))
    with pytest.raises(UserError, match=r"^The network in training cannot be used: its features of 2 of the first 10"):
        probe(Odd(), 1)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("loss", [NAN, INF])
def test_the_loss_of_a_pretext_is_a_number_or_no_result(loss):
    check_loss("runs/one", {"loss": 0.7})
    with pytest.raises(UserError, match=rf"^The loss of the pretext of runs/one is {loss}, which is no result; take"):
        check_loss("runs/one", {"loss": loss})


def rows(count: int = 40, scale: float = 1.0):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    return (rng.normal(size=(count, 5)) + 3 * labels[:, None]).astype(np.float32) * np.float32(scale), labels


@pytest.mark.parametrize("config", [LinearConfig(classifier="sgd", lr=1e30), LinearConfig(classifier="adam", lr=1e30)])
def test_a_probe_whose_training_diverges_says_in_which_epoch_and_what_to_do(config):
    x, y = rows()
    with pytest.raises(
        UserError, match=r"diverged \(the loss became (nan|inf) in epoch \d+ of 100\); lower .*option lr="
    ):
        sgd_scores(x, y, x, 2, config, 0)


def test_a_probe_that_diverges_in_its_last_step_gives_no_scores(monkeypatch):
    monkeypatch.setattr("ssl_video.eval.linear.sgd_scores", lambda x, y, x_test, *_: np.full((len(x_test), 2), NAN))
    found = extract(model_of(1.0), video_set(4), Extraction(1), workers=0)
    with pytest.raises(UserError, match=r"diverged \(its scores are not finite\)"):
        classify(found, found, 2, LinearConfig(classifier="sgd"), 0)


@pytest.mark.parametrize("classifier", ["ridge", "logistic"])
def test_features_as_large_as_they_may_be_are_classified_as_well_as_small_ones(classifier):
    (x, y), (large, _) = rows(), rows(scale=1e14)
    if classifier == "ridge":
        small, big = ridge_scores(x, y, x, 2), ridge_scores(large, y, large, 2)
    else:
        small, big = logistic_scores(x, y, x, 2, 0), logistic_scores(large, y, large, 2, 0)
    assert np.allclose(small, big, rtol=0.05, atol=0.05)


def test_scores_that_are_nan_are_no_predictions():
    with pytest.raises(UserError, match="The scores of 1 of 2 videos are NaN"):
        predictions_of(video_set(2).videos, ("a", "b"), np.array([[0.0, 1.0], [NAN, 0.0]]))


def test_an_option_that_is_no_number_is_refused():
    with pytest.raises(UserError, match="must be a number"):
        configured("fusion", "default", {"weight": "nan"})


def test_no_query_and_no_gallery_that_is_not_finite_has_neighbours():
    x = np.eye(4, dtype=np.float32)
    wrong = x.copy()
    wrong[2, 0] = NAN
    for queries, gallery in ((wrong, x), (x, wrong)):
        with pytest.raises(ValueError, match="not finite"):
            neighbours(queries, gallery, 2)


def test_measures_that_are_not_defined_are_left_out_and_what_they_count_is_said():
    scores, none = np.random.default_rng(0).random((4, 3)), np.zeros((4, 3), bool)
    metrics, counts = multilabel_numbers(scores, none)
    assert metrics == {"hit@1": 0.0, "hit@5": 0.0} and counts == {"classes_in_mAP": 0}


def test_progression_of_a_single_labelled_frame_is_left_out():
    rng = np.random.default_rng(0)
    train = [Embedded(rng.normal(size=(6, 3)), np.array([0, 0, 1, 1, 2, 2]))]
    test = [Embedded(rng.normal(size=(3, 3)), np.array([-1, 1, -1]))]
    metrics, _ = measure(train, test, AlignmentConfig(), rng, leave_one_out=False)
    assert "progression" not in metrics and "classification@1" in metrics


@pytest.mark.parametrize("where", ["metrics", "per_video"])
def test_a_protocol_gives_no_result_with_a_number_that_is_not_finite(monkeypatch, where):
    class Half(Evaluation[LinearConfig]):
        Config = LinearConfig
        presets: ClassVar = {"default": LinearConfig()}

        def measure(self, model, task, config, seed):
            if where == "metrics":
                return Outcome({"good": 1.0, "bad": NAN}, {})
            return Outcome({"good": 1.0}, {}, per_video={"a": {"bad": NAN}})

    monkeypatch.setitem(EVALUATIONS._members, "half", Half)
    task = Task("drawn", 1, video_set(4), video_set(4))
    with pytest.raises(UserError, match=r"half gives no result for runs/odd: 1 of 2 numbers are not finite.*bad.*nan"):
        evaluate("half", model_of(), task)


def test_a_result_is_written_as_json_that_any_reader_takes():
    result = Result("propagation", {"J&F": 0.5}, options={"radius": INF, "side": 0})
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert '"radius": "inf"' in text and Result.from_dict(json.loads(text)) == result
    old = Result.from_dict({"protocol": "linear", "metrics": {"mAP": NAN}})  # version 0.1 wrote such
    again = Result.from_dict(json.loads(json.dumps(old.to_dict(), allow_nan=False)))
    assert math.isnan(again.metrics["mAP"])
