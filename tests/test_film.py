"""What films say above their pictures."""

import numpy as np
import pytest

from ssl_video.apps.film import PAPER, Head, Shot, film
from ssl_video.apps.paint import PALETTE, paint_points

BLUE, RED = (0, 0, 255), (255, 0, 0)


def black(width: int, height: int = 20) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def test_words_lie_above_the_pictures_which_stay_as_they_are():
    picture = np.random.default_rng(0).integers(0, 256, (20, 300, 3), dtype=np.uint8)
    (out,) = film([Shot((picture, picture), (1.0,), black(600, 6))], ("a.mp4", "b"), [(BLUE, "blue")], "title")
    assert (out[-6:] == 0).all() and (out[-26:-6] == np.concatenate([picture, picture], 1)).all()
    head = out[:-26]
    assert (head[:, :, 2] - head[:, :, 0].astype(int) == 255).any()  # the swatch
    assert (head[:4] == PAPER).all(2).mean() > 0.9 and (head.min(2) < 100).any()


def test_the_time_changes_and_nothing_else():
    one, other = film([Shot((black(300),), (t,)) for t in (0.0, 12.34)], ("name.mp4",))
    changed = np.argwhere((one != other).any(2))
    assert len(changed) and changed[:, 1].min() > 200 and changed[:, 0].max() < len(one) - 20


@pytest.mark.parametrize("width", [8, 33, 64, 120, 640])
def test_a_film_of_any_width_holds_names_and_legends_of_any_length(width):
    legend = [(RED, "a legend that is longer than the film is wide " * 3), (np.zeros((4, 400, 3), np.uint8), "x")] * 3
    shots = [Shot((black(width), black(width)), (1234.5, 0.25))]
    (out,) = film(shots, ("a very long name of a file " * 9, "$\\x_1$ \udcff\n"), legend, "title " * 50)
    assert out.shape[1] == 2 * width and out.dtype == np.uint8


def test_a_legend_takes_as_many_lines_as_it_needs():
    entries = [(RED, f"point {n}") for n in range(12)]
    assert len(Head([200], ["a"], entries).at((0,))) > 2 * len(Head([200], ["a"], entries[:1]).at((0,)))


def test_a_point_shows_the_way_that_it_came():
    trail_T12 = np.array([[[10.0, 20]], [[30, 20]], [[50, 20]]])
    painted = paint_points(np.zeros((40, 60, 3), np.uint8), trail_T12)
    red = PALETTE[1, 0]
    assert painted[20, 40, 0] > red // 2 and painted[20, 50, 0] == red and not painted[35].any()
    trail_T12[1] = np.nan  # it was lost in between
    assert not paint_points(np.zeros((40, 60, 3), np.uint8), trail_T12)[20, 30].any()
