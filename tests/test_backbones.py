from functools import lru_cache

import pytest
import torch

from ssl_video.backbones.base import BACKBONES, build_backbone
from ssl_video.errors import UserError


@lru_cache
def on_meta(name):
    """The network without its numbers: shapes cost nothing."""
    with torch.device("meta"):
        return build_backbone(name).eval()


def smallest_clip(backbone, batch=2, **options):
    return torch.zeros(batch, backbone.clip.channels, *backbone.clip.smallest, **options)


def shapes_of_taps(backbone, clip):
    """What each tap puts out in one pass."""
    shapes = {}
    handles = [
        stage.register_forward_hook(lambda _m, _x, y, name=name: shapes.update({name: y.shape}))
        for name, stage in backbone.stages.items()
    ]
    with torch.device("meta"), torch.no_grad():
        backbone(torch.empty(clip))
    for handle in handles:
        handle.remove()
    return shapes


def kind_of(name):
    """Networks of one kind are built of the same modules, and the smallest stands for them."""
    modules = {type(m).__name__ for m in on_meta(name).modules()}
    return BACKBONES[name].__module__, *sorted(modules)


def size_of(name):
    return sum(p.numel() for p in on_meta(name).parameters())


def one_of_each_kind():
    kinds = {}
    for name in sorted(BACKBONES.names(), key=size_of, reverse=True):
        kinds[kind_of(name)] = name
    return sorted(kinds.values())


@pytest.mark.parametrize("name", BACKBONES.names())
def test_the_smallest_legal_clip_is_taken(name):
    backbone = on_meta(name)
    y = backbone(smallest_clip(backbone, device="meta"))
    assert y.shape[:2] == (2, backbone.feature_dim) and y.ndim == 5


@pytest.mark.parametrize("name", BACKBONES.names())
def test_a_clip_longer_by_the_largest_stride_has_more_cells_along_each_axis_as_every_tap_says(name):
    backbone = on_meta(name)
    coarsest = map(max, zip(*(tap.strides for tap in backbone.taps.values()), strict=True))  # the last, but in a U
    spec, strides = backbone.clip, [most if own else 0 for most, own in zip(coarsest, backbone.strides, strict=True)]
    size = (spec.frames, spec.size, spec.size)
    fixed = (spec.fixed_frames, spec.fixed_size, spec.fixed_size)
    longer = [n if f else n + (stride or n) for n, stride, f in zip(size, strides, fixed, strict=True)]
    grows = [stride > 0 and not f for stride, f in zip(strides, fixed, strict=True)]
    one, more = (shapes_of_taps(backbone, (1, spec.channels, *lengths)) for lengths in (size, longer))
    last = list(one)[-1]
    cells = [b - a for a, b in zip(one[last][2:], more[last][2:], strict=True)]
    assert [bool(n) for n in cells] == grows
    for tap_name, tap in backbone.taps.items():
        assert one[tap_name][1] == tap.dim
        for axis in (a for a in range(3) if grows[a]):
            cells = more[tap_name][2 + axis] - one[tap_name][2 + axis]
            assert cells * tap.strides[axis] == strides[axis]


@pytest.mark.parametrize("name", BACKBONES.names())
def test_a_clip_that_is_not_taken_is_refused_in_one_sentence(name):
    backbone = on_meta(name)
    channels, (frames, size, _) = backbone.clip.channels, backbone.clip.smallest
    with pytest.raises(UserError, match="channels"):
        backbone(torch.zeros(1, channels + 1, frames, size, size, device="meta"))
    with pytest.raises(UserError, match="frames"):
        backbone(torch.zeros(1, channels, frames - 1, size, size, device="meta"))
    with pytest.raises(UserError, match="pixels"):
        backbone(torch.zeros(1, channels, frames, size, size - 1, device="meta"))


@pytest.mark.parametrize("name", BACKBONES.names())
def test_asking_for_a_stage_gives_that_stage(name):
    backbone = on_meta(name)
    clip = smallest_clip(backbone, batch=1, device="meta")
    expected = shapes_of_taps(backbone, clip.shape)
    with torch.device("meta"), torch.no_grad():
        assert {stage: backbone(clip, until=stage).shape for stage in backbone.stages} == expected


@pytest.mark.parametrize("name", BACKBONES.names())
def test_an_unknown_stage_is_answered_with_those_that_there_are(name):
    backbone = on_meta(name)
    with pytest.raises(UserError, match=f"{name} has no stage 'nowhere'; there are: {', '.join(backbone.stages)}"):
        backbone(smallest_clip(backbone, device="meta"), until="nowhere")


@pytest.mark.parametrize("name", one_of_each_kind())
def test_features_and_gradients_are_finite_at_the_smallest_clip(name):
    torch.manual_seed(0)
    backbone = build_backbone(name)
    y = backbone(torch.randn_like(smallest_clip(backbone)))
    assert y.shape[:2] == (2, backbone.feature_dim) and torch.isfinite(y).all()
    y.square().sum().backward()
    unreached = [n for n, p in backbone.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not unreached


def test_a_finer_output_stride_keeps_the_weights_of_the_network():
    coarse, fine = build_backbone("resnet18"), build_backbone("resnet18", output_stride=8)
    fine.load_state_dict(coarse.state_dict())
    assert fine.strides == (1, 8, 8)
    assert fine(torch.zeros(1, 3, 2, 64, 64)).shape == (1, 512, 2, 8, 8)


def test_a_per_frame_network_sees_each_frame_alone():
    backbone, clip = build_backbone("resnet18").eval(), torch.randn(1, 3, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(backbone(clip).flip(2), backbone(clip.flip(2)), atol=1e-5)


def test_a_network_can_be_built_again_from_its_notes():
    first = build_backbone("r2plus1d_4", width="4", strides_t="1,2,2,2")
    again = build_backbone(first.architecture, **first.provenance.options)
    again.load_state_dict(first.state_dict())
    assert again.strides == (8, 16, 16) and again.feature_dim == 32


def test_the_small_networks_are_small():
    millions = {n: sum(p.numel() for p in build_backbone(n).parameters()) / 1e6 for n in ("r2plus1d_4", "r3d_10")}
    assert millions["r2plus1d_4"] < 0.2 and millions["r3d_10"] < 1.0


def test_factored_convolutions_are_those_of_conv3d():
    from ssl_video.backbones.small import SpatialConv, TemporalConv

    x = torch.randn(2, 4, 6, 8, 8)
    spatial, temporal = SpatialConv(4, 5, stride=2), TemporalConv(4, stride=2)
    as_3d = torch.nn.functional.conv3d(x, spatial.weight[:, :, None], None, (1, 2, 2), (0, 1, 1))
    assert torch.allclose(spatial(x), as_3d, atol=1e-5)
    as_3d = torch.nn.functional.conv3d(x, temporal.weight[..., None], None, (2, 1, 1), (1, 0, 0))
    assert torch.allclose(temporal(x), as_3d, atol=1e-5)


def test_unknown_networks_and_options_are_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'r2plus1d_4'"):
        build_backbone("r2plus1d4")
    with pytest.raises(UserError, match="did you mean 'width'"):
        build_backbone("r3d_10", widht=3)
