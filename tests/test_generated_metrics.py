"""How generated clips are compared with real ones: distances, motion, copies, prompts; against slow or closed forms."""

import itertools

import numpy as np
import pytest
import scipy.linalg

from ssl_video.datasets.drawing.prompts import Prompt, prompt_of
from ssl_video.datasets.synthetic import draw, drawn_prompt
from ssl_video.eval import copies
from ssl_video.eval.clip_motion import BINS, flow_distance, motion_of, pulled_back, spectrum, spectrum_distance
from ssl_video.eval.copies import judged, nearest
from ssl_video.eval.distances import Axes, frechet, mmd
from ssl_video.eval.prompt_accuracy import of_clips, prompt_accuracy


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# ---- Frechet distance and MMD


def test_the_frechet_distance_of_gaussians_is_the_closed_form():
    """Moments are made exact, so that no sampling error is left: |m|^2 + sum (s - 1)^2 for diagonal covariances."""
    x = normal(400, 5)
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    mean, spread = np.array([1.0, 0, -2, 0, 0.5]), np.array([1.0, 2, 0.5, 3, 1])
    assert frechet(x, x * spread + mean) == pytest.approx((mean**2).sum() + ((spread - 1) ** 2).sum(), rel=1e-9)


def test_the_frechet_distance_is_that_with_a_matrix_root():
    x, y = normal(60, 4) @ normal(4, 4, seed=1), normal(70, 4, seed=2) @ normal(4, 4, seed=3) + 1
    of_x, of_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    apart = ((x.mean(0) - y.mean(0)) ** 2).sum()
    slow = apart + np.trace(of_x + of_y - 2 * np.real(scipy.linalg.sqrtm(of_x @ of_y)))
    assert frechet(x, y) == pytest.approx(slow, rel=1e-6)
    assert frechet(x, y) == pytest.approx(frechet(y, x), rel=1e-9)


def test_the_frechet_distance_of_a_set_from_itself_is_zero_and_of_one_column_too():
    assert frechet(normal(50, 3), normal(50, 3)) == pytest.approx(0, abs=1e-9)
    assert frechet(normal(50, 1), 2 * normal(50, 1) + 3) > 8


def test_mmd_is_the_mean_over_pairs():
    x, y = normal(5, 3), normal(4, 3, seed=1) + 0.5

    def kernel(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / 3 + 1) ** 3

    within = [np.mean([kernel(a, b) for a, b in itertools.permutations(rows, 2)]) for rows in (x, y)]
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert mmd(x, y) == pytest.approx(sum(within) - 2 * across, rel=1e-12)


def test_mmd_of_two_samples_of_one_distribution_is_zero_in_the_mean():
    found = [mmd(normal(20, 3, seed=n), normal(30, 3, seed=1000 + n)) for n in range(400)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 20
    assert min(found) < 0
    assert np.mean([mmd(normal(20, 3, seed=n), normal(30, 3, seed=1000 + n) + 1) for n in range(50)]) > 1


def test_axes_are_those_of_the_largest_variance_and_of_unit_variance_in_the_mean():
    real = normal(300, 100) * np.linspace(10, 0.1, 100)
    axes = Axes.of(real)
    reduced = axes.of_features(real)
    assert reduced.shape == (300, 64)
    assert reduced.mean(0) == pytest.approx(np.zeros(64), abs=1e-9)
    assert reduced.var(0, ddof=1).mean() == pytest.approx(1)
    covariance = np.cov(reduced, rowvar=False)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-9
    largest = np.sort(np.linalg.eigvalsh(np.cov(real, rowvar=False)))[::-1][:64]
    assert np.diag(covariance) == pytest.approx(largest / largest.mean())


@pytest.mark.parametrize(("rows", "axes"), [(2, 1), (16, 7), (200, 8)])
def test_few_clips_get_few_axes_and_features_without_spread_none(rows, axes):
    real = np.hstack([normal(rows, 8), np.ones((rows, 3))])
    assert Axes.of(real).of_features(real).shape == (rows, axes)


# ---- motion


def moved(step: float, frames: int = 8, size: int = 48) -> np.ndarray:
    """A smooth pattern that moves to the right by so many pixels a frame."""
    y, x = np.mgrid[:size, :size]
    rows = [127 + 60 * np.sin((x - step * t) / 3) + 50 * np.cos(y / 4) for t in range(frames)]
    return np.repeat(np.stack(rows)[..., None], 3, -1).astype(np.uint8)


def test_flow_is_counted_by_how_large_it_is():
    motion = motion_of([moved(2)])
    assert motion.share_B.sum() == pytest.approx(1)
    largest = motion.share_B.argmax()
    assert BINS[largest - 1] < 2 < BINS[largest + 2]
    assert motion_of([moved(0)]).share_B[0] == pytest.approx(1)


def test_flow_that_explains_the_next_frame_leaves_less_than_what_has_no_flow():
    noise = np.random.default_rng(0).integers(0, 256, (8, 48, 48, 3), np.uint8)
    smooth = motion_of([moved(2)])
    assert smooth.warp_error < 0.3 * np.abs(np.diff(moved(2).astype(float), axis=0)).mean()
    assert motion_of([noise]).warp_error > 5 * smooth.warp_error


def test_pulling_back_along_the_true_shift_gives_the_frame():
    flow = np.zeros((48, 48, 2), np.float32)
    flow[..., 0] = 2
    here, then = moved(2)[:2]
    apart = np.abs(pulled_back(then, flow) - here)[:, :-2]
    assert apart.max() <= 1  # rounded to whole levels


def test_the_spectrum_sums_up_to_the_variance_over_time():
    for frames in (7, 8):
        clip = np.random.default_rng(0).integers(0, 256, (frames, 4, 5, 3), np.uint8)
        assert spectrum(clip).sum() == pytest.approx(clip.astype(float).var(0).mean())


def test_the_spectrum_of_a_sinusoid_is_one_line():
    wave = 100 + 40 * np.cos(2 * np.pi * 3 * np.arange(16) / 16)
    clip = np.broadcast_to(wave[:, None, None, None], (16, 2, 2, 3))
    assert spectrum(clip) == pytest.approx(np.eye(9)[3] * 40**2 / 2)


def test_distances_of_motion_are_zero_for_the_same_and_grow_with_the_speed():
    slow, faster, fast = (motion_of([moved(step)]) for step in (1, 2, 4))
    assert flow_distance(slow, slow) == spectrum_distance(slow, slow) == 0
    assert 0 < flow_distance(slow, faster) < flow_distance(slow, fast)
    assert spectrum_distance(slow, motion_of([moved(0)])) > spectrum_distance(slow, faster) > 0


def test_the_distance_of_flow_is_the_number_of_bins_that_it_moves():
    motion = motion_of([moved(2)])
    onward = type(motion)(np.roll(motion.share_B, 3), 0, motion.spectrum_F)
    assert motion.share_B[-3:].sum() == 0
    assert flow_distance(motion, onward) == pytest.approx(3)


# ---- copies


def slowly_nearest(clip, videos, stride, reach):
    """Every beginning and shift, as it is and mirrored, one by one."""
    found = (np.inf, -1, -1)
    T, H, W = clip.shape[:3]
    for number, video in enumerate(videos):
        for first in range(len(video) - (T - 1) * stride):
            window = video[first : first + (T - 1) * stride + 1 : stride, reach : H - reach, reach : W - reach]
            sides = range(2 * reach + 1)
            for shown, y, x in itertools.product((clip, clip[:, :, ::-1]), sides, sides):
                part = shown[:, y : y + H - 2 * reach, x : x + W - 2 * reach].astype(float)
                distance = np.sqrt(((part - window) ** 2).mean())
                if distance < found[0]:
                    found = (distance, number, first)
    return found


@pytest.mark.parametrize(("stride", "portion"), [(1, 1 << 25), (2, 1 << 25), (2, 1)])
def test_the_nearest_clip_is_the_one_that_a_slow_search_finds(monkeypatch, stride, portion):
    monkeypatch.setattr(copies, "PORTION", portion)
    rng = np.random.default_rng(0)
    videos = [np.repeat(rng.integers(0, 256, (n, 4, 4, 3)), 3, 1).repeat(3, 2).astype(np.uint8) for n in (9, 3, 12, 7)]
    clips = np.stack([videos[v][f : f + 4 * stride : stride] for v, f in ((0, 1), (2, 3), (3, 0))])
    clips = np.clip(clips + rng.normal(0, 30, clips.shape), 0, 255).astype(np.uint8)
    found = nearest(clips, videos, stride, reach=1)
    slow = [slowly_nearest(clip, videos, stride, 1) for clip in clips]
    assert found.distance_N == pytest.approx([s[0] for s in slow], rel=1e-5)
    assert list(zip(found.video_N, found.first_N, strict=True)) == [s[1:] for s in slow]


def test_a_copy_that_is_shifted_in_time_and_by_two_pixels_has_no_distance():
    videos = [draw("prompts", n, frames=24).frames_THWC for n in range(4)]
    copy = np.roll(videos[2][5:13], (2, -2), (1, 2))
    found = nearest(np.stack([copy, videos[0][3:11]]), videos)
    assert found.distance_N.tolist() == [0, 0]
    assert (found.video_N.tolist(), found.first_N.tolist()) == ([2, 0], [5, 3])


def test_a_mirrored_copy_has_no_distance():
    videos = [draw("prompts", n, frames=24).frames_THWC for n in range(4)]
    found = nearest(np.roll(videos[1][2:10, :, ::-1], (-1, 2), (1, 2))[None], videos)
    assert (found.distance_N[0], found.video_N[0], found.first_N[0]) == (0, 1, 2)


def test_videos_shorter_than_a_clip_are_passed_over():
    clip = draw("prompts", 0, frames=12).frames_THWC
    found = nearest(clip[None], [clip[:8]])
    assert (found.distance_N[0], found.video_N[0]) == (np.inf, -1)


def test_copies_are_flagged_and_clips_as_far_as_test_clips_are_not():
    rng = np.random.default_rng(0)
    of_test = rng.uniform(10, 20, 300)
    copied, own = judged(rng.uniform(0, 3, 100), of_test), judged(rng.uniform(10, 20, 100), of_test)
    assert copied.flagged and copied.share == 1 and copied.ratio < 0.3
    assert not own.flagged and own.share < 0.05 and own.ratio == pytest.approx(1, rel=0.1)


def test_few_clips_are_not_flagged_by_chance():
    rng = np.random.default_rng(0)
    flagged = [judged(rng.uniform(10, 20, 8), rng.uniform(10, 20, 8)).flagged for _ in range(200)]
    assert np.mean(flagged) < 0.06


# ---- prompts


def said(*captions: str) -> list[Prompt]:
    return [
        prompt_of(f"a {colour} {shape} {motion} on a dark background")
        for colour, shape, motion in map(_three, captions)
    ]


def _three(words: str) -> tuple[str, str, str]:
    colour, shape, motion = words.split(maxsplit=2)
    return colour, shape, motion


def test_accuracy_is_counted_word_by_word():
    asked = said("red circle bounces", "blue square swings", "red cross swings", "green circle grows")
    read = [asked[0], said("red square swings")[0], None, said("green circle shrinks")[0]]
    found = prompt_accuracy(read, asked)
    assert found.read == 0.75
    assert found.right == {"colour": 0.5, "shape": 0.75, "motion": 0.5, "background": 0.75, "whole": 0.25}
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    shuffled = np.mean([getattr(read[i], "colour", None) == asked[j].colour for i, j in pairs])
    assert found.shuffled["colour"] == pytest.approx(shuffled)


def test_real_clips_show_their_captions_seen_and_held_out_alike():
    numbers = [*range(6), *range(10, 16)]
    asked = [drawn_prompt(n, split="test") for n in numbers]
    found = of_clips([draw("prompts", n, split="test").frames_THWC for n in numbers], asked)
    for word in ("colour", "shape", "motion", "background", "whole"):
        assert found[f"{word} right (seen)"] == found[f"{word} right (held out)"] == 1
        assert found[f"{word} with shuffled prompts"] < 0.8
    assert found["whole by chance"] == pytest.approx(1 / 720)
    assert found["motion with shuffled prompts"] <= 0.2


def test_the_direction_of_a_drift_is_read_however_little_of_it_is_left():
    numbers = [n for n in range(40) if drawn_prompt(n).motion.startswith("drifts")]
    clips, asked = [draw("prompts", n).frames_THWC for n in numbers], [drawn_prompt(n) for n in numbers]
    little, back = [clip[24:40] for clip in clips], [clip[::-1] for clip in clips]
    for some, share in ((clips, 1), (little, 1), (back, 0)):
        found = of_clips(some, asked)
        assert found["direction right (seen)"] == share and found["drifting clips (seen)"] == len(numbers)
    assert found["direction with shuffled prompts"] == pytest.approx(1 / 3, abs=0.15)
    assert "direction by chance" not in of_clips(clips[:1], said("red circle bounces"))


def test_noise_shows_no_prompt():
    noise = np.random.default_rng(0).integers(0, 256, (2, 8, 32, 32, 3), np.uint8)
    found = of_clips(list(noise), [drawn_prompt(0), drawn_prompt(1)])
    assert found["whole right (seen)"] == 0
    assert "whole right (held out)" not in found
