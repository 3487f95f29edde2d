"""VideoMAE: which patches are hidden, what is painted, and that a slow computation of the targets agrees."""

import math

import numpy as np
import pytest
import torch

from ssl_video.backbones.base import build_backbone
from ssl_video.errors import UserError
from ssl_video.pretexts.base import Context, Pretext, Progress, Sample, build_pretext
from ssl_video.pretexts.tokens import blocks, of_ids, pixels_of
from ssl_video.pretexts.videomae import VideoMAE, draw_scaled, nearest, targets
from tests.filled import filled
from tests.nets import tiny_backbone, video_set

OPTIONS = {"frames": 4, "stride": 1, "short_side": 36, "size": 32, "mask": 0.75, "decoder_width": 12}
OPTIONS |= {"decoder_heads": 2, "decoder_depth": 1}

LAST = 1e-5 + (6e-4 - 1e-5) * (1 + math.cos(math.pi * 2224 / 2227)) / 2
PAPER = ("AdamW", 0.9, 0.05, False, 1024, 1, {40: 6e-4, 799: LAST})
"""The optimiser of the authors' code, for ``test_papers``: 40 of 800 epochs of warm-up, then a cosine to 0.00001."""


def network():
    torch.manual_seed(0)
    return build_backbone("vivit_tiny", frames=4, side=32, tubelet=(2, 8, 8), depth=1)


def make(**options) -> Pretext:
    return build_pretext("videomae", network(), OPTIONS | options)


def context(seed: int = 0, **more) -> Context:
    return Context(Progress(0, 10), torch.Generator().manual_seed(seed), **more)


def batch(B: int = 3) -> dict[str, torch.Tensor]:
    return {"clip_THWC": torch.randint(0, 256, (B, 4, 32, 32, 3), generator=torch.Generator().manual_seed(1)).byte()}


def test_a_tube_hides_the_same_places_in_every_row_and_exactly_as_many_as_asked():
    kept_BK, hidden_BM = make().masks(5, context())
    assert kept_BK.shape == (5, 2 * 4) and hidden_BM.shape == (5, 2 * 12)
    places_B2K = (kept_BK % 16).unflatten(1, (2, 4))
    assert torch.equal(places_B2K[:, 0], places_B2K[:, 1])
    assert all(sorted(torch.cat(pair).tolist()) == list(range(32)) for pair in zip(kept_BK, hidden_BM, strict=True))
    assert len({tuple(row) for row in places_B2K[:, 0].tolist()}) > 1  # each clip has places of its own


def test_patches_are_hidden_anywhere_but_as_many_in_every_row():
    kept_BK, _ = make(masking="patches").masks(5, context())
    rows_B2K = (kept_BK % 16).unflatten(1, (2, 4))
    assert ((kept_BK // 16).unflatten(1, (2, 4)) == torch.tensor([[0], [1]])).all()
    assert not torch.equal(rows_B2K[:, 0], rows_B2K[:, 1])


def test_two_ranks_hide_what_one_hides():
    whole_BK, _ = make().masks(4, context())
    halves = [make().masks(2, context(rank=rank, world_size=2))[0] for rank in (0, 1)]
    assert torch.equal(whole_BK, torch.cat(halves))


def test_the_decoder_paints_a_share_of_what_is_hidden():
    kept_BK, hidden_BM = make(decoded=0.5).masks(3, context())
    assert hidden_BM.shape == (3, 12) and not set(hidden_BM[0].tolist()) & set(kept_BK[0].tolist())


@pytest.mark.parametrize("normalised", [True, False])
def test_the_loss_is_that_of_a_slow_computation_of_the_targets(normalised):
    pretext = make(normalised=normalised).double().eval()
    clip = batch()["clip_THWC"]
    painted = []
    with torch.no_grad(), pretext.paint.register_forward_hook(lambda *a: painted.append(a[2])):
        output = pretext({"clip_THWC": clip}, context())
    _, hidden_BM = pretext.masks(3, context())
    errors = []
    for b, ids in enumerate(hidden_BM.tolist()):
        for m, number in enumerate(ids):
            t, y, x = number // 16 * 2, number % 16 // 4 * 8, number % 4 * 8
            cube = clip[b, t : t + 2, y : y + 8, x : x + 8].numpy() / 255.0
            if normalised:
                flat = cube.reshape(-1, 3)
                cube = ((flat - flat.mean(0)) / (flat.std(0, ddof=1) + 1e-6)).reshape(cube.shape)
            errors.append((cube.ravel() - painted[0][b, m].numpy()) ** 2)
    assert output.loss.item() == pytest.approx(np.mean(errors), rel=1e-6)


SHAPES = {
    "decoder.head.bias": (1536,), "decoder.head.weight": (1536, 32), "decoder.norm.bias": (32,),
    "decoder.norm.weight": (32,), "encoder_to_decoder.weight": (32, 48), "mask_token": (32,),
    "videomae.embeddings.patch_embeddings.projection.bias": (48,),
    "videomae.embeddings.patch_embeddings.projection.weight": (48, 3 * 2 * 16 * 16),
    "videomae.layernorm.bias": (48,), "videomae.layernorm.weight": (48,),
}  # fmt: skip
"""Of the published network, but for its blocks."""
BLOCK = {
    "attention.attention.key.weight": (1, 1), "attention.attention.query.bias": (1,),
    "attention.attention.query.weight": (1, 1), "attention.attention.value.bias": (1,),
    "attention.attention.value.weight": (1, 1), "attention.output.dense.bias": (1,),
    "attention.output.dense.weight": (1, 1), "intermediate.dense.bias": (2,), "intermediate.dense.weight": (2, 1),
    "layernorm_after.bias": (1,), "layernorm_after.weight": (1,), "layernorm_before.bias": (1,),
    "layernorm_before.weight": (1,), "output.dense.bias": (1,), "output.dense.weight": (1, 2),
}  # fmt: skip
"""Of each block, in widths."""


def block_weights(theirs: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """The weights of a published block under our names; its keys have no bias."""
    own = {key.removeprefix(f"{name}."): value for key, value in theirs.items() if key.startswith(f"{name}.")}
    qkv = [own[f"attention.attention.{kind}.weight"] for kind in ("query", "key", "value")]
    q_bias, v_bias = (own[f"attention.attention.{kind}.bias"] for kind in ("query", "value"))
    renamed = {"attention.qkv.weight": torch.cat(qkv)}
    renamed["attention.qkv.bias"] = torch.cat([q_bias, torch.zeros_like(q_bias), v_bias])
    pairs = {"layernorm_before": "norm", "attention.output.dense": "attention.projection", "layernorm_after": "mlp.0"}
    pairs |= {"intermediate.dense": "mlp.1", "output.dense": "mlp.3"}
    return renamed | {
        f"{ours}.{kind}": own[f"{their}.{kind}"] for their, ours in pairs.items() for kind in ("weight", "bias")
    }


def load_published(pretext: VideoMAE) -> None:
    """Fill the published network by its names, and give its weights to ours."""
    widths = {"videomae.encoder.layer.0": 48, "videomae.encoder.layer.1": 48, "decoder.decoder_layers.0": 32}
    shapes = SHAPES | {
        f"{name}.{key}": tuple(width * n for n in shape)
        for name, width in widths.items()
        for key, shape in BLOCK.items()
    }
    theirs = filled(shapes)
    network = {"tubelets.projection": "videomae.embeddings.patch_embeddings.projection", "norm": "videomae.layernorm"}
    kinds = ("weight", "bias")
    own = {f"{ours}.{kind}": theirs[f"{their}.{kind}"] for ours, their in network.items() for kind in kinds}
    for n in (0, 1):
        own |= {f"stack.{n}.{k}": v for k, v in block_weights(theirs, f"videomae.encoder.layer.{n}").items()}
    pretext.backbone.network.load_state_dict(own)
    pretext.decoder.load_state_dict(
        {f"block1.{k}": v for k, v in block_weights(theirs, "decoder.decoder_layers.0").items()}
        | {f"norm.{kind}": theirs[f"decoder.norm.{kind}"] for kind in kinds}
    )
    pretext.paint.load_state_dict({kind: theirs[f"decoder.head.{kind}"] for kind in kinds})
    pretext.to_decoder.load_state_dict({"weight": theirs["encoder_to_decoder.weight"]})
    with torch.no_grad():
        pretext.mask_token_D.copy_(theirs["mask_token"])


@pytest.mark.parametrize(("normalised", "loss"), [(True, 1.0171398837221375), (False, 0.24729684302249497)])
def test_the_loss_is_that_of_the_published_code(normalised, loss):
    """Of transformers' VideoMAEForPreTraining with the last norm's epsilon of the authors."""
    options = {"width": 48, "depth": 2, "heads": 3, "mlp_ratio": 2.0, "frames": 8, "tubelet": (2, 16, 16)}
    backbone = build_backbone("vit", positions="sincos1d", **options)
    more = {"frames": 8, "size": 64, "short_side": 64, "decoder_width": 32, "normalised": normalised, "mask": 0.875}
    pretext = build_pretext("videomae", backbone, OPTIONS | more)
    assert isinstance(pretext, VideoMAE)
    pretext.decoder = blocks(32, 2, 1, mlp_ratio=2.0)
    pretext.double().eval()
    load_published(pretext)
    clip_BTCHW = torch.sin(0.37 * torch.arange(2 * 8 * 3 * 64 * 64, dtype=torch.float64)).view(2, 8, 3, 64, 64)
    mean_3, std_3 = (torch.tensor(x, dtype=torch.float64) for x in (backbone.clip.mean, backbone.clip.std))
    places = torch.tensor([[3, 12], [0, 9]])
    kept_BK = (torch.arange(4)[:, None] * 16 + places[:, None]).flatten(1)
    hidden_BM = torch.tensor([[n for n in range(64) if n not in kept] for kept in kept_BK.tolist()])
    with torch.no_grad():
        seen_BKD = pretext.tokens.blocks(pretext.tokens.embed(clip_BTCHW.transpose(1, 2), kept_BK)).x_BND
        painted_BMP = pretext._paint(seen_BKD, kept_BK, hidden_BM)
        pixels_BTHWC = 255 * (clip_BTCHW.movedim(2, -1) * std_3 + mean_3)
        wanted_BMP = of_ids(targets(pixels_of(pixels_BTHWC, (2, 16, 16)), normalised), hidden_BM)
    assert (painted_BMP - wanted_BMP).square().mean().item() == pytest.approx(loss, abs=1e-8)


def test_painting_nothing_costs_what_the_metric_calls_one():
    clip = batch()["clip_THWC"]
    target_BNP = targets(pixels_of(clip, (2, 8, 8)), True)
    assert target_BNP.square().mean().item() == pytest.approx(1 - 1 / 128, rel=1e-4)  # 128 pixels, variance of 127
    pretext = make()
    torch.nn.init.zeros_(pretext.paint.weight)
    output = pretext(batch(), context())
    assert output.metrics["relative"].item() == pytest.approx(1, abs=1e-6)


def test_flat_patches_have_targets_of_zero_and_no_infinite_number():
    assert targets(torch.full((1, 4, 128, 3), 0.5), True).abs().max() == 0


def test_what_is_copied_is_the_nearest_patch_that_is_seen():
    kept_BK, hidden_BM = torch.tensor([[0, 15]]), torch.tensor([[1, 14, 5]])
    assert nearest(kept_BK, hidden_BM, (1, 4, 4)).tolist() == [[0, 15, 0]]


def test_only_what_is_kept_passes_the_network():
    pretext, seen = make().eval(), []
    pretext.backbone.stages["block1"].norm.register_forward_hook(lambda _m, args, _y: seen.append(args[0].shape))
    pretext(batch(), context())
    assert seen == [(3, 8, pretext.backbone.feature_dim)]


def test_crops_are_of_the_listed_scales_and_hardly_stretched():
    rng, sizes = np.random.default_rng(0), set()
    for _ in range(300):
        top, left, height, width = draw_scaled((60, 80), (1.0, 0.875, 0.75, 0.66), rng)
        assert 0 <= top <= 60 - height and 0 <= left <= 80 - width
        sizes.add((height, width))
    sides = [60, 52, 45, 39]
    assert sizes == {(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1}


def test_a_sample_is_a_clip_of_the_stride():
    pretext = make(stride=3)
    sample = pretext.sample(video_set(1).videos[0], {}, np.random.default_rng(0))
    assert isinstance(sample, Sample) and np.diff(sample.frames).tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mask": 1.0}, "--pretext.mask 1 leaves 0 of 16"),
        ({"mask": 0.01}, "--pretext.mask 0.01 leaves 16 of 16"),
        ({"size": 30}, "do not fill clips"),
        ({"frames": 5}, "do not fill clips"),
        ({"decoder_heads": 5}, "cannot have 5 heads"),
        ({"size": 64}, "does not fit into frames of 36"),
    ],
)
def test_what_cannot_be_is_one_sentence(options, words):
    with pytest.raises(UserError, match=words):
        make(**options)


def test_a_network_without_tokens_is_refused():
    with pytest.raises(UserError, match="reads any choice of a clip's patches, which tiny does not; choose"):
        build_pretext("videomae", tiny_backbone(), OPTIONS)
