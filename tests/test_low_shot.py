"""A linear probe and nearest neighbours on a few videos of each class, by three fixed draws."""

from dataclasses import replace

import numpy as np
import pytest

from ssl_video.datasets.base import Video, VideoSet
from ssl_video.errors import UserError
from ssl_video.eval import features as features_module
from ssl_video.eval.base import evaluate
from ssl_video.eval.features import Features
from ssl_video.eval.low_shot import DRAWS, drawn, low_shot
from tests.nets import drawn_frames, drawn_task, tiny_model, video_set


@pytest.fixture
def task(monkeypatch):
    return drawn_task(monkeypatch)


@pytest.fixture
def model():
    return tiny_model()


def with_content(videos) -> list[Video]:
    return [v.with_content(f"{n:016x}") for n, v in enumerate(videos)]


def moved(video: Video) -> Video:
    return replace(video, path=f"/elsewhere/{video.path.rsplit('/', 1)[1]}")


def test_a_draw_has_so_many_videos_of_each_class_wherever_they_lie_and_however_they_are_listed():
    videos = with_content(video_set(30, classes=3).videos)
    turned = [moved(v) for v in videos[::-1]]
    for draw in range(DRAWS):
        chosen = [videos[n] for n in drawn(videos, 4, draw)]
        assert np.bincount([v.label for v in chosen]).tolist() == [4, 4, 4]
        assert [v.info.content for v in chosen] == [turned[n].info.content for n in drawn(turned, 4, draw)]


def test_draws_differ_and_one_of_fewer_shots_is_a_part_of_one_of_more():
    videos = with_content(video_set(30, classes=3).videos)
    draws = [set(drawn(videos, 4, draw)) for draw in range(DRAWS)]
    assert len({frozenset(d) for d in draws}) == DRAWS
    assert set(drawn(videos, 2, 0)) < draws[0]


def test_metrics_are_means_over_the_draws_with_their_standard_deviations():
    videos = video_set(12).videos
    features = Features(list(videos), [np.zeros((1, 2))] * 12, [np.zeros(1)] * 12, [])
    accuracies = iter([0.5, 0.6, 0.1])
    hits = iter([[0, 1] * 6, [0] * 12, [1] * 12])

    def measure(part):
        assert len(part.videos) == 4 and len(part.clips_KD) == 4
        return np.eye(2)[next(hits)], {"top1": next(accuracies)}

    found = low_shot(features, features, ("class0", "class1"), 2, measure)
    assert found.metrics == pytest.approx({"top1": 0.4, "top1_std": np.std([0.5, 0.6, 0.1], ddof=1)})
    assert found.counts == {"train": 4, "test": 12, "classes": 2, "draws": 3}
    assert [x["top1"] for x in found.per_video.values()] == pytest.approx([2 / 3, 2 / 3] * 6)


@pytest.mark.parametrize("protocol", ["linear", "knn"])
def test_a_protocol_with_shots_repeats_and_says_of_each_video_what_comes_to_its_accuracy(protocol, task, model):
    first, again = (evaluate(protocol, model, task, options={"shots": 3}) for _ in range(2))
    assert first.metrics == again.metrics and {"top1", "top1_std"} <= first.metrics.keys()
    assert np.mean(list(first.of_videos("top1").values())) == pytest.approx(first.metrics["top1"])
    turned = replace(task, train=replace(task.train, videos=task.train.videos[::-1]))
    assert evaluate(protocol, model, turned, options={"shots": 3}).metrics == first.metrics


def test_all_videos_of_balanced_classes_are_the_whole_list_three_times(task, model):
    whole, shots = (evaluate("linear", model, task, options={"shots": n}).metrics for n in (None, 8))
    assert shots["top1"] == pytest.approx(whole["top1"]) and shots["top1_std"] == 0


@pytest.mark.parametrize("protocol", ["linear", "knn"])
def test_more_shots_than_a_class_has_videos_is_said_before_anything_is_read(protocol, task, model, monkeypatch):
    monkeypatch.setattr(features_module, "read_video", None)
    train = replace(task.train, videos=task.train.videos[:-1])
    with pytest.raises(UserError, match=r"^shots=8 needs [^\n]* and class1 has 7 [^\n]*at most 7[^\n]*\.$"):
        evaluate(protocol, model, replace(task, train=train), options={"shots": 8})


def test_videos_that_cannot_be_read_are_no_shots(task, model, monkeypatch):
    def read(video, frames, each=None):
        if video.path.endswith("/0.mp4"):
            raise features_module.VideoError("it is damaged")
        return drawn_frames(video, frames, each)

    monkeypatch.setattr(features_module, "read_video", read)
    with pytest.raises(UserError, match=r"^shots=8 needs [^\n]* and class0 has 7 that can be used[^\n]*\.$"):
        evaluate("linear", model, task, options={"shots": 8})


def test_videos_of_several_labels_have_no_shots(task, model):
    several = (replace(task.train.videos[0], labels=(0, 1)), *task.train.videos[1:])
    train = VideoSet("train", several, task.train.classes)
    with pytest.raises(UserError, match=r"^shots draws videos of one label each; [^\n]*$"):
        evaluate("linear", model, replace(task, train=train), options={"shots": 2})
