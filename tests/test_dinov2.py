"""DINOv2 on every frame."""

import pytest
import torch
from torch import nn

from ssl_video.backbones.base import build_backbone
from ssl_video.capabilities import TokenNetwork
from ssl_video.errors import UserError
from ssl_video.model import class_token


def small(**options):
    torch.manual_seed(0)
    network = build_backbone("dinov2", width=24, heads=2, depth=2, side=56, **options).eval()
    for p in network.parameters():
        nn.init.normal_(p, std=0.2)
    return network


@pytest.mark.parametrize("registers", [0, 2])
@torch.no_grad()
def test_each_frame_is_seen_alone_at_any_size(registers):
    network, clip = small(registers=registers), torch.randn(2, 3, 3, 56, 70)
    whole = network(clip)
    assert whole.shape == (2, 24, 3, 4, 5)
    for t in range(3):
        assert torch.allclose(network(clip[:, :, t : t + 1]), whole[:, :, t : t + 1], atol=1e-5)


@pytest.mark.parametrize("registers", [0, 2])
@torch.no_grad()
def test_the_class_token_of_a_clip_is_the_mean_of_those_of_its_frames(registers):
    network, clip = small(registers=registers), torch.randn(2, 3, 3, 56, 56)
    each = [class_token(network, clip[:, :, t : t + 1]) for t in range(3)]
    assert torch.allclose(class_token(network, clip), torch.stack(each).mean(0), atol=1e-5)


@torch.no_grad()
def test_the_cells_among_the_tokens_are_the_map():
    network, clip = small(registers=3), torch.randn(2, 3, 3, 56, 56)
    tokens = network.network.tokens(clip)
    assert torch.equal(tokens.map_BDthw(), network(clip)) and (tokens.ids_BN == -1).sum(1).tolist() == [3, 3]


def test_its_tokens_are_not_left_out():
    assert not isinstance(small().network, TokenNetwork)


def test_what_blocks_add_starts_small():
    network = build_backbone("dinov2", width=24, heads=2, depth=2).eval()
    with torch.no_grad():
        clip = torch.randn(1, 3, 1, 28, 28)
        first, last = network(clip, until="tubelets"), network(clip, until="block2")
    assert 0 < (last - first).abs().max() < 1e-3


def test_a_patch_larger_than_the_frame_is_refused():
    with pytest.raises(UserError, match="side of dinov2 must be at least its patch of 14 pixels, not 13"):
        build_backbone("dinov2", side=13)
