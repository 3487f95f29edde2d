"""Video diffusion: what is given, what is frozen, what it learns of words, and what it draws."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssl_video.backbones.base import build_backbone
from ssl_video.capabilities import Condition, Conditions, Generates, Sampling, Text
from ssl_video.datasets.base import VideoSet
from ssl_video.errors import UserError
from ssl_video.eval.shards import fingerprint
from ssl_video.model import load_model
from ssl_video.pretexts import video_diffusion as module
from ssl_video.pretexts.base import Context, Progress, Skip, build_pretext
from ssl_video.pretexts.denoising import by_noise
from ssl_video.pretexts.diffusion_core import RIGHT
from ssl_video.pretexts.given import TASKS, mask
from ssl_video.pretexts.texts import numbered, words_of
from ssl_video.pretexts.video_diffusion import VideoDiffusion
from ssl_video.pretrain_config import Choice, PretrainConfig
from ssl_video.pretraining import untrained, write_weights
from ssl_video.run import Run
from ssl_video.tensors import read_header
from ssl_video.train.config import OptimConfig, TrainingConfig
from ssl_video.train.data import ClipDataset, collate, tensors, usable
from ssl_video.train.loop import train
from ssl_video.train.optim import build_optimizer
from ssl_video.train.pace import measure_pace
from tests.nets import drawn_frames, tiny_backbone, video_set

OPTIONS = {"frames": 4, "stride": 1, "short_side": 16, "size": 16}
NETWORK = {"channels": (8, 16, 24), "frames": 4, "words": 8}
SOME = {"unconditional": 1.0, "first_frame": 1.0, "inpainting": 1.0, "cinemagraph": 1.0, "between": 1.0, "every": 2}
FAST = Sampling(steps=3)


def make(network: dict | None = None, **options) -> VideoDiffusion:
    torch.manual_seed(0)
    backbone = build_backbone("stunet", **{**NETWORK, **(network or {})})
    pretext = build_pretext("video_diffusion", backbone, OPTIONS | options)
    assert isinstance(pretext, VideoDiffusion)
    return pretext


def woken(pretext: VideoDiffusion) -> VideoDiffusion:
    """With numbers where layers begin as zero: as a trained network, it heeds what it is told."""
    torch.manual_seed(1)
    for tensor in pretext.parameters():
        if not tensor.any():
            nn.init.normal_(tensor, std=0.1)
    return pretext.eval()


def captioned() -> VideoSet:
    videos = video_set().videos
    said = ("a red dot", "a Blue dot, fast")
    return VideoSet("said", tuple(replace(v, caption=said[n % 2]) for n, v in enumerate(videos)))


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def context(number: int = 0) -> Context:
    return Context(Progress(0, 1), seed(number))


def batch_of(pretext: VideoDiffusion, videos: VideoSet | None = None, B: int = 4) -> dict[str, Tensor]:
    dataset = ClipDataset(videos or video_set(), pretext, 0, drawn_frames)
    return tensors(collate([dataset[0, n, 0] for n in range(B)]), torch.device("cpu"))


def config(options: dict | None = None, network: dict | None = None, **training) -> PretrainConfig:
    training = {"batch_size": 4, "workers": 0, "checkpoint_every": 2, **training}
    pretext, backbone = OPTIONS | (options or {}), NETWORK | (network or {})
    return PretrainConfig(
        Choice("video_diffusion", pretext), Choice("stunet", backbone), training=TrainingConfig(**training)
    )


def trained(run: Run, made: PretrainConfig, videos: VideoSet | None = None):
    """The pretext as it is after training, and what counts of it; the weights are written."""
    pretext = untrained(made)
    counts = train(pretext, ClipDataset(videos or video_set(), pretext, 0, drawn_frames), made.training, run)
    write_weights(run, pretext, exported=counts.exported())
    return pretext, counts


# what is given


def drawn_masks(task: str, size=(8, 12, 16)) -> list[np.ndarray]:
    return [mask(task, size, 3, np.random.default_rng(n)) for n in range(40)]


def test_nothing_the_first_frame_or_every_third_is_given():
    expected = {"unconditional": [], "first_frame": [0], "between": [0, 3, 6]}
    for task, frames in expected.items():
        for given_THW in drawn_masks(task):
            assert np.flatnonzero(given_THW.all((1, 2))).tolist() == frames
            assert np.flatnonzero(given_THW.any((1, 2))).tolist() == frames


def holes(given_THW: np.ndarray) -> dict[int, tuple[int, ...]]:
    """Frame -> top, left, height and width of what is missing in it, which must be a box."""
    found = {}
    for number, frame_HW in enumerate(given_THW == 0):
        if frame_HW.any():
            rows, columns = (np.flatnonzero(frame_HW.any(axis)) for axis in (1, 0))
            box = (rows[0], columns[0], len(rows), len(columns))
            assert frame_HW.sum() == box[2] * box[3]
            found[number] = tuple(map(int, box))
    return found


def test_of_an_inpainting_a_box_of_one_size_is_missing_in_half_of_the_frames_or_more_and_moves():
    moved = False
    for given_THW in drawn_masks("inpainting"):
        boxes = holes(given_THW)
        assert len(boxes) >= 4 and list(boxes) == list(range(min(boxes), max(boxes) + 1))
        assert len({box[2:] for box in boxes.values()}) == 1
        assert all(3 <= h <= 9 and 4 <= w <= 12 for _, _, h, w in boxes.values())
        moved |= len({box[:2] for box in boxes.values()}) > 3
    assert moved


def test_of_a_cinemagraph_the_first_frame_is_whole_and_one_box_is_missing_in_all_others():
    for given_THW in drawn_masks("cinemagraph"):
        boxes = holes(given_THW)
        assert list(boxes) == list(range(1, 8)) and len(set(boxes.values())) == 1


def test_a_clip_of_one_frame_has_masks_too():
    for task in TASKS:
        assert mask(task, (1, 8, 8), 2, np.random.default_rng(0)).shape == (1, 8, 8)


def test_tasks_are_drawn_by_their_shares_and_at_test_nothing_is_given():
    pretext = make(first_frame=3.0)
    frames = np.zeros((4, 16, 16, 3), np.uint8)
    rng = np.random.default_rng(0)
    first = [bool(pretext.transform(frames, None, rng)["mask_THW"].any()) for _ in range(200)]
    assert np.mean(first) == pytest.approx(0.75, abs=0.1)
    assert not any(pretext.eval().transform(frames, None, rng)["mask_THW"].any() for _ in range(20))
    between = make(unconditional=0.0, between=1.0, every=2).eval()
    assert between.transform(frames, None, rng)["mask_THW"].all((1, 2)).tolist() == [True, False, True, False]


def test_the_network_is_told_the_given_pixels_and_zeros_elsewhere(monkeypatch):
    pretext, told = make(first_frame=1.0, unconditional=0.0), []
    network = pretext.backbone.network
    denoise = network.denoise
    monkeypatch.setattr(network, "denoise", lambda x, c: told.append(c) or denoise(x, c))
    batch = batch_of(pretext)
    pretext(batch, context())
    clip_BCTHW = pretext.backbone.normalise(batch["clip_THWC"])
    assert torch.equal(told[0].given_BCTHW[:, :, 0], clip_BCTHW[:, :, 0])
    assert not told[0].given_BCTHW[:, :, 1:].any()
    assert told[0].mask_B1THW.mean((0, 1, 3, 4)).tolist() == [1, 0, 0, 0]


# the loss


def test_the_loss_of_a_network_that_says_zero_is_the_mean_square_of_the_velocity():
    pretext = make()
    output = pretext(batch_of(pretext), context())
    there = module.noised(pretext.backbone.normalise(batch_of(pretext)["clip_THWC"]), context(), 1.0)
    assert output.loss.item() == pytest.approx(there.v.square().mean().item(), rel=1e-6)
    assert 0 < output.metrics["spectral_floor"] < output.metrics["pixel_std"] < 1


def test_more_noise_is_for_training_and_at_test_losses_of_all_runs_can_be_compared():
    even, more = make(shift=1.0), make(shift=6.0)
    batch = batch_of(even)
    trained_on = [pretext.train()(batch, context()).metrics for pretext in (even, more)]
    assert "pixel_std" in trained_on[0] and "pixel_std" not in trained_on[1]
    at_test = [pretext.eval()(batch, context()) for pretext in (even, more)]
    torch.testing.assert_close(at_test[0].loss, at_test[1].loss)
    torch.testing.assert_close(at_test[0].metrics, at_test[1].metrics)


def test_losses_by_noise_are_means_over_their_bins_and_of_the_nearest_where_a_bin_is_empty():
    theta_N = RIGHT / 8 * torch.tensor([0.5, 1.2, 1.6, 4.4, 8.0])
    found = by_noise(torch.tensor([1.0, 2.0, 4.0, 6.0, 8.0]), theta_N)
    assert found.tolist() == [1, 3, 4, 6, 6, 6, 8, 8]


def test_twenty_steps_lower_the_loss():
    pretext = make()
    optimizer = torch.optim.AdamW(pretext.parameters(), 3e-3)
    batch = batch_of(pretext, B=8)

    def measured() -> float:
        with torch.no_grad():
            return sum(pretext(batch, context(number)).loss.item() for number in range(100, 104))

    before = measured()
    for step in range(20):
        loss = pretext(batch, context(step)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert measured() < 0.85 * before


# two phases


@pytest.fixture(scope="module")
def phases(tmp_path_factory):
    """A network of images, and what a second phase with a moving average has made of it."""
    folder: Path = tmp_path_factory.mktemp("phases")
    images, videos = Run(folder / "images"), Run(folder / "videos")
    optim = OptimConfig(lr=1e-2, ema=0.5)
    trained(images, config({"frames": 1, "captions": True}, {"temporal": False}, steps=3, optim=optim), captioned())
    second = {"freeze_spatial": True, "first_frame": 1.0, "captions": True}
    weights = {"weights": str(images.backbone_file)}
    made = config(second, weights, steps=3, optim=optim)
    return images, videos, *trained(videos, made, captioned())


def test_what_the_image_network_has_is_the_same_to_the_bit_behind_the_second_phase(phases):
    images, videos, student, average = phases
    before = load_model(str(images)).backbone.network
    for network in (student.backbone.network, average.backbone.network, load_model(str(videos)).backbone.network):
        after = network.state_dict()
        parts = network.part_of
        changed = {name for name, tensor in before.state_dict().items() if not torch.equal(tensor, after[name])}
        assert {parts[name] for name in changed} == {"given", "text"}
        assert {parts[name] for name in set(parts) - set(before.state_dict())} == {"temporal"}


def test_only_what_was_added_is_in_the_optimiser():
    pretext = make(freeze_spatial=True)
    chosen = {id(p) for group in build_optimizer(OptimConfig(), pretext).param_groups for p in group["params"]}
    parts = pretext.backbone.network.part_of
    for name, parameter in pretext.backbone.network.named_parameters():
        assert (id(parameter) in chosen) == (parts[name] != "spatial"), name


def test_the_words_of_the_first_phase_are_known_in_the_second(phases):
    images, videos, *_ = phases
    for run in (images, videos):
        model = load_model(str(run))
        assert model.need(Generates).vocabulary == ("a", "blue", "dot", "fast", "red")
        assert model.backbone.network.vocabulary == ("a", "blue", "dot", "fast", "red")
        assert read_header(run.backbone_file)["supervision"] == "captions"


def test_the_untrained_twin_knows_the_words_too(phases):
    _, videos, *_ = phases
    twin = load_model(f"random:{videos}")
    assert twin.need(Generates).vocabulary == ("a", "blue", "dot", "fast", "red")


def test_a_runs_network_can_be_judged_at_another_noise(phases):
    _, videos, *_ = phases
    clean, noisy = load_model(str(videos)), load_model(f"{videos}?noise=0.2")
    clips = frames()
    assert not torch.allclose(clean.dense_map(clips, "up2"), noisy.dense_map(clips, "up2"), atol=1e-3)
    assert (noisy.view, noisy.trained_on, noisy.run["options"]["noise"]) == (clean.view, clean.trained_on, 0.2)
    by_net = load_model(f"net:stunet?weights={videos.backbone_file}&channels=8,16,24&frames=4&words=8&noise=0.2")
    torch.testing.assert_close(by_net.dense_map(clips, "up2"), noisy.dense_map(clips, "up2"))
    assert load_model(f"random:{videos}?noise=0.2").backbone.network.noise == 0.2
    assert len({fingerprint(model) for model in (clean, noisy, by_net)}) == 3  # no features are those of another


def test_freezing_all_that_there_is_is_refused():
    with pytest.raises(UserError, match=r"leaves out; drop one of the two"):
        make({"temporal": False}, freeze_spatial=True)


def test_freezing_what_no_image_network_has_learned_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"name its run by --backbone\.weights"):
        trained(Run(tmp_path / "run"), config({"freeze_spatial": True}, steps=1))


def test_a_second_phase_is_resumed_where_the_network_of_images_is_gone(tmp_path):
    made = config({"freeze_spatial": True}, {"weights": str(tmp_path / "gone.safetensors")}, steps=40)
    pretext = untrained(made, weights=False)
    pace = measure_pace(pretext, ClipDataset(video_set(), pretext, 0, drawn_frames), made.training)
    assert pace.step_s > 0  # what is left is estimated


def test_a_resumed_training_ends_as_one_that_did_not_stop(tmp_path):
    optim = OptimConfig(schedule="constant", warmup=0.0, ema=0.9)
    options = {**SOME, "captions": True}
    run = Run(tmp_path / "stopped")
    trained(run, config(options, steps=2, optim=optim), captioned())
    _, resumed = trained(run, config(options, steps=4, optim=optim), captioned())
    _, whole = trained(Run(tmp_path / "whole"), config(options, steps=4, optim=optim), captioned())
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in resumed.state_dict().items())


# text


def test_words_are_small_and_without_commas():
    assert words_of("A red-hot Circle, 2 times!") == ["a", "red-hot", "circle", "2", "times"]


def test_an_unknown_word_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="The word 'circel' of 'a circel' is not known; did you mean 'circle'"):
        numbered(["a circel"], ("a", "circle", "red"), torch.device("cpu"))


def test_texts_of_different_lengths_are_filled_up():
    text = numbered(["red", "a red", ""], ("a", "red"), torch.device("cpu"))
    assert text.words_BL.tolist() == [[1, -1], [0, 1], [-1, -1]]
    assert text.known_BL.tolist() == [[True, False], [True, True], [False, False]]


def test_a_video_without_a_caption_is_skipped_only_where_captions_are_asked_for():
    (video,) = video_set(1).videos
    skipped = make(captions=True).sample(video, {}, np.random.default_rng(0))
    assert isinstance(skipped, Skip) and skipped.reason == "has no caption"
    assert not isinstance(make().sample(video, {}, np.random.default_rng(0)), Skip)


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("dot " * 65, "has a caption of more than 64 words"),
        ("a " + "o" * 33, f"has a caption with the word '{'o' * 33}', which is longer than 32 bytes"),
        ("a" * 513, "has a caption longer than 512 bytes"),
    ],
)
def test_a_video_whose_caption_cannot_be_read_is_skipped_with_the_reason(caption, reason):
    video = replace(video_set(1).videos[0], caption=caption)
    skipped = make(captions=True).sample(video, {}, np.random.default_rng(0))
    assert isinstance(skipped, Skip) and skipped.reason == reason


def test_where_no_video_has_a_caption_it_is_said_what_to_do():
    with pytest.raises(
        UserError, match=r"the first: has no caption\); give them captions, or leave --pretext.captions"
    ):
        usable(video_set(), make(captions=True))


def test_words_that_training_did_not_know_are_passed_over_in_captions_of_other_videos(monkeypatch):
    pretext, read = make(captions=True, dropped=0.0).eval(), []
    pretext.backbone.network.learn_words(("a", "dot", "red"))
    denoise = pretext.backbone.network.denoise
    monkeypatch.setattr(pretext.backbone.network, "denoise", lambda x, c: read.append(c.text) or denoise(x, c))
    pretext(batch_of(pretext, captioned(), B=2), context())
    assert read[0].words_BL.tolist() == [[0, 2, 1], [0, 1, -1]]  # "a red dot" and "a Blue dot, fast"


def test_captions_are_off_and_mark_a_run_where_they_are_on():
    assert "caption_L" not in batch_of(make(), captioned())
    assert make().supervision == "" and make(captions=True).supervision == "captions"
    later = make()  # as one that starts from such a network
    later.backbone.network.learn_words(("red",))
    assert later.supervision == "captions"


def test_clips_are_not_mirrored_where_captions_may_say_left():
    frames = np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3), dtype=np.uint8)
    sample = make(captions=True).sample(captioned().videos[0], {}, np.random.default_rng(0))
    shown = [make(captions=True).transform(frames, sample, np.random.default_rng(n))["clip_THWC"] for n in range(8)]
    assert all((clip == frames).all() for clip in shown)
    mirrored = [make().transform(frames, sample, np.random.default_rng(n))["clip_THWC"] for n in range(8)]
    assert not all((clip == frames).all() for clip in mirrored)


def test_the_asked_fraction_of_captions_is_left_out(monkeypatch):
    pretext, known = make(captions=True, dropped=0.5), []
    batch = batch_of(pretext, captioned())
    pretext.fit([{"caption_L": row.numpy()} for row in batch["caption_L"]], np.random.default_rng(0))
    network = pretext.backbone.network
    denoise = network.denoise
    monkeypatch.setattr(network, "denoise", lambda x, c: known.append(c.text.known_BL.any(1)) or denoise(x, c))
    for number in range(30):
        pretext(batch, context(number))
    assert torch.cat(known).float().mean().item() == pytest.approx(0.5, abs=0.15)
    known.clear()
    pretext.eval()
    pretext(batch, context())
    assert torch.cat(known).all()  # what is measured at test is with all of them


# drawing videos


def ask(
    pretext: VideoDiffusion, shape=(2, 4, 16, 16), sampling: Sampling = FAST, number: int = 0, **conditions
) -> Tensor:
    return pretext.generate(shape, Conditions(**conditions), sampling, seed(number))


def frames(B: int = 2, T: int = 4, side: int = 16, number: int = 5) -> Tensor:
    return torch.randint(0, 256, (B, T, side, side, 3), generator=seed(number), dtype=torch.uint8)


def test_a_seed_draws_the_same_videos_and_another_others():
    pretext = woken(make())
    one = ask(pretext)
    assert one.shape == (2, 4, 16, 16, 3) and one.dtype == torch.uint8
    assert torch.equal(one, ask(pretext)) and not torch.equal(one, ask(pretext, number=1))
    assert not torch.equal(one[0], one[1])


def test_what_is_given_comes_back_to_the_bit_and_the_rest_differs_by_seed():
    pretext, given = woken(make(**SOME)), frames()
    mask_BTHW = torch.rand(2, 4, 16, 16, generator=seed()) < 0.5
    one, other = (ask(pretext, number=n, given_BTHWC=given, mask_BTHW=mask_BTHW) for n in (0, 1))
    for found in (one, other):
        assert torch.equal(found[mask_BTHW], given[mask_BTHW])
    assert not torch.equal(one, other)


def test_what_is_given_changes_the_rest():
    pretext, first = woken(make(**SOME)), torch.zeros(2, 4, 16, 16, dtype=torch.bool)
    first[:, 0] = True
    one, other = (ask(pretext, given_BTHWC=frames(number=n), mask_BTHW=first) for n in (5, 6))
    assert not torch.equal(one[:, 1:], other[:, 1:])
    changed = frames()
    changed[:, 1:] = 0  # what is not given is not looked at
    assert torch.equal(one, ask(pretext, given_BTHWC=changed, mask_BTHW=first))


def test_without_strength_an_edit_gives_back_what_it_started_from_and_with_more_it_goes_farther():
    pretext, start = woken(make()), frames()
    assert torch.equal(ask(pretext, start_BTHWC=start, strength=0.0), start)
    far = [(ask(pretext, start_BTHWC=start, strength=s).float() - start).abs().mean().item() for s in (0.05, 0.3, 1.0)]
    assert far == sorted(far)
    assert torch.equal(ask(pretext, start_BTHWC=start), ask(pretext))  # all of it forgotten


def spoken() -> VideoDiffusion:
    pretext = woken(make(captions=True))
    pretext.backbone.network.learn_words(("a", "red", "blue"))
    return pretext


def test_guidance_of_one_is_the_text_and_of_none_is_silence():
    pretext, texts = spoken(), ("a red", "a blue")
    passes: list[Text] = []
    network = pretext.backbone.network
    denoise = network.denoise
    network.denoise = lambda x, c: passes.append(c.text) or denoise(x, c)
    silent = ask(pretext, sampling=replace(FAST, guidance=0.0), texts=texts)
    passes.clear()
    told = ask(pretext, texts=texts)
    assert len(passes) == 3 and all(text.known_BL.all() for text in passes)
    assert torch.equal(silent, ask(pretext)) and not torch.equal(silent, told)
    twice = replace(FAST, guidance=2.0)
    passes.clear()
    assert not torch.equal(ask(pretext, sampling=twice, texts=texts), told) and len(passes) == 6


def test_videos_longer_and_larger_than_trained_are_made_of_windows_and_none_is_left_out():
    pretext = woken(make())
    seen: list[tuple[int, ...]] = []
    network = pretext.backbone.network
    denoise = network.denoise
    network.denoise = lambda x, c: seen.append(tuple(x.shape[2:])) or denoise(x, c)
    found = ask(pretext, (1, 11, 16, 24), replace(FAST, steps=1))
    assert found.shape == (1, 11, 16, 24, 3)
    assert set(seen) == {(4, 16, 16)} and len(seen) == 5 * 2
    assert found.float().std((2, 3, 4)).min() > 0
    assert not any(torch.equal(found[:, t], found[:, t + 1]) for t in range(10))


def test_windows_see_their_share_of_what_is_given():
    pretext, given = woken(make(**SOME)), frames(1, 11)
    first = torch.zeros(1, 11, 16, 16, dtype=torch.bool)
    first[:, 0] = True
    shares: list[float] = []
    network = pretext.backbone.network
    denoise = network.denoise
    network.denoise = lambda x, c: shares.append(c.mask_B1THW.mean().item()) or denoise(x, c)
    found = ask(pretext, (1, 11, 16, 16), replace(FAST, steps=1), given_BTHWC=given, mask_BTHW=first)
    assert shares == [0.25, 0, 0, 0, 0] and torch.equal(found[:, 0], given[:, 0])


def test_another_network_draws_where_it_is_named(phases):
    _, videos, *_ = phases
    model = load_model(str(videos))
    generates = model.need(Generates)
    assert generates.takes_text and generates.trained_for == {"unconditional", "first_frame"}
    own, average = (
        generates.generate((1, 4, 16, 16), Conditions(), FAST, seed(), network) for network in (None, model.backbone)
    )
    assert not torch.equal(own, average)


def test_heun_and_fresh_noise_draw_too():
    pretext = woken(make())
    plain = ask(pretext)
    for other in (replace(FAST, solver="heun"), replace(FAST, eta=1.0)):
        assert not torch.equal(ask(pretext, sampling=other), plain)
        assert torch.equal(ask(pretext, sampling=other), ask(pretext, sampling=other))


def test_the_network_itself_is_not_changed_by_drawing():
    pretext = woken(make())
    before = {k: v.clone() for k, v in pretext.state_dict().items()}
    ask(pretext)
    assert all(torch.equal(v, before[k]) for k, v in pretext.state_dict().items())
    assert torch.is_grad_enabled()


# what cannot be asked


@pytest.mark.parametrize(
    ("options", "conditions", "sentence"),
    [
        ({}, {"texts": ("a", "a")}, "trained without captions, so it takes no text"),
        ({"captions": True}, {"texts": ("a",)}, "2 videos need as many texts, not 1"),
        ({"captions": True}, {"texts": ("purpl", "a")}, "'purpl' of 'purpl' is not known"),
        (SOME, {"given_BTHWC": frames()}, "needs a mask that says where"),
        (SOME, {"mask_BTHW": torch.ones(2, 4, 16, 16, dtype=torch.bool)}, "a mask needs what is given"),
        (SOME, {"given_BTHWC": frames(side=8), "mask_BTHW": torch.ones(2, 4, 16, 16, dtype=torch.bool)},
         "What is given is of 2 x 4 x 8 x 8 .*, not of 2 x 4 x 16 x 16"),
        ({}, {"given_BTHWC": frames(), "mask_BTHW": torch.ones(2, 4, 16, 16, dtype=torch.bool)},
         "trained with nothing given"),
        ({}, {"start_BTHWC": frames(), "strength": 1.5}, "A strength is from 0"),
        ({}, {"start_BTHWC": frames(1)}, "What is to start from is of 1 x 4"),
    ],
)  # fmt: skip
def test_what_a_run_cannot_do_is_one_sentence(options, conditions, sentence):
    with pytest.raises(UserError, match=sentence):
        ask(make(**options), **conditions)


def test_options_that_cannot_be_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="No task has a share"):
        make(unconditional=0.0)
    with pytest.raises(UserError, match=r"add --pretext\.captions"):
        make(encoder=str(tmp_path))
    with pytest.raises(UserError, match=r"needs a backbone that tells a clip from noise \(stunet\)"):
        build_pretext("video_diffusion", tiny_backbone(), OPTIONS)
    with pytest.raises(UserError, match=r"leave --backbone\.low-resolution out"):
        make({"low_resolution": True})


def test_more_words_than_places_are_one_sentence():
    pretext = make({"words": 2}, captions=True)
    with pytest.raises(UserError, match=r"5 words, and the network has places for 2; use --backbone\.words 5"):
        train(
            pretext,
            ClipDataset(captioned(), pretext, 0, drawn_frames),
            TrainingConfig(steps=1, batch_size=4, workers=0),
            Run(Path("nowhere")),
        )


def test_its_network_is_judged_like_any_other():
    pretext = woken(make())
    clip = pretext.backbone.normalise(frames())
    assert pretext.backbone(clip, until="up2").shape == (2, 16, 2, 4, 4)
    condition = Condition(torch.zeros(2))
    torch.testing.assert_close(pretext.backbone(clip, condition=condition), pretext.backbone(clip))
