"""The temporal stream of two-stream networks."""

import pytest
import torch
import torchvision.models as tv

from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.two_stream import Stack


def test_fields_are_stacked_with_x_and_y_in_turn_and_their_means_subtracted():
    torch.manual_seed(0)
    flow = torch.randn(2, 2, 10, 4, 5, dtype=torch.float64)
    stacked = Stack()(flow)
    assert stacked.shape == (2, 20, 1, 4, 5)
    for b in range(2):
        for tau in range(10):
            for d in range(2):
                field = flow[b, d, tau]
                assert torch.allclose(stacked[b, 2 * tau + d, 0], field - field.sum() / 20)


def test_a_global_displacement_changes_nothing():
    backbone, flow = build_backbone("flow_stack").eval(), torch.randn(1, 2, 10, 32, 32)
    with torch.no_grad():
        assert torch.allclose(backbone(flow), backbone(flow + torch.randn(1, 2, 10, 1, 1)), atol=1e-4)


@pytest.mark.parametrize(("trunk", "channels"), [("resnet18", 512), ("vgg16", 512), ("alexnet", 256)])
def test_ten_fields_become_one_map(trunk, channels):
    with torch.device("meta"):
        backbone = build_backbone("flow_stack", trunk=trunk).eval()
        y = backbone(torch.empty(2, 2, 10, 224, 224))
    assert y.shape[:3] == (2, channels, 1) and backbone.feature_dim == channels and backbone.clip.modality == "flow"


@pytest.mark.parametrize("trunk", ["resnet18", "alexnet"])
def test_weights_for_colours_are_averaged_and_repeated(trunk, tmp_path):
    torch.manual_seed(0)
    published = tv.get_model(trunk, weights=None)
    torch.save(published.state_dict(), tmp_path / "net.pth")
    backbone = build_backbone("flow_stack", trunk=trunk, weights=str(tmp_path / "net.pth"))
    first, *others = backbone.parameters()
    filters, *published_others = published.parameters()
    assert torch.allclose(first, filters.mean(1, keepdim=True).expand(-1, 20, -1, -1))
    assert all(torch.equal(a, b) for a, b in zip(others, published_others, strict=False))
