"""What every pretext promises, in the small setting that its packaged recipe gives, on drawn videos."""

import itertools
import random
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssl_video.apps.catalogue import lines_of
from ssl_video.backbones.base import Backbone, build_backbone
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.flow import for_modality
from ssl_video.datasets.spec import load_splits
from ssl_video.datasets.statistics import statistics_of
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.pretexts.base import PRETEXTS, Context, Pretext, Progress, Sample, Skip, build_pretext
from ssl_video.recipes import load_recipe
from ssl_video.train.data import BatchKeys, ClipDataset, collate, grouping, read_video, tensors, usable
from ssl_video.train.distributed import Ranks
from ssl_video.train.loop import context_of
from ssl_video.video.info import Problem, VideoInfo

CPU = torch.device("cpu")
FRAMES = 160
RATES = (2.0, 5.0, 7.99, 8.0, 10.0, 12.5, 24.0, 25.0, 29.97, 30.0, 60.0)
"""Frames a second."""
BATCH = 4
every_pretext = pytest.mark.parametrize("name", PRETEXTS.names())


@lru_cache
def recipe_of(name: str) -> dict:
    """The packaged small recipe of that pretext."""
    return load_recipe(f"{name}:small")


def make(name: str) -> Pretext:
    torch.manual_seed(0)
    chosen = {kind: dict(recipe_of(name)[kind]) for kind in ("backbone", "pretext")}
    backbone = build_backbone(chosen["backbone"].pop("name"), **chosen["backbone"])
    return build_pretext(chosen["pretext"].pop("name"), backbone, chosen["pretext"])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> VideoSet:
    """Sixteen videos of eight classes."""
    folder: Path = tmp_path_factory.mktemp("drawn")
    synthesize(folder, SyntheticConfig(frames=FRAMES, train=16, test=0), workers=1)
    return load_splits(str(folder), 1).train


@pytest.fixture(scope="module")
def batch_of(drawn):
    """A function from a pretext and a seed to its first batch."""

    def batch(pretext: Pretext, seed: int = 0) -> dict[str, Tensor]:
        videos = usable(for_modality(drawn, pretext.backbone.clip.modality), pretext)
        keys = next(iter(BatchKeys(len(videos.videos), 1, BATCH, seed=seed, groups=grouping(videos, pretext))))
        dataset = ClipDataset(videos, pretext, seed)
        return tensors(collate([dataset[key] for key in keys]), CPU)

    return batch


def loss_of(pretext: Pretext, batch: dict[str, Tensor], seed: int = 0) -> float:
    with torch.no_grad():
        return pretext(batch, context_of(seed, Progress(0, 1), Ranks())).loss.item()


def test_every_pretext_has_a_small_and_a_paper_recipe():
    names = {f"{name}:{setting}" for name in PRETEXTS.names() for setting in ("small", "paper")}
    assert set(lines_of("recipes")) == names | {"default"}
    for name in names:
        assert load_recipe(name)["pretext"]["name"] == name.partition(":")[0]
        assert {"batch_size", "optim"} < set(load_recipe(name)) and {"steps", "epochs"} & set(load_recipe(name))


@every_pretext
def test_the_loss_is_a_finite_number_and_reaches_all_weights(name, batch_of):
    pretext = make(name).train()
    output = pretext(batch_of(pretext), context_of(0, Progress(0, 1), Ranks()))
    output.loss.backward()
    assert output.loss.shape == () and torch.isfinite(output.loss)
    assert all(value.shape == () and torch.isfinite(value) for value in output.metrics.values())
    assert output.features_ND.ndim == 2 and not output.features_ND.requires_grad
    for key, weight in pretext.named_parameters():
        assert not weight.requires_grad or (weight.grad is not None and torch.isfinite(weight.grad).all()), key
    assert any(weight.grad.any() for weight in pretext.backbone.parameters() if weight.grad is not None)


@every_pretext
def test_losses_and_changed_pixels_are_of_full_precision_in_a_run_of_bf16(name, batch_of):
    """Eight bits of mantissa are too few for a loss, and for what frames of one video differ in."""
    pretext = make(name).train()
    seen = []
    layers = torch.nn.Conv2d | torch.nn.Conv3d | torch.nn.Linear
    first = next(m for m in pretext.backbone.modules() if isinstance(m, layers))
    with (
        first.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype)),
        torch.autocast("cpu", torch.bfloat16),
    ):
        output = pretext(batch_of(pretext), Context(Progress(0, 1), torch.Generator().manual_seed(0)))
    assert output.loss.dtype == torch.float32
    assert set(seen) == {torch.float32}


@every_pretext
def test_frames_that_are_resized_as_they_are_decoded_give_the_same_samples(name, drawn):
    pretext = make(name).train()
    videos = usable(for_modality(drawn, pretext.backbone.clip.modality), pretext)
    at_once = ClipDataset(videos, pretext, 0, lambda video, frames, each=None: read_video(video, frames))
    for number in range(3):
        one, other = (dataset[0, number, 0] for dataset in (ClipDataset(videos, pretext, 0), at_once))
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


@every_pretext
def test_the_test_protocol_gives_a_finite_loss(name, batch_of):
    pretext = make(name).eval()
    assert np.isfinite(loss_of(pretext, batch_of(pretext)))


@every_pretext
def test_the_same_seed_gives_the_same_batch_and_loss(name, batch_of):
    losses = []
    for _ in range(2):
        pretext = make(name).train()
        losses.append(loss_of(pretext, batch_of(pretext, seed=3), seed=3))
    assert losses[0] == losses[1]
    assert losses[0] != loss_of(make(name).train(), batch_of(make(name).train(), seed=4), seed=4)


@every_pretext
def test_samples_are_drawn_from_the_given_generator_alone(name, batch_of):
    pretext = make(name).train()
    states, batches = [], []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  (the generator that must not be used)
        torch.manual_seed(seed)
        before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
        batches.append(batch_of(pretext))
        after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
        states.append(before == after)
    assert states == [True, True]
    assert all(torch.equal(batches[0][key], batches[1][key]) for key in batches[0])


@dataclass
class Apart(Context):
    """A rank's context that gathers what the other ranks had to show the last time."""

    others: list[list[Tensor]] = field(default_factory=list)
    shown: list[Tensor] = field(default_factory=list)

    def gather(self, x: Tensor) -> Tensor:
        call = len(self.shown)
        self.shown.append(x.detach())
        rows = [other[call] if other else x.detach() for other in self.others]
        return torch.cat([*rows[: self.rank], x, *rows[self.rank + 1 :]])


@every_pretext
def test_the_losses_of_two_ranks_average_to_the_loss_of_their_whole_batch(name, batch_of):
    pretext = make(name).double().train()
    for module in pretext.modules():  # each rank has its own batch statistics and drops its own units
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.MultiheadAttention)):
            module.eval()
    batch = batch_of(pretext)
    whole = pretext(batch, Context(Progress(0, 1), torch.Generator().manual_seed(7))).loss.item()
    shown: list[list[Tensor]] = [[], []]
    losses = []
    for _ in range(3):  # a later gathering may build on an earlier one
        contexts = [Apart(Progress(0, 1), torch.Generator().manual_seed(7), r, 2, others=shown) for r in (0, 1)]
        halves = [{key: value.chunk(2)[r] for key, value in batch.items()} for r in (0, 1)]
        losses = [pretext(half, ctx).loss.item() for half, ctx in zip(halves, contexts, strict=True)]
        shown = [ctx.shown for ctx in contexts]
    assert np.mean(losses) == pytest.approx(whole, rel=1e-9)


@every_pretext
def test_a_video_of_one_frame_is_skipped_with_a_reason(name):
    pretext = make(name).train()
    video = Video("still.gif", (0,), info=VideoInfo(1, 25.0, 56, 56, 0.04, "gif"))
    stats = {statistic: np.zeros(1, np.float32) for statistic in pretext.needs.statistics}
    for mode in (True, False):
        outcome = pretext.train(mode).sample(video, stats, np.random.default_rng(0))
        assert isinstance(outcome, Skip) and outcome.reason


def video_of(frames: int, fps: float) -> Video:
    return Video(f"{frames}-at-{fps}.mp4", info=VideoInfo(frames, fps, 56, 56, frames / fps, "h264"))


def drawn_statistics(video: Video, names) -> dict[str, np.ndarray]:
    """Something moves in every video but those whose number of frames is a multiple of five."""
    shapes = {"black_borders": (video.frames, 4)}
    return {name: np.full(shapes.get(name, video.frames), video.frames % 5 > 0, np.float32) for name in names}


@every_pretext
@pytest.mark.parametrize("mode", [True, False])
def test_the_least_number_of_frames_is_enough_and_one_fewer_is_not(name, mode):
    pretext = make(name).train(mode)
    least_N = pretext.least_frames(np.array(RATES))
    if least_N is None:
        pytest.skip("only a draw can tell")
    for fps, least in zip(RATES, least_N, strict=True):
        for frames in (1000, least - 1, least, least + 1, 2 * least):
            video = video_of(1000 if np.isinf(frames) else int(frames), fps)
            stats = {key: np.ones_like(x) for key, x in drawn_statistics(video, pretext.needs.statistics).items()}
            outcome = pretext.sample(video, stats, np.random.default_rng(0))
            assert isinstance(outcome, Sample if video.frames >= least else Skip), video.path


@every_pretext
def test_the_usable_videos_are_those_of_which_a_sample_can_be_drawn(name, monkeypatch):
    monkeypatch.setattr("ssl_video.train.data.statistics_of", drawn_statistics)
    pretext = make(name).train()
    videos = tuple(video_of(frames, fps) for frames in range(1, FRAMES, 3) for fps in RATES)
    found = usable(VideoSet("mixed", videos), pretext, seed=3)
    draws = [
        pretext.sample(v, drawn_statistics(v, pretext.needs.statistics), np.random.default_rng([3, number]))
        for number, v in enumerate(videos)
    ]
    assert found.videos == tuple(v for v, d in zip(videos, draws, strict=True) if isinstance(d, Sample))
    expected = [Problem(v.path, d.reason) for v, d in zip(videos, draws, strict=True) if isinstance(d, Skip)]
    assert list(found.problems) == expected
    assert len(found.videos) > 10 and len(expected) > 10


def test_where_lengths_decide_only_videos_that_fail_are_drawn():
    pretext, drawn = make("speediness").train(), []

    def sample(video, stats, rng):
        drawn.append(video.frames)
        return Skip("shorter than it should be")

    pretext.sample = sample
    found = usable(VideoSet("mixed", tuple(video_of(frames, 25.0) for frames in range(1, 200))), pretext)
    assert drawn == list(range(1, pretext.span)) and len(found.videos) == 200 - pretext.span


@every_pretext
def test_the_exported_network_is_among_what_is_kept(name):
    pretext = make(name)
    pretext.after_step(Progress(1, 2))
    kept = {id(x) for x in (*pretext.parameters(), *pretext.buffers())}
    exported = pretext.exported()
    assert isinstance(exported, Backbone) and {id(p) for p in exported.parameters()} <= kept


@every_pretext
def test_frames_are_asked_for_inside_the_video_and_never_wrapped(name, drawn):
    pretext = make(name).train()
    videos = for_modality(drawn, pretext.backbone.clip.modality).videos
    for number, frames in itertools.product(range(2), range(16, FRAMES, 9)):
        video = videos[number]
        stats = {key: x[:frames] for key, x in statistics_of(video, pretext.needs.statistics).items()}
        shorter = replace(video, info=replace(video.info, frames=frames))
        for seed in range(5):
            outcome = pretext.sample(shorter, stats, np.random.default_rng(seed))
            if isinstance(outcome, Sample):
                assert min(outcome.frames) >= 0 and max(outcome.frames) < frames


@every_pretext
def test_the_network_takes_the_clips_of_the_view_that_evaluations_use(name):
    pretext = make(name).eval()
    view, channels = pretext.view, pretext.backbone.clip.channels
    assert view.size <= view.short_side
    with torch.no_grad():
        features = pretext.backbone(torch.zeros(1, channels, view.frames, view.size, view.size))
    assert features.shape[1] == pretext.backbone.feature_dim


@every_pretext
def test_its_options_and_weights_build_it_again(name, batch_of):
    pretext = make(name).eval()
    backbone = build_backbone(pretext.backbone.architecture, **pretext.backbone.provenance.options)
    again = build_pretext(name, backbone, asdict(pretext.config)).eval()
    again.load_state_dict(pretext.state_dict())
    batch = batch_of(pretext)
    assert again.config == pretext.config
    assert loss_of(again, batch) == loss_of(pretext, batch)


@every_pretext
def test_what_each_sample_has_of_the_accuracy_comes_to_it(name, batch_of):
    pretext = make(name).eval()
    batch = batch_of(pretext)
    with torch.no_grad():
        output = pretext(batch, context_of(0, Progress(0, 1), Ranks()))
    if "accuracy" not in output.metrics:  # a pretext of numbers, such as CONTRIBUTING's, is not right or wrong
        assert output.right_B is None
        return
    assert output.right_B is not None and output.right_B.shape == (BATCH,)
    assert output.right_B.mean().item() == pytest.approx(output.metrics["accuracy"].item(), rel=1e-12)
