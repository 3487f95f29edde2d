import copy

import pytest
import torch
import torchvision
from torch import nn

from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.nonlocal_blocks import NonLocal, insert_nonlocal
from ssl_video.backbones.pytorchvideo_models import slow_r50
from ssl_video.errors import UserError


def busy_block(channels, subsample):
    """A block that has left its start, in float64: it attends unevenly, and its batch norm lets that through."""
    torch.manual_seed(0)
    block = NonLocal(channels, subsample).double().eval()
    for p in block.parameters():
        nn.init.normal_(p, std=0.7)
    nn.init.uniform_(block.bn.running_var, 0.5, 2.0)
    return block


def test_a_block_is_the_identity_at_the_start_bit_for_bit():
    torch.manual_seed(0)
    block, x = NonLocal(6).eval(), torch.randn(2, 6, 3, 4, 4)
    with torch.no_grad():
        assert torch.equal(block(x), x)


@pytest.mark.parametrize("after", [("block2", "block3"), ("stem",), ("block1", "block1.conv1")])
def test_a_network_with_blocks_starts_as_the_network_without(after):
    torch.manual_seed(0)
    plain = build_backbone("r3d_10", width=4).eval()
    network = insert_nonlocal(copy.deepcopy(plain), after)
    clip = torch.randn(1, 3, 8, 32, 32)
    assert sum(isinstance(m, NonLocal) for m in network.modules()) == len(after)
    with torch.no_grad():
        assert torch.equal(network(clip), plain(clip))


def test_a_block_attends_over_all_of_space_and_time():
    block, x = busy_block(4, subsample=False), torch.randn(2, 4, 2, 3, 2, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(block(x), slowly(block, x, x), atol=1e-10)


def test_a_subsampled_block_attends_to_maxima_over_2x2_positions():
    block, x = busy_block(4, subsample=True), torch.randn(2, 4, 2, 4, 6, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(block(x), slowly(block, x, x, pool=2), atol=1e-10)


def slowly(block, x, seen, pool=1):
    """Equations 2 to 6 of the paper, position by position."""

    def matrix(conv):
        return conv.weight[:, :, 0, 0, 0], conv.bias

    def embed(conv, vector):
        weight, bias = matrix(conv)
        return weight @ vector + bias

    B, _, T, H, W = x.shape
    z = torch.empty_like(x)
    for b in range(B):
        keys, values = [], []
        for t in range(T):
            for top in range(0, H, pool):
                for left in range(0, W, pool):
                    cell = [seen[b, :, t, top + i, left + j] for i in range(pool) for j in range(pool)]
                    keys.append(torch.stack([embed(block.phi, v) for v in cell]).amax(0))
                    values.append(torch.stack([embed(block.g, v) for v in cell]).amax(0))
        for t in range(T):
            for i in range(H):
                for j in range(W):
                    weights = [torch.exp(embed(block.theta, x[b, :, t, i, j]) @ key) for key in keys]
                    y = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
                    bn = block.bn
                    normal = (embed(block.W_z, y) - bn.running_mean) / torch.sqrt(bn.running_var + bn.eps)
                    z[b, :, t, i, j] = bn.weight * normal + bn.bias + x[b, :, t, i, j]
    return z


def test_the_first_gradient_reaches_the_scale_and_the_second_the_whole_block():
    torch.manual_seed(0)
    network = build_backbone("r3d_10_nonlocal", width=4)
    blocks = [m for m in network.modules() if isinstance(m, NonLocal)]
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    clip = torch.randn(2, 3, 8, 32, 32)

    def step():
        optimiser.zero_grad()
        (network(clip) ** 2).mean().backward()
        optimiser.step()

    step()
    assert all(block.bn.weight.grad.abs().sum() > 0 for block in blocks)
    step()
    weights = [conv.weight for block in blocks for conv in (block.theta, block.phi, block.g, block.W_z)]
    assert all(w.grad.abs().sum() > 0 for w in weights)


def test_slow_r50_has_two_blocks_in_res3_and_three_in_res4():
    with torch.device("meta"):
        network = build_backbone("slow_r50_nonlocal")
    blocks = {name: m.theta.in_channels for name, m in network.network.named_modules() if isinstance(m, NonLocal)}
    assert blocks == {
        "res3.res_blocks.1.1": 512,
        "res3.res_blocks.3.1": 512,
        "res4.res_blocks.1.1": 1024,
        "res4.res_blocks.3.1": 1024,
        "res4.res_blocks.5.1": 1024,
    }


@pytest.mark.parametrize(("name", "after"), [("r3d_18", ("layer2.1", "layer3")), ("r2plus1d_18", ("layer3.0",))])
def test_blocks_go_into_other_networks_of_the_registry(name, after):
    with torch.device("meta"):
        network = insert_nonlocal(build_backbone(name).eval(), after)
        assert network(torch.empty(1, 3, 16, 64, 64)).shape == (1, 512, 2, 4, 4)
    assert sum(isinstance(m, NonLocal) for m in network.modules()) == len(after)


def test_inserting_blocks_leaves_modes_and_statistics_as_they_were():
    network = build_backbone("r3d_10", width=4)
    network.stages["stem"].eval()
    before = copy.deepcopy(network.state_dict())
    insert_nonlocal(network, ["block4"])
    assert not network.stages["stem"].training and network.stages["block1"].training and network.training
    assert all(torch.equal(v, network.state_dict()[k.replace("block4", "block4.0")]) for k, v in before.items())


@pytest.mark.parametrize("name", ["blok2", ""])
def test_a_part_that_there_is_not_is_answered(name):
    with torch.device("meta"), pytest.raises(UserError, match="has no module"):
        build_backbone("r3d_10_nonlocal", after=(name,))


def test_published_weights_of_the_network_without_blocks_are_taken(tmp_path):
    torch.manual_seed(0)
    net = slow_r50().published.network
    torch.save({"model_state": net.state_dict()}, tmp_path / "SLOW_8x8_R50.pyth")
    backbone = build_backbone("slow_r50_nonlocal", weights=str(tmp_path / "SLOW_8x8_R50.pyth")).eval()
    plain = build_backbone("slow_r50", weights=str(tmp_path / "SLOW_8x8_R50.pyth")).eval()
    clip = torch.randn(1, 3, *plain.clip.smallest)
    with torch.no_grad():
        assert torch.equal(backbone(clip), plain(clip))  # a new block is the identity


def test_the_trunk_of_a_composite_takes_published_weights(tmp_path):
    net = torchvision.models.resnet18()
    torch.save(net.state_dict(), tmp_path / "resnet18.pth")
    for name in ("single_frame", "late_fusion", "late_fusion_pool", "lrcn"):
        backbone = build_backbone(name, trunk="resnet18", weights=str(tmp_path / "resnet18.pth"))
        assert torch.equal(next(backbone.parameters()), net.conv1.weight), name


def test_blocks_are_drawn_in_the_order_in_which_they_are_named():
    firsts = []
    for _ in range(2):
        torch.manual_seed(0)
        network = insert_nonlocal(build_backbone("r3d_10", width=4), ("block2", "block3"))
        firsts.append(torch.cat([network.stages[name][1].theta.weight.flatten() for name in ("block2", "block3")]))
    torch.manual_seed(0)
    build_backbone("r3d_10", width=4)
    assert torch.equal(*firsts) and torch.equal(firsts[0][:16], NonLocal(8).theta.weight.flatten()[:16])
