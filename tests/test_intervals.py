"""95 % intervals beside numbers that are a fraction of the test videos."""

import pytest
from sklearn.utils import check_random_state

from ssl_video.apps.table_page import spread
from ssl_video.eval.results import Result, side_by_side, wilson


def result(**metrics: float) -> Result:
    return Result("linear", metrics, counts={"train": 90, "test": 10, "classes": 2}, model="m", data="d")


def test_the_interval_is_that_of_newcombe_1998():
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0.0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(1.0, 10)[1] == pytest.approx(1) and wilson(1.0, 10)[1] <= 1


def test_of_many_draws_about_95_in_100_have_the_truth_in_their_interval():
    hits = check_random_state(0).binomial(50, 0.3, 2000)
    inside = [low <= 0.3 <= high for low, high in (wilson(k / 50, 50) for k in hits)]
    assert 0.93 < sum(inside) / len(inside) < 0.97


def test_only_fractions_of_the_test_videos_have_an_interval():
    numbers = result(top1=0.5, top5=0.9, clip_top1=0.4, mean_class_accuracy=0.5, mAP=0.3)
    assert set(numbers.intervals) == {"top1", "top5"}
    recalls = Result("retrieval", {"recall@1": 0.5, "recall@20": 1.0}, counts={"queries": 10, "gallery": 90})
    assert set(recalls.intervals) == {"recall@1", "recall@20"}
    assert not Result("propagation", {"J": 0.5}, counts={"videos": 3}).intervals


def test_the_printed_table_shows_the_interval():
    first, second = result(top1=0.5, clip_top1=0.4).table().splitlines()
    assert first.split(maxsplit=2) == ["top1", "0.5000", "(95 %: 0.237 to 0.763)"]
    assert second.split() == ["clip_top1", "0.4000"]
    assert "0.500 (0.237, 0.763)" in side_by_side([result(top1=0.5)], {"m": "trained"})


def test_an_interval_is_no_stored_metric():
    assert "intervals" not in result(top1=0.5).to_dict() and set(result(top1=0.5).row()) >= {"top1"}


def test_one_seed_and_seeds_that_change_nothing_show_no_deviation():
    assert spread([0.5], 1, (0.2, 0.8)) == spread([0.5] * 3, 3, (0.2, 0.8)) == "0.500 (0.200 to 0.800)"
    assert spread([0.5, 0.5, 0.5], 3) == "0.500"
    assert spread([0.4, 0.6], 2, (0.2, 0.8)) == "0.500 ± 0.141"
