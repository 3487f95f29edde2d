"""VideoMAE: which patches are hidden, what is painted, and that a slow computation of the targets agrees."""

import numpy as np
import pytest
import torch

from ssl_video.backbones.base import build_backbone
from ssl_video.errors import UserError
from ssl_video.pretexts.base import Context, Pretext, Progress, Sample, build_pretext
from ssl_video.pretexts.tokens import pixels_of
from ssl_video.pretexts.videomae import draw_scaled, nearest, targets
from tests.nets import tiny_backbone, video_set

OPTIONS = {"frames": 4, "stride": 1, "short_side": 36, "size": 32, "mask": 0.75, "decoder_width": 12}
OPTIONS |= {"decoder_heads": 2, "decoder_depth": 1}


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
