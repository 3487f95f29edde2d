"""How a video is shown: which of its frames make a clip, and how they are cut."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_video.datasets.base import Video
from ssl_video.video.info import VideoInfo
from ssl_video.video.view import Skip, View, place

VIEW = View(4, 3, 12, 8)
PICTURE_HWC = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def video_of(frames: int, fps: float = 25.0) -> Video:
    return Video("v.mp4", info=VideoInfo(frames, fps, 16, 12, frames / fps, "h264"))


def test_a_clip_begins_wherever_it_fits_into_the_video():
    drawn = {tuple(VIEW.draw(video_of(12), np.random.default_rng(seed))) for seed in range(40)}
    assert drawn == {(0, 3, 6, 9), (1, 4, 7, 10), (2, 5, 8, 11)}
    assert {place(video_of(12), 10, np.random.default_rng(seed)) for seed in range(40)} == {0, 1, 2}


def test_a_video_without_room_for_a_clip_is_skipped_with_the_reason():
    rng = np.random.default_rng(0)
    assert VIEW.draw(video_of(9), rng) == Skip("shorter than the 10 frames of a clip")
    assert VIEW.draw(video_of(9), rng, "flow fields of a clip") == Skip("shorter than the 10 flow fields of a clip")
    assert replace(VIEW, fps=10.0).draw(video_of(99, 9.9), rng) == Skip("has fewer than 10 frames a second")


@given(
    st.integers(1, 20),
    st.sampled_from([None, 1.0, 6.0, 8.0, 12.5, 29.97]),
    st.lists(st.floats(0.5, 120.0), min_size=1, max_size=5),
)
def test_spans_are_the_lengths_from_which_on_a_clip_can_be_drawn(frames, fps, rates):
    view, rng = View(frames, 2, 12, 8, fps), np.random.default_rng(0)
    for rate, span in zip(rates, view.spans(np.array(rates)), strict=True):
        if np.isinf(span):
            assert isinstance(view.draw(video_of(10**6, rate), rng), Skip)
        else:
            assert span == view.span(video_of(1, rate))
            assert isinstance(view.draw(video_of(int(span) - 1, rate), rng), Skip)
            assert not isinstance(view.draw(video_of(int(span), rate), rng), Skip)


@pytest.mark.parametrize("flip", [True, False])
def test_in_training_all_frames_have_one_crop_and_one_flip(flip):
    seen = set()
    for seed in range(200):
        clip_THWC = VIEW.prepare(np.repeat(PICTURE_HWC[None], 3, 0), np.random.default_rng(seed), flip)
        assert clip_THWC.shape == (3, 8, 8, 3) and (clip_THWC == clip_THWC[0]).all()
        seen.add(clip_THWC[0].tobytes())
    crops = [PICTURE_HWC[y : y + 8, x : x + 8] for y in range(5) for x in range(9)]
    plain, mirrored = ({crop[:, ::step].tobytes() for crop in crops} for step in (1, -1))
    assert seen & plain and seen <= plain | mirrored and bool(seen & mirrored) is flip


def test_at_test_the_centre_is_shown_as_it_is():
    assert (VIEW.prepare(PICTURE_HWC[None], flip=True)[0] == PICTURE_HWC[2:10, 4:12]).all()
