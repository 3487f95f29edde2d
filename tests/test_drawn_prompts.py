"""The plain drawn world: captions of prompts, periods of periodic motions, and how both are read back from files."""

import csv
import re
import shutil
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ssl_video.datasets.drawing.periodic import CYCLES, PERIODS
from ssl_video.datasets.drawing.prompts import MOTIONS, Prompt, prompt_of, vocabulary
from ssl_video.datasets.drawing.readers import period_of, read_cycle, read_prompt
from ssl_video.datasets.spec import load_splits
from ssl_video.datasets.synthetic import SyntheticConfig, draw, drawn_prompt, synthesize
from ssl_video.errors import UserError
from ssl_video.video.reader import read_frames

EVERY = [
    Prompt(colour, shape, motion, background)
    for colour in ("red", "yellow", "green", "cyan", "blue", "purple")
    for shape in ("circle", "square", "triangle", "cross")
    for motion in MOTIONS
    for background in ("dark", "gray", "light")
]


def words_of(prompt: Prompt) -> tuple[str, str, str]:
    return prompt.colour, prompt.shape, prompt.motion


# ---- captions


def test_a_caption_says_colour_shape_motion_and_background():
    caption = "a red circle drifts left on a dark background"
    assert Prompt("red", "circle", "drifts left", "dark").caption == caption
    assert prompt_of(f" {caption.replace(' ', '  ')} ") == Prompt("red", "circle", "drifts left", "dark")


def test_every_caption_is_understood_and_its_words_are_the_vocabulary():
    assert [prompt_of(prompt.caption) for prompt in EVERY] == EVERY
    assert vocabulary() == tuple(sorted({word for prompt in EVERY for word in prompt.caption.split()}))
    assert len(vocabulary()) == 28


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("a red cirle drifts left on a dark background", "'cirle'; did you mean 'circle'"),
        ("red circle", "is no caption of drawn prompts; write one as 'a red circle drifts left"),
        ("", "is no caption"),
    ],
)
def test_other_captions_are_one_sentence(caption, said):
    with pytest.raises(UserError, match=said):
        prompt_of(caption)


# ---- what is held out


def test_15_percent_of_the_combinations_are_held_out_evenly():
    held_out = {words_of(prompt) for prompt in EVERY if prompt.held_out}
    assert len(held_out) == 36 == 0.15 * 6 * 4 * 10
    assert set(Counter((colour, shape) for colour, shape, _ in held_out).values()) == {1, 2}
    assert set(Counter(motion for *_, motion in held_out).values()) == {3, 4}


def test_any_two_words_are_together_in_some_training_video():
    def pairs(prompts):
        return {pair for prompt in prompts for pair in combinations(words_of(prompt), 2)}

    assert pairs(p for p in EVERY if not p.held_out) == pairs(EVERY)


@pytest.mark.parametrize("seed", [0, 1])
def test_no_training_video_of_any_seed_shows_what_is_held_out_and_half_of_the_test_videos_do(seed):
    train = [drawn_prompt(n, seed=seed) for n in range(400)]
    test = [drawn_prompt(n, split="test", seed=seed) for n in range(160)]
    assert not any(prompt.held_out for prompt in train)
    assert [sum(p.held_out for p in test if p.motion == motion) for motion in MOTIONS] == [8] * 10


# ---- the files


@pytest.fixture(scope="module")
def prompts(tmp_path_factory) -> Path:
    return synthesize(
        tmp_path_factory.mktemp("prompts") / "set", SyntheticConfig("prompts", train=20, test=20), workers=1
    ).parent


@pytest.fixture(scope="module")
def shown(prompts) -> list[tuple[Prompt, np.ndarray]]:
    """What every video shows, and its decoded frames."""
    splits = load_splits(str(prompts))
    assert splits.test is not None
    videos = splits.train.videos + splits.test.videos
    return [(prompt_of(v.caption or ""), read_frames(v.path, range(64))) for v in videos]


def test_the_manifest_has_captions_of_what_is_drawn_and_motions_as_labels(prompts):
    splits = load_splits(str(prompts))
    assert splits.test is not None and splits.warnings == ()
    for train, videos in ((True, splits.train), (False, splits.test)):
        said = [prompt_of(v.caption or "") for v in videos.videos]
        assert said == [drawn_prompt(n, split="train" if train else "test") for n in range(20)]
        assert [videos.classes[v.label] for v in videos.videos] == [prompt.motion for prompt in said]


def test_a_list_says_of_every_video_what_is_held_out(prompts):
    with (prompts / "prompts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    for row in rows:
        prompt = Prompt(row["colour"], row["shape"], row["motion"], row["background"])
        assert (prompts / row["path"]).is_file()
        assert row["held_out"] == str(prompt.held_out).lower()
    assert Counter((row["split"], row["held_out"]) for row in rows) == {
        **{("train", "false"): 20, ("test", "false"): 10, ("test", "true"): 10}
    }


def test_an_interrupted_set_has_the_same_captions(prompts, tmp_path):
    out = Path(shutil.copytree(prompts, tmp_path / "set"))
    for name in ("manifest.csv", "prompts.csv"):
        (out / name).unlink()
    synthesize(out, SyntheticConfig("prompts", train=20, test=20), workers=1)
    for name in ("manifest.csv", "prompts.csv"):
        assert (out / name).read_bytes() == (prompts / name).read_bytes()


# ---- reading prompts


def wrong_words(shown, change) -> Counter:
    """How often each word was read otherwise from clips that were changed."""
    wrong: Counter = Counter()
    for number, (prompt, frames_THWC) in enumerate(shown):
        read = read_prompt(change(frames_THWC, np.random.default_rng(number)))
        for word in ("colour", "shape", "motion", "background"):
            wrong[word] += getattr(read, word) != getattr(prompt, word)
    return +wrong


def noisy(deviation: float):
    def change(frames_THWC, rng):
        return np.clip(frames_THWC + rng.normal(0, deviation, frames_THWC.shape), 0, 255).astype(np.uint8)

    return change


def blurred(pixels: float):
    return lambda frames_THWC, rng: gaussian_filter(frames_THWC, (0, pixels, pixels, 0))


def test_every_word_is_read_from_decoded_files(shown):
    assert wrong_words(shown, lambda frames_THWC, rng: frames_THWC) == {}


def test_sixteen_frames_over_half_of_a_video_are_enough(shown):
    def part(frames_THWC, rng):
        start = rng.integers(34)
        return frames_THWC[start : start + 31 : 2]

    assert wrong_words(shown, part).total() <= 1


@pytest.mark.parametrize("change", [noisy(20), blurred(1.5)], ids=["noise of 20 levels", "blur of 1.5 pixels"])
def test_noise_and_blur_up_to_here_change_no_word(shown, change):
    assert wrong_words(shown[::2], change) == {}


def test_a_blur_of_half_the_shape_leaves_colours_and_motions_but_not_outlines(shown):
    wrong = wrong_words(shown[::2], blurred(4))
    assert wrong.pop("shape") >= 3
    assert wrong == {}


def test_larger_videos_are_read_too():
    for number in range(0, 10, 3):
        assert read_prompt(draw("prompts", number, size=64, frames=32).frames_THWC) == drawn_prompt(number)


def test_where_there_is_no_shape_nothing_is_read():
    gray = np.full((16, 32, 32, 3), 120, np.uint8)
    assert read_prompt(gray) is None
    assert read_cycle(gray) is None
    assert read_prompt(noisy(20)(gray, np.random.default_rng(0))) is None


# ---- periodic motions


@pytest.fixture(scope="module")
def cycles(tmp_path_factory) -> list[tuple[str, dict[str, np.ndarray], np.ndarray]]:
    """Label, annotations and decoded frames."""
    out = tmp_path_factory.mktemp("cycles") / "set"
    folder = synthesize(out, SyntheticConfig("periodic", train=16, test=0), workers=1).parent
    train = load_splits(str(folder)).train

    def notes(name: str) -> dict[str, np.ndarray]:
        with np.load(folder / "annotations" / f"{name}.npz") as kept:
            return dict(kept)

    return [(train.classes[v.label], notes(v.group), read_frames(v.path, range(64))) for v in train.videos]


def test_periods_phases_and_paths_are_noted(cycles):
    for label, notes, _ in cycles:
        assert PERIODS[0] <= notes["period"] <= PERIODS[1]
        np.testing.assert_allclose(np.diff(notes["phase_T"]) % 1, 1 / notes["period"], atol=1e-6)
        again = draw("periodic", list(CYCLES).index(label))
        assert again.label == label and again.notes["centre_T2"].shape == (64, 2)


def test_a_caption_says_what_is_seen(tmp_path):
    folder = synthesize(tmp_path, SyntheticConfig("periodic", train=8, test=0), workers=1).parent
    for video in load_splits(str(folder)).train.videos:
        said = re.fullmatch(r"a (\w+) (\w+) (\w+) on a (\w+) background", video.caption)
        seen = read_prompt(read_frames(video.path, range(64)))
        assert said.groups() == (seen.colour, seen.shape, f"{Path(video.path).parent.name}s", seen.background)


@pytest.mark.parametrize("label", CYCLES)
def test_the_noted_path_is_that_of_the_phase(label):
    for number in range(list(CYCLES).index(label), 24, 4):
        scene = draw("periodic", number)
        x_T, y_T, scale_T = CYCLES[label](scene.phase_T.astype(float), 1.0)
        np.testing.assert_allclose(scene.notes["scale_T"], scale_T, atol=1e-5)
        for place_T, unit_T in zip(scene.notes["centre_T2"].T, (x_T, y_T), strict=True):
            basis_T2 = np.column_stack((np.ones(64), unit_T))  # at some place, of some reach
            fitted_2 = np.linalg.lstsq(basis_T2, place_T, rcond=None)[0]
            np.testing.assert_allclose(basis_T2 @ fitted_2, place_T, atol=1e-3)


def test_period_path_and_kind_are_read_from_decoded_files(cycles):
    for label, notes, frames_THWC in cycles:
        read = read_cycle(frames_THWC)
        assert read is not None and read.motion == label
        assert read.period == pytest.approx(float(notes["period"]), rel=0.005)
        assert np.linalg.norm(read.centre_T2 - notes["centre_T2"], axis=1).mean() < 0.3
        assert np.abs(read.scale_T / (notes["scale_T"] / np.median(notes["scale_T"])) - 1).max() < 0.1


def test_sixteen_of_every_second_frame_are_enough_for_the_period(cycles):
    for label, notes, frames_THWC in cycles:
        read = read_cycle(frames_THWC[10:41:2])
        assert read is not None and read.motion == label
        assert 2 * read.period == pytest.approx(float(notes["period"]), rel=0.03)


def test_key_frames_alias_what_is_faster_than_two_of_them(cycles):
    fast = [(n, f) for label, n, f in cycles if n["period"] < 14 and label != "pulse"]
    assert len(fast) >= 4
    wrong = 0
    for notes, frames_THWC in fast:
        read = read_cycle(frames_THWC[::8])
        wrong += read is None or abs(8 * read.period / float(notes["period"]) - 1) > 0.1
    assert wrong == len(fast)


def test_noise_leaves_the_period(cycles):
    for label, notes, frames_THWC in cycles[:8]:
        read = read_cycle(noisy(20)(frames_THWC, np.random.default_rng(0)))
        assert read is not None and read.motion == label
        assert read.period == pytest.approx(float(notes["period"]), rel=0.02)


def test_a_shape_that_stands_still_or_drifts_has_no_period():
    frames_THWC = draw("periodic", 0).frames_THWC
    still = read_cycle(np.repeat(frames_THWC[:1], 32, 0))
    assert still is not None and still.motion == ""


def test_the_period_of_a_sinusoid_is_exact():
    times_T = np.arange(40.0)
    state_TD = np.column_stack((np.sin(times_T * 2 * np.pi / 7.3), np.full(40, 3.0)))
    period, explained = period_of(times_T, state_TD - state_TD.mean(0), (2.2, 40))
    assert period == pytest.approx(7.3, rel=1e-3)
    assert explained == pytest.approx(1, abs=1e-4)
