import numpy as np
import pytest

from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.encoders.base import build_encoder
from ssl_video.eval.base import Task, evaluate
from ssl_video.video.reader import iterate_frames


@pytest.fixture(scope="module")
def lists(tmp_path_factory) -> tuple[VideoSet, VideoSet]:
    folder = tmp_path_factory.mktemp("drawn")
    synthesize(folder, SyntheticConfig(train=8, test=8, size=48, frames=24), workers=1)
    splits = load_splits(str(folder))
    assert splits.test is not None
    return scanned(splits.train), scanned(splits.test)


def test_a_vector_holds_the_roots_of_the_mean_differences_of_each_cell_over_each_part(lists):
    train, _ = lists
    encoded = build_encoder("frame-differences?width=4&height=2&parts=3&apart=2").encode(train, 0)
    frames_THWC = np.stack(list(iterate_frames(train.videos[0].path))).astype(float)
    gray_THW = frames_THWC @ np.array([0.299, 0.587, 0.114])
    small_Thw = gray_THW.reshape(24, 2, 24, 4, 12).mean((2, 4))
    moved_Shw = np.stack([np.abs(small_Thw[t + 2] - small_Thw[t]) for t in range(22)])  # parts of 8, 7 and 7
    expected = np.sqrt([moved_Shw[:8].mean(0), moved_Shw[8:15].mean(0), moved_Shw[15:].mean(0)])
    assert encoded.features_ND.shape == (8, 24)
    assert np.allclose(encoded.features_ND[0], np.ravel(expected))


def test_any_size_and_length_gives_as_many_numbers(lists):
    train, _ = lists
    assert build_encoder("frame-differences?width=100&height=70&parts=40").encode(train, 0).features_ND.shape[1] == (
        40 * 100 * 70
    )


def test_frames_further_apart_than_the_video_is_long_are_its_first_and_its_last(lists):
    train, _ = lists
    encoded = [build_encoder(f"frame-differences?parts=1&apart={n}").encode(train, 0).features_ND for n in (23, 99)]
    assert np.array_equal(*encoded)


def test_a_table_and_the_linear_probe_measure_it_like_improved_trajectories(lists):
    train, test = lists
    result = evaluate("linear", build_encoder("frame-differences"), Task("drawn", 1, train, test, workers=0))
    assert 0 <= result.metrics["top1"] <= 1 and len(result.of_videos("top1")) == 8
