"""Artificial cues: black borders found, and the camera's motion taken out of flow and of frames."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ssl_video.video import cues
from ssl_video.video.flow import decode, encode

WHOLE = (slice(0, 96), slice(0, 128))


def texture(height: int, width: int) -> np.ndarray:
    """Smooth gray noise, the same in all three channels."""
    noise = torch.from_numpy(np.random.default_rng(3).normal(size=(1, 1, height // 4, width // 4)))
    smooth = nn.functional.interpolate(noise, size=(height, width), mode="bicubic")[0, 0].numpy()
    return np.repeat(np.clip(128 + 50 * smooth, 40, 255).astype(np.uint8)[..., None], 3, axis=2)


def camera_flow(camera_33: np.ndarray) -> np.ndarray:
    """Flow (96, 128, 2) of a still scene under a homography, pixel by pixel."""
    flow = np.zeros((96, 128, 2), np.float32)
    for y in range(96):
        for x in range(128):
            u, v, w = camera_33 @ (x, y, 1)
            flow[y, x] = u / w - x, v / w - y
    return flow


ZOOM_AND_PAN = np.array([[1.02, 0.005, 2.0], [-0.004, 1.03, -1.5], [1e-5, -2e-5, 1.0]])


@given(st.tuples(*[st.integers(0, 9)] * 4), st.integers(0, 2**32))
def test_borders_are_the_rows_and_columns_up_to_the_first_lit_one(margins, seed):
    top, bottom, left, right = margins
    frames = np.random.default_rng(seed).integers(0, 25, (2, 20, 24, 3), dtype=np.uint8)
    frames[1, top : 20 - bottom, left : 24 - right] = 200
    borders = cues.black_borders(frames)
    assert borders.dtype == np.float32 and borders[0].tolist() == [1, 1, 1, 1]
    assert np.allclose(borders[1], [top / 20, bottom / 20, left / 24, right / 24])
    assert cues.content((20, 24), borders.min(0)) == (slice(top, 20 - bottom), slice(left, 24 - right))
    half = cues.content((10, 12), borders.min(0))  # of a copy at half the size: what is partly border is border
    assert half == (slice(-(-top // 2), 10 - -(-bottom // 2)), slice(-(-left // 2), 12 - -(-right // 2)))


def test_a_single_lit_pixel_ends_no_border_but_a_dark_row_inside_is_none():
    frames = np.full((1, 100, 300, 3), 200, np.uint8)
    frames[0, :30] = 0
    frames[0, 10, 7] = 255
    frames[0, 50] = 0
    assert cues.black_borders(frames).tolist() == [pytest.approx([0.3, 0, 0, 0])]


def test_outside_is_black_in_frames_and_at_rest_in_flow():
    inside = (slice(1, 3), slice(0, 2))
    for channels, nothing in ((3, 0), (2, 128)):
        zeroed = cues.zero_outside(np.full((2, 4, 4, channels), 77, np.uint8), inside)
        assert (zeroed[:, 1:3, 0:2] == 77).all()
        assert (zeroed == 77).sum() == 2 * 4 * channels and set(np.unique(zeroed)) == {nothing, 77}


def test_flow_of_a_moving_camera_leaves_only_what_moves_by_itself():
    flow = camera_flow(ZOOM_AND_PAN)
    flow[30:60, 40:70] += (4.0, -3.0)
    own = cues.flow_without_camera(encode(np.stack([flow, flow])), WHOLE)
    assert own is not None
    moved = np.zeros((96, 128, 2))
    moved[30:60, 40:70] = (4.0, -3.0)
    assert np.abs(decode(own) - moved).max() < 0.3


def test_a_still_camera_is_left_still():
    own = cues.flow_without_camera(np.full((3, 96, 128, 2), 128, np.uint8), WHOLE)
    assert own is not None and (own == 128).all()


def test_bars_have_no_say_in_the_motion_of_the_camera():
    flow = camera_flow(ZOOM_AND_PAN)
    flow[:30] = flow[-30:] = 0
    fooled = cues.flow_without_camera(encode(flow[None]), WHOLE)
    assert fooled is not None and np.abs(decode(fooled)[:, 30:66]).max() > 1  # most of the picture stands still
    own = cues.flow_without_camera(encode(flow[None]), (slice(30, 66), slice(0, 128)))
    assert own is not None and np.abs(decode(own)[:, 30:66]).max() < 0.3


def test_what_follows_no_homography_and_what_is_too_small_have_no_camera():
    noise = np.random.default_rng(0).integers(0, 256, (2, 96, 128, 2), dtype=np.uint8)
    assert cues.flow_without_camera(noise, WHOLE) is None
    assert cues.flow_without_camera(np.full((1, 12, 12, 2), 128, np.uint8), (slice(0, 12), slice(0, 12))) is None


def panned(count: int, dx: int) -> np.ndarray:
    scene = texture(160, 320)
    return np.stack([scene[20:116, 20 + n * dx : 148 + n * dx] for n in range(count)])


def test_frames_of_a_panning_camera_stand_still_and_what_not_all_show_is_black_in_all():
    steady = cues.frames_without_camera(panned(7, 4), WHOLE)
    assert steady is not None
    shown = steady.max(axis=(0, 3)) > 0
    assert not shown[:, :11].any() and not shown[:, -11:].any()  # three steps of four pixels on either side
    assert (steady[:, ~shown] == 0).all() and shown[10:-10, 16:-16].all()
    assert np.ptp(steady[:, 10:-10, 16:-16].astype(int), axis=0).mean() < 6
    assert np.abs(steady[3, 10:-10, 16:-16].astype(int) - panned(7, 4)[3, 10:-10, 16:-16]).max() == 0
    assert np.ptp(panned(7, 4).astype(int), axis=0).mean() > 20


def test_frames_backward_stand_still_in_the_same_way():
    there, back = (cues.frames_without_camera(f, WHOLE) for f in (panned(7, 4), panned(7, 4)[::-1]))
    assert there is not None and back is not None
    inside = np.s_[:, 10:-10, 16:-16]
    assert np.abs(there[inside].astype(int) - back[::-1][inside]).mean() < 3


def test_a_camera_that_moves_on_to_another_place_cannot_be_followed():
    assert cues.frames_without_camera(panned(15, 8), WHOLE) is None
    noise = np.random.default_rng(0).integers(0, 256, (4, 96, 128, 3), dtype=np.uint8)
    assert cues.frames_without_camera(noise, WHOLE) is None
