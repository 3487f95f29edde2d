"""Which of two clips plays at the speed of a third: the losses, the sampler, and what one frame may not tell."""

import math

import numpy as np
import pytest
import torch

from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.eval.pretext import stilled
from ssl_video.pretexts.base import Context, Progress, Sample, Skip, build_pretext
from ssl_video.pretexts.relative_speed import RelativeSpeedConfig, appearance, relative_speed
from ssl_video.recipes import load_recipe
from ssl_video.train.span import fit_span
from ssl_video.video.info import VideoInfo
from tests.nets import drawn_frames, tiny_backbone, video_set

PAPER = (
    "SGD", 0.9, 1e-4, True, 64, 1,
    {epoch: 0.1 * (1 + math.cos(math.pi * math.ceil(epoch * 46.875) / 9375)) / 2 for epoch in range(200)},
)  # fmt: skip
"""Of the authors' code; see ``tests.test_papers``."""
OPTIONS = {"frames": 4, "short_side": 12, "crop": 8, "dim": 6, "queue": 5}


def make(**options):
    backbone = tiny_backbone()
    torch.manual_seed(2)
    return build_pretext("relative_speed", backbone, OPTIONS | options)


def video_of(frames: int) -> Video:
    return Video("v.mp4", info=VideoInfo(frames, 25.0, 12, 12, frames / 25, "h264"))


def batch_of(pretext, count=6):
    parts = []
    for i, video in enumerate(video_set(count).videos):
        rng = np.random.default_rng([0, i])
        sample = pretext.sample(video, {}, rng)
        parts.append(pretext.transform(drawn_frames(video, sample.frames), sample, rng)["clips_3THWC"])
    return {"clips_3THWC": torch.stack([torch.as_tensor(np.ascontiguousarray(p)) for p in parts])}


def context(seed=0):
    return Context(Progress(0, 1), torch.Generator().manual_seed(seed))


def frames_of(pretext, video, seed=0):
    sample = pretext.sample(video, {}, np.random.default_rng(seed))
    assert isinstance(sample, Sample)
    return np.array(sample.frames)[sample.data["positions_3T"]]


def test_the_losses_are_those_of_the_authors_code():
    double = {"dtype": torch.float64}
    alike_a = torch.tensor([[1, 0.2], [2, 1], [-1, 0]], **double)
    others = torch.tensor([[0.5, 0, 1], [0, 0, 0], [1, 2, 3]], **double)
    alike_m = torch.tensor([[0.3, 0.1], [3, 0.5], [0, 0.4]], **double)
    assert appearance(alike_a, others).item() == pytest.approx(3.9065616097662774, abs=1e-12)
    assert relative_speed(alike_m, 2.0).item() == pytest.approx(1.4, abs=1e-12)


def test_the_loss_is_that_of_the_obvious_loop_over_queries_clips_and_keys():
    pretext = make().double().eval()
    with torch.no_grad():
        for parameter in pretext.teacher.parameters():
            parameter.add_(0.05)
    batch = batch_of(pretext)
    backbone, teacher_a, teacher_m = pretext.teacher

    def say(net, head, clip):
        with torch.no_grad():
            vector = head(net(net.normalise(clip[None])).flatten(2).mean(2))[0].tolist()
        return [x / math.sqrt(sum(y * y for y in vector)) for x in vector]

    def dot(x, y):
        return sum(a * b for a, b in zip(x, y, strict=True)) / 0.07

    contrast, ranking, right = 0.0, 0.0, 0.0
    queue = pretext.queue.keys_KD.tolist()
    for query, same, other in batch["clips_3THWC"]:
        query_a, query_m = say(pretext.backbone, pretext.head_a, query), say(pretext.backbone, pretext.head_m, query)
        rest = sum(math.exp(dot(query_a, key)) for key in queue)
        for clip in (same, other):
            likeness = math.exp(dot(query_a, say(backbone, teacher_a, clip)))
            contrast -= math.log(likeness / (likeness + rest))
        gap = dot(query_m, say(backbone, teacher_m, same)) - dot(query_m, say(backbone, teacher_m, other))
        ranking += max(0.0, 2.0 - gap)
        right += gap > 0
    output = pretext(batch, context())
    assert output.metrics["contrast"].item() == pytest.approx(contrast / 6, rel=1e-9)
    assert output.metrics["ranking"].item() == pytest.approx(ranking / 6, rel=1e-9)
    assert output.loss.item() == pytest.approx((contrast + ranking) / 6, rel=1e-9)
    assert output.metrics["accuracy"].item() == pytest.approx(right / 6)
    weighed = make(ranking_weight=3.0).double().eval()
    weighed.load_state_dict(pretext.state_dict())
    assert weighed(batch, context()).loss.item() == pytest.approx((contrast + 3 * ranking) / 6, rel=1e-9)


@pytest.mark.parametrize(("frames", "stride", "speed"), [(4, 1, 2), (5, 2, 2), (16, 1, 4), (7, 3, 3)])
def test_one_clip_plays_at_the_querys_speed_and_the_other_not_around_the_same_middle_frame(frames, stride, speed):
    pretext = make(frames=frames, stride=stride, speed=speed)
    seen = set()
    for seed in range(30):
        query_T, same_T, other_T = frames_of(pretext, video_of(400), seed)
        steps = [set(np.diff(x)) for x in (query_T, same_T, other_T)]
        assert steps[0] == steps[1] and [*steps[:1], steps[2]] in (
            [{stride}, {speed * stride}],
            [{speed * stride}, {stride}],
        )
        assert same_T[frames // 2] == other_T[frames // 2]
        slow_T, fast_T = sorted((same_T, other_T), key=np.ptp)
        assert fast_T[0] <= slow_T[0] and slow_T[-1] <= fast_T[-1]
        seen |= steps[0]
    assert seen == {stride, speed * stride}  # queries play at either speed


def test_a_clip_that_stands_still_tells_nothing_of_its_speed():
    pretext = make().eval()
    batch = batch_of(pretext, 12)
    moving, still = (pretext(shown, context()) for shown in (batch, stilled(batch)))
    assert still.right_B.tolist() == [0.5] * 12 and still.metrics["accuracy"] == 0.5
    assert set(moving.right_B.tolist()) <= {0.0, 1.0}


def test_both_clips_have_one_view_and_the_query_its_own():
    pretext = make(gray=0.0)
    picture_HWC = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    sample = Sample((0,), {"positions_3T": np.zeros((3, 4), int)})
    clips = pretext.transform(picture_HWC[None], sample, np.random.default_rng(1))["clips_3THWC"]
    assert clips.shape == (3, 4, 8, 8, 3) and (clips == clips[:, :1]).all()
    assert (clips[1] == clips[2]).all() and (clips[0] != clips[1]).any()
    same = torch.as_tensor(np.ascontiguousarray(np.broadcast_to(clips[0], clips.shape)))[None]
    query, one, other = pretext._normalised(same, context())[0]
    assert torch.equal(one, other) and not torch.allclose(query, one)
    pretext.eval()
    tested = pretext.transform(picture_HWC[None], sample, np.random.default_rng(1))["clips_3THWC"]
    assert (tested == picture_HWC[2:10, 4:12]).all()
    assert torch.equal(*pretext._normalised(same, context())[0, :2])


def test_short_videos_are_left_out_with_the_reason_and_the_span_fits_them():
    pretext = make(stride=3)
    assert isinstance(pretext.sample(video_of(19), {}, np.random.default_rng(0)), Sample)
    outcome = pretext.sample(video_of(18), {}, np.random.default_rng(0))
    assert isinstance(outcome, Skip) and "19 frames of a fast clip" in outcome.reason
    assert pretext.least_frames(np.array([25.0, 30.0])).tolist() == [19, 19]
    fit = fit_span(video_set(4, frames=13), pretext)
    assert (fit.options, fit.serving) == ({"stride": 2}, 4)


def test_the_queue_is_of_the_clips_at_the_other_speed():
    pretext = make(queue=8).train()
    before = pretext.queue.keys_KD.clone()
    batch = batch_of(pretext)
    pretext(batch, context()).loss.backward()
    assert torch.equal(pretext.queue.keys_KD, before)  # a step contrasts all its batches with the same keys
    pretext.after_step(Progress(1, 10))
    twin = make(queue=8).train()
    with torch.no_grad():
        x = twin._normalised(batch["clips_3THWC"], context())
        keys = torch.nn.functional.normalize(twin._taught(x[:, 1:].flatten(0, 1))[0].unflatten(0, (6, 2))[:, 1], dim=1)
    torch.testing.assert_close(pretext.queue.keys_KD[:6], keys)
    assert torch.equal(pretext.queue.keys_KD[6:], before[:2])


def test_the_teacher_follows_at_one_pace_and_takes_no_gradient():
    pretext = make(momentum=0.9).train()
    pretext(batch_of(pretext), context()).loss.backward()
    assert all(p.grad is None for p in pretext.teacher.parameters())
    assert all(p.grad is not None for p in (*pretext.backbone.parameters(), *pretext.head_m.parameters()))
    before = pretext.teacher[1].weight.clone()
    with torch.no_grad():
        pretext.head_a.weight.add_(1)
    for step in (1, 9):
        pretext.after_step(Progress(step, 10))
    torch.testing.assert_close(pretext.teacher[1].weight, 0.81 * before + 0.19 * pretext.head_a.weight)
    assert pretext.exported() is pretext.backbone


def test_a_batch_norm_before_the_heads_takes_away_what_all_clips_have_in_common():
    pretext = make(head_norm=True).train()
    features_BD = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    for head in (pretext.head_a, pretext.head_m):
        torch.testing.assert_close(head(features_BD), head(features_BD + 3), atol=1e-5, rtol=1e-4)
    assert pretext.head_a[0] is not pretext.head_m[0]
    assert torch.isfinite(pretext(batch_of(pretext), context()).loss)
    with pytest.raises(UserError, match="head_norm needs two videos"):
        pretext(batch_of(pretext, 1), context())


def test_what_cannot_be_is_said_at_once():
    with pytest.raises(UserError, match="crop_area is two fractions"):
        make(crop_area=(0.0, 0.2))
    with pytest.raises(UserError, match="speed must be a whole number of 2 or more"):
        make(speed=1)


def test_the_paper_recipe_is_the_authors():
    recipe = load_recipe("relative_speed:paper")
    c = RelativeSpeedConfig(**{k: v for k, v in recipe["pretext"].items() if k != "name"})
    assert (c.frames, c.speed, c.crop, c.dim, c.temperature, c.margin, c.momentum) == (16, 2, 112, 128, 0.07, 2, 0.999)
    assert (c.queue, recipe["backbone"]["shortcut"]) == (16384, "B")
