"""The lecture's claims on where time is brought together (Karpathy et al., CVPR 2014), at a small width."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.karpathy import ContextAndFovea, TwoStreams
from ssl_video.errors import UserError

PER_FRAME_MADE = ("single_frame", "late_fusion", "late_fusion_pool", "early_fusion")


def small(name, **options):
    """A network of few channels, whose batch norms have some statistics, in eval mode."""
    torch.manual_seed(0)
    network = build_backbone(name, width=6, **options)
    for m in network.modules():
        if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.normal_(m.running_mean, std=0.1)
            nn.init.uniform_(m.bias, 0.0, 0.5)
    return network.eval()


def respond(network, clip):
    with torch.no_grad():
        return network(clip)


def frames_that_matter(network, frames):
    """Whether a clip's frames have a gradient, one by one."""
    clip = torch.randn(1, 3, frames, 48, 48, requires_grad=True)
    network(clip).square().sum().backward()
    return [bool(g.abs().sum() > 0) for g in clip.grad.unbind(2)]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("single_frame", (1, 256, 10, 7, 7)),
        ("late_fusion", (1, 512, 1, 7, 7)),
        ("late_fusion_pool", (1, 256, 1, 7, 7)),
        ("early_fusion", (1, 256, 1, 7, 7)),
        ("slow_fusion", (1, 256, 1, 7, 7)),
        ("multires", (1, 512, 10, 7, 7)),
    ],
)
def test_the_papers_clip_ends_at_the_papers_size(name, shape):
    with torch.device("meta"):
        network = build_backbone(name).eval()
        y = network(torch.empty(1, 3, network.clip.frames, network.clip.size, network.clip.size))
    assert y.shape == shape


def test_the_trunk_has_the_papers_convolutions():
    with torch.device("meta"):
        convs = [m for m in build_backbone("single_frame").modules() if isinstance(m, nn.Conv2d)]
    found = [(m.out_channels, m.kernel_size[0], m.stride[0]) for m in convs]
    assert found == [(96, 11, 3), (256, 5, 1), (384, 3, 1), (384, 3, 1), (256, 3, 1)]


def test_a_single_frame_network_treats_frames_independently():
    network, clip = small("single_frame"), torch.randn(2, 3, 5, 48, 48)
    alone = torch.cat([respond(network, frame) for frame in clip.split(1, dim=2)], dim=2)
    assert torch.allclose(respond(network, clip), alone, atol=1e-6)


def test_late_fusion_looks_at_its_two_frames_only():
    network = small("late_fusion")
    assert network.clip.frames == 16  # 15 frames apart
    assert frames_that_matter(network, 16) == [True, *[False] * 14, True]


def test_late_fusion_concatenates_what_shared_towers_see():
    network, clip = small("late_fusion"), torch.randn(2, 3, 16, 48, 48)
    tower = small("single_frame")
    tower.load_state_dict(network.state_dict())
    first, last = respond(tower, clip[:, :, :1]), respond(tower, clip[:, :, 15:])
    assert torch.allclose(respond(network, clip), torch.cat([first, last], dim=1), atol=1e-6)


def test_more_towers_stand_evenly_from_the_first_frame_to_the_last():
    network = small("late_fusion", frames=7, towers=3)
    assert frames_that_matter(network, 7) == [True, False, False, True, False, False, True]
    assert network.feature_dim == 3 * 16


def test_late_fusion_with_pooling_averages_what_it_sees_in_each_frame():
    network, clip = small("late_fusion_pool"), torch.randn(2, 3, 4, 48, 48)
    frame_network = small("single_frame")
    frame_network.load_state_dict(network.state_dict())
    seen = [respond(frame_network, frame) for frame in clip.split(1, dim=2)]
    assert torch.allclose(respond(network, clip), sum(seen) / 4, atol=1e-6)


def test_late_fusion_with_pooling_does_not_see_the_order_of_frames():
    network, clip = small("late_fusion_pool"), torch.randn(1, 3, 16, 48, 48)
    assert torch.allclose(respond(network, clip), respond(network, clip.flip(2)), atol=1e-6)


def test_early_fusion_has_its_own_filter_for_each_time_step():
    conv, clip = small("early_fusion").stages["fusion"], torch.randn(2, 3, 10, 48, 48)
    assert conv.weight.shape == (6, 3, 10, 11, 11)
    steps = [F.conv2d(clip[:, :, t], conv.weight[:, :, t], stride=3, padding=5) for t in range(10)]
    assert torch.allclose(conv(clip)[:, :, 0], sum(steps), atol=1e-5)


def flashes(frames):
    """Two dark clips with the same bright frame, three frames later in the second."""
    clip = torch.zeros(1, 3, frames, 48, 48)
    clip[:, :, 2] = torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(1))
    return clip, clip.roll(3, dims=2)


def test_early_fusion_is_not_temporally_shift_invariant():
    network = small("early_fusion")
    dark, early, late = (respond(network, clip) for clip in (torch.zeros(1, 3, 10, 48, 48), *flashes(10)))
    assert (early - late).norm() > 0.5 * (early - dark).norm()


def test_pooling_over_frames_is_temporally_shift_invariant():
    network = small("late_fusion_pool")
    dark, early, late = (respond(network, clip) for clip in (torch.zeros(1, 3, 10, 48, 48), *flashes(10)))
    assert (early - late).norm() < 1e-4 * (early - dark).norm()


def test_slow_fusion_moves_its_response_by_a_cell_when_its_input_moves_by_8_frames():
    network, video = small("slow_fusion"), torch.randn(1, 3, 34, 48, 48)
    here, later = respond(network, video[:, :, :26]), respond(network, video[:, :, 8:])
    assert here.shape[2] == later.shape[2] == 3
    assert torch.allclose(here[:, :, 1:], later[:, :, :-1], atol=1e-6)
    assert not torch.allclose(here[:, :, 1:], here[:, :, :-1], atol=1e-3)


def test_slow_fusion_sees_all_10_frames_after_its_third_convolution():
    network = small("slow_fusion")
    assert frames_that_matter(network, 10) == [True] * 10
    clip = torch.randn(1, 3, 10, 48, 48)
    assert [network(clip, until=f"conv{i}").shape[2] for i in (1, 2, 3, 4, 5)] == [4, 2, 1, 1, 1]


def test_slow_fusions_cells_see_10_frames_each():
    network = small("slow_fusion")
    clip = torch.randn(1, 3, 18, 48, 48, requires_grad=True)
    network(clip)[:, :, 1].square().sum().backward()
    assert [bool(g.abs().sum() > 0) for g in clip.grad.unbind(2)] == [False] * 8 + [True] * 10


def test_multi_resolution_halves_the_input():
    frame = torch.randn(1, 3, 178, 178)
    streams = ContextAndFovea()(frame)
    assert streams.shape == (1, 6, 89, 89) and 2 * streams.numel() == frame.numel()


def test_the_context_is_the_frame_at_half_its_resolution_and_the_fovea_its_centre():
    frame = torch.randn(1, 3, 178, 178)
    context, fovea = ContextAndFovea()(frame).chunk(2, dim=1)
    small_frame = (frame[..., ::2, ::2] + frame[..., 1::2, ::2] + frame[..., ::2, 1::2] + frame[..., 1::2, 1::2]) / 4
    assert torch.allclose(context, small_frame, atol=1e-6)
    assert torch.equal(fovea, frame[..., 44:133, 44:133])  # 44 pixels before it, 45 behind


def test_each_stream_of_multi_resolution_goes_its_own_way():
    x = torch.randn(2, 6, 4, 4)
    assert torch.equal(TwoStreams(nn.Identity(), nn.ReLU())(x), torch.cat([x[:, :3], x[:, 3:].clamp(min=0)], dim=1))


def test_multi_resolution_sees_the_border_in_the_context_only():
    network, clip = small("multires"), torch.randn(1, 3, 1, 178, 178)
    other = clip.clone()
    other[..., :44, :] += 1
    before, after = respond(network, clip), respond(network, other)
    assert torch.equal(before[:, 16:], after[:, 16:]) and not torch.allclose(before[:, :16], after[:, :16])


@pytest.mark.parametrize("name", PER_FRAME_MADE)
def test_any_per_frame_network_may_be_the_trunk(name):
    with torch.device("meta"):
        network = build_backbone(name, trunk="resnet18").eval()
        y = network(torch.empty(1, 3, network.clip.frames, 64, 64))
    assert y.shape == (1, network.feature_dim, y.shape[2], 2, 2) and network.strides[1:] == (32, 32)
    assert network.feature_dim == (1024 if name == "late_fusion" else 512)


def test_early_fusion_on_a_resnet_extends_its_first_convolution_and_no_other():
    with torch.device("meta"):
        network = build_backbone("early_fusion", trunk="resnet18", frames=5)
        convs = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    assert convs[0].weight.shape == (64, 3, 5, 7, 7)
    assert len(convs) == 20 and not any(isinstance(m, nn.Conv3d) for m in convs[1:])


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("single_frame", {"width": 10}, "multiple of 3"),
        ("single_frame", {"trunk": "resnet18", "width": 12}, "width belongs to the trunk 'karpathy'"),
        ("single_frame", {"trunk": "resnet81"}, "did you mean 'resnet18'"),
        ("late_fusion", {"trunk": "r3d_10"}, "sees single frames, and 'r3d_10' does not"),
        ("late_fusion", {"towers": 3}, "3 towers do not stand evenly on 16 frames"),
        ("early_fusion", {"frames": 0}, "frames must be a whole number of 1 or more"),
        ("early_fusion", {"trunk": "multires"}, "'multires' has none there"),
    ],
)
def test_options_that_make_no_network_are_answered(name, options, sentence):
    with torch.device("meta"), pytest.raises(UserError, match=sentence):
        build_backbone(name, **options)


@pytest.mark.parametrize("name", [*PER_FRAME_MADE, "slow_fusion", "multires"])
def test_small_networks_take_small_clips(name):
    options = {"frames": 16} if name == "early_fusion" else {}
    assert respond(small(name, **options), torch.randn(1, 3, 16, 64, 64)).isfinite().all()
