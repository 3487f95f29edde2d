"""The vision transformer whose choices are options: what it keeps, what it sees, where its tokens are."""

import math

import pytest
import torch
from torch import nn

from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.vit_blocks import DividedBlock, Make, block_causal, rotation, turned
from ssl_video.capabilities import TokenNetwork
from ssl_video.errors import UserError
from ssl_video.model import class_token

SMALL = {"width": 24, "depth": 2, "heads": 2, "frames": 4, "side": 32, "tubelet": (2, 8, 8)}  # 2 x 4 x 4 cells
KINDS = [
    {"positions": "learned"},
    {"positions": "sincos1d", "cls": True},
    {"positions": "sincos3d", "norm": "none"},
    {"positions": "rope3d", "cls": True},
    {"positions": "rope3d", "attention": "block_causal", "cls": True},
    {"positions": "learned", "attention": "block_causal"},
]
DIVIDED = [{"attention": "divided", "positions": "learned", "cls": cls} for cls in (True, False)]


def small(**options):
    """A network of two blocks with all of its weights at work."""
    torch.manual_seed(0)
    network = build_backbone("vit", **{**SMALL, **options}).eval()
    for p in network.parameters():
        nn.init.normal_(p, std=0.2)
    return network


def clips(frames=4, side=32, batch=2):
    return torch.randn(batch, 3, frames, side, side, generator=torch.Generator().manual_seed(1))


def changed(clip, start):
    """The same clip, but for its frames from ``start`` on."""
    other = clip.clone()
    other[:, :, start:] += 1
    return other


@pytest.mark.parametrize("options", KINDS)
@torch.no_grad()
def test_the_tokens_of_the_whole_clip_are_its_map_whether_or_not_all_are_named(options):
    network, clip = small(**options), clips()
    every = torch.arange(32).expand(2, -1)
    for keep in (None, every):
        tokens = network.network.blocks(network.network.embed(clip, keep))
        assert torch.equal(tokens.map_BDthw(), network(clip))


@pytest.mark.parametrize("options", KINDS)
@torch.no_grad()
def test_kept_tokens_are_those_rows_of_all_and_the_class_token_comes_first(options):
    network, clip = small(**options).network, clips(8, 48)
    keep = torch.tensor([[3, 0, 71], [7, 2, 5]])
    every, kept = network.embed(clip), network.embed(clip, keep)
    first = int(options.get("cls", False))
    assert kept.grid == every.grid == (4, 6, 6) and torch.equal(kept.ids_BN[:, first:], keep)
    assert (kept.ids_BN[:, :first] == -1).all() and torch.equal(kept.x_BND[:, :first], every.x_BND[:, :first])
    for b in range(2):
        assert torch.allclose(kept.x_BND[b, first:], every.x_BND[b, first:][keep[b]], atol=1e-5)


def test_only_kept_tubelets_are_projected():
    network, seen = small(cls=True).network, []
    network.tubelets.projection.register_forward_hook(lambda _m, x, _y: seen.append(x[0].shape[1]))
    network.embed(clips(), torch.tensor([[1, 6], [2, 3]]))
    assert seen == [2]


@pytest.mark.parametrize("options", KINDS)
@torch.no_grad()
def test_the_order_of_tokens_does_not_matter(options):
    network, clip = small(**options).network, clips()
    keep, order = torch.tensor([[0, 2, 17, 30]] * 2), torch.tensor([2, 0, 3, 1])
    one, other = (network.blocks(network.embed(clip, ids)) for ids in (keep, keep[:, order]))
    first = int(options.get("cls", False))
    assert torch.allclose(one.x_BND[:, first:][:, order], other.x_BND[:, first:], atol=1e-4)


@pytest.mark.parametrize("positions", ["learned", "rope3d"])
@torch.no_grad()
def test_with_a_causal_mask_no_cell_sees_later_rows_of_tubelets_and_the_class_token_sees_all(positions):
    network = small(positions=positions, attention="block_causal", cls=True, frames=8)
    clip = clips(8)
    for start in (2, 4, 6):
        one, other = network(clip), network(changed(clip, start))
        assert torch.equal(one[:, :, : start // 2], other[:, :, : start // 2])
        assert (one[:, :, start // 2 :] != other[:, :, start // 2 :]).any(1).all()
        assert not torch.allclose(class_token(network, clip), class_token(network, changed(clip, start)))


@torch.no_grad()
def test_with_a_causal_mask_no_cell_sees_the_class_token():
    network, clip = small(attention="block_causal", cls=True), clips()
    before = network(clip)
    network.network.cls += 1
    assert torch.equal(network(clip), before)


@torch.no_grad()
def test_kept_tokens_are_causal_by_their_place_in_the_clip():
    network, clip = small(attention="block_causal", positions="rope3d", cls=True).network, clips()
    keep = torch.tensor([[20, 3, 31, 0], [1, 16, 2, 17]])
    one, other = (network.blocks(network.embed(c, keep)) for c in (clip, changed(clip, 2)))
    early = (keep < 16).nonzero(as_tuple=True)
    assert torch.equal(one.x_BND[:, 1:][early], other.x_BND[:, 1:][early])


def test_who_sees_whom():
    mask = block_causal(torch.tensor([[-1, 5, 0, 2]]), (3, 1, 2))
    assert mask[0, 0].int().tolist() == [[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 0], [0, 0, 1, 1]]


def test_a_place_turns_pairs_of_channels_axis_by_axis_with_frequencies_one_behind_the_other_twice():
    grid, head, ids = (3, 4, 5), 14, torch.tensor([[-1, 0, 37, 59]])
    x = torch.randn(1, 2, 4, head, dtype=torch.float64)
    found = turned(x, *rotation(ids, grid, head, torch.float64))
    expected = x.clone()  # of 14 channels each axis turns four, and two stay
    for n, place in enumerate(((0, 0, 0), (0, 0, 0), (1, 3, 2), (2, 3, 4))):
        for axis in range(3):
            for i in range(4):
                at = 4 * axis + i
                angle = place[axis] / 10000 ** ((i % 2) / 2)  # [f0, f1, f0, f1] beside the pairs (0, 1), (2, 3)
                other = x[0, :, n, at + 1] * -1 if i % 2 == 0 else x[0, :, n, at - 1]
                expected[0, :, n, at] = x[0, :, n, at] * math.cos(angle) + other * math.sin(angle)
    assert torch.allclose(found, expected, atol=1e-12) and torch.equal(found[:, :, :2], x[:, :, :2])


@torch.no_grad()
def test_divided_attention_with_a_class_token_takes_it_into_every_frame_and_averages_what_it_took():
    torch.manual_seed(0)
    block = DividedBlock(6, Make(2)).double()
    for p in block.parameters():
        nn.init.normal_(p, std=0.3)
    x = torch.randn(2, 1 + 3 * 4, 6, dtype=torch.float64)
    first, cells = x[:, 0], x[:, 1:].unflatten(1, (3, 4))
    cells = cells.clone()
    for s in range(4):
        cells[:, :, s] += block.linear_t(block.attention_t(block.norm_t(cells[:, :, s])))
    took = []
    for t in range(3):
        y = block.attention(block.norm(torch.cat([first[:, None], cells[:, t]], 1)))
        cells[:, t] += y[:, 1:]
        took.append(y[:, 0])
    expected = torch.cat([(first + sum(took) / 3)[:, None], cells.flatten(1, 2)], 1)
    assert torch.allclose(block.whole(x, (3, 2, 2), 1), expected + block.mlp(expected), atol=1e-12)


@pytest.mark.parametrize("options", DIVIDED)
def test_divided_attention_reads_whole_clips_only(options):
    assert not isinstance(small(**options).network, TokenNetwork) and isinstance(small().network, TokenNetwork)


@pytest.mark.parametrize("options", [*KINDS[3:5], DIVIDED[0]])
@torch.no_grad()
def test_the_class_token_is_a_readout_of_every_kind_of_attention(options):
    network, clip = small(**options), clips()
    assert torch.equal(class_token(network, clip), network.network.tokens(clip).x_BND[:, 0])
    with pytest.raises(UserError, match="vit has no class token to read"):
        class_token(small(**{**options, "cls": False}), clip)


@pytest.mark.parametrize("options", [*KINDS, *DIVIDED])
def test_gradients_reach_every_weight_with_all_tokens(options):
    network = small(**options).train()
    found = network.network.tokens(clips())
    found.x_BND.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in network.parameters())


@pytest.mark.parametrize("options", [*KINDS, *DIVIDED])
@torch.no_grad()
def test_clips_of_other_sizes_than_the_positions_are_taken(options):
    network = small(**options)
    assert network(clips(6, 48)).shape == (2, 24, 3, 6, 6) and network(clips(2, 8)).shape == (2, 24, 1, 1, 1)


@pytest.mark.parametrize("options", KINDS)
def test_half_precision_gives_nearly_the_same(options):
    network, clip = small(**options), clips()
    with torch.no_grad():
        exact = network(clip)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(clip)
    assert torch.isfinite(rounded).all() and (rounded - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_tables_that_are_not_learned_are_no_weights():
    network = small(positions="sincos1d")
    assert not [name for name in network.state_dict() if "position" in name]
    again = build_backbone("vit", **network.provenance.options).eval()
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(again(clips()), network(clips()))


def test_a_scaled_start_makes_what_later_blocks_add_smaller():
    torch.manual_seed(0)
    plain = build_backbone("vit", depth=3).network
    torch.manual_seed(0)
    scaled = build_backbone("vit", depth=3, init="scaled").network
    for number in range(1, 4):
        for name in ("attention.projection.weight", "mlp.3.weight"):
            one, other = (net.get_parameter(f"stack.{number - 1}.{name}") for net in (plain, scaled))
            assert torch.allclose(one / math.sqrt(2 * number), other)
    assert torch.equal(plain.stack[2].attention.qkv.weight, scaled.stack[2].attention.qkv.weight)


def test_without_a_last_norm_the_last_block_is_the_map():
    network = small(norm="none")
    assert list(network.taps) == ["tubelets", "block1", "block2"]
    assert list(small().taps) == ["tubelets", "block1", "block2", "norm"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"width": 24, "heads": 5}, "multiple of its heads, not 24 of 5"),
        ({"frames": 5}, r"multiples of its tubelet \(2, 8, 8\), not 5 frames of 32 pixels"),
        ({"side": 36}, "not 4 frames of 36 pixels"),
        ({"positions": "rope3d", "heads": 8}, "6 channels a head or more, not 3"),
        ({"positions": "rope3d", "attention": "divided"}, "need attention full or block_causal"),
        ({"attention": "causal"}, "attention"),
    ],
)
def test_options_that_make_no_network_are_answered(options, reason):
    with pytest.raises(UserError, match=reason):
        build_backbone("vit", **{**SMALL, **options})
