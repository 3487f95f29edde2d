"""The protocol of drawn videos: what it says of a generator that is right, deaf, or copies, and of none at all."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_video.backbones.base import build_backbone
from ssl_video.capabilities import Conditions, Generates, Sampling
from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.drawing.prompts import prompt_of, prompt_scene
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.datasets.synthetic import SyntheticConfig, drawn_prompt, synthesize
from ssl_video.errors import UserError
from ssl_video.eval import generation
from ssl_video.eval.base import Task, evaluate
from ssl_video.eval.generated import Clips, clips_of, frozen, noise, pieces, shuffled
from ssl_video.eval.generation import GenerationConfig, own_loss, texts_for, unordered
from ssl_video.model import Model, load_model
from ssl_video.pretexts.base import build_pretext
from ssl_video.pretraining import write_weights
from ssl_video.run import Run
from ssl_video.video.view import View
from ssl_video.video.writer import write_video

VIEW = View(16, 2, 32, 32)
QUICK = {"clips": 20, "steps": 1, "loss_clips": 1}


class Draws:
    """Draws what a text says, or with ``deaf`` anything at all."""

    trained_for = frozenset({"unconditional"})
    takes_text = True
    vocabulary = ()

    def __init__(self, deaf: bool = False):
        self.deaf = deaf
        self.asked: list[str] = []

    def generate(self, shape_BTHW, conditions: Conditions, sampling: Sampling, generator, network=None):
        assert conditions.texts is not None and len(conditions.texts) == shape_BTHW[0]
        self.asked += conditions.texts
        clips = []
        for text in conditions.texts:
            number = int(torch.randint(1 << 40, (), generator=generator))
            prompt = drawn_prompt(number) if self.deaf else prompt_of(text)
            clips.append(prompt_scene(np.random.default_rng(number), prompt, 32, 32).frames_THWC[::2])
        return torch.from_numpy(np.stack(clips))


def model_of(draws: Draws, view: View = VIEW) -> Model:
    """A model whose backbone is not asked for anything."""
    torch.manual_seed(0)
    model = replace(load_model("random:r2plus1d_4?width=2"), name="drawing", view=view)
    for name in ("trained_for", "takes_text", "vocabulary", "generate"):
        setattr(model.backbone, name, getattr(draws, name))
    assert isinstance(model.backbone, Generates)
    return model


@pytest.fixture(scope="module")
def prompts(tmp_path_factory) -> Path:
    config = SyntheticConfig("prompts", frames=32, train=40, test=20)
    return synthesize(tmp_path_factory.mktemp("prompts") / "set", config, workers=1).parent


@pytest.fixture(scope="module")
def task(prompts) -> Task:
    splits = load_splits(str(prompts))
    assert splits.test is not None
    return Task("prompts", 1, scanned(splits.train), scanned(splits.test), workers=0)


@pytest.fixture(scope="module")
def numbers(task):
    """The metrics of a generator that draws what is said, and of one that does not listen."""
    return {
        name: evaluate("generation", model_of(Draws(deaf)), task, options=QUICK).metrics
        for name, deaf in (("right", False), ("deaf", True))
    }


def test_captions_of_the_test_list_are_what_is_asked_for(task):
    draws = Draws()
    evaluate("generation", model_of(draws), task, options=QUICK | {"clips": 30})
    assert task.test is not None
    listed = {v.caption for v in task.test.videos}
    assert len(draws.asked) == 30 and set(draws.asked) == listed


def test_words_that_a_model_does_not_know_are_left_out_of_what_is_asked_for(task):
    draws, test = Draws(), Clips(np.zeros((2, 4, 1, 1, 3), np.uint8), ("A red circle, spinning", "square"))
    draws.vocabulary = ("red", "circle", "a")
    assert texts_for(model_of(draws), test) == ["a red circle", ""]


def test_a_generator_that_draws_what_is_said_is_right_about_seen_and_held_out_words(numbers):
    for word in ("colour", "shape", "motion", "background"):
        assert numbers["right"][f"{word} right (seen)"] >= 0.9
        assert numbers["right"][f"{word} right (held out)"] >= 0.9
    assert numbers["right"]["whole with shuffled prompts"] < 0.05


def test_a_generator_that_does_not_listen_is_as_good_as_shuffled_prompts(numbers):
    both = [numbers["deaf"][f"motion right ({part})"] for part in ("seen", "held out")]
    assert np.mean(both) < 0.4
    assert abs(np.mean(both) - numbers["deaf"]["motion with shuffled prompts"]) < 0.3


def test_real_clips_are_near_noise_is_far_and_faults_lie_between(numbers):
    found = numbers["right"]
    assert max(found["frechet of test"], found["frechet of generated"]) < found["frechet of frozen"]
    assert found["frechet of frozen"] < found["frechet of noise"]
    assert max(found["mmd of test"], found["mmd of generated"]) < found["mmd of noise"]


def test_a_ladder_is_in_order_if_every_rung_is_farther(numbers):
    of = [numbers["deaf"][f"frechet of {name}"] for name in ("test", "generated", "noise")]
    assert numbers["deaf"]["ladder in order"] == float(of == sorted(of))


def test_motion_tells_still_and_shuffled_clips_from_real_ones(numbers):
    found = numbers["right"]
    assert found["flow distance of frozen"] > 3 * found["flow distance of test"]
    assert found["spectrum distance of frozen"] > 3 * found["spectrum distance of test"]
    assert found["spectrum distance of shuffled"] > 2 * found["spectrum distance of test"]
    assert found["warp error of shuffled"] > 1.3 * found["warp error of test"]
    assert found["warp error of noise"] > 10
    assert found["warp error of test"] == pytest.approx(1, rel=0.3)


def test_clips_that_were_drawn_anew_are_no_copies(numbers):
    assert numbers["right"]["flagged as copies"] == 0
    assert numbers["right"]["distance ratio"] == pytest.approx(1, rel=0.5)


# ---- videos in the place of drawn ones


def files_of(folder: Path, videos: VideoSet, view: View = VIEW) -> str:
    """Clips of videos as a generator would leave them: a file each, with as many frames as a clip."""
    for number, clip in enumerate(clips_of(videos, view, len(videos.videos), seed=3).clips_NTHWC):
        write_video(folder / f"{number:03d}.mp4", clip)
    return str(folder)


def test_a_folder_of_training_clips_is_flagged_as_copies(task, tmp_path):
    folder = files_of(tmp_path, task.train)
    found = evaluate("generation", model_of(Draws()), task, options=QUICK | {"videos": folder}).metrics
    assert found["flagged as copies"] == 1
    assert found["share nearer than test clips"] > 0.9
    assert found["distance to training clips"] < 8
    assert "motion right (seen)" not in found


def test_without_a_model_videos_are_seen_as_the_features_network_sees_them(task, prompts):
    found = evaluate("generation", None, task, options=QUICK | {"videos": str(prompts)})
    assert found.metrics["flagged as copies"] == 1
    assert found.metrics["shape right (seen)"] >= 0.9  # the list has captions
    assert found.model == "" and found.counts["clips"] == 20


@pytest.mark.parametrize("features", [(), ("",)])
def test_clips_are_not_compared_by_no_network(task, features):
    with pytest.raises(UserError, match="name one by features=NAME"):
        evaluate("generation", model_of(Draws()), task, options=QUICK | {"features": features})


def test_a_clip_that_was_written_as_a_file_is_read_as_it_was(task, tmp_path):
    files_of(tmp_path, task.train)
    listed = scanned(load_splits(str(tmp_path)).train)
    again, first = clips_of(listed, VIEW, 40, seed=0), clips_of(task.train, VIEW, 40, seed=3)
    number = {v.name: n for n, v in enumerate(again.videos)}
    order = [number[f"{tmp_path.name}/{n:03d}.mp4"] for n in range(40)]
    apart = again.clips_NTHWC[order].astype(float) - first.clips_NTHWC
    assert np.abs(apart).mean() < 4


def test_films_that_were_drawn_are_read_frame_by_frame_and_whole_however_long_they_are(task, tmp_path):
    clip_THWC = clips_of(task.train, View(32, 1, 32, 32), 1, seed=0).clips_NTHWC[0]
    write_video(tmp_path / "000.mp4", clip_THWC)
    longer = View(8, 2, 40, 32)  # frames that would be enlarged, and every second of them
    listed = scanned(load_splits(str(tmp_path)).train)

    def nearest() -> float:
        found_THWC = clips_of(listed, longer, 1, seed=0).clips_NTHWC[0].astype(float)
        return min(float(np.abs(found_THWC - clip_THWC[first : first + 8]).mean()) for first in range(25))

    assert nearest() > 6
    (tmp_path / "generate.json").write_text("{}")
    assert nearest() < 4


def test_the_loss_is_left_out_where_the_test_list_has_no_captions(task, tmp_path, caplog):
    videos = replace(task.test, videos=tuple(replace(v, caption=None) for v in task.test.videos))
    model = load_model(run(tmp_path / "video", 4, captions=True))
    with caplog.at_level("INFO", "ssl_video"):
        assert own_loss(model, replace(task, test=videos), GenerationConfig(**QUICK), 0) == {}
    assert "has no caption" in caplog.text


# ---- clips


def test_clips_are_spread_over_the_videos_and_do_not_depend_on_their_order(task):
    found = clips_of(task.train, VIEW, 50, seed=0)
    assert len(found.clips_NTHWC) == 50 and len(set(found.videos)) == 40
    turned = clips_of(replace(task.train, videos=task.train.videos[::-1]), VIEW, 40, seed=0)
    by_video = dict(zip(found.videos[:40], found.clips_NTHWC[:40], strict=True))
    assert all((by_video[v] == c).all() for v, c in zip(turned.videos, turned.clips_NTHWC, strict=True))


def test_pieces_hold_every_clip_whole(task, monkeypatch):
    monkeypatch.setattr("ssl_video.eval.generated.PIECE", 5)
    view = View(4, 3, 32, 32)
    one = replace(task.train, videos=task.train.videos[:1])
    parts = list(pieces(one, view))
    starts = [len(part) - view.span(one.videos[0]) + 1 for part in parts]
    assert sum(starts) == 32 - 9 and all(n > 0 for n in starts)
    monkeypatch.setattr("ssl_video.eval.generated.PIECE", 1000)
    (whole,) = pieces(one, view)
    assert (np.concatenate([p[:n] for p, n in zip(parts, starts, strict=True)]) == whole[: 32 - 9]).all()


def test_faults_change_motion_and_nothing_else():
    clips = np.random.default_rng(0).integers(0, 256, (3, 5, 8, 8, 3), np.uint8)
    assert (frozen(clips) == clips[:, [2] * 5]).all()
    mixed = shuffled(clips, 0)
    assert (np.sort(mixed, axis=1) == np.sort(clips, axis=1)).all() and (mixed != clips).any()
    assert noise(clips, 0).std() == pytest.approx(clips.std(), rel=0.2)


# ---- runs


def run(folder: Path, frames: int, average: float | None = None, captions: bool = False) -> str:
    """A run of random weights; with ``average`` its moving average is they times that."""
    torch.manual_seed(0)
    backbone = build_backbone("stunet", channels=(8, 16, 24), frames=8, temporal=frames > 1)
    options = {"frames": frames, "stride": 2 if frames > 1 else 1, "short_side": 16, "size": 16}
    options["captions"] = captions
    pretext, exported = build_pretext("video_diffusion", backbone, options), None
    if average is not None:
        for weight in backbone.parameters():  # the head begins as nothing
            weight.data += 0.05 * torch.randn_like(weight)
        exported = copy.deepcopy(backbone)
        for weight in exported.parameters():
            weight.data *= average
    write_weights(Run(folder), pretext, exported=exported)
    return str(folder)


def test_a_run_is_measured_with_its_loss_beside_the_floors_and_frames_of_an_image_network(task, tmp_path):
    model = load_model(run(tmp_path / "video", 4))
    options = QUICK | {"clips": 8, "images": run(tmp_path / "images", 1)}
    found = evaluate("generation", model, task, options=options).metrics
    assert {"loss", "loss_1", "loss_8", "pixel_std", "spectral_floor", "frechet of images"} <= found.keys()
    assert found["spectral_floor"] < found["pixel_std"]
    assert found["ladder in order"] == float(
        found["frechet of test"]
        <= found["frechet of generated"]
        <= found["frechet of images"]
        <= found["frechet of noise"]
    )


def test_the_loss_is_that_of_the_network_that_draws_and_not_of_the_one_whose_average_it_is(task, tmp_path):
    config = GenerationConfig(**QUICK)
    own, zero = (load_model(run(tmp_path / str(scale), 4, scale)) for scale in (1.0, 0.0))
    losses = [own_loss(model, task, config, 0) for model in (own, zero)]
    assert losses[0]["loss"] != losses[1]["loss"]
    velocity_variance = losses[1]["pixel_std"] ** 2 / 2 + 0.5  # a network of zeros says 0
    assert losses[1]["loss"] == pytest.approx(velocity_variance, rel=0.1)


def test_frames_of_another_kind_are_a_sentence(task, tmp_path):
    model = load_model(run(tmp_path / "video", 4))
    options = QUICK | {"clips": 8, "images": model.name}
    with pytest.raises(UserError, match=r"draws 4 frames of 16 pixels at a time, where single frames of 16 .*frames 1"):
        evaluate("generation", model, task, options=options)


@pytest.mark.parametrize("takes_text", [True, False])
def test_frames_of_an_image_network_that_make_a_clip_are_of_one_caption_where_it_takes_text(takes_text, monkeypatch):
    asked, drawing = [], Draws()
    drawing.takes_text = takes_text
    pixels = np.arange(16, dtype=np.uint8).reshape(16, 1, 1, 1, 1)
    monkeypatch.setattr(generation, "drawn", lambda model, count, texts, *_: asked.append(texts) or pixels)
    test = Clips(np.zeros((4, 4, 1, 1, 1), np.uint8), ("one", "two", "three", "four"))
    images = model_of(drawing, View(1, 1, 1, 1))
    clips_NTHWC = unordered(images, test, GenerationConfig(clips=4), View(4, 1, 1, 1), 0)
    assert clips_NTHWC[..., 0, 0, 0].tolist() == np.arange(16).reshape(4, 4).tolist()
    assert asked == [["one"] * 4 + ["two"] * 4 + ["three"] * 4 + ["four"] * 4 if takes_text else None]


# ---- what cannot be measured


def test_neither_a_model_nor_videos_is_a_sentence(task):
    with pytest.raises(UserError, match=r"needs a run that draws videos .*videos=SPEC"):
        evaluate("generation", None, task, options=QUICK)


def test_a_model_that_draws_nothing_is_a_sentence(task):
    with pytest.raises(UserError, match="needs a model that draws videos"):
        evaluate("generation", load_model("random:r2plus1d_4?width=2"), task, options=QUICK)


def test_a_model_that_only_fills_in_is_a_sentence(task):
    draws = Draws()
    draws.trained_for = frozenset({"inpainting"})
    with pytest.raises(UserError, match="trained to fill videos in"):
        evaluate("generation", model_of(draws), task, options=QUICK)


def test_a_model_of_single_frames_is_a_sentence(task):
    with pytest.raises(UserError, match="draws single frames; name it by images=RUN"):
        evaluate("generation", model_of(Draws(), View(1, 1, 32, 32)), task, options=QUICK)


def test_one_list_is_a_sentence(task):
    with pytest.raises(UserError, match="needs a training and a test list"):
        evaluate("generation", model_of(Draws()), replace(task, test=None), options=QUICK)
