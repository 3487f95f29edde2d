"""The style of all figures: formats, names of others, and nothing left behind in matplotlib."""

import io
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from PIL import Image

from ssl_video.errors import UserError
from ssl_video.eval.accuracy import draw_confusion
from ssl_video.figures import DPI, LARGEST, figure_to, shortened
from ssl_video.files import legible, readable
from ssl_video.train.report import draw_curves

HOSTILE = ("a$_^$b", "$c", "x_1^2", r"\frac{1}{0}", "日本", "bad\udcffbyte", "a\nb")


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_a_figure_is_written_as_its_name_ends_and_the_same_each_time(tmp_path, kind, start):
    for name in ("one", "other"):
        with figure_to(tmp_path / f"{name}.{kind}", 2, 1) as figure:
            figure.subplots().plot([0, 1])
    one, other = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("one", "other"))
    assert one.startswith(start) and one == other


def test_a_figure_of_another_kind_is_a_mistake_of_one_sentence(tmp_path):
    with (
        pytest.raises(UserError, match=r"ends in \.png, \.pdf or \.svg, not as .*x\.jpg"),
        figure_to(tmp_path / "x.jpg", 1, 1),
    ):
        pass


def test_a_picture_has_200_dots_an_inch_unless_it_were_too_large(tmp_path):
    for width in (2, 400):
        with figure_to(tmp_path / f"{width}.png", width, 1):
            pass
    with Image.open(tmp_path / "2.png") as usual, Image.open(tmp_path / "400.png") as large:
        assert usual.size == (2 * DPI, DPI) and large.size == (LARGEST, LARGEST // 400)


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_names_of_others_are_no_formulas_and_break_no_figure(tmp_path, kind):
    draw_confusion(np.eye(len(HOSTILE), dtype=int), HOSTILE, tmp_path / f"c.{kind}")
    records = [{"step": step, "loss": 1.0, "$x_1": 2.0} for step in (1, 2)]
    draw_curves(tmp_path / f"r.{kind}", dict.fromkeys(HOSTILE, records))
    assert min((tmp_path / f"{name}.{kind}").stat().st_size for name in "cr") > 1000


def test_drawing_leaves_matplotlib_as_it_was(tmp_path):
    before = dict(matplotlib.rcParams)
    with figure_to(tmp_path / "a.png", 1, 1):
        assert matplotlib.rcParams["text.parse_math"] is False
    assert dict(matplotlib.rcParams) == before


def test_drawing_never_loads_pyplot():
    code = "import io, sys; from ssl_video.figures import figure_to\n"
    code += "with figure_to(io.BytesIO(), 1, 1) as figure: figure.subplots()\n"
    subprocess.run([sys.executable, "-c", code + "assert 'matplotlib.pyplot' not in sys.modules"], check=True)


def test_a_long_name_keeps_its_front_and_its_end():
    assert shortened("a" * 50 + "b" * 50, 11) == "aaaaa…bbbbb" and shortened("short") == "short"


def test_a_name_that_is_no_text_is_the_same_in_figures_and_on_pages():
    name = "a\udc80b\x1b\nc\ud800"
    assert shortened(name) == legible(name) == r"a\x80b\x1b c\ud800"
    assert readable("a  b\n\udc80") == "a  b\n\\x80"  # a path keeps what a line would lose


def test_many_classes_with_long_names_stay_inside_of_the_figure(tmp_path):
    names = [f"{'a very long name of a class ' * 3}{n}" for n in range(60)]
    draw_confusion(np.eye(60, dtype=int), names, tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as drawn:
        pixels = np.asarray(drawn.convert("L"))
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edges == 255).all()  # nothing is cut off at a side


def lines(monkeypatch, runs, chance):
    """(label, style) of the lines of each panel."""
    found = {}

    def kept(figure, *_given, **_how):
        for axes in figure.axes:
            found[axes.get_title()] = [(str(c.get_label()), c.get_linestyle()) for c in axes.get_lines()]

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", kept)
    draw_curves(io.BytesIO(), runs, chance)
    return found


RECORDS = [{"step": n, "loss": 1.0, "accuracy": 0.6, "held_out_accuracy": 0.5, "probe_top1": 0.2} for n in (1, 2)]


def test_curves_of_accuracy_show_chance(monkeypatch):
    found = lines(monkeypatch, {"run": RECORDS}, {"accuracy": 0.5, "held_out_accuracy": 0.5, "probe_top1": 0.25})
    assert found["accuracy of the pretext"] == [
        ("training videos", "-"),
        ("held-out videos", "--"),
        ("chance (0.5)", ":"),
    ]
    assert ("chance (0.25)", ":") in found["on-line probe (top-1, held-out videos)"] and len(found["loss"]) == 1


def test_several_runs_share_a_panel_under_their_names(monkeypatch):
    found = lines(monkeypatch, {"one": RECORDS, "other": RECORDS}, None)
    assert [label for label, _ in found["loss"]] == ["one", "other"]
    assert [style for _, style in found["accuracy of the pretext"]] == ["-", "--", "-", "--"]


def test_what_overhangs_the_figure_makes_it_larger(tmp_path):
    for name, words in (("a", ""), ("b", "a label that is longer than the whole figure is wide, as some are")):
        with figure_to(tmp_path / f"{name}.png", 2, 1) as figure:
            figure.subplots().text(0.5, 0.5, words, ha="center")
    with Image.open(tmp_path / "a.png") as usual, Image.open(tmp_path / "b.png") as large:
        assert large.width > usual.width == 2 * DPI
