"""benchmarks/what_features_say.py: what is drawn in a video, and how much of it features say."""

import numpy as np
import pytest

from benchmarks.what_features_say import TARGETS, centre_of, drawn_in, r2, r2_of
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.errors import UserError
from ssl_video.eval.base import Task
from ssl_video.eval.harness import Reading, task_on
from ssl_video.model import load_model


def test_what_is_drawn_is_read_from_pixels_and_centres():
    frames_THWC = np.zeros((3, 4, 4, 3), np.uint8)
    frames_THWC[1] = 60, 80, 100  # the middle one; 80 levels on average, in and out
    colours_and_place = 60, 80, 100, 5, 6
    found_7 = drawn_in(frames_THWC, np.array([[2, 2], [5, 6], [5, 9]]))  # 5 pixels, then 3
    assert found_7 == pytest.approx([*colours_and_place, 80, 4])


def test_features_of_colours_say_colours_and_nothing_of_motion():
    rng = np.random.default_rng(0)
    y_NK = rng.normal(size=(300, 7))
    x_ND = y_NK[:, :3] @ rng.normal(size=(3, 5))
    found = r2(x_ND[:200], y_NK[:200], x_ND[200:], y_NK[200:])
    assert found["colours"] > 0.99 and all(abs(found[name]) < 0.1 for name in ("place", "change", "path"))


def test_a_network_is_judged_by_what_is_drawn_in_the_videos_of_both_lists(tmp_path):
    synthesize(tmp_path / "clips", SyntheticConfig("clips", 40, 20, train=8, test=8), workers=1)
    task = task_on(str(tmp_path / "clips"), "linear", Reading(workers=0))
    assert isinstance(task, Task)
    found = r2_of(load_model("random:r2plus1d_4"), task, 1)
    assert list(found) == list(TARGETS) and all(value < 1 for value in found.values())


def test_a_video_without_masks_is_an_error():
    with pytest.raises(UserError, match="no masks of its shape"):
        centre_of(None, 0)
