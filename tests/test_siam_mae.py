"""SiamMAE: pairs of frames or of crops, what is hidden, and that the first frame is what helps."""

import math

import numpy as np
import pytest
import torch

from ssl_video.backbones.base import build_backbone
from ssl_video.backbones.positions import sincos_2d
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import Context, Pretext, Progress, Sample, Skip, build_pretext
from ssl_video.pretexts.siam_mae import SiamMAE, targets
from ssl_video.pretexts.tokens import of_ids, pixels_of
from ssl_video.video.info import VideoInfo
from tests.filled import filled
from tests.nets import tiny_backbone

OPTIONS = {"short_side": 36, "size": 32, "mask": 0.9, "decoder_width": 16, "decoder_heads": 2, "decoder_depth": 1}
OPTIONS |= {"decoder_hidden": 16, "dropout": 0.0}

PAPER = (
    "AdamW",
    0.9,
    0.05,
    False,
    2048,
    1,
    {n: 4e-4 * (1 + math.cos(math.pi * at / 557)) for n, at in ((20, 1), (399, 556))},
)
"""The optimiser of the authors' code, for ``test_papers``: 20 of 400 epochs of warm-up, then a cosine to 0."""


def make(**options) -> Pretext:
    torch.manual_seed(0)
    network = build_backbone("vivit_tiny", frames=1, side=32, tubelet=(1, 8, 8), depth=1)
    return build_pretext("siam_mae", network, OPTIONS | options)


def context(seed: int = 0, **more) -> Context:
    return Context(Progress(0, 10), torch.Generator().manual_seed(seed), **more)


def batch(B: int = 3) -> dict[str, torch.Tensor]:
    return {"pair_2HWC": torch.randint(0, 256, (B, 2, 32, 32, 3), generator=torch.Generator().manual_seed(1)).byte()}


def video(frames: int, fps: float = 25.0) -> Video:
    return Video("v.mp4", info=VideoInfo(frames, fps, 36, 36, frames / fps, "h264"))


def test_gaps_are_of_seconds_and_of_all_lengths_in_their_range():
    pretext, gaps = make(), set()
    for seed in range(600):
        sample = pretext.sample(video(100, 20.0), {}, np.random.default_rng(seed))
        assert isinstance(sample, Sample) and 0 <= sample.frames[0] < sample.frames[1] < 100
        gaps.add(sample.frames[1] - sample.frames[0])
    assert gaps == set(range(3, 33))  # 0.13 to 1.6 seconds at 20 a second


def test_a_short_video_has_shorter_gaps_and_one_of_less_than_the_least_is_left_out():
    pretext = make()
    assert {pretext.sample(video(6), {}, np.random.default_rng(s)).frames for s in range(60)} >= {(0, 5), (2, 5)}
    assert isinstance(pretext.sample(video(3), {}, np.random.default_rng(0)), Skip)
    assert pretext.least_frames(np.array([25.0])).tolist() == [4]


def test_both_frames_have_one_crop():
    pretext = make()
    ramp = np.broadcast_to((np.arange(36) * 7)[None, None, :, None], (2, 36, 36, 3)).astype(np.uint8)
    pair = pretext.transform(ramp, Sample((0, 4)), np.random.default_rng(0))["pair_2HWC"]
    assert pair.shape == (2, 32, 32, 3) and np.array_equal(pair[0], pair[1])


def test_of_two_crops_the_second_lies_in_the_first_of_the_same_frame():
    pretext = make(pair="crops", mask=0.985)
    sample = pretext.sample(video(1), {}, np.random.default_rng(0))
    assert sample == Sample((0, 0)) and pretext.least_frames(np.array([25.0])).tolist() == [1]
    ramp = np.broadcast_to((np.arange(36) * 7)[None, None, :, None], (2, 36, 36, 3)).astype(np.uint8)
    for seed in range(20):
        first, second = pretext.transform(ramp, sample, np.random.default_rng(seed))["pair_2HWC"]
        assert first.min() <= second.min() + 1 and second.max() <= first.max() + 1
        assert np.ptp(second) < np.ptp(first)


def test_at_least_one_patch_of_the_second_frame_is_seen_and_all_of_the_first():
    pretext, seen = make(mask=0.99), []
    pretext.backbone.stages["block1"].norm.register_forward_hook(lambda _m, args, _y: seen.append(args[0].shape[1]))
    pretext(batch(), context())
    assert seen == [16, 1]


def test_the_targets_are_those_of_a_slow_computation():
    pixels_BNP = torch.rand(2, 3, 12, generator=torch.Generator().manual_seed(0)).double()
    for b, n in np.ndindex(2, 3):
        patch = pixels_BNP[b, n].numpy()
        expected = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
        np.testing.assert_allclose(targets(pixels_BNP, True)[b, n].numpy(), expected)
    assert torch.equal(targets(pixels_BNP, False), pixels_BNP)


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Of CropMAE's SiameseMAE, 48 channels, patches of 8 and a decoder of 32; its positions are its own."""
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (48,), "mask_token": (32,), "pos_embed": (17, 48)}
    shapes |= {"decoder_pos_embed": (17, 32)}

    def layer(name: str, out: int, into: int) -> None:
        shapes.update({f"{name}.weight": (out, into), f"{name}.bias": (out,)})

    def scale(name: str, width: int) -> None:
        shapes.update({f"{name}.weight": (width,), f"{name}.bias": (width,)})

    layer("patch_embed.proj", 48, 3 * 8 * 8)
    layer("decoder_embed", 32, 48)
    layer("decoder_pred", 192, 32)
    scale("norm", 48)
    scale("decoder_norm", 32)
    for n in (0, 1):
        layer(f"blocks.{n}.attn.qkv", 144, 48)
        layer(f"blocks.{n}.attn.proj", 48, 48)
        layer(f"blocks.{n}.mlp.fc1", 192, 48)
        layer(f"blocks.{n}.mlp.fc2", 48, 192)
        block = f"decoder_blocks.{n}"
        for kind in ("self_attn", "multihead_attn"):
            shapes |= {f"{block}.{kind}.in_proj_weight": (96, 32), f"{block}.{kind}.in_proj_bias": (96,)}
            layer(f"{block}.{kind}.out_proj", 32, 32)
        layer(f"{block}.linear1", 2048, 32)
        layer(f"{block}.linear2", 32, 2048)
        for number in (1, 2):
            scale(f"blocks.{n}.norm{number}", 48)
        for number in (1, 2, 3):
            scale(f"{block}.norm{number}", 32)
    return shapes


def load_published(pretext: SiamMAE) -> None:
    theirs = filled(published_shapes())

    def renamed(pairs: dict[str, str]) -> dict[str, torch.Tensor]:
        return {
            f"{our}.{kind}": theirs[f"{their}.{kind}"] for our, their in pairs.items() for kind in ("weight", "bias")
        }

    names = {"tubelets.projection": "patch_embed.proj", "norm": "norm"}
    for n in (0, 1):
        ours = {"norm": "norm1", "attention.qkv": "attn.qkv", "attention.projection": "attn.proj", "mlp.0": "norm2"}
        ours |= {"mlp.1": "mlp.fc1", "mlp.3": "mlp.fc2"}
        names |= {f"stack.{n}.{our}": f"blocks.{n}.{their}" for our, their in ours.items()}
    table_1Dthw = sincos_2d((4, 4), 48).T.reshape(1, 48, 1, 4, 4)
    own = renamed(names) | {"cls": theirs["cls_token"].view(1, 1, 48), "positions.tables.0": table_1Dthw}
    pretext.backbone.network.load_state_dict(own)
    pretext.to_decoder.load_state_dict({k: theirs[f"decoder_embed.{k}"] for k in ("weight", "bias")})
    pretext.paint.load_state_dict({k: theirs[f"decoder_pred.{k}"] for k in ("weight", "bias")})
    pretext.norm.load_state_dict({k: theirs[f"decoder_norm.{k}"] for k in ("weight", "bias")})
    for n, block in enumerate(pretext.decoder):
        name, own = f"decoder_blocks.{n}", {}
        for our, their in {"cross": "multihead_attn", "own": "self_attn"}.items():
            keys = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
            own |= {f"{our}.{key}": theirs[f"{name}.{their}.{key}"] for key in keys}
        own |= renamed({"mlp.0": f"{name}.linear1", "mlp.3": f"{name}.linear2"})
        own |= renamed({f"norms.{number}": f"{name}.norm{their}" for number, their in enumerate((2, 3, 1))})
        block.load_state_dict(own)
    with torch.no_grad():
        pretext.mask_token_E.copy_(theirs["mask_token"])


def test_the_loss_is_that_of_the_published_code():
    size = {"width": 48, "depth": 2, "heads": 3, "frames": 1, "side": 32, "tubelet": (1, 8, 8)}
    backbone = build_backbone("vit", positions="learned", cls=True, **size)
    more = {
        "size": 32,
        "decoder_width": 32,
        "decoder_heads": 4,
        "decoder_depth": 2,
        "decoder_hidden": 2048,
        "mask": 0.93,
    }
    pretext = build_pretext("siam_mae", backbone, OPTIONS | more)
    assert isinstance(pretext, SiamMAE)
    pretext.double().eval()
    load_published(pretext)
    pretext.positions_SE.copy_(sincos_2d((4, 4), 32))
    pictures_B2CHW = torch.sin(0.37 * torch.arange(2 * 2 * 3 * 32 * 32, dtype=torch.float64)).view(2, 2, 3, 32, 32)
    kept_BK = torch.tensor([[5], [10]])
    hidden_BM = torch.tensor([[n for n in range(16) if n != kept] for kept in (5, 10)])
    with torch.no_grad():
        first, second = (pretext.tokens.blocks(pretext.tokens.embed(pictures_B2CHW[:, n, :, None], keep)).x_BND
                         for n, keep in ((0, None), (1, kept_BK)))  # fmt: skip
        painted_BMP = pretext._paint(first, second, kept_BK, hidden_BM)
        pixels_BNP = pixels_of(255 * pictures_B2CHW[:, 1:].movedim(2, -1), (1, 8, 8)).flatten(2)
        wanted_BMP = of_ids(targets(pixels_BNP, True), hidden_BM)
    assert (painted_BMP - wanted_BMP).square().mean().item() == pytest.approx(1.0484031587143094, abs=1e-9)


def test_the_loss_depends_on_the_first_frame_unless_it_is_kept_from_the_decoder():
    changed = {"pair_2HWC": batch()["pair_2HWC"].clone()}
    changed["pair_2HWC"][:, 0] = 255 - changed["pair_2HWC"][:, 0]
    for reference in (True, False):
        pretext = make(reference=reference).eval()
        before, after = (pretext(b, context()).loss.item() for b in (batch(), changed))
        assert (before != after) == reference


def test_two_ranks_hide_what_one_hides():
    pretext = make().eval()
    whole = pretext(batch(4), context()).loss.item()
    halves = [
        pretext({"pair_2HWC": half}, context(rank=rank, world_size=2)).loss.item()
        for rank, half in enumerate(batch(4)["pair_2HWC"].chunk(2))
    ]
    assert np.mean(halves) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mask": 0.01}, r"--pretext.mask 0.01 leaves 16 of 16"),
        ({"size": 30}, "do not fill clips"),
        ({"decoder_heads": 3}, "cannot have 3 heads"),
        ({"gap_s": (2.0, 1.0)}, "runs from 2 to 1"),
    ],
)
def test_what_cannot_be_is_one_sentence(options, words):
    with pytest.raises(UserError, match=words):
        make(**options)


def test_a_network_without_tokens_or_of_more_frames_is_refused():
    with pytest.raises(UserError, match="reads any choice of a clip's patches"):
        build_pretext("siam_mae", tiny_backbone(), OPTIONS)
    with pytest.raises(UserError, match="needs a temporal stride of at most 1"):
        build_pretext("siam_mae", build_backbone("vivit_tiny", frames=4, side=32, tubelet=(2, 8, 8), depth=1), OPTIONS)
