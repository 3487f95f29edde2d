"""Clips of one video are described alike: the three losses, the times, the views, the teacher and the queue."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import Context, Progress, Sample, Skip, build_pretext
from ssl_video.pretexts.clip_contrast import ClipContrastConfig, byol, found, moco, nt_xent
from ssl_video.pretexts.looks import blurred, colour_changes, grayed, hues
from ssl_video.recipes import load_recipe
from ssl_video.run import Run
from ssl_video.train.config import OptimConfig, TrainingConfig
from ssl_video.train.data import ClipDataset
from ssl_video.train.loop import train
from ssl_video.video import augment
from ssl_video.video.info import VideoInfo
from tests.nets import drawn_frames, tiny_backbone, video_set
from tests.test_pretexts import Apart

LOSSES = ("byol", "moco", "ntxent")
OPTIONS = {"frames": 4, "stride": 2, "short_side": 12, "crop": 8, "hidden": 16, "dim": 6, "queue": 24}


def warmed_up(base: float, epoch: int) -> float:
    """The rate at the first step of an epoch of 46.875 steps: a line for 35 of 200 epochs, then half a cosine."""
    step, steps, warmup = math.ceil(epoch * 46.875), 9375, 1641
    if step < warmup:
        return base * (step + 1) / (warmup + 1)
    return base * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


PAPER = ("LARS", 0.9, 1e-6, False, 64, 1, {epoch: warmed_up(0.6, epoch) for epoch in range(200)})
"""Of the code of rho-BYOL; see ``tests.test_papers``."""


def make(**options):
    backbone = tiny_backbone()
    torch.manual_seed(2)
    return build_pretext("clip_contrast", backbone, OPTIONS | options)


def video_of(frames: int) -> Video:
    return Video("v.mp4", info=VideoInfo(frames, 25.0, 12, 12, frames / 25, "h264"))


def batch_of(pretext, count=4):
    parts = []
    for i, video in enumerate(video_set(count).videos):
        rng = np.random.default_rng([0, i])
        sample = pretext.sample(video, {}, rng)
        parts.append(pretext.transform(drawn_frames(video, sample.frames), sample, rng)["clips_VTHWC"])
    return {"clips_VTHWC": torch.stack([torch.as_tensor(np.ascontiguousarray(p)) for p in parts])}


def context(seed=0, rank=0, world_size=1):
    return Context(Progress(0, 1), torch.Generator().manual_seed(seed), rank, world_size)


def units(*shape, seed=0):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=-1)


def without_batch_statistics(pretext):
    for module in pretext.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    return pretext


def cosine(x, y):
    x, y = x.tolist(), y.tolist()
    dot = sum(a * b for a, b in zip(x, y, strict=True))
    return dot / math.sqrt(sum(a * a for a in x) * sum(b * b for b in y))


def pairs(V):
    return [(i, j) for i in range(V) for j in range(V) if i != j]


@pytest.mark.parametrize("V", [2, 3, 4])
def test_byol_is_the_obvious_loop_over_videos_and_pairs_of_clips(V):
    q, k = units(3, V, 5), units(3, V, 5, seed=1)
    terms = [2 - 2 * cosine(q[b, i], k[b, j]) for b in range(3) for i, j in pairs(V)]
    assert byol(q, k).item() == pytest.approx(sum(terms) / len(terms), rel=1e-12)


def test_identical_outputs_cost_byol_nothing_and_opposite_ones_four():
    q = units(3, 1, 5).expand(3, 2, 5)
    assert byol(q, q).item() == pytest.approx(0, abs=1e-12)
    assert byol(q, -q).item() == pytest.approx(4, rel=1e-12)


@pytest.mark.parametrize("V", [2, 3])
def test_moco_contrasts_the_other_clip_with_every_key_of_the_queue(V):
    q, k, queue, T = units(3, V, 5), units(3, V, 5, seed=1), units(7, 5, seed=2), 0.1
    terms = []
    for b in range(3):
        for i, j in pairs(V):
            positive = math.exp(cosine(q[b, i], k[b, j]) / T)
            rest = sum(math.exp(cosine(q[b, i], key) / T) for key in queue)
            terms.append(-math.log(positive / (positive + rest)))
    assert moco(q, k, queue, T).item() == pytest.approx(sum(terms) / len(terms), rel=1e-12)


@pytest.mark.parametrize("V", [2, 3])
def test_nt_xent_contrasts_the_other_clip_with_all_clips_of_other_videos(V):
    z, T = units(4, V, 5), 0.1
    terms = []
    for b in range(4):
        for i, j in pairs(V):
            positive = math.exp(cosine(z[b, i], z[b, j]) / T)
            rest = sum(math.exp(cosine(z[b, i], z[a, v]) / T) for a in range(4) if a != b for v in range(V))
            terms.append(-math.log(positive / (positive + rest)))
    assert nt_xent(z, z, 0, T).item() == pytest.approx(sum(terms) / len(terms), rel=1e-12)
    halves = [nt_xent(z[first : first + 2], z, first, T).item() for first in (0, 2)]
    assert np.mean(halves) == pytest.approx(sum(terms) / len(terms), rel=1e-12)


def test_with_two_clips_nt_xent_is_the_cross_entropy_of_simclr():
    z, T = units(4, 2, 5), 0.1
    rows = torch.cat([z[:, 0], z[:, 1]])
    logits = (rows @ rows.T / T).masked_fill(torch.eye(8, dtype=torch.bool), -torch.inf)
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(8).roll(4))
    assert nt_xent(z, z, 0, T).item() == pytest.approx(expected.item(), rel=1e-12)


def test_a_clip_finds_its_video_where_that_shows_the_nearest_of_its_other_clips():
    z = units(3, 1, 8).expand(3, 2, 8).clone()
    assert found(z, z, 0).tolist() == [1, 1, 1]
    keys = z.clone()
    keys[0, 1] = -z[0, 1]  # clip 1 of the first video is far from its clip 0, and near to none of the others
    assert found(z, keys, 0).tolist() == [0.5, 1, 1]


def test_the_difference_of_the_times_of_two_clips_is_that_of_cvrl():
    pretext, frames = make(frames=4, stride=1), 20_000
    rng, differences = np.random.default_rng(0), []
    for _ in range(2000):
        sample = pretext.sample(video_of(frames), {}, rng)
        first, second = np.array(sample.frames)[sample.data["positions_VT"]][:, 0]
        differences.append(abs(first - second) / (frames - 4))
    assert kstest(differences, lambda u: 2 * u - u**2).pvalue > 0.05
    assert kstest(differences, "uniform").pvalue < 1e-6


def test_every_clip_has_evenly_spaced_frames_and_a_frame_of_two_clips_is_read_once():
    sample = make(clips=3).sample(video_of(12), {}, np.random.default_rng(0))
    assert isinstance(sample, Sample)
    frames_VT = np.array(sample.frames)[sample.data["positions_VT"]]
    assert frames_VT.shape == (3, 4) and (np.diff(frames_VT) == 2).all()
    assert len(set(sample.frames)) == len(sample.frames) < frames_VT.size


def test_a_video_shorter_than_a_clip_is_skipped_with_the_reason():
    assert isinstance(make().sample(video_of(7), {}, np.random.default_rng(0)), Sample)
    outcome = make().sample(video_of(6), {}, np.random.default_rng(0))
    assert isinstance(outcome, Skip) and "7 frames" in outcome.reason
    assert make().least_frames(np.array([25.0])).tolist() == [7]


def test_all_frames_of_a_clip_have_one_view_and_each_clip_its_own():
    pretext = make(solarise=1.0)
    picture_HWC = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    sample = Sample((0,), {"positions_VT": np.zeros((3, 4), int)})
    clips = pretext.transform(picture_HWC[None], sample, np.random.default_rng(1))["clips_VTHWC"]
    assert clips.shape == (3, 4, 8, 8, 3) and (clips == clips[:, :1]).all()
    assert len({clip.tobytes() for clip in clips}) == 3
    assert clips[0].max() > 128 and clips[1:].max() < 128  # bright pixels of all but the first are inverted
    pretext.eval()
    tested = pretext.transform(picture_HWC[None], sample, np.random.default_rng(1))["clips_VTHWC"]
    assert (tested == picture_HWC[2:10, 4:12]).all()


def test_a_crop_is_as_elongated_as_the_option_says_and_no_more():
    rng = np.random.default_rng(0)
    for longest in (4 / 3, 2.0):
        boxes = np.array([augment.draw_box((400, 400), (0.1, 0.3), rng, longest)[2:] for _ in range(300)])
        ratios = boxes.max(1) / boxes.min(1)
        assert 0.95 * longest < ratios.max() < 1.03 * longest


def test_hues_turn_around_gray_and_a_whole_turn_changes_nothing():
    one, third, half = hues(torch.tensor([1.0, 1 / 3, 0.5]))
    assert torch.allclose(one, torch.eye(3), atol=1e-6)
    assert torch.allclose(third @ torch.eye(3), torch.eye(3).roll(1, 0), atol=1e-6)  # red becomes green
    gray = torch.tensor([0.3, 0.3, 0.3])
    assert torch.allclose(half @ gray, gray, atol=1e-6)
    assert torch.allclose(half @ half, torch.eye(3), atol=1e-6)


def test_colours_of_some_clips_change_and_some_lose_them():
    changes = colour_changes(context(), 200, 0.4, 0.1, 0.75)
    same = (changes["matrix_B33"] == torch.eye(3)).flatten(1).all(1) & (changes["shift_B"] == 0)
    assert 30 < same.sum() < 70
    gray = grayed(changes["matrix_B33"], torch.ones(200, 1, 1, dtype=torch.bool)) @ torch.tensor([0.9, -0.3, 0.1])
    assert torch.allclose(gray, gray[:, :1].expand(200, 3), atol=1e-5)
    unchanged = colour_changes(context(), 2, 0.0, 0.0, 1.0)
    assert torch.allclose(unchanged["matrix_B33"], torch.eye(3), atol=1e-6) and not unchanged["shift_B"].any()


def test_a_blur_is_the_weighted_mean_around_each_pixel():
    x = torch.randn(2, 3, 1, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigmas = torch.tensor([0.0, 1.3], dtype=torch.float64)
    soft = blurred(x, sigmas)
    assert torch.equal(soft[0], x[0])
    places = [(y, z) for y in range(5) for z in range(6)]
    for row, column in places:
        weights = [math.exp(-((y - row) ** 2 + (z - column) ** 2) / (2 * 1.3**2)) for y, z in places]
        total = sum(w * x[1, :, 0, y, z] for w, (y, z) in zip(weights, places, strict=True))
        assert torch.allclose(soft[1, :, 0, row, column], total / sum(weights), atol=1e-12)


def test_the_first_clip_and_the_others_are_blurred_as_often_as_the_options_say():
    flat = {"changed": 0.0, "gray": 0.0}
    pretext, sharp = make(blur=(1, 0), **flat), make(blur=(0, 0), **flat)
    batch = batch_of(pretext)
    x, plain = (p._normalised(batch["clips_VTHWC"], context()).unflatten(0, (4, 2)) for p in (pretext, sharp))
    assert torch.equal(x[:, 1], plain[:, 1])
    assert not any(torch.allclose(one, other) for one, other in zip(x[:, 0], plain[:, 0], strict=True))
    assert torch.equal(pretext.eval()._normalised(batch["clips_VTHWC"], context()).unflatten(0, (4, 2)), plain)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_is_that_of_what_student_and_teacher_say_clip_by_clip(loss):
    pretext = make(loss=loss).double().eval()
    with torch.no_grad():
        for parameter in (pretext.teacher or torch.nn.Identity()).parameters():
            parameter.add_(0.1)
    batch = batch_of(pretext)
    output = pretext(batch, context())

    def say(backbone, projector, predictor):
        rows = []
        for clips in batch["clips_VTHWC"]:
            for clip in clips:
                x = backbone.normalise(clip[None])
                rows.append(predictor(projector(backbone(x).flatten(2).mean(2)))[0])
        return torch.nn.functional.normalize(torch.stack(rows), dim=1).reshape(4, 2, -1)

    with torch.no_grad():
        q = say(pretext.backbone, pretext.projector, pretext.predictor)
        k = q if pretext.teacher is None else say(*pretext.teacher, torch.nn.Identity())
    expected = {"byol": lambda: byol(q, k), "ntxent": lambda: nt_xent(q, q, 0, 0.1)}
    if loss == "moco":
        expected["moco"] = lambda: moco(q, k, pretext.queue.keys_KD, 0.1)
    assert output.loss.item() == pytest.approx(expected[loss]().item(), rel=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_two_ranks_are_as_one_and_have_one_queue(loss):
    pretext = without_batch_statistics(make(loss=loss).double().train())
    batch = batch_of(pretext)
    whole = pretext(batch, context(7))
    alone = [] if pretext.queue is None else pretext.queue._waiting[:]
    shown: list[list[torch.Tensor]] = [[], []]
    losses, queued = [], []
    for _ in range(2):
        contexts = [Apart(Progress(0, 1), torch.Generator().manual_seed(7), r, 2, others=shown) for r in (0, 1)]
        halves = [{"clips_VTHWC": batch["clips_VTHWC"].chunk(2)[r]} for r in (0, 1)]
        outputs = [pretext(half, ctx) for half, ctx in zip(halves, contexts, strict=True)]
        losses = [o.loss.item() for o in outputs]
        queued = [] if pretext.queue is None else pretext.queue._waiting[-2:]
        shown = [ctx.shown for ctx in contexts]
    assert np.mean(losses) == pytest.approx(whole.loss.item(), rel=1e-9)
    assert np.mean([o.metrics["accuracy"] for o in outputs]) == pytest.approx(whole.metrics["accuracy"].item())
    for keys in queued:
        torch.testing.assert_close(keys, alone[0])


def test_new_keys_join_the_queue_after_the_step_and_the_oldest_leave():
    pretext = make(loss="moco", queue=20).train()
    assert pretext.queue is not None
    before = pretext.queue.keys_KD.clone()
    torch.testing.assert_close(before.norm(dim=1), torch.ones(20))
    for seed in (0, 1):  # of two batches of one step
        pretext(batch_of(pretext), context(seed))
    assert torch.equal(pretext.queue.keys_KD, before)
    pretext.eval()(batch_of(pretext), context())  # a test adds none
    first, second = pretext.queue._waiting
    pretext.after_step(Progress(1, 10))
    assert torch.equal(pretext.queue.keys_KD, torch.cat([second, first, before[:4]]))
    pretext.after_step(Progress(2, 10))
    assert torch.equal(pretext.queue.keys_KD, torch.cat([second, first, before[:4]]))


def test_the_teacher_follows_by_its_parameters_and_its_batch_norms_by_what_it_sees():
    pretext = make(momentum=0.9).train()
    assert pretext.teacher is not None and pretext.exported() is pretext.backbone
    trained = {id(p) for group in pretext.parameter_groups() for p in group.parameters}
    assert not trained & {id(p) for p in pretext.teacher.parameters()}
    norm = pretext.teacher[0].stages["stem"][1]
    statistics = norm.running_mean.clone()
    pretext(batch_of(pretext), context()).loss.backward()
    assert not torch.equal(norm.running_mean, statistics)  # those of its own pass, in training
    assert all(p.grad is None for p in pretext.teacher.parameters())
    with torch.no_grad():
        pretext.projector[0].weight.add_(1)
    own, weight = norm.running_mean.clone(), pretext.teacher[1][0].weight.clone()
    pretext.after_step(Progress(5, 10))  # half of the way from 0.9 to 1
    torch.testing.assert_close(pretext.teacher[1][0].weight, 0.95 * weight + 0.05 * pretext.projector[0].weight)
    assert torch.equal(norm.running_mean, own)


def test_only_what_a_loss_needs_is_made():
    made = {loss: make(loss=loss) for loss in LOSSES}
    assert [made[loss].teacher is not None for loss in LOSSES] == [True, True, False]
    assert [made[loss].queue is not None for loss in LOSSES] == [False, True, False]
    assert [len(list(made[loss].predictor.parameters())) > 0 for loss in LOSSES] == [True, False, False]


def test_heads_are_those_that_a_loss_is_published_with_unless_options_say_otherwise():
    widths = {
        loss: [m.out_features for m in make(loss=loss, hidden=None, dim=None).projector if hasattr(m, "out_features")]
        for loss in LOSSES
    }
    assert widths == {"byol": [4096, 256], "moco": [2048, 2048, 128], "ntxent": [2048, 2048, 2048, 128]}
    norms = [any(isinstance(m, torch.nn.BatchNorm1d) for m in make(loss=loss).projector) for loss in LOSSES]
    assert norms == [True, False, True]
    assert [m.out_features for m in make(layers=1).projector] == [6]
    assert [make(loss=loss).config.heads.momentum for loss in ("byol", "moco")] == [0.996, 0.994]


def test_a_collapse_costs_byol_nothing_and_shows():
    pretext = make().train()
    healthy = pretext(batch_of(pretext), context()).metrics
    with torch.no_grad():
        for head in (pretext.projector, pretext.predictor, pretext.teacher[1]):
            head[-1].weight.zero_()
            head[-1].bias.fill_(1)
    collapsed = pretext(batch_of(pretext), context())
    assert collapsed.loss.item() == pytest.approx(0, abs=1e-6)
    assert collapsed.metrics["output_std"].item() == pytest.approx(0, abs=1e-6) and healthy["output_std"] > 0.2


class StoppedError(Exception):
    """The program ended here."""


@pytest.mark.parametrize("loss", LOSSES)
def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(loss, tmp_path):
    def trained(folder, stop=None):
        pretext = make(loss=loss, momentum=0.9)
        follow = pretext.after_step

        def after_step(progress):
            follow(progress)
            if progress.step == stop:
                raise StoppedError

        pretext.after_step = after_step
        every = {"log_every": 2, "checkpoint_every": 3, "monitor_every": 100}
        config = TrainingConfig(steps=8, batch_size=4, workers=0, optim=OptimConfig(lr=0.01), **every)
        folder.mkdir(exist_ok=True)
        train(pretext, ClipDataset(video_set(), pretext, 0, drawn_frames), config, Run(folder))
        return pretext.state_dict()

    whole = trained(tmp_path / "whole")
    with pytest.raises(StoppedError):
        trained(tmp_path / "parts", stop=5)
    again = trained(tmp_path / "parts")
    assert whole.keys() == again.keys() and all(torch.equal(value, again[key]) for key, value in whole.items())


def test_what_cannot_be_is_said_at_once():
    with pytest.raises(UserError, match="crop_area is two fractions"):
        make(crop_area=(0.8, 0.2))
    with pytest.raises(UserError, match="clips must be a whole number of 2 or more"):
        make(clips=1)
    with pytest.raises(UserError, match="loss must be one of 'byol', 'moco', 'ntxent'"):
        make(loss="simclr")


def test_the_paper_recipe_is_rho_byol():
    recipe = load_recipe("clip_contrast:paper")
    c = ClipContrastConfig(**{k: v for k, v in recipe["pretext"].items() if k != "name"})
    assert (c.loss, c.clips, c.frames, c.stride, c.crop_area) == ("byol", 2, 8, 8, (0.2, 0.766))
    assert recipe["backbone"]["name"] == "slow_r50" and recipe["sync_bn"]
