import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_video.backbones.base import build_backbone
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.errors import UserError
from ssl_video.eval.frames import calibrate_on_frames
from ssl_video.model import Model, load_model
from ssl_video.pretexts.base import Context, Progress, Sample, Skip, build_pretext
from ssl_video.pretexts.temporal_cycle_consistency import (
    TemporalCycleConsistencyConfig,
    all_cycles,
    context_of,
    cycle_loss,
    draw_cycles,
    spread_loss,
    stochastic_cycles,
)
from ssl_video.pretraining import write_weights
from ssl_video.recipes import load_recipe
from ssl_video.run import Run
from ssl_video.train.config import OptimConfig
from ssl_video.train.data import usable, with_company
from ssl_video.train.optim import build_optimizer, set_schedules
from ssl_video.video.info import VideoInfo
from ssl_video.video.scan import scan_one
from ssl_video.video.writer import write_video
from tests.nets import drawn_frames, tiny_backbone, video_set

OPTIONS = {
    "frames": 5, "context_stride": 3, "stage": "stem", "trained": "all", "channels": 4, "hidden": 6, "embedding": 3,
    "size": 12,
}  # fmt: skip
LOSSES = ("classification", "regression_mse", "regression_mse_var", "regression_huber")
PLAIN = TemporalCycleConsistencyConfig()


def make(**options):
    torch.manual_seed(0)
    return build_pretext("temporal_cycle_consistency", tiny_backbone(), OPTIONS | options)


@lru_cache
def one():
    return make()


def video_of(frames: int) -> Video:
    return Video("v.mp4", (0,), info=VideoInfo(frames, 25.0, 12, 12, frames / 25, "h264"))


def batch_of(pretext, count=4, seed=0):
    parts = []
    for i, video in enumerate(video_set(count).videos):
        rng = np.random.default_rng([seed, i])
        sample = pretext.sample(video, {}, rng)
        parts.append(pretext.transform(drawn_frames(video, sample.frames), sample, rng))
    return {k: torch.stack([torch.as_tensor(np.ascontiguousarray(p[k])) for p in parts]) for k in parts[0]}


def context(seed=0):
    return Context(Progress(0, 1), torch.Generator().manual_seed(seed))


def sequences(N=3, T=6, D=4, seed=0):
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(1, 60, (N, T)), axis=1) / rng.integers(60, 90, (N, 1))
    return torch.tensor(rng.normal(size=(N, T, D))), torch.tensor(times)


def similarity_to_all(x, keys, kind, temperature):
    D = len(x)
    if kind == "l2":
        return np.array([-((x - key) ** 2).sum() / (D * temperature) for key in keys])
    return np.array([(x * key).sum() / (D * temperature) for key in keys])


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def one_cycle(start, u, way, kind, temperature):
    """Logits of the cycle from step ``start`` of u through each sequence of ``way`` and back to u."""
    at = u[start]
    for v in way:
        at = softmax(similarity_to_all(at, v, kind, temperature)) @ v
    return similarity_to_all(at, u, kind, temperature)


def loss_of_one(logits, label, times, c):
    beta, T = softmax(logits), len(logits)
    if c.loss == "classification":
        wanted = np.full(T, c.label_smoothing / T)
        wanted[label] += 1 - c.label_smoothing
        return -(wanted * np.log(beta)).sum()
    mean = (beta * times).sum()
    error = times[label] - mean
    if c.loss == "regression_mse":
        return error**2
    if c.loss == "regression_huber":
        d = c.huber_delta
        return 0.5 * error**2 if abs(error) <= d else d * abs(error) - 0.5 * d**2
    variance = (beta * (times - mean) ** 2).sum()
    return error**2 / variance + c.variance_weight * math.log(variance)


def double_loop(embeddings, times, c):
    total, count = 0.0, 0
    for i, u in enumerate(embeddings):
        for j, v in enumerate(embeddings):
            if i != j:
                for start in range(len(u)):
                    logits = one_cycle(start, u, [v], c.similarity, c.temperature)
                    total += loss_of_one(logits, start, times[i], c)
                    count += 1
    return total / count


@pytest.mark.parametrize("similarity", ["l2", "cosine"])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_of_all_pairs_is_that_of_the_obvious_double_loop(loss, similarity):
    config = replace(PLAIN, loss=loss, similarity=similarity, temperature=0.7, variance_floor=0.0)
    embeddings, times = sequences()
    logits, row_times, labels = all_cycles(embeddings, times, similarity, config.temperature)
    ours = cycle_loss(logits, labels, row_times, config).item()
    assert ours == pytest.approx(double_loop(embeddings.numpy(), times.numpy(), config), rel=1e-10)


def test_the_gradient_of_all_pairs_is_right():
    embeddings, times = sequences(T=4)
    embeddings.requires_grad_()
    for loss in LOSSES:
        config = replace(PLAIN, loss=loss, variance_floor=0.0)

        def of(x, config=config):
            logits, row_times, labels = all_cycles(x, times, "l2", 0.7)
            return cycle_loss(logits, labels, row_times, config)

        assert torch.autograd.gradcheck(of, (embeddings,))


def test_a_stochastic_cycle_goes_through_its_sequences_in_turn():
    embeddings, _ = sequences(N=4)
    cycles, starts = torch.tensor([[2, 0, 3], [1, 2, 0]]), torch.tensor([4, 1])
    ours = stochastic_cycles(embeddings, cycles, starts, "l2", 0.5).numpy()
    e = embeddings.numpy()
    assert np.ptp(ours[0] - one_cycle(4, e[2], [e[0], e[3]], "l2", 0.5)) < 1e-12  # equal up to a constant
    assert np.ptp(ours[1] - one_cycle(1, e[1], [e[2], e[0]], "l2", 0.5)) < 1e-12


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(2, 5), st.integers(0, 2**32))
def test_no_sequence_comes_twice_in_a_stochastic_cycle(count, length, seed):
    length = min(length, count)
    cycles, starts = draw_cycles(count, 7, length, 20, torch.Generator().manual_seed(seed))
    assert all(len(set(row)) == length for row in cycles.tolist())
    assert cycles.min() >= 0 and cycles.max() < count
    assert starts.min() >= 0 and starts.max() < 7


def test_stochastic_cycles_use_every_ordered_pair_also_when_the_batch_divides_their_number():
    cycles, starts = draw_cycles(4, 20, 2, 80 * 4, torch.Generator().manual_seed(0))
    assert {tuple(row) for row in cycles.tolist()} == {(i, j) for i in range(4) for j in range(4) if i != j}
    assert set(starts.tolist()) == set(range(20))


def test_a_cycle_longer_than_the_batch_is_refused():
    with pytest.raises(UserError, match="through 5 videos needs a batch of as many"):
        draw_cycles(4, 20, 5, 10, torch.Generator())


@pytest.mark.parametrize("floor", [1e-4, 1e-8])
def test_a_certain_match_gives_a_finite_loss_and_gradient(floor):
    embeddings, times = sequences()
    embeddings = (1e4 * embeddings).requires_grad_()
    logits, row_times, labels = all_cycles(embeddings, times, "l2", 0.1)
    assert logits.softmax(1).max(1).values.eq(1).any()
    loss = cycle_loss(logits, labels, row_times, replace(PLAIN, variance_floor=floor))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(embeddings.grad).all()


def loss_of_a_match(certainty, floor):
    """Of a cycle through 20 steps, so much weight on the right one, the rest behind it: ours, without floor, at it."""
    times = np.arange(20) / 20
    beta = np.zeros(20)
    beta[[7, 8]] = certainty, 1 - certainty
    error, variance = (1 - certainty) / 20, certainty * (1 - certainty) / 20**2
    logits = torch.from_numpy(beta).log().clamp(min=-1e4)[None]
    config = replace(PLAIN, variance_floor=floor)
    ours = cycle_loss(logits, torch.tensor([7]), torch.from_numpy(times)[None], config).item()
    return ours, error**2 / variance + 0.001 * math.log(variance), error**2 / floor + 0.001 * math.log(floor)


def test_the_floor_of_the_variance_acts_on_matches_within_a_hundredth_of_the_video():
    ours, free, _ = loss_of_a_match(0.958, PLAIN.variance_floor)
    assert ours == pytest.approx(free, rel=1e-9)
    ours, free, floored = loss_of_a_match(0.959, PLAIN.variance_floor)  # 0.959 * 0.041 / 20^2 is below 0.01^2
    assert ours == pytest.approx(floored, rel=1e-9) and abs(ours - free) > 1e-6


@pytest.mark.parametrize("certainty", [0.5, 0.959, 0.99, 0.9999, 0.99999])
def test_the_floor_of_the_papers_recipe_leaves_the_loss_of_its_code_to_matches_but_certain_ones(certainty):
    ours, free, _ = loss_of_a_match(
        certainty, load_recipe("temporal_cycle_consistency:paper")["pretext"]["variance_floor"]
    )
    assert ours == pytest.approx(free, rel=1e-9)


def test_the_spread_loss_is_that_of_sums_over_channels_written_out():
    x = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[..., 1] *= 0.1
    within = [[[(x[n, t, d] - x[n, :, d].mean()).item() for d in range(4)] for t in range(5)] for n in range(3)]
    covariance = [
        [sum(within[n][t][d] * within[n][t][e] for n in range(3) for t in range(5)) / (3 * 4) for e in range(4)]
        for d in range(4)
    ]
    little = sum(max(0.0, 1 - math.sqrt(covariance[d][d] + 1e-4)) for d in range(4)) / 4
    alike = sum(covariance[d][e] ** 2 for d in range(4) for e in range(4) if d != e) / 4
    assert spread_loss(x).item() == pytest.approx(little + 0.04 * alike, rel=1e-12)


def test_embeddings_that_differ_between_videos_but_not_within_one_are_not_spread():
    still = 10 * torch.randn(6, 1, 4, generator=torch.Generator().manual_seed(0)).expand(6, 8, 4)
    assert spread_loss(still).item() == pytest.approx(1 - 0.01, abs=1e-3)
    moving = 3 * torch.randn(500, 8, 4, generator=torch.Generator().manual_seed(0))
    assert spread_loss(moving).item() < 0.02
    together = moving[..., :1].expand(500, 8, 4)
    assert spread_loss(together).item() > 1


def test_the_spread_loss_is_added_with_its_weight():
    batch, losses = batch_of(make()), {}
    for weight in (0.0, 0.5):
        pretext = make(spread_weight=weight).eval()
        output = pretext(batch, context())
        losses[weight] = output.loss
    embeddings = output.features_ND.unflatten(0, (len(batch["steps_T"]), -1))
    assert (losses[0.5] - losses[0.0]).item() == pytest.approx(0.5 * spread_loss(embeddings).item(), rel=1e-4)


def test_label_smoothing_spreads_a_part_of_the_label_over_all_steps():
    logits, labels, times = torch.tensor([[2.0, 0.0, 0.0, 0.0]]), torch.tensor([0]), torch.zeros(1, 4)
    config = replace(PLAIN, loss="classification", label_smoothing=0.2)
    p = torch.softmax(logits, 1)[0]
    expected = -(0.85 * p[0].log() + 0.05 * p[1:].log().sum())
    assert cycle_loss(logits, labels, times, config).item() == pytest.approx(expected.item())


@settings(deadline=None)
@given(st.integers(6, 60), st.integers(0, 2**32))
def test_steps_are_different_sorted_and_begin_behind_the_offset(frames, seed):
    sample = one().sample(video_of(frames), {}, np.random.default_rng(seed))
    assert isinstance(sample, Sample)
    steps = sample.data["steps_T"]
    assert len(steps) == 5 and (np.diff(steps) > 0).all()
    assert steps[0] >= 1 and steps[-1] < frames


def test_every_step_has_its_context_which_stops_at_the_first_frame():
    assert context_of(np.array([1, 15, 40]), 3, 15).tolist() == [[0, 0, 1], [0, 0, 15], [10, 25, 40]]
    sample = make().sample(video_of(30), {}, np.random.default_rng(0))
    shown = np.array(sample.frames)[sample.data["positions_TK"]]
    assert shown.tolist() == context_of(sample.data["steps_T"], 2, 3).tolist()


def test_a_video_with_too_few_frames_is_skipped_with_the_reason():
    outcome = make().sample(video_of(5), {}, np.random.default_rng(0))
    assert isinstance(outcome, Skip) and "6 frames" in outcome.reason


def test_the_batch_holds_frame_numbers_and_lengths():
    batch = batch_of(make(), 2)
    assert batch["clips_TKHWC"].shape == (2, 5, 2, 12, 12, 3)
    assert batch["steps_T"].shape == (2, 5)
    assert batch["length_1"].tolist() == [[40], [40]]


def test_time_is_the_part_of_the_video_that_has_passed():
    pretext = make(loss="regression_mse").double().eval()
    batch = batch_of(pretext)
    batch["length_1"] = torch.tensor([[40], [80], [160], [41]])
    output = pretext(batch, context())
    embeddings = output.features_ND.unflatten(0, (4, 5)).numpy()
    times = batch["steps_T"].numpy() / batch["length_1"].numpy()
    assert output.loss.item() == pytest.approx(double_loop(embeddings, times, pretext.config), rel=1e-9)


@pytest.mark.parametrize("options", [{"loss": kind} for kind in LOSSES] + [{"stochastic": True, "cycle_length": 3}])
def test_loss_and_gradients_are_finite_and_repeatable(options):
    def once():
        pretext = make(**options)
        torch.manual_seed(3)  # of dropout
        loss = pretext(batch_of(pretext), context(5)).loss
        loss.backward()
        return loss.item(), [p.grad.clone() for p in pretext.parameters()]

    (a, grads), (b, again) = once(), once()
    assert a == b
    assert all(torch.isfinite(g).all() and torch.equal(g, h) for g, h in zip(grads, again, strict=True))


def test_colours_change_all_steps_of_a_sequence_alike():
    pretext = make(dropout=0.0)
    for module in pretext.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.eval()
    batch = batch_of(pretext, 2)
    batch["clips_TKHWC"][:] = batch["clips_TKHWC"][0, 0]
    features = pretext(batch, context(1)).features_ND.unflatten(0, (2, 5))
    assert torch.allclose(features, features[:, :1].expand_as(features), atol=1e-6)
    assert not torch.allclose(features[0], features[1], atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_with_signed_pixels_the_network_sees_minus_1_to_1(monkeypatch, training):
    pretext = make(pixels="signed", brightness=0, contrast=0).train(training)
    batch, seen = batch_of(pretext), []
    forward = pretext.backbone.forward
    monkeypatch.setattr(pretext.backbone, "forward", lambda x, stage: seen.append(x) or forward(x, stage))
    pretext(batch, context())
    expected = batch["clips_TKHWC"].double().flatten(0, 1).permute(0, 4, 1, 2, 3) / 127.5 - 1
    assert torch.allclose(seen[0].double(), expected, atol=1e-6)


def test_the_papers_recipe_alone_has_signed_pixels():
    paper, small = (load_recipe(f"temporal_cycle_consistency:{name}")["pretext"] for name in ("paper", "small"))
    assert paper["pixels"] == "signed" and "pixels" not in small and PLAIN.pixels == "backbone"
    assert make().backbone.clip.mean == tiny_backbone().clip.mean != (0.5,) * 3


def test_a_network_that_was_trained_on_signed_pixels_is_shown_them_when_it_is_loaded(tmp_path):
    options = OPTIONS | {"pixels": "signed", "size": 64, "stage": None}
    backbone = build_backbone("single_frame", width=3)
    write_weights(Run(tmp_path), build_pretext("temporal_cycle_consistency", backbone, options))
    clips = torch.randint(0, 256, (2, 1, 64, 64, 3), generator=torch.Generator().manual_seed(0)).byte()
    for name in (str(tmp_path), f"random:{tmp_path}"):
        assert torch.allclose(load_model(name).normalise(clips), clips.permute(0, 4, 1, 2, 3) / 127.5 - 1, atol=1e-6)


def test_the_papers_weight_decay_is_its_codes_penalty_the_mean_of_ten_terms_in_the_gradient():
    optim = OptimConfig(**load_recipe("temporal_cycle_consistency:paper")["optim"])
    pretext = make(trained="only_bn").double()
    embedder = [p for part in (pretext.convolutions, pretext.fully_connected) for p in part.parameters()]
    kernels = [p for p in embedder if p.ndim > 1]
    assert len(kernels) == 5 and optim.name == "adam" and optim.beta2 == 0.999 and optim.momentum == 0.9
    optimizer = build_optimizer(optim, pretext)
    before = [p.detach().clone().requires_grad_() for p in kernels]
    for p in pretext.parameters():
        p.grad = 1e-7 * torch.ones_like(p)  # as small as the penalty, so that it is seen in the first step
    set_schedules(optimizer, optim, Progress(0, 150_000))
    optimizer.step()
    penalty = sum(1e-5 * p.square().sum() for p in before) / 10  # five layers with a kernel and a bias each
    for after, was, of_penalty in zip(kernels, before, torch.autograd.grad(penalty, before), strict=True):
        gradient = 1e-7 + of_penalty
        expected = was - 1e-4 * gradient / (gradient.square().sqrt() + 1e-8)  # Adam's first step
        assert torch.allclose(after, expected, rtol=0, atol=1e-12)


def test_only_batch_norm_of_the_used_stages_is_trained_by_default():
    backbone = tiny_backbone(behind=torch.nn.Conv3d(8, 8, 1))
    pretext = build_pretext("temporal_cycle_consistency", backbone, OPTIONS | {"trained": "only_bn"})
    trained = {name for name, p in pretext.backbone.named_parameters() if p.requires_grad}
    assert trained == {"network.stem.1.weight", "network.stem.1.bias"}
    everything = build_pretext("temporal_cycle_consistency", backbone, OPTIONS)
    assert not any(p.requires_grad for p in everything.backbone.stages["behind"].parameters())
    assert all(p.requires_grad for p in everything.backbone.stages["stem"].parameters())


def test_an_unknown_stage_is_answered_with_those_that_there_are():
    with pytest.raises(UserError, match=r"no stage 'layer3'.*: stem"):
        make(stage="layer3")


def test_one_video_alone_in_a_batch_is_refused():
    with pytest.raises(UserError, match="batch-size of 2"):
        pretext = make()
        pretext(batch_of(pretext, 1), context())


def test_an_action_with_one_video_is_left_out_and_named():
    videos = video_set(5)
    lonely = VideoSet("drawn", (*videos.videos, replace(video_of(40), labels=(2,))), (*videos.classes, "class2"))
    fit = usable(lonely, make())
    assert len(fit.videos) == 5
    assert [p.reason for p in fit.problems] == ["is the only usable video of the class class2"]
    with pytest.raises(UserError, match="no class of drawn has two usable videos"):
        with_company(video_set(2), make())


@pytest.mark.parametrize(("grid", "keeps_the_place"), [(1, False), (2, True)])
def test_a_grid_of_more_than_one_cell_keeps_the_place_of_what_is_seen(grid, keeps_the_place):
    pretext = make(grid=grid).eval()
    features_BDkhw = torch.zeros(2, 8, 2, 16, 16)
    features_BDkhw[0, :, :, 3:5, 3:5] = features_BDkhw[1, :, :, 11:13, 11:13] = 1.0  # one thing at two places
    pretext.backbone.forward = lambda clips_BCKHW, until: features_BDkhw
    there_D, elsewhere_D = pretext.embed(torch.empty(2, 3, 2, 16, 16))
    assert torch.equal(there_D, elsewhere_D) is not keeps_the_place


def test_the_frame_embeddings_of_a_model_are_the_pretexts_own():
    pretext = make().eval()
    model = Model("run", pretext.backbone, pretext.view, {}, torch.device("cpu"), pretext)
    frames = np.random.default_rng(0).integers(0, 256, (9, 12, 16, 3), dtype=np.uint8)
    embeddings = model.frame_embeddings(frames, batch=4)
    assert embeddings.shape == (9, 3)
    clip = torch.from_numpy(frames[[4, 7], :, 2:14])[None]
    expected = pretext.embed(model.normalise(clip)).detach().numpy()
    assert np.allclose(embeddings[7], expected[0], atol=1e-5)
    no_heads = replace(model, pretext=None)
    assert no_heads.frame_embeddings(frames).shape == (9, 8)


@dataclass
class OneOfTwo(Context):
    """The first of two ranks, which knows what the other one holds."""

    others: Mapping[int, torch.Tensor] = field(default_factory=dict)

    def gather(self, x):
        return torch.cat([x, self.others[x.ndim]])


@pytest.mark.parametrize("options", [{}, {"stochastic": True, "cycle_length": 3}])
def test_the_loss_of_a_batch_shared_by_two_ranks_is_that_of_the_whole(options):
    pretext = make(**options).double().eval()
    whole = batch_of(pretext, 4)
    alone = pretext(whole, context(7))
    others = {3: alone.features_ND.unflatten(0, (4, 5))[2:], 2: (whole["steps_T"].double() / whole["length_1"])[2:]}
    ctx = OneOfTwo(Progress(0, 1), torch.Generator().manual_seed(7), 0, 2, others=others)
    shared = pretext({k: v[:2] for k, v in whole.items()}, ctx)
    assert shared.loss.item() == pytest.approx(alone.loss.item(), rel=1e-12)
    assert shared.features_ND.shape == (10, 3)


def test_calibration_gives_the_batch_norm_of_backbone_and_heads_the_statistics_of_the_videos(tmp_path):
    write_video(tmp_path / "v.mp4", np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8))
    pretext = make().eval()
    model = Model("run", pretext.backbone, pretext.view, {}, torch.device("cpu"), pretext)
    calibrated = calibrate_on_frames(model, [Video(str(tmp_path / "v.mp4"), info=scan_one(str(tmp_path / "v.mp4")))])
    assert calibrated.pretext is not None and calibrated.pretext.backbone is calibrated.backbone
    for module, changed in ((calibrated.pretext, True), (pretext, False)):
        norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm3d)]
        assert len(norms) == 3
        assert all(bool(m.running_mean.ne(0).any()) == changed and not m.training for m in norms)
