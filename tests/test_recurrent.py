import pytest
import torch

from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.recurrent import LSTMOverTime
from ssl_video.errors import UserError
from ssl_video.pretexts.base import Needs
from ssl_video.pretexts.speediness import Speediness


def small_lrcn():
    torch.manual_seed(0)
    return build_backbone("lrcn", trunk="karpathy", width=6, hidden=8).eval()


def respond(network, clip):
    with torch.no_grad():
        return network(clip)


def test_the_map_has_a_state_of_256_a_frame_and_one_cell_in_space():
    with torch.device("meta"):
        y = build_backbone("lrcn").eval()(torch.empty(2, 3, 16, 224, 224))
    assert y.shape == (2, 256, 16, 1, 1)


def test_the_states_are_those_of_the_equations_of_an_lstm():
    torch.manual_seed(0)
    D, n = 5, 4
    over_time, x = LSTMOverTime(D, n).double(), torch.randn(2, D, 6, 3, 2, dtype=torch.float64)
    lstm, sigmoid = over_time.lstm, torch.sigmoid
    h = c = torch.zeros(2, n, dtype=torch.float64)
    for t in range(6):
        mean = x[:, :, t].flatten(2).sum(2) / 6
        gates = mean @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + h @ lstm.weight_hh_l0.T + lstm.bias_hh_l0
        i, f, g, o = gates[:, :n], gates[:, n : 2 * n], gates[:, 2 * n : 3 * n], gates[:, 3 * n :]
        c = sigmoid(f) * c + sigmoid(i) * torch.tanh(g)
        h = sigmoid(o) * torch.tanh(c)
        assert torch.allclose(over_time(x)[:, :, t, 0, 0], h)


def test_a_state_knows_all_frames_up_to_its_own_and_none_after():
    network = small_lrcn()
    clip = torch.randn(1, 3, 5, 48, 48, requires_grad=True)
    network(clip)[:, :, 2].sum().backward()
    assert [bool(g.abs().sum() > 0) for g in clip.grad.unbind(2)] == [True, True, True, False, False]


def test_the_order_of_frames_changes_the_last_state():
    network, clip = small_lrcn(), torch.randn(1, 3, 4, 48, 48)
    order = [2, 0, 1, 3]
    there, back = respond(network, clip)[:, :, -1], respond(network, clip[:, :, order])[:, :, -1]
    assert not torch.allclose(there, back, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 9])
def test_any_number_of_frames_is_read(frames):
    assert respond(small_lrcn(), torch.randn(1, 3, frames, 48, 48)).shape == (1, 8, frames, 1, 1)


def test_any_per_frame_network_may_be_the_trunk():
    with torch.device("meta"):
        network = build_backbone("lrcn", trunk="resnet18").eval()
        assert network(torch.empty(1, 3, 16, 64, 64)).shape == (1, 256, 16, 1, 1)
        assert network.stages["lstm"].lstm.input_size == 512


def test_options_that_make_no_network_are_answered():
    with torch.device("meta"):
        with pytest.raises(UserError, match="'r3d_10' does not"):
            build_backbone("lrcn", trunk="r3d_10")
        with pytest.raises(UserError, match="hidden must be a whole number of 1 or more, not 0"):
            build_backbone("lrcn", hidden=0)


def test_a_pretext_that_needs_a_fine_map_does_not_take_one_cell_for_one():
    class Dense(Speediness):
        needs = Needs(max_spatial_stride=8)

    with torch.device("meta"), pytest.raises(UserError, match="at most 8, but that of lrcn takes in the whole clip"):
        Dense(Speediness.Config(), build_backbone("lrcn"))
