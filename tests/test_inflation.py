"""Inflated image networks: a still video gives the image network's output."""

import pytest
import torch
import torchvision.models as tv
from torch import nn

from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.inflation import InflatedConv, in_3d, inflate, inflated

GOOGLENET = {"aux_logits": False, "init_weights": False}
NETWORKS = {
    "resnet18": ({}, {}),
    "googlenet": (GOOGLENET, {"conv1.conv": 2, "maxpool3": 2, "maxpool4": 2}),
    "alexnet": ({"num_classes": 10}, {}),
    "vgg11_bn": ({"num_classes": 10}, {"features.3": 2}),
}


def image_network(name, **options):
    """One with batch-norm statistics as after some training."""
    torch.manual_seed(0)
    net = tv.get_model(name, weights=None, **options).eval()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.running_mean, 0, 0.1)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return net


@pytest.mark.parametrize("name", NETWORKS)
def test_a_still_video_gives_the_2d_networks_output(name):
    options, strides_t = NETWORKS[name]
    net = image_network(name, **options)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = net(image)
        found = inflate(net, strides_t=strides_t)(image[:, :, None].expand(-1, -1, 5, -1, -1))
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_moving_video_gives_another_output():
    net = image_network("resnet18")
    clip = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        inflated_net = inflate(net)
        assert not torch.allclose(inflated_net(clip), inflated_net(clip[:, :, :1].expand_as(clip)), atol=1e-2)


def test_inflating_leaves_the_2d_network_alone():
    net = image_network("resnet18")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    inflate(net).requires_grad_(False).zero_grad()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert isinstance(net.conv1, nn.Conv2d)


def test_an_inflated_convolution_is_the_padded_sum_over_time():
    torch.manual_seed(0)
    conv = InflatedConv(2, 3, (3, 1, 1), padding=(1, 0, 0), bias=False).double()
    x = torch.randn(1, 2, 4, 2, 2, dtype=torch.float64)
    w = conv.weight[:, :, :, 0, 0]
    for t in range(4):
        expected = sum(w[:, :, k] @ x[0, :, min(max(t + k - 1, 0), 3)].flatten(1) for k in range(3))
        assert torch.allclose(conv(x)[0, :, t].flatten(1), expected)


def test_filters_are_repeated_over_time_and_colours_averaged_for_flow():
    with torch.device("meta"):
        network = nn.Conv3d(2, 4, (5, 3, 3), bias=False)
    filters = torch.randn(4, 3, 3, 3)
    (found,) = inflated({"weight": filters}, network).values()
    assert found.shape == (4, 2, 5, 3, 3)
    for c in range(2):
        for t in range(5):
            assert torch.allclose(found[:, c, t], filters.mean(1) / 5)


def test_a_layer_that_cannot_be_inflated_is_named():
    with pytest.raises(TypeError, match="1 is a AvgPool2d"):
        in_3d(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2)))


def test_a_stride_for_a_module_that_is_not_there_is_refused():
    with pytest.raises(KeyError, match="maxpool9"):
        in_3d(nn.Sequential(nn.Conv2d(3, 4, 3)), strides_t={"maxpool9": 2})


@pytest.mark.parametrize(("name", "of"), [("i3d_resnet18", "resnet18"), ("i3d", "googlenet")])
def test_i3d_starts_from_the_weights_of_the_image_network(name, of, tmp_path):
    options = {"aux_logits": True, "init_weights": False} if of == "googlenet" else {}
    net = image_network(of, **options)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    backbone = build_backbone(name, weights=str(tmp_path / "net.pth")).eval()
    image, maps = torch.randn(1, 3, 64, 64), []
    net.avgpool.register_forward_pre_hook(lambda _m, args: maps.append(args[0]))
    with torch.no_grad():
        net(image)
        y = backbone(image[:, :, None].expand(-1, -1, 16, -1, -1))
    assert y.shape[2] == 2
    assert (y - maps[0][:, :, None]).abs().max() <= 1e-5 * maps[0].abs().max()
    assert "left out" in backbone.provenance.weights_report


@pytest.mark.parametrize(("name", "of"), [("i3d_resnet18", "resnet18"), ("i3d", "googlenet")])
def test_i3d_for_flow_starts_from_the_mean_over_the_colours(name, of, tmp_path):
    net = image_network(of, **(GOOGLENET if of == "googlenet" else {}))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    backbone = build_backbone(name, modality="flow", weights=str(tmp_path / "net.pth"))
    first = next(backbone.parameters())
    filters = next(net.parameters())
    assert backbone.clip.modality == "flow" and backbone.clip.channels == 2
    assert torch.allclose(first.sum(2)[:, 1], filters.mean(1), atol=1e-6)


def test_i3d_has_the_papers_shapes():
    with torch.device("meta"):
        backbone = build_backbone("i3d").eval()
        clip = torch.empty(1, 3, 64, 224, 224)
        shapes = [tuple(backbone(clip, until=stage).shape[1:]) for stage in backbone.stages]
    assert shapes[0] == (64, 32, 56, 56) and shapes[1] == (192, 32, 28, 28) and shapes[2] == (480, 32, 28, 28)
    assert shapes[3] == (832, 16, 14, 14) and shapes[4] == (1024, 8, 7, 7)
