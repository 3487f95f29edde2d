"""Tables of positions: sums that the published code gives, and what they look like."""

import math

import pytest
import torch

from ssl_video.backbones.positions import sincos_2d, sincos_3d, sines_1d


def test_the_tables_have_the_sums_of_the_published_code():
    rounded_ND = sines_1d(torch.arange(64), 48).float().double()  # theirs is a table of float32
    assert rounded_ND.abs().sum().item() == pytest.approx(1801.3579160008, abs=1e-9)
    assert sincos_3d((4, 4, 4), 48).abs().sum().item() == pytest.approx(1664.9234596161346, abs=1e-9)


def test_sines_and_cosines_take_turns_over_the_number_of_a_token():
    table_ND = sines_1d(torch.tensor([0, 3]), 6)
    expected = [f(3 / 10000 ** (2 * i / 6)) for i in range(3) for f in (math.sin, math.cos)]
    torch.testing.assert_close(table_ND, torch.tensor([[0.0, 1.0] * 3, expected], dtype=torch.float64))


@pytest.mark.parametrize("uniform", [True, False])
def test_every_cell_of_a_grid_has_a_row_of_its_own_that_says_its_place(uniform):
    table_ND = sincos_3d((3, 4, 5), 24, uniform)
    assert table_ND.shape == (60, 24) and len(table_ND.unique(dim=0)) == 60
    maps_thwD = table_ND.unflatten(0, (3, 4, 5))
    time = slice(0, 8 if uniform else 12)
    assert (maps_thwD[..., time] == maps_thwD[:, :1, :1, time]).all()  # the first channels are of time alone


def test_of_a_picture_half_of_the_channels_are_of_x():
    maps_hwD = sincos_2d((3, 4), 16).unflatten(0, (3, 4))
    assert (maps_hwD[..., :8] == maps_hwD[:1, :, :8]).all() and (maps_hwD[..., 8:] == maps_hwD[:, :1, 8:]).all()
