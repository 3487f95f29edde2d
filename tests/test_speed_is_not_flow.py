"""benchmarks/speed_is_not_flow.py: the network and a threshold on flow on the same clips."""

import numpy as np
import pytest

from benchmarks.speed_is_not_flow import Clips, best_threshold, mean_flow, measured, numbers
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.model import load_model
from tests import speed_run


def constant(frames_THWC):
    """Three pixels to the right and four down, everywhere."""
    return np.broadcast_to(np.array([3.0, 4.0]), (len(frames_THWC) - 1, *frames_THWC.shape[1:3], 2))


def test_the_magnitude_of_flow_is_the_mean_length_of_its_arrows():
    assert mean_flow(np.zeros((4, 8, 8, 3), np.uint8), constant) == 5


def test_the_best_threshold_is_the_one_that_tells_most_clips_apart():
    flow = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    sped_up = np.array([False, False, True, False, True, True])
    threshold = best_threshold(flow, sped_up)
    right = ((flow > threshold) == sped_up).sum()
    assert right == max(((flow > t) == sped_up).sum() for t in np.arange(0, 7, 0.25)) == 5


def test_a_network_that_reads_flow_alone_is_its_mirror_image_and_one_that_does_not_is_uncorrelated():
    rng = np.random.default_rng(0)
    flow, sped_up = rng.random(400), np.arange(400) % 2 == 1
    reads = numbers(*[Clips(1 / (1 + flow), flow, sped_up)] * 2)
    assert reads["Spearman, all clips"] == pytest.approx(-1)
    assert reads["Spearman, clips at normal speed"] == pytest.approx(-1)
    assert reads["network, area under ROC"] == pytest.approx(reads["flow, area under ROC"])
    knows = numbers(*[Clips(np.where(sped_up, 0.1, 0.9) + 0.01 * rng.random(400), flow, sped_up)] * 2)
    assert knows["network, accuracy"] == knows["network, area under ROC"] == 1
    assert abs(knows["Spearman, clips at normal speed"]) < 0.2 and knows["flow, accuracy of the best threshold"] < 0.65


def test_the_same_clips_are_shown_to_the_network_and_to_flow(tmp_path):
    synthesize(tmp_path / "drawn", SyntheticConfig(train=4, test=0, size=32, frames=24), workers=1)
    videos = scanned(load_splits(str(tmp_path / "drawn")).train)
    model = load_model(str(speed_run.save(tmp_path / "run")))
    clips = measured(model, videos, 2, lambda x: np.diff(x.astype(float), axis=0)[..., :2], workers=0)
    assert clips.normal_N.shape == clips.flow_N.shape == (4 * 2 * 2,)
    assert clips.sped_up_N.tolist() == [False, True] * 8 and ((clips.normal_N > 0) & (clips.normal_N < 1)).all()
    again = measured(model, videos, 2, constant, workers=0)
    assert np.array_equal(again.normal_N, clips.normal_N) and (again.flow_N == 5).all()
