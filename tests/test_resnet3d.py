"""3D-ResNets, 2D3D-ResNets and T-CAM: the papers' shapes, and the parts that no other network has."""

import pytest
import torch
from torch import nn

from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.resnet3d import BasicBlock, Subsample
from ssl_video.backbones.tcam import Segments
from ssl_video.errors import UserError


def shapes_of(backbone, *clip):
    """(D, t, h, w) of every stage."""
    with torch.no_grad():
        return [tuple(backbone(torch.empty(1, *clip, device="meta"), until=s).shape[1:]) for s in backbone.stages]


def on_meta(name, **options):
    with torch.device("meta"):
        return build_backbone(name, **options).eval()


def test_shortcut_a_takes_every_second_cell_and_fills_with_zeros():
    x = torch.randn(1, 2, 4, 4, 4)
    y = Subsample(5, (2, 2, 2))(x)
    assert y.shape == (1, 5, 2, 2, 2) and not y[:, 2:].any()
    assert torch.equal(y[:, :2], nn.functional.avg_pool3d(x, 1, 2))


def test_a_block_whose_convolutions_are_zero_is_its_shortcut():
    block, x = BasicBlock(2, 4, (3, 3, 3), (2, 2, 2), "A", relu=False).eval(), torch.randn(1, 2, 4, 4, 4)
    nn.init.zeros_(block.conv2.weight)
    with torch.no_grad():
        assert torch.equal(block(x), Subsample(4, (2, 2, 2))(x))
        block.relu = True
        assert torch.equal(block(x), Subsample(4, (2, 2, 2))(x).relu())


@pytest.mark.parametrize(("name", "blocks"), [("resnet3d_18", 8), ("resnet3d_34", 16)])
def test_a_3d_resnet_has_the_papers_shapes(name, blocks):
    backbone = on_meta(name)
    assert shapes_of(backbone, 3, 16, 112, 112) == [
        (64, 8, 28, 28),
        (64, 8, 28, 28),
        (128, 4, 14, 14),
        (256, 2, 7, 7),
        (512, 1, 4, 4),
    ]
    assert sum(isinstance(m, BasicBlock) for m in backbone.modules()) == blocks


def test_shortcuts_of_type_b_have_weights_and_those_of_type_a_have_none():
    a, b = on_meta("resnet3d_18"), on_meta("resnet3d_18", shortcut="B")
    extra = set(b.state_dict()) - set(a.state_dict())
    assert {key.split(".")[1] for key in extra} == {"layer2", "layer3", "layer4"}
    assert all(".downsample." in key for key in extra)


def test_a_file_with_haras_names_is_taken(tmp_path):
    source = build_backbone("resnet3d_18", shortcut="B")
    renamed = {"network.stem.0": "conv1", "network.stem.1": "bn1"}
    state = {}
    for key, value in source.state_dict().items():
        module, _, tensor = key.rpartition(".")
        state[f"module.{renamed.get(module, module.removeprefix('network.'))}.{tensor}"] = value
    state["module.fc.weight"] = torch.zeros(400, 512)
    torch.save({"arch": "resnet-18", "state_dict": state}, tmp_path / "hara.pth")
    target = build_backbone("resnet3d_18", shortcut="B", weights=str(tmp_path / "hara.pth"))
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))
    assert target.provenance.weights_report.endswith("left out fc.weight")


@pytest.mark.parametrize(("name", "channels"), [("r2d3d_18", 256), ("r2d3d_34", 256), ("r2d3d_50", 1024)])
def test_five_frames_of_128_pixels_become_four_by_four_cells(name, channels):
    backbone = on_meta(name)
    assert shapes_of(backbone, 3, 5, 128, 128)[-1] == (channels, 2, 4, 4)
    assert shapes_of(backbone, 3, 5, 224, 224)[-1] == (channels, 2, 7, 7)


def test_a_2d3d_resnet_sees_time_only_in_its_last_two_stages():
    backbone = on_meta("r2d3d_18")
    extents = {
        stage: {m.kernel_size[0] for m in layers.modules() if isinstance(m, nn.Conv3d) and m.kernel_size[1] > 1}
        for stage, layers in backbone.stages.items()
    }
    assert extents == {"stem": {1}, "layer1": {1}, "layer2": {1}, "layer3": {3}, "layer4": {3}}


def test_the_features_of_a_2d3d_resnet_are_those_before_the_last_relu():
    torch.manual_seed(0)
    backbone, clip = build_backbone("r2d3d_18"), torch.randn(2, 3, 5, 64, 64)
    with torch.no_grad():
        assert (backbone(clip) < 0).any() and not (backbone(clip, until="layer3") < 0).any()


def test_ten_flow_fields_are_one_segment_with_x_and_y_in_turn():
    flow = torch.randn(2, 2, 20, 3, 4)
    segments = Segments()(flow)
    assert segments.shape == (2, 20, 2, 3, 4)
    for t in range(20):
        for d in range(2):
            assert torch.equal(segments[:, 2 * (t % 10) + d, t // 10], flow[:, d, t])


def test_tcam_has_the_papers_shapes():
    shapes = shapes_of(on_meta("tcam"), 2, 20, 224, 224)
    assert shapes[-2:] == [(512, 2, 14, 14), (1024, 1, 14, 14)]
    assert shapes_of(on_meta("tcam", segments="3"), 2, 30, 224, 224)[-2:] == [(512, 3, 14, 14), (1024, 1, 14, 14)]


def test_tcams_activation_map_averages_to_its_answer():
    torch.manual_seed(0)
    backbone, classifier = build_backbone("tcam").eval(), nn.Linear(1024, 1)
    with torch.no_grad():
        y = backbone(torch.randn(1, 2, 20, 32, 32))
        activation_map = torch.einsum("bdthw,kd->bkthw", y, classifier.weight)
        answer = classifier(y.mean((2, 3, 4)))
    assert torch.allclose(activation_map.mean((2, 3, 4)) + classifier.bias, answer, atol=1e-5)


def test_tcam_without_segments_is_refused():
    with pytest.raises(UserError, match="segments must be a whole number of 1 or more"):
        build_backbone("tcam", segments=0)
