"""What single families promise beyond the contract of every backbone."""

import subprocess
import sys

import pytest
import torch
import torchvision.models.video as tv
from torch import nn
from torchvision.models.resnet import BasicBlock
from torchvision.models.video.mvit import MSBlockConfig, MViT

from ssl_video.backbones import pytorchvideo_models
from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.pytorchvideo_models import SlowFast
from ssl_video.backbones.s3dg import FeatureGating
from ssl_video.backbones.small import BasicBlock2d
from ssl_video.backbones.torchvision_video import MViTBlocks
from ssl_video.errors import UserError


@pytest.mark.parametrize("name", ["r2plus1d_4", "resnet18", "s3dg", "x3d_s"])
def test_a_state_dict_carries_all_there_is(name):
    one, other = build_backbone(name).eval(), build_backbone(name).eval()
    other.load_state_dict(one.state_dict())
    clip = torch.randn(1, 3, one.clip.min_frames, one.clip.min_size, one.clip.min_size)
    with torch.no_grad():
        assert torch.equal(one(clip), other(clip))


def test_speednets_s3dg_keeps_every_frame():
    with torch.device("meta"):
        backbone = build_backbone("s3dg", temporal_stride=False).eval()
        y = backbone(torch.empty(1, 3, 64, 224, 224))
    assert y.shape == (1, 1024, 64, 7, 7) and backbone.strides == (1, 32, 32)


def test_speednets_s3dg_takes_any_number_of_frames():
    with torch.device("meta"):
        backbone = build_backbone("s3dg", temporal_stride=False).eval()
        assert [backbone(torch.empty(1, 3, T, 64, 64)).shape[2] for T in (1, 2, 7)] == [1, 2, 7]


def test_s3dg_gates_after_each_temporal_convolution():
    with torch.device("meta"):
        modules = list(build_backbone("s3dg").modules())
    temporal = [m for m in modules if isinstance(m, nn.Conv3d) and m.kernel_size[0] > 1]
    gates = [m for m in modules if isinstance(m, FeatureGating)]
    assert [m.out_channels for m in temporal] == [g.fc.in_features for g in gates]


def test_feature_gating_scales_channels_by_a_sigmoid_of_their_mean():
    torch.manual_seed(0)
    gating, x = FeatureGating(3), torch.randn(2, 3, 2, 4, 4)
    mean = x.flatten(2).mean(2)
    for b in range(2):
        for c in range(3):
            gate = torch.sigmoid((gating.fc.weight[c] * mean[b]).sum() + gating.fc.bias[c])
            assert torch.allclose(gating(x)[b, c], gate * x[b, c], atol=1e-6)


def test_c3d_has_the_papers_output_with_and_without_batch_norm():
    with torch.device("meta"):
        for batch_norm in (False, True):
            backbone = build_backbone("c3d", batch_norm=batch_norm).eval()
            assert backbone(torch.empty(1, 3, 16, 112, 112)).shape == (1, 512, 1, 4, 4)  # 8192 numbers before fc6


@pytest.mark.parametrize("relative", [True, False])
def test_mvit_gives_the_tokens_of_torchvisions_network(relative):
    torch.manual_seed(0)
    blocks = [
        MSBlockConfig(2, before, 32, [3, 3, 3], [3, 3, 3], stride_q, stride_kv)
        for before, stride_q, stride_kv in ((16, [1, 1, 1], [1, 4, 4]), (32, [1, 2, 2], [1, 2, 2]))
    ]
    net = MViT((32, 32), 4, blocks, True, False, relative, True).eval()
    for p in net.pos_encoding.parameters():
        nn.init.normal_(p)
    clip = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        tokens_BND = _output_of(net, net.norm, clip)[:, 1:]
        y = MViTBlocks(net)(net.conv_proj(clip))
    assert y.shape == (2, 32, 2, 4, 4)
    assert torch.allclose(y.flatten(2).transpose(1, 2), tokens_BND, atol=1e-5)


def test_absolute_positions_meet_clips_of_any_size():
    with torch.device("meta"):
        backbone = build_backbone("mvit_v1_b").eval()
        assert backbone(torch.empty(1, 3, 8, 64, 96)).shape == (1, 768, 4, 2, 3)


def test_slowfast_shows_every_fourth_frame_to_the_slow_pathway_and_puts_the_fast_one_behind_it():
    clip = torch.randn(2, 3, 8, 4, 4)
    y = SlowFast([nn.Identity()], alpha=4)(clip)
    assert y.shape == (2, 6, 2, 4, 4)
    for t in range(2):
        assert torch.equal(y[:, :3, t], clip[:, :, 4 * t])
        assert torch.allclose(y[:, 3:, t], clip[:, :, 4 * t : 4 * t + 4].mean(2), atol=1e-6)


@pytest.mark.parametrize("name", ["c2d_r50", "slowfast_r50", "x3d_xs"])
def test_a_checkpoint_of_pytorchvideo_is_taken(name, tmp_path):
    net = pytorchvideo_models.network(name)
    torch.save({"model_state": net.state_dict()}, tmp_path / "zoo.pyth")
    backbone = build_backbone(name, weights=str(tmp_path / "zoo.pyth"))
    own = list(backbone.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(own, net.state_dict().values(), strict=False))
    report = backbone.provenance.weights_report
    assert f"loaded {len(own)} tensors" in report and "left out blocks." in report


def test_swin_gives_the_map_of_torchvisions_network(tmp_path):
    torch.manual_seed(0)
    net, clip = tv.swin3d_t().eval(), torch.randn(1, 3, 4, 64, 64)
    torch.save(net.state_dict(), tmp_path / "swin.pth")
    backbone = build_backbone("swin3d_t", weights=str(tmp_path / "swin.pth")).eval()
    with torch.no_grad():
        map_BthwD = _output_of(net, net.norm, clip)
        assert torch.allclose(backbone(clip), map_BthwD.permute(0, 4, 1, 2, 3), atol=1e-5)


def _output_of(net, part, clip):
    """What ``part`` of ``net`` puts out."""
    found = []
    with part.register_forward_hook(lambda _m, _x, y: found.append(y)):
        net(clip)
    return found[0]


def test_an_output_stride_that_no_resnet_has_is_said():
    with pytest.raises(UserError, match="8, 16 or 32, not 12"):
        build_backbone("resnet18", output_stride=12)


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 512), ("resnet50", 2048)])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_the_output_stride_is_the_one_asked_for(name, channels, output_stride):
    with torch.device("meta"):
        y = build_backbone(name, output_stride=str(output_stride)).eval()(torch.empty(1, 3, 2, 64, 96))
    assert y.shape == (1, channels, 2, 64 // output_stride, 96 // output_stride)


def test_the_registry_is_read_without_importing_pytorchvideo():
    code = "import sys, ssl_video.backbones.base as b; b.BACKBONES.names(); print('pytorchvideo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_missing_pytorchvideo_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorchvideo.models.hub", None)
    with pytest.raises(UserError, match="pip install pytorchvideo"):
        build_backbone("x3d_s")


def test_the_small_networks_block_is_torchvisions():
    for stride, shortcut in ((1, None), (2, nn.Conv2d(4, 4, 1, 2))):
        theirs, ours = BasicBlock(4, 4, stride, shortcut), BasicBlock2d(4, 4, stride, shortcut)
        ours.load_state_dict(theirs.state_dict())
        x_BCHW = torch.randn(2, 4, 8, 8)
        assert list(ours.state_dict()) == list(theirs.state_dict()) and torch.equal(ours(x_BCHW), theirs(x_BCHW))
