import math

import numpy as np
import pytest
import torch

from ssl_video.backbones.base import build_backbone
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import Context, Progress, Sample, Skip, build_pretext
from ssl_video.pretexts.dense_predictive_coding import EASY, POSITIVE, SPATIAL, TEMPORAL, contrast, kinds
from ssl_video.video import augment
from ssl_video.video.info import VideoInfo
from tests.nets import drawn_frames, tiny_backbone, video_set

OPTIONS = {"blocks": 4, "frames": 3, "stride": 2, "predict": 2, "short_side": 10, "crop": 8}


def make(**options):
    torch.manual_seed(2)
    return build_pretext("dense_predictive_coding", tiny_backbone(), OPTIONS | options)


def video_of(frames: int) -> Video:
    return Video("v.mp4", info=VideoInfo(frames, 25.0, 12, 12, frames / 25, "h264"))


def batch_of(pretext, count=3):
    clips = []
    for i, video in enumerate(video_set(count).videos):
        rng = np.random.default_rng([0, i])
        sample = pretext.sample(video, {}, rng)
        clips.append(pretext.transform(drawn_frames(video, sample.frames), sample, rng)["clip_THWC"])
    return {"clip_THWC": torch.stack([torch.as_tensor(c) for c in clips])}


def context(seed=0, rank=0, world_size=1):
    return Context(Progress(0, 1), torch.Generator().manual_seed(seed), rank, world_size)


def test_predictor_and_aggregator_begin_with_orthogonal_weights_and_without_bias():
    pretext = make()
    layers = [m for part in (pretext.phi, pretext.aggregate) for m in part.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(layers) == 5
    for layer in layers:
        rows = layer.weight.detach().double().flatten(1).tolist()
        for a, one in enumerate(rows):
            for b, other in enumerate(rows):
                assert sum(x * y for x, y in zip(one, other, strict=True)) == pytest.approx(float(a == b), abs=1e-5)
        assert layer.bias is not None and not layer.bias.any()


def test_the_blocks_are_evenly_spaced_frames_without_a_gap_between_blocks():
    sample = make().sample(video_of(40), {}, np.random.default_rng(1))
    assert isinstance(sample, Sample)
    assert len(sample.frames) == 12 and set(np.diff(sample.frames)) == {2}
    assert sample.frames[0] >= 0 and sample.frames[-1] < 40


def test_the_published_clip_spans_118_frames_and_shorter_videos_are_skipped_with_the_reason():
    pretext = build_pretext("dense_predictive_coding", tiny_backbone(), {})
    assert isinstance(pretext.sample(video_of(118), {}, np.random.default_rng(0)), Sample)
    outcome = pretext.sample(video_of(117), {}, np.random.default_rng(0))
    assert isinstance(outcome, Skip) and "118 frames" in outcome.reason


def test_all_blocks_have_one_crop_and_one_flip():
    pretext = make()
    picture_HWC = np.random.default_rng(0).integers(0, 256, (10, 14, 3), dtype=np.uint8)
    seen = set()
    for seed in range(8):
        sample = Sample(tuple(range(12)))
        clip = pretext.transform(np.repeat(picture_HWC[None], 12, 0), sample, np.random.default_rng(seed))["clip_THWC"]
        assert clip.shape == (12, 8, 8, 3) and (clip == clip[0]).all()
        seen.add(clip[0].tobytes())
    assert len(seen) > 4


def test_colours_change_from_frame_to_frame_and_gray_frames_have_equal_channels():
    pretext = make(colour=0.0, gray=0.5)
    clip = torch.randint(0, 256, (2, 1, 8, 8, 3), generator=torch.Generator().manual_seed(0)).repeat(1, 12, 1, 1, 1)
    blocks_BNCTHW = pretext._blocks(clip.byte(), context(3)).unflatten(0, (2, 4))
    frames_NCHW = blocks_BNCTHW.permute(0, 1, 3, 2, 4, 5).flatten(0, 2)
    gray = torch.isclose(frames_NCHW, frames_NCHW[:, :1], atol=1e-5).flatten(1).all(1)
    assert 4 < gray.sum() < 20
    assert len({tuple(map(bool, row)) for row in gray.reshape(2, 12)}) == 2
    assert torch.equal(frames_NCHW[~gray][0], frames_NCHW[~gray][1])
    changed = make(colour=0.2, gray=0.0)._blocks(clip.byte(), context(3))
    assert not torch.isclose(changed[0, :, 0], changed[0, :, 1], atol=1e-2).all()


def test_at_test_no_colour_changes():
    pretext = make(gray=1.0).eval()
    batch = batch_of(pretext)
    blocks_NCTHW = pretext._blocks(batch["clip_THWC"], context())
    expected = augment.to_float(batch["clip_THWC"][:1, 3:6], pretext.backbone.clip.mean, pretext.backbone.clip.std)
    assert torch.allclose(blocks_NCTHW[1], expected[0], atol=1e-6)


def test_the_loss_is_that_of_the_obvious_loop_over_videos_steps_and_places():
    rng = torch.Generator().manual_seed(0)
    B, P, S, D = 3, 2, 4, 5
    predicted, targets = (torch.randn(B, P, S, D, generator=rng, dtype=torch.float64) for _ in range(2))
    total, right = 0.0, 0
    for b in range(B):
        for p in range(P):
            for s in range(S):
                scores = {
                    (a, q, r): (predicted[b, p, s] @ targets[a, q, r]).item()
                    for a in range(B)
                    for q in range(P)
                    for r in range(S)
                }
                total -= math.log(math.exp(scores[b, p, s]) / sum(math.exp(x) for x in scores.values()))
                right += max(scores, key=lambda k: scores[k]) == (b, p, s)
    loss, chosen = contrast(predicted, targets, 0)
    assert loss.item() == pytest.approx(total / (B * P * S), rel=1e-12)
    assert (chosen == POSITIVE).sum() == right


def test_a_perfect_prediction_is_right_everywhere():
    targets = torch.randn(2, 3, 4, 64, generator=torch.Generator().manual_seed(0))
    targets = torch.nn.functional.normalize(targets, dim=3)
    loss, chosen = contrast(100 * targets, targets, 0)
    assert loss < 0.01 and (chosen == POSITIVE).all()


def test_candidates_are_positive_or_of_another_time_place_or_video():
    B, P, S = 2, 3, 4
    numbers = torch.arange(B * P * S)
    found = kinds(numbers[:, None], numbers, P, S)
    where = [(b, p, s) for b in range(B) for p in range(P) for s in range(S)]
    for i, (b, p, s) in enumerate(where):
        for j, (a, q, r) in enumerate(where):
            expected = EASY if a != b else SPATIAL if r != s else TEMPORAL if q != p else POSITIVE
            assert found[i, j] == expected
    counts = [(found == k).sum().item() // len(numbers) for k in (POSITIVE, TEMPORAL, SPATIAL, EASY)]
    assert counts == [1, P - 1, P * (S - 1), (B - 1) * P * S]


def test_the_context_sees_rectified_features_and_the_targets_are_not_rectified():
    """The whole forward pass, block by block and place by place, in float64."""
    pretext = make(dropout=0.5)
    pretext.backbone.stages["stem"][2] = torch.nn.Identity()  # a network without a ReLU at its end, as the paper's
    pretext.double().eval()
    batch = batch_of(pretext, 2)
    output = pretext(batch, context())
    g, (first, _, second) = pretext.aggregate, pretext.phi
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in (pretext.backbone.clip.mean, pretext.backbone.clip.std))

    def matrix(conv):
        return conv.weight[:, :, 0, 0], conv.bias

    def affine(conv, x):
        weight, bias = matrix(conv)
        return weight @ x + bias

    def step(x, state):
        z, r = (torch.sigmoid(affine(conv, torch.cat([x, state]))) for conv in (g.update, g.reset))
        return (1 - z) * state + z * torch.tanh(affine(g.candidate, torch.cat([x, r * state])))

    predicted, targets = torch.zeros(2, 2, 16, 8, dtype=torch.float64), torch.zeros(2, 2, 16, 8, dtype=torch.float64)
    for b, clip in enumerate(batch["clip_THWC"]):
        maps = []
        for n in range(4):
            x = ((clip[3 * n : 3 * n + 3].double() / 255 - mean) / std).permute(3, 0, 1, 2)[None]
            maps.append(pretext.backbone(x)[0].mean(1))
        for s in range(16):
            state = torch.zeros(8, dtype=torch.float64)
            for n in (0, 1):
                state = step(maps[n].flatten(1)[:, s].clamp(min=0), state)
            for p in (0, 1):
                predicted[b, p, s] = affine(second, affine(first, state).clamp(min=0))
                targets[b, p, s] = maps[2 + p].flatten(1)[:, s]
                state = step(predicted[b, p, s].clamp(min=0), state)
    assert output.loss.item() == pytest.approx(contrast(predicted, targets, 0)[0].item(), rel=1e-10)


@pytest.mark.parametrize("name", ["r2plus1d_4", "r3d_10"])
def test_an_untrained_network_begins_a_little_above_the_loss_of_guessing(name):
    torch.manual_seed(0)
    options = {"blocks": 4, "frames": 4, "stride": 1, "predict": 2, "short_side": 32, "crop": 32}
    pretext = build_pretext("dense_predictive_coding", build_backbone(name), options)
    noise = torch.randint(0, 256, (6, 16, 32, 32, 3), generator=torch.Generator().manual_seed(1)).byte()
    output = pretext({"clip_THWC": noise}, context())
    assert 0 < output.loss.item() - math.log(6 * 2 * 4) < 1.5
    assert output.metrics["accuracy"] < 0.2


def test_the_metrics_share_out_all_predictions():
    output = make()(batch_of(make()), context())
    assert set(output.metrics) == {"accuracy", "other_time", "other_place", "other_video"}
    assert sum(v.item() for v in output.metrics.values()) == pytest.approx(1)


def test_loss_and_gradients_are_finite_and_repeatable():
    def once():
        pretext = make()
        torch.manual_seed(7)  # as the loop does before every step, for dropout
        loss = pretext(batch_of(pretext), context(5)).loss
        loss.backward()
        return loss.item(), [p.grad.clone() for p in pretext.parameters()]

    (a, grads), (b, again) = once(), once()
    assert a == b
    assert all(torch.isfinite(g).all() and torch.equal(g, h) for g, h in zip(grads, again, strict=True))


def test_two_ranks_have_the_loss_of_one():
    pretext = make().double().eval()
    batch = batch_of(pretext, 4)
    whole = pretext(batch, context())
    halves = [{"clip_THWC": half} for half in batch["clip_THWC"].split(2)]
    shares: list[torch.Tensor] = []

    class Meeting(Context):
        """What ``gather`` returns when all ranks have said theirs."""

        def gather(self, x):
            if len(shares) < 2:
                shares.append(x)
                return torch.cat([x, x])
            return torch.cat(shares)

    generator = torch.Generator().manual_seed(0)
    for rank in (0, 1):
        pretext(halves[rank], Meeting(0, generator, rank, 2))
    outputs = [pretext(halves[rank], Meeting(0, generator, rank, 2)) for rank in (0, 1)]
    assert sum(o.loss.item() for o in outputs) / 2 == pytest.approx(whole.loss.item(), rel=1e-12)
    for name, value in whole.metrics.items():
        assert sum(o.metrics[name].item() for o in outputs) / 2 == pytest.approx(value.item())


def test_what_cannot_be_predicted_and_what_the_network_does_not_take_are_said_at_once():
    with pytest.raises(UserError, match="Of 4 blocks, 4 cannot be predicted"):
        make(predict=4)
    with pytest.raises(UserError, match="at least 4 pixels"):
        make(crop=2)


def test_the_published_network_predicts_maps_of_its_own_shape():
    pretext = build_pretext(
        "dense_predictive_coding",
        build_backbone("r2d3d_18"),
        {"blocks": 3, "predict": 1, "short_side": 64, "crop": 64, "stride": 1},
    )
    output = pretext({"clip_THWC": torch.zeros(1, 15, 64, 64, 3, dtype=torch.uint8)}, context())
    assert output.features_ND.shape == (3, 256) and torch.isfinite(output.loss)
    assert pretext.predictions(torch.zeros(1, 2, 256, 2, 2)).shape == (1, 1, 256, 2, 2)
