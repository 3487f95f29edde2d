import pytest
import torch

from ssl_video.backbones.base import BACKBONES, build_backbone
from ssl_video.errors import UserError


def on_meta(name):
    """The network without its numbers: shapes cost nothing."""
    with torch.device("meta"):
        return build_backbone(name).eval()


def clip_for(backbone, frames, size):
    return torch.zeros(2, backbone.clip.channels, frames, size, size, device="meta")


@pytest.mark.parametrize("name", BACKBONES.names())
def test_the_smallest_legal_clip_is_taken(name):
    backbone = on_meta(name)
    y = backbone(clip_for(backbone, backbone.clip.min_frames, backbone.clip.min_size))
    assert y.shape[:2] == (2, backbone.feature_dim) and y.ndim == 5


@pytest.mark.parametrize("name", BACKBONES.names())
def test_strides_and_feature_size_are_as_declared(name):
    backbone = on_meta(name)
    spec = backbone.clip
    y = backbone(clip_for(backbone, spec.frames, spec.size))
    assert y.shape[:2] == (2, backbone.feature_dim)
    for length, stride, found in zip((spec.frames, spec.size, spec.size), backbone.strides, y.shape[2:], strict=True):
        assert abs(found - length / stride) <= 1  # padding, or the lack of it, moves the border by a cell


@pytest.mark.parametrize("name", BACKBONES.names())
def test_every_stage_can_be_asked_for(name):
    backbone = on_meta(name)
    clip = clip_for(backbone, backbone.clip.frames, backbone.clip.size)
    for stage in backbone.stages:
        assert backbone(clip, until=stage).ndim == 5
    with pytest.raises(KeyError):
        backbone(clip, until="nowhere")


def test_a_finer_output_stride_keeps_the_weights_of_the_network():
    coarse, fine = build_backbone("resnet18"), build_backbone("resnet18", output_stride=8)
    fine.load_state_dict(coarse.state_dict())
    assert fine.strides == (1, 8, 8)
    assert fine(torch.zeros(1, 3, 2, 64, 64)).shape == (1, 512, 2, 8, 8)


def test_a_per_frame_network_sees_each_frame_alone():
    backbone, clip = build_backbone("resnet18").eval(), torch.randn(1, 3, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(backbone(clip).flip(2), backbone(clip.flip(2)), atol=1e-5)


@pytest.mark.parametrize("name", ["r2plus1d_4", "r3d_10", "r3d_18", "s3d", "resnet18", "c3d"])
def test_every_parameter_gets_a_finite_gradient(name):
    backbone = build_backbone(name)
    frames, size = max(8, backbone.clip.min_frames), max(32, backbone.clip.min_size)
    backbone(torch.randn(2, 3, frames, size, size)).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in backbone.parameters())


def test_a_network_can_be_built_again_from_its_notes():
    first = build_backbone("r2plus1d_4", width="4", strides_t="1,2,2,2")
    again = build_backbone(first.architecture, **first.options)
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
