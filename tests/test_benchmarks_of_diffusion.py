"""Benchmarks of video diffusion, their parts, at tiny size: what each prints is made of numbers that are known."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from benchmarks import best_denoiser, diffusion_features, resizing, seams, uses, words
from benchmarks.kept import Kept, check_same, kept_array, table
from benchmarks.key_frames import (
    MOTION,
    Plan,
    Real,
    alike,
    by_chance,
    draw_set,
    filled,
    from_keys,
    from_nothing,
    period_of,
    read,
    real_clips,
    spread,
)
from ssl_video.backbones.base import build_backbone
from ssl_video.capabilities import Sampling
from ssl_video.datasets.drawing.periodic import CYCLES
from ssl_video.datasets.masks import read_mask
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.datasets.synthetic import draw, drawn_prompt
from ssl_video.errors import UserError
from ssl_video.eval.generated import shuffled
from ssl_video.model import load_model
from ssl_video.pretexts.base import build_pretext
from ssl_video.pretraining import write_weights
from ssl_video.run import Run
from tests.nets import drawn_task

PLAN = Plan()
FAST = Sampling(steps=1)


def saved(folder, name="video_diffusion", **options):
    """A run of clips of five frames of 8 pixels, with random weights, none of them zero."""
    torch.manual_seed(0)
    upscales = name == "video_upscaling"
    shape = {"channels": (8, 16), "layers": 1, "frames": 5, "low_resolution": upscales}
    clip = {"frames": 5, "stride": 1, "short_side": 8, "size": 8, **({"factor": 2} if upscales else {})}
    pretext = build_pretext(name, build_backbone("stunet", **shape), clip | options)
    with torch.no_grad():
        for parameter in pretext.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    folder.mkdir()
    write_weights(Run(folder), pretext)
    return load_model(str(folder))


# what is kept


def test_what_is_there_is_not_made_again(tmp_path):
    assert Kept(tmp_path / "a.json").get("x", lambda: [1, None]) == [1, None]
    assert Kept(tmp_path / "a.json").get("x", lambda: pytest.fail("made again")) == [1, None]
    first = kept_array(tmp_path / "a.npy", lambda: np.arange(3))
    assert np.array_equal(first, kept_array(tmp_path / "a.npy", lambda: pytest.fail("made again")))


def test_what_was_made_with_other_options_is_not_taken_up(tmp_path):
    check_same(tmp_path, {"steps": 1, "sizes": (1, 2)})
    check_same(tmp_path, {"steps": 1, "sizes": (1, 2)})
    with pytest.raises(UserError, match="other options \\(steps differ\\)"):
        check_same(tmp_path, {"steps": 2, "sizes": (1, 2)})


def test_a_table_has_a_line_under_its_head():
    assert table(("a", "b"), [("x", 0.5), ("y", 2)]) == "| a | b |\n|---|---|\n| x | 0.500 |\n| y | 2 |"


# key frames


@pytest.fixture(scope="module")
def real():
    """Clips of shapes that go round, of known period and path."""
    scenes = [draw("periodic", n, split="test") for n in range(80) if n % 4 == list(CYCLES).index(MOTION)][:8]
    at = slice(0, PLAN.stride * (PLAN.frames - 1) + 1, PLAN.stride)
    clips, centres = (np.stack([s.frames_THWC[at] for s in scenes]), [s.notes["centre_T2"][at] for s in scenes])
    periods = np.array([float(s.notes["period"]) for s in scenes])
    return Real(clips, periods, np.stack(centres))


def test_both_sides_are_shown_as_many_frames():
    whole = PLAN.steps * PLAN.frames
    assert sum(PLAN.half_steps(n) * n for n in (PLAN.keys, PLAN.frames)) == pytest.approx(whole, rel=0.01)


def test_real_clips_are_one_cycle_of_the_right_period_on_the_right_path(real):
    cycles = read(real.clips_NTHWC, PLAN)
    below, above, off, count = from_keys(cycles, real, PLAN)
    assert (below, above, count) == (1, 1, 8) and off < 0.5
    of_real = np.array([period_of(cycle, PLAN) for cycle in cycles])
    one, fast, slow, distance, unexplained = from_nothing(cycles, of_real, PLAN)
    assert one == fast + slow == 1 and distance == 0 and unexplained < 0.1
    assert fast == (real.period_N < 16).mean()


def test_frames_out_of_order_are_no_cycle_and_an_empty_clip_is_off_the_path(real):
    assert from_nothing(read(shuffled(real.clips_NTHWC, 0), PLAN), real.period_N, PLAN)[0] < 0.2
    assert from_keys([None] * 8, real, PLAN) == [0, 0, np.inf, 8]


def test_twice_as_fast_is_not_right(real):
    slower = replace(real, period_N=2 * real.period_N)
    assert np.nansum(from_keys(read(real.clips_NTHWC, PLAN), slower, PLAN)[:2]) == 0


def test_chance_counts_the_other_clips_whose_period_is_near():
    real = Real(np.zeros(0), np.array([8.0, 8.4, 12.0, 20.0]), np.zeros(0))
    assert by_chance(real, PLAN)[:2] == [pytest.approx(2 / 3 / 3), 0]


def test_a_clip_of_the_test_list_comes_with_its_own_period_and_path(tmp_path):
    draw_set(tmp_path / "set", replace(PLAN, train=1, clips=4))
    found = real_clips(scanned(load_splits(str(tmp_path / "set")).test).videos, PLAN)
    below, above, off, count = from_keys(read(found.clips_NTHWC, PLAN), found, PLAN)
    assert count == 4 and off < 0.5 and np.nanmin([below, above]) == 1


@pytest.mark.parametrize("every", [4, 2])
def test_key_frames_stay_and_what_lies_between_is_drawn(tmp_path, every):
    model = saved(tmp_path / "run", unconditional=0, between=1, every=every)
    keys = np.random.default_rng(0).integers(0, 256, (2, 8 // every + 1, 8, 8, 3), dtype=np.uint8)
    clips = filled(model, spread(keys, 9, every), every, FAST)
    assert clips.shape == (2, 9, 8, 8, 3) and np.array_equal(clips[:, ::every], keys)
    assert clips[:, 1].any()


# features


def test_a_row_of_the_run_names_its_noise_and_the_untrained_network_has_none():
    rows = list(diffusion_features.rows_of("runs/a", ("mid", "up1"), (0.0, 0.1), ("net:clips",)))
    assert [row.spec for row in rows[:4]] == ["runs/a", "runs/a?noise=0.1"] * 2
    assert [(row.spec, row.stage) for row in rows[4:]] == [
        ("random:runs/a", "mid"),
        ("random:runs/a", "up1"),
        ("net:clips", ""),
    ]


def test_features_are_measured_by_noise_and_what_cannot_be_is_left_empty(tmp_path, monkeypatch):
    saved(tmp_path / "run")
    task = drawn_task(monkeypatch)
    row = diffusion_features.Row(str(tmp_path / "run"), "mid", 0.4)
    numbers = diffusion_features.probed(row, task, 1)
    assert numbers.keys() == {"linear", "knn"} and all(0 <= n <= 1 for n in numbers.values())
    none = diffusion_features.probed(replace(row, stage="nowhere"), task, 1)
    assert none == {"linear": None, "knn": None}


def test_stages_too_fine_for_propagation_are_left_out(tmp_path, monkeypatch):
    saved(tmp_path / "run")
    row = diffusion_features.Row(str(tmp_path / "run"), "up1", 0.0)
    assert diffusion_features.propagated(row, drawn_task(monkeypatch), 8) is None


# seams


def test_a_jump_where_a_window_begins_is_seen_and_smooth_motion_has_no_seam():
    smooth = np.broadcast_to(np.arange(12, dtype=np.uint8)[None, :, None, None, None], (2, 12, 4, 4, 3))
    jump = smooth + 50 * (np.arange(12) >= 5)[None, :, None, None, None].astype(np.uint8)
    assert seams.line("longer", smooth, None, 5, 0)[2:] == [1.0, 0.0, "", 2]
    assert seams.line("longer", jump, smooth, 5, 0)[2] > 10


def test_windows_of_any_overlap_begin_as_the_same_noise(tmp_path):
    model = saved(tmp_path / "run")
    one, two = (seams.longer(model, 2, 10, replace(FAST, overlap=overlap)) for overlap in (0, 2))
    assert one.shape == two.shape == (2, 10, 8, 8, 3)
    assert np.array_equal(one, seams.longer(model, 2, 10, replace(FAST, overlap=0))) and not np.array_equal(one, two)


def test_real_clips_are_made_small_and_large_again(tmp_path):
    model = saved(tmp_path / "run", "video_upscaling")
    clips = np.random.default_rng(0).integers(0, 256, (2, 7, 8, 8, 3), dtype=np.uint8)
    assert seams.larger(model, clips, FAST).shape == clips.shape


# uses


def test_sepia_is_no_way_from_sepia_and_pure_colours_are_far():
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    assert uses.from_sepia(uses.sepia(frames)) < 1
    assert uses.from_sepia(frames) > 20
    blue = np.full((1, 2, 2, 3), (0, 0, 255), np.uint8)
    assert uses.from_sepia(blue) == pytest.approx(255 * np.sqrt(1 - 0.55**2 / (1 + 0.64 + 0.55**2)))


def test_a_drawn_video_is_given_as_pictures_and_its_right_half_is_marked(tmp_path):
    given = uses.given_files(tmp_path, draw("prompts", 3, size=16, frames=4))
    assert len(list(given["video"].iterdir())) == 4 and given["image"].name == "00000.png"
    mask_HW = read_mask(given["mask"])
    assert (mask_HW > 0).tolist() == [[False] * 8 + [True] * 8] * 16


# words


@pytest.mark.parametrize("word", ["colour", "shape", "motion", "background"])
def test_one_word_of_each_caption_is_exchanged_and_no_other(word):
    before = [drawn_prompt(n) for n in range(30)]
    for a, b in zip(before, words.exchanged(before, word), strict=True):
        assert [f.name for f in fields(a) if getattr(a, f.name) != getattr(b, f.name)] == [word]


# resizing


def records(*losses):
    return [{"step": 10 * (n + 1), "loss": loss} for n, loss in enumerate(losses)]


def test_the_loss_at_a_step_is_the_last_one_that_was_noted():
    found = records(3.0, 2.0, 1.0)
    assert [resizing.at_step(found, "loss", step) for step in (5, 10, 29, 99)] == [None, 3, 2, 1]


def test_identity_is_compared_with_he_seed_by_seed(tmp_path):
    curves = {"identity": [records(3.0, 1.0), records(3.0, 2.0)], "he": [records(4.0, 2.0), records(4.0, 1.0)]}
    rows = resizing.rows_of(curves, (10, 20))
    assert rows == [
        ("training", 10, "3.0000 ± 0.0000", "4.0000 ± 0.0000", "2 of 2"),
        ("training", 20, "1.5000 ± 0.5000", "1.5000 ± 0.5000", "1 of 2"),
    ]
    resizing.draw(tmp_path / "curves.png", curves)
    assert (tmp_path / "curves.png").stat().st_size > 1000


# best_denoiser


def test_the_best_denoiser_of_two_clips_knows_which_it_is_or_takes_their_mean():
    known = best_denoiser.Drawn(torch.stack([torch.ones(6), -torch.ones(6)]).half(), torch.tensor([0, 1]))
    test = best_denoiser.Drawn(torch.ones(1, 6).half(), torch.tensor([0]))
    told, not_told, another, probable = best_denoiser.row(known, test, 1.0)  # nothing but noise
    assert (told, not_told, another, probable) == pytest.approx((0, 1, 4, 0.5), abs=1e-6)
    told, not_told, another, probable = best_denoiser.row(known, test, 0.05)  # hardly any
    assert (told, not_told, probable) == pytest.approx((0, 0, 1), abs=1e-6) and another > 100


def test_clips_of_the_best_denoiser_take_turns_in_motion():
    drawn = best_denoiser.clips(best_denoiser.RED_CIRCLE, 2, 0)
    assert drawn.motion_N.tolist() == [*range(10), *range(10)]
    assert drawn.clips_ND.shape == (20, 3 * 16 * 32 * 32) and drawn.clips_ND.abs().max() <= 1


@pytest.mark.parametrize(
    "period, found", [(8, [8]), (10, [20 / 3, 10]), (20, [40 / 3, 20]), (7, [7, 28 / 3]), (24, [6, 12, 24])]
)
def test_periods_that_look_alike_at_key_frames_turn_as_far_either_way(period, found):
    assert sorted(alike(period, 8)) == pytest.approx(found)
    assert np.cos(16 * np.pi / np.array(found)) == pytest.approx(np.cos(16 * np.pi / period))
