import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.vit_blocks import DividedBlock, JointBlock, Make, Positions, Tubelets
from ssl_video.capabilities import TokenNetwork, Tokens
from ssl_video.errors import UserError

FAMILIES = ("vivit", "timesformer")


def small(family):
    """A network of two blocks for clips of 4x32x32, with all of its weights at work."""
    torch.manual_seed(0)
    network = build_backbone(f"{family}_tiny", depth=2, frames=4, side=32).eval()
    return shaken(network)


def shaken(module):
    for p in module.parameters():
        nn.init.normal_(p, std=0.1)
    return module


def respond(network, x):
    with torch.no_grad():
        return network(x)


def test_tubelets_are_those_of_a_convolution_that_strides_by_its_kernel():
    torch.manual_seed(0)
    tubelets, clip = Tubelets(3, 8, (2, 4, 5)), torch.randn(2, 3, 5, 9, 11)
    kernel = tubelets.projection.weight.reshape(8, 3, 2, 4, 5)
    expected = F.conv3d(clip, kernel, tubelets.projection.bias, stride=(2, 4, 5))
    assert expected.shape == (2, 8, 2, 2, 2) and torch.allclose(tubelets(clip), expected, atol=1e-5)


def test_positions_are_a_table_where_the_map_has_its_size():
    positions, x = Positions(4, ((2, 3, 3),)), torch.randn(2, 4, 2, 3, 3)
    assert torch.equal(positions(x), x + positions.tables[0])


def test_positions_of_time_and_of_space_are_added_up():
    positions, x = Positions(4, ((2, 1, 1), (1, 3, 3))), torch.randn(2, 4, 2, 3, 3)
    time, space = positions.tables
    for t in range(2):
        assert torch.allclose(positions(x)[:, :, t], x[:, :, t] + time[:, :, t] + space[:, :, 0])


def test_positions_are_interpolated_linearly_to_a_map_of_another_size():
    positions = Positions(1, ((2, 1, 1),))
    positions.tables[0].data = torch.tensor([0.0, 1.0]).reshape(1, 1, 2, 1, 1)
    y = positions(torch.zeros(1, 1, 4, 1, 1)).flatten()
    assert torch.allclose(y, torch.tensor([0.0, 0.25, 0.75, 1.0]))


def attention_of(module, tokens):
    """Multi-head attention of a list of vectors, head by head and query by query."""
    width, heads = module.projection.in_features, module.heads
    side = width // heads
    qkv = [module.qkv.weight @ token + module.qkv.bias for token in tokens]
    out = []
    for i in range(len(tokens)):
        parts = []
        for head in range(heads):
            at = slice(head * side, (head + 1) * side)
            q = qkv[i][:width][at]
            scores = [math.exp(q @ other[width : 2 * width][at] / math.sqrt(side)) for other in qkv]
            values = [other[2 * width :][at] for other in qkv]
            parts.append(sum(s * v for s, v in zip(scores, values, strict=True)) / sum(scores))
        out.append(module.projection.weight @ torch.cat(parts) + module.projection.bias)
    return out


@torch.no_grad()
def test_divided_attention_is_over_a_place_in_all_frames_then_over_all_places_of_a_frame():
    torch.manual_seed(0)
    block = shaken(DividedBlock(6, Make(2))).double()
    x = torch.randn(2, 6, 3, 2, 2, dtype=torch.float64)
    y = x.clone()
    for b in range(2):
        for i in range(2):
            for j in range(2):
                seen = attention_of(block.attention_t, [block.norm_t(x[b, :, t, i, j]) for t in range(3)])
                for t in range(3):
                    y[b, :, t, i, j] += block.linear_t(seen[t])
        for t in range(3):
            places = [(i, j) for i in range(2) for j in range(2)]
            seen = attention_of(block.attention, [block.norm(y[b, :, t, i, j]) for i, j in places])
            for (i, j), vector in zip(places, seen, strict=True):
                y[b, :, t, i, j] += vector
        for t in range(3):
            for i, j in places:
                y[b, :, t, i, j] += block.mlp(y[b, :, t, i, j])
    assert torch.allclose(block(x), y, atol=1e-10)


@torch.no_grad()
def test_joint_attention_is_over_all_places_of_all_frames():
    torch.manual_seed(0)
    block = shaken(JointBlock(6, Make(2))).double()
    x = torch.randn(2, 6, 2, 2, 3, dtype=torch.float64)
    y = x.clone()
    places = [(t, i, j) for t in range(2) for i in range(2) for j in range(3)]
    for b in range(2):
        seen = attention_of(block.attention, [block.norm(x[b, :, t, i, j]) for t, i, j in places])
        for (t, i, j), vector in zip(places, seen, strict=True):
            y[b, :, t, i, j] += vector
            y[b, :, t, i, j] += block.mlp(y[b, :, t, i, j])
    assert torch.allclose(block(x), y, atol=1e-10)


def after_positions(network, x_BDthw):
    """The rest of the network, on patches that have their positional encodings."""
    for stage in list(network.stages.values())[1:]:
        x_BDthw = stage(x_BDthw)
    return x_BDthw


@torch.no_grad()
def test_permuting_patches_with_their_positions_permutes_what_joint_attention_gives():
    network, clip = small("vivit"), torch.randn(1, 3, 4, 32, 32)
    x = network(clip, until="tubelets")
    order = torch.randperm(8)
    mixed = x.flatten(2)[:, :, order].unflatten(2, x.shape[2:])
    assert torch.allclose(after_positions(network, mixed).flatten(2), network(clip).flatten(2)[:, :, order], atol=1e-4)


@torch.no_grad()
def test_permuting_frames_and_places_with_their_positions_permutes_what_divided_attention_gives():
    network, clip = small("timesformer"), torch.randn(1, 3, 4, 32, 32)
    x = network(clip, until="tubelets")
    frames, places = torch.tensor([2, 0, 3, 1]), torch.tensor([3, 1, 0, 2])

    def mix(map_BDthw):
        return map_BDthw[:, :, frames].flatten(3)[..., places]

    mixed = mix(x).unflatten(3, (2, 2))
    assert torch.allclose(after_positions(network, mixed).flatten(3), mix(network(clip)), atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_permuting_patches_alone_does_more_than_permute_the_output(family):
    network, clip = small(family), torch.randn(1, 3, 4, 32, 32)
    assert not torch.allclose(respond(network, clip.flip(2)), respond(network, clip).flip(2), atol=1e-2)


def test_timesformer_starts_as_a_network_of_single_frames():
    torch.manual_seed(0)
    network = build_backbone("timesformer_tiny", depth=2, frames=4, side=32)
    clip = torch.randn(1, 3, 4, 32, 32, requires_grad=True)
    network(clip)[:, :, 1].square().sum().backward()
    assert [bool(g.abs().sum() > 0) for g in clip.grad.unbind(2)] == [False, True, False, False]


def test_vivit_looks_at_all_frames_from_the_start():
    torch.manual_seed(0)
    network = build_backbone("vivit_tiny", depth=1, frames=4, side=32)
    clip = torch.randn(1, 3, 4, 32, 32, requires_grad=True)
    network(clip)[:, :, 0].square().sum().backward()
    assert all(g.abs().sum() > 0 for g in clip.grad.unbind(2))


@pytest.mark.parametrize("family", FAMILIES)
def test_clips_of_other_sizes_than_the_positions_are_taken(family):
    network = small(family)
    t = 6 // network.strides[0]
    assert respond(network, torch.randn(1, 3, 6, 48, 64)).shape == (1, 192, t, 3, 4)


@pytest.mark.parametrize(("size", "width", "heads"), [("tiny", 192, 3), ("small", 384, 6), ("base", 768, 12)])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_sizes_are_those_of_image_transformers(family, size, width, heads):
    with torch.device("meta"):
        network = build_backbone(f"{family}_{size}")
    blocks = [stage for name, stage in network.stages.items() if name.startswith("block")]
    assert len(blocks) == 12 and network.feature_dim == width and blocks[0].attention.heads == heads


def test_smaller_tubelets_give_a_finer_map():
    with torch.device("meta"):
        network = build_backbone("vivit_tiny", tubelet="2,8,8", frames=16, side=64, depth=1).eval()
        assert network(torch.empty(1, 3, 16, 64, 64)).shape == (1, 192, 8, 8, 8) and network.strides == (2, 8, 8)


@pytest.mark.parametrize("options", [{"frames": 1}, {"side": 8}, {"tubelet": (0, 16, 16)}])
def test_options_that_make_no_network_are_answered(options):
    with torch.device("meta"), pytest.raises(UserError, match="tubelet"):
        build_backbone("vivit_tiny", **options)


@torch.no_grad()
def test_all_tokens_together_are_the_map():
    network, clip = small("vivit"), torch.randn(2, 3, 4, 48, 32)
    tokens = network.network.blocks(network.network.embed(clip))
    assert tokens.grid == (2, 3, 2) and torch.equal(tokens.map_BDthw(), network(clip))


@torch.no_grad()
def test_kept_tokens_are_those_rows_of_all_with_positions_interpolated_to_the_clip():
    network, clip = small("vivit").network, torch.randn(2, 3, 8, 64, 32)
    keep = torch.tensor([[3, 0, 11], [7, 2, 5]])
    every, kept = network.embed(clip), network.embed(clip, keep)
    assert torch.equal(kept.ids_BN, keep) and kept.grid == every.grid == (4, 4, 2)
    for b in range(2):
        assert torch.allclose(kept.x_BND[b], every.x_BND[b, keep[b]], atol=1e-5)


def test_only_kept_tubelets_are_projected():
    network, seen = small("vivit").network, []
    network[0][0].projection.register_forward_hook(lambda _m, x, _y: seen.append(x[0].shape[1]))
    network.embed(torch.randn(1, 3, 4, 32, 32), torch.tensor([[1, 6]]))
    assert seen == [2]


@torch.no_grad()
def test_the_order_of_tokens_does_not_matter():
    network, clip = small("vivit").network, torch.randn(1, 3, 4, 32, 32)
    keep, order = torch.tensor([[0, 2, 3, 7]]), torch.tensor([2, 0, 3, 1])
    one, other = (network.blocks(network.embed(clip, ids)) for ids in (keep, keep[:, order]))
    assert torch.allclose(one.x_BND[:, order], other.x_BND, atol=1e-4)


@torch.no_grad()
def test_tokens_that_were_left_out_are_not_attended_to():
    network, clip = small("vivit").network, torch.randn(1, 3, 4, 32, 32)
    changed = clip.clone()
    changed[:, :, 2:] += 1  # the tubelets 4 to 7
    few = [network.blocks(network.embed(c, torch.tensor([[0, 1, 3]]))).x_BND for c in (clip, changed)]
    assert torch.equal(*few)


def test_gradients_of_kept_tokens_reach_every_weight_and_no_other_pixel():
    network = small("vivit").network.train()
    clip = torch.randn(1, 3, 4, 32, 32, requires_grad=True)
    network.blocks(network.embed(clip, torch.tensor([[0, 5]]))).x_BND.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    reached = network[0][0].cut(clip.grad).flatten(1, 3).any(2)[0]
    assert reached.nonzero().flatten().tolist() == [0, 5]


def test_divided_attention_reads_whole_clips_only():
    assert isinstance(small("vivit").network, TokenNetwork)
    assert not isinstance(small("timesformer").network, TokenNetwork)


def test_a_class_token_has_no_cell_in_the_map():
    x_BND = torch.arange(5.0).reshape(1, 5, 1)
    tokens = Tokens(x_BND, torch.tensor([[-1, 2, 0, 3, 1]]), (1, 2, 2))
    assert tokens.map_BDthw().flatten().tolist() == [2, 4, 1, 3]
