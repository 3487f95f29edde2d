import dataclasses

import pytest
import torch

from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.eval.base import Task, evaluate
from ssl_video.eval.calibration import batch_norms
from ssl_video.eval.pretext import PretextConfig, backwards, calibrated, measured, stilled
from ssl_video.model import load_model
from ssl_video.train.distributed import Ranks
from tests import speed_run


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Task:
    folder = tmp_path_factory.mktemp("drawn")
    synthesize(folder, SyntheticConfig(train=6, test=4, size=32, frames=24), workers=1)
    splits = load_splits(str(folder))
    return Task("drawn", 1, scanned(splits.train), scanned(splits.test), workers=0)


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> str:
    return f"random:{speed_run.save(tmp_path_factory.mktemp('speed') / 'run')}"


def test_the_still_control_shows_the_middle_frame_of_every_clip_and_tuple_and_leaves_the_rest():
    clips_BVTHWC = torch.arange(2 * 3 * 5 * 2 * 2 * 3, dtype=torch.uint8).reshape(2, 3, 5, 2, 2, 3)
    frames_BSHWC = torch.arange(2 * 3 * 2 * 2 * 3, dtype=torch.uint8).reshape(2, 3, 2, 2, 3)
    shown = stilled({"clips_VTHWC": clips_BVTHWC, "frames_SHWC": frames_BSHWC, "class": torch.tensor([1, 0])})
    for t in range(5):
        assert torch.equal(shown["clips_VTHWC"][:, :, t], clips_BVTHWC[:, :, 2])
    for s in range(3):
        assert torch.equal(shown["frames_SHWC"][:, s], frames_BSHWC[:, 1])
    assert shown["class"].tolist() == [1, 0]


def test_the_reversed_control_shows_every_clip_and_tuple_backwards_and_leaves_the_rest():
    clips_BVTHWC = torch.arange(2 * 3 * 5 * 2 * 2 * 3, dtype=torch.uint8).reshape(2, 3, 5, 2, 2, 3)
    shown = backwards({"clips_VTHWC": clips_BVTHWC, "class": torch.tensor([1, 0])})
    assert all(torch.equal(shown["clips_VTHWC"][:, :, t], clips_BVTHWC[:, :, 4 - t]) for t in range(5))
    assert shown["class"].tolist() == [1, 0]


def test_an_untrained_pretext_is_calibrated_on_the_training_list_when_it_is_asked_for(task, twin):
    pretext = load_model(twin).pretext.eval()
    seen: list[torch.Tensor] = []
    train = task.in_fixed_order.train
    settled = calibrated(pretext, train, torch.device("cpu"), PretextConfig(), workers=0)
    (norm, *_), (as_it_was, *_) = batch_norms(settled), batch_norms(pretext)
    norm.register_forward_pre_hook(lambda _norm, given: seen.append(given[0].transpose(0, 1).flatten(1)))
    measured(settled, train, Ranks(), PretextConfig(clips=1), seed=0, workers=0)
    x_CN = torch.cat(seen, 1)
    assert torch.allclose(norm.running_mean, x_CN.mean(1), atol=1e-4)
    assert torch.allclose(norm.running_var, x_CN.var(1), rtol=1e-3)
    assert not as_it_was.running_mean.any()  # the model that was given is left alone


def test_the_accuracy_of_each_video_is_that_of_its_own_samples(task, twin):
    model = load_model(twin)
    whole = evaluate("pretext", model, task, options={"clips": 2, "batch_size": 3})
    assert set(whole.per_video) == {v.source for v in task.test.videos}
    for video in task.test.videos:
        alone = dataclasses.replace(task.test, videos=(video,))
        one = evaluate("pretext", model, dataclasses.replace(task, test=alone), options={"clips": 1})
        assert one.metrics["accuracy"] == pytest.approx(one.per_video[video.source]["accuracy"])
    mean = sum(row["accuracy"] for row in whole.per_video.values()) / len(whole.per_video)
    assert mean == pytest.approx(whole.metrics["accuracy"], rel=1e-12)
