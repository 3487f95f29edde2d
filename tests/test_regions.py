import math

import numpy as np
import pytest

from ssl_video.datasets.masks import objects_in, read_mask
from ssl_video.eval.points import correct_points, pck
from ssl_video.eval.regions import boundary, boundary_f, confusion, jaccard, mean_iou, statistics


def blob(seed, height=40, width=60):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    cy, cx, a, b = rng.uniform((5, 5, 4, 4), (height - 5, width - 5, 18, 18))
    return ((y - cy) / a) ** 2 + ((x - cx) / b) ** 2 < 1


def f_by_hand(mask, truth, radius):
    """Every boundary pixel of one mask against every one of the other."""

    def edge(m):
        height, width = m.shape
        found = []
        for y in range(height):
            for x in range(width):
                below, right = min(y + 1, height - 1), min(x + 1, width - 1)
                if m[y, x] != m[below, x] or m[y, x] != m[y, right] or m[y, x] != m[below, right]:
                    found.append((y, x))
        return found

    def near(some, others):
        return sum(any((y - b) ** 2 + (x - a) ** 2 <= radius**2 for b, a in others) for y, x in some) / len(some)

    ours, theirs = edge(mask), edge(truth)
    if not ours or not theirs:
        return float(not ours and not theirs)
    precision, recall = near(ours, theirs), near(theirs, ours)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tolerance", [0.008, 0.05])
def test_f_is_that_of_every_pair_of_boundary_pixels(seed, tolerance):
    mask, truth = blob(seed), blob(seed) ^ blob(seed + 100)
    radius = math.ceil(tolerance * math.hypot(40, 60))
    assert boundary_f(mask, truth, tolerance) == pytest.approx(f_by_hand(mask, truth, radius), abs=1e-12)


def test_the_tolerance_at_480p_is_8_pixels():
    mask, other = np.zeros((2, 480, 854), bool)
    mask[100:200, 100:200] = True
    for shift in (8, 9):
        other[:] = False
        other[100:200, 100 + shift : 200 + shift] = True
        assert (boundary_f(mask, other) == 1) == (shift == 8)


def test_two_empty_masks_agree_and_one_empty_mask_does_not():
    nothing, something = np.zeros((20, 30), bool), blob(0, 20, 30)
    assert jaccard(nothing, nothing) == boundary_f(nothing, nothing) == 1
    assert jaccard(something, nothing) == boundary_f(something, nothing) == boundary_f(nothing, something) == 0


def test_a_full_mask_has_no_boundary():
    assert not boundary(np.ones((5, 7), bool)).any()


def test_a_mask_equals_itself():
    assert jaccard(blob(1), blob(1)) == boundary_f(blob(1), blob(1)) == 1


def test_jaccard_is_intersection_over_union():
    a, b = np.zeros((2, 10, 10), bool)
    a[:, :6], b[:, 4:] = True, True
    assert jaccard(a, b) == pytest.approx(2 / 10)


def decay_by_hand(values):
    n = len(values)
    ends = [math.floor(1 + (n - 1) * i / 4 + 0.5 + 1e-10) - 1 for i in range(5)]
    first, last = values[ends[0] : ends[1] + 1], values[ends[3] : ends[4] + 1]
    return sum(first) / len(first) - sum(last) / len(last)


@pytest.mark.parametrize("length", [1, 2, 5, 48, 255, 256, 257, 700])
def test_statistics_are_right_for_sequences_of_any_length(length):
    values = np.random.default_rng(length).random(length).tolist()
    mean, recall, decay = statistics(values)
    assert mean == pytest.approx(sum(values) / length)
    assert recall == pytest.approx(sum(v > 0.5 for v in values) / length)
    assert decay == pytest.approx(decay_by_hand(values))


def test_decay_is_that_of_the_first_and_last_quarter():
    assert statistics([1.0] * 300 + [0.0] * 300)[2] == 1


def test_mean_iou_is_over_the_pixels_of_all_frames_together_and_void_is_left_out():
    truth = [np.array([[0, 0, 1, 255]], np.uint8), np.array([[1, 1, 1, 1]], np.uint8)]
    guess = [np.array([[0, 1, 1, 1]], np.uint8), np.array([[1, 1, 0, 0]], np.uint8)]
    pixels = np.sum([confusion(g, t, 3) for g, t in zip(guess, truth, strict=True)], axis=0)
    # class 0: 1 of 4 pixels; class 1: 3 of 6; class 2 is nowhere
    assert mean_iou(pixels) == pytest.approx((1 / 4 + 3 / 6) / 2)


def test_a_point_is_correct_within_a_part_of_the_body_and_a_lost_one_is_wrong():
    truth = np.array([[0.0, 0.0], [30.0, 40.0], [np.nan, np.nan]])  # diagonal 50, body 30
    guess = np.array([[3.1, 0.0], [np.nan, np.nan], [5.0, 5.0]])
    correct = correct_points(guess, truth)
    assert correct[0].tolist() == [0, 1, 1, 1, 1] and correct[1].tolist() == [0] * 5
    assert np.isnan(correct[2]).all()


def test_pck_is_the_mean_over_points_of_the_part_of_frames():
    correct = np.zeros((4, 3, 5))
    correct[:2, 0] = 1
    correct[1:, 1] = np.nan  # known in the first frame only
    correct[:, 2] = np.nan  # never known
    correct[0, 1] = 1
    assert pck(correct)["PCK@0.1"] == pytest.approx((2 / 4 + 1) / 2)


def test_published_masks_of_davis_score_as_every_pair_of_pixels_says(shared_data):
    name = "motocross-jump/00012.png"
    truth = read_mask(shared_data / "davis" / "DAVIS" / "Annotations" / "480p" / name)
    published = read_mask(shared_data / "davis" / "results_osvos" / name)
    assert objects_in(truth) == [1] and set(objects_in(published)) <= {1, 2}
    window = np.s_[120:360:2, 200:600:2]  # thinned, since the slow way takes every pair
    mask, real = published[window] > 0, truth[window] > 0
    assert boundary_f(mask, real) == pytest.approx(f_by_hand(mask, real, math.ceil(0.008 * math.hypot(*mask.shape))))
    assert 0.5 < jaccard(published > 0, truth > 0) < 1
