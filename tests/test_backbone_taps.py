"""Networks with taps: chains and others."""

import copy

import pytest
import torch
from torch import nn

from ssl_video.backbones.base import Backbone, ClipSpec, PerFrame, Tap, build_backbone, chain
from ssl_video.errors import UserError

CLIP = ClipSpec(frames=4, size=8, min_frames=2, min_size=8)


class Hourglass(nn.Module):
    """No chain: its output is a clip again, its maps are in the middle, and a noise level may be added."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv3d(3, 4, 3, 2, 1)
        self.up = nn.ConvTranspose3d(4, 5, 2, 2)
        self.out = nn.Conv3d(8, 3, 1)

    def forward(self, clip_BCTHW, condition=None):
        x = clip_BCTHW if condition is None else clip_BCTHW + condition
        return self.out(torch.cat([clip_BCTHW, self.up(torch.relu(self.down(x)))], 1))


def hourglass():
    torch.manual_seed(0)
    net = Hourglass()
    taps = {"middle": Tap(net.down), "end": Tap(net.up, 5, (1, 1, 1))}
    return Backbone(net, taps, clip=CLIP)


class Counted(nn.Identity):
    """Counts its calls."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return x


def test_a_chain_does_no_work_behind_the_stage_that_was_asked_for():
    behind = Counted()
    stages = {"first": nn.Conv3d(3, 4, 1), "second": nn.Conv3d(4, 5, 1), "third": behind}
    backbone = chain(stages, feature_dim=5, strides=(1, 1, 1), clip=CLIP)
    clip = torch.randn(1, 3, 4, 8, 8)
    y = backbone(clip, until="second")
    assert behind.calls == 0 and torch.equal(y, stages["second"](stages["first"](clip)))
    assert torch.equal(backbone(clip), y) and behind.calls == 1


def test_a_network_that_is_no_chain_is_tapped_while_it_runs():
    backbone, clip = hourglass(), torch.randn(2, 3, 4, 8, 8)
    net = backbone.network
    middle = net.down(clip)
    assert torch.equal(backbone(clip, until="middle"), middle)
    assert torch.equal(backbone(clip), net.up(torch.relu(middle)))
    backbone(clip).sum().backward()
    assert net.down.weight.grad.any()


def test_a_tap_may_be_the_whole_network():
    net = nn.Conv3d(3, 4, 1)
    backbone, clip = Backbone(net, {"map": Tap(net, 4, (1, 1, 1))}, clip=CLIP), torch.randn(1, 3, 4, 8, 8)
    assert torch.equal(backbone(clip), net(clip))


def test_a_condition_reaches_a_network_that_takes_one_and_is_refused_by_others():
    backbone, clip = hourglass(), torch.randn(1, 3, 4, 8, 8)
    noise = torch.randn_like(clip)
    assert torch.equal(backbone(clip, "middle", noise), backbone.network.down(clip + noise))
    assert torch.equal(backbone(clip, "middle", None), backbone.network.down(clip))
    with pytest.raises(UserError, match="r2plus1d_4 takes no condition"):
        build_backbone("r2plus1d_4")(torch.zeros(1, 3, 4, 16, 16), condition=noise)


def test_sizes_that_were_left_open_are_found():
    middle, end = hourglass().taps.values()
    assert (middle.dim, middle.strides) == (4, (2, 2, 2)) and (end.dim, end.strides) == (5, (1, 1, 1))


def test_an_axis_brought_together_has_stride_zero_and_a_fixed_one_the_clips_length_over_the_cells():
    class Mean(nn.Module):
        def forward(self, x_BDthw):
            return x_BDthw.mean((3, 4), keepdim=True)

    halves = nn.Conv3d(3, 4, (4, 1, 1), (4, 1, 1))
    stages = {"halves": halves, "mean": Mean(), "last": nn.Conv3d(4, 6, (2, 1, 1))}
    clip = ClipSpec(frames=8, size=8, min_size=8, fixed_frames=True)
    taps = chain(stages, feature_dim=6, strides=(8, 0, 0), clip=clip).taps
    assert [tap.strides for tap in taps.values()] == [(4, 1, 1), (4, 0, 0), (8, 0, 0)]


@pytest.mark.parametrize("name", ["r2plus1d_4", "lrcn", "s3dg"])
def test_finding_sizes_draws_no_number_and_changes_no_statistic(name):
    torch.manual_seed(0)
    backbone = build_backbone(name)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    state, modes = torch.get_rng_state(), [m.training for m in backbone.modules()]
    assert all(tap.dim for tap in backbone.taps.values())
    assert torch.equal(torch.get_rng_state(), state) and [m.training for m in backbone.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())
    assert all(p.device.type == "cpu" for p in backbone.parameters())


def test_a_copy_has_taps_of_its_own():
    backbone = hourglass()
    other = copy.deepcopy(backbone)
    nn.init.zeros_(other.network.down.weight)
    clip = torch.randn(1, 3, 4, 8, 8)
    assert other.stages["middle"] is other.network.down
    assert backbone(clip, "middle").std() > other(clip, "middle").std()


def test_the_stages_of_a_network_are_its_tapped_modules_in_order():
    backbone = chain(
        {"a": PerFrame(nn.Conv2d(3, 4, 1)), "b": nn.Conv3d(4, 4, 1)}, feature_dim=4, strides=(1, 1, 1), clip=CLIP
    )
    assert list(backbone.stages.items()) == list(backbone.network.named_children())
    assert {key.split(".")[0] for key in backbone.state_dict()} == {"network"}
