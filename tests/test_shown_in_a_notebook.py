"""What a notebook shows of a value that it was not asked to print: a line, not networks and digests of videos."""

from dataclasses import replace

from ssl_video.eval.results import Prediction, Result
from tests.nets import tiny_model


def test_a_model_is_a_line_that_says_which():
    model = replace(tiny_model(), name="runs/a", run={"videos": ["0123456789abcdef"] * 1000})
    assert repr(model) == "Model('runs/a', tiny, 4 frames of 8 pixels, on cpu)"


def test_a_result_shows_its_numbers_and_nothing_of_single_videos():
    many = [Prediction(f"video-{n}.mp4", "a", "b", 0.5) for n in range(1000)]
    each = {row.path: {"top1": 0.0} for row in many}
    shown = repr(Result("linear", {"top1": 0.25}, model="runs/a", predictions=many, per_video=each, classes=["a", "b"]))
    assert "'top1': 0.25" in shown and "runs/a" in shown and "video-1" not in shown and len(shown) < 300
