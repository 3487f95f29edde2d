import csv
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_video.apps import windows as windows_module
from ssl_video.apps.options import SpeedinessOptions
from ssl_video.apps.speediness_curve import Curves, curve_panel, draw_speediness, speediness_curves, up_to
from ssl_video.apps.windows import frames_of, over_windows, windows
from ssl_video.cli import main
from ssl_video.datasets.base import Video
from ssl_video.datasets.spec import one_video
from ssl_video.errors import UserError
from ssl_video.model import load_model
from ssl_video.video.reader import iterate_frames, read_frames
from tests.speed_run import SPAN, draw_video, save, save_finetuned
from tests.videos import mp4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run, a video of 40 frames."""
    folder = tmp_path_factory.mktemp("speediness")
    save(folder / "run")
    draw_video(folder / "a.mp4")
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load_model(str(folder / "run"))


@torch.no_grad()
def speediness(model, path, numbers):
    """Of one clip, slowly."""
    clip = torch.from_numpy(model.view.prepare(read_frames(str(path), numbers)))
    features = model.dense_map(clip[None])
    logit = model.pretext.head(features.amax((3, 4)).mean(2))
    return 1 / (1 + float(logit.exp()))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.lists(st.lists(st.integers(1, 4), max_size=5), min_size=1, max_size=3))
def test_windows_are_all_clips_inside_the_video(count, step, gaps):
    offsets = [np.concatenate([[0], np.cumsum(g)]).astype(int) for g in gaps]
    found = {(kind, first): clip.ravel().tolist() for kind, first, clip in windows(np.arange(count), offsets, step)}
    expected = {
        (kind, first): (first + o).tolist()
        for kind, o in enumerate(offsets)
        for first in range(0, count, step)
        if first + o[-1] < count
    }
    assert found == expected


def test_a_window_is_given_out_before_the_next_frame_is_read():
    read = []

    def frames():
        for n in range(1000):
            read.append(n)
            yield np.array(n)

    next(windows(frames(), [np.array([0, 3, 6])], 1))
    assert read == list(range(7))


def test_each_clips_prediction_is_at_its_middle_frame_and_the_ends_repeat_it(folder, model):
    video = one_video(folder / "a.mp4")
    curves = speediness_curves(model, video, options=SpeedinessOptions(batch_size=5))
    slow = [speediness(model, video.path, [n, n + 2, n + 4, n + 6]) for n in range(40 - SPAN + 1)]
    np.testing.assert_allclose(curves.normal_XN[0], [*[slow[0]] * 3, *slow, *[slow[-1]] * 3], atol=1e-5)
    assert np.ptp(slow) > 0.01 and len(curves.strip) == 10


def test_a_faster_version_is_the_video_without_every_second_frame(folder, model):
    video = one_video(folder / "a.mp4")
    fast = speediness_curves(model, video, (1.0, 2.0)).normal_XN[1]
    assert fast[17] == pytest.approx(speediness(model, video.path, [11, 15, 19, 23]), abs=1e-5)


def test_between_clips_the_curve_is_interpolated(folder, model):
    video = one_video(folder / "a.mp4")
    whole, sparse = (speediness_curves(model, video, options=SpeedinessOptions(step)).normal_XN[0] for step in (1, 4))
    np.testing.assert_allclose(sparse[3:36:4], whole[3:36:4], atol=1e-5)
    assert sparse[5] == pytest.approx((sparse[3] + sparse[7]) / 2)


def test_the_file_is_decoded_once_for_all_speeds(folder, model, monkeypatch):
    opened = []

    def counted(path):
        opened.append(path)
        yield from iterate_frames(path)

    monkeypatch.setattr(windows_module, "iterate_frames", counted)
    speediness_curves(model, one_video(folder / "a.mp4"), (1.0, 1.5, 2.0, 3.0))
    assert len(opened) == 1


def test_a_speed_at_which_the_video_is_shorter_than_a_clip_is_left_out(folder, model):
    curves = speediness_curves(model, one_video(folder / "a.mp4"), (1.0, 2.0, 8.0))
    assert curves.speeds == (1.0, 2.0) and curves.too_short_for == (8.0,) and len(curves.normal_XN) == 2


def test_memory_is_that_of_a_window_and_a_batch_however_long_the_video():
    def peak(count):
        frames = (np.zeros((64, 64, 3), np.uint8) for _ in range(count))
        tracemalloc.start()
        done = sum(
            1 for _ in over_windows(lambda clips: clips.float().mean((1, 2, 3, 4)), frames, [np.arange(8) * 2], 1, 4)
        )
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return done, largest

    (few, short), (many, long) = peak(60), peak(600)
    assert (few, many) == (46, 586) and long - short < 10 * 64 * 64 * 3


def test_the_command_writes_a_value_for_every_frame_a_picture_and_a_video(folder, tmp_path, capsys, model):
    words = ["speediness", str(folder / "a.mp4"), "--model", str(folder / "run"), "--out", str(tmp_path), "--overlay"]
    assert main(words) == 0
    assert "40 frames at 25 frames/s, in clips that span 7." in capsys.readouterr().out
    with (tmp_path / "a_speediness.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["frame"] for r in rows] == [str(n) for n in range(40)] and rows[25]["time_s"] == "1.000"
    expected = speediness_curves(model, one_video(folder / "a.mp4")).normal_XN[0]
    np.testing.assert_allclose([float(r["speediness"]) for r in rows], expected, atol=1e-4)
    assert (tmp_path / "a_speediness.png").stat().st_size > 1000
    shown = one_video(tmp_path / "a_speediness.mp4")
    assert (shown.frames, shown.info.width) == (40, 64) and shown.info.height > 48 + 24  # names and legend


def test_out_may_name_the_csv(folder, tmp_path):
    out = tmp_path / "curve.csv"
    assert main(["speediness", str(folder / "a.mp4"), "--model", str(folder / "run"), "--out", str(out)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curve.csv", "curve.png"]


def test_a_panel_is_filled_in_two_colours_and_marked_where_the_video_is():
    panel = curve_panel(np.array([0.1] * 50 + [0.9] * 50), (0.0, 1.0), 20, 100, 0.5)
    assert panel[19, 10, 2] > panel[19, 10, 0] and panel[19, 90, 0] > panel[19, 90, 2]
    assert (panel[2, 90] != 245).any() and (panel[2, 10] == 245).all()
    assert (up_to(panel, 30, 100)[:, 30] == 0).all() and (up_to(panel, 30, 100)[:, 10] == panel[:, 10]).all()


def test_a_constant_curve_can_be_drawn(tmp_path):
    curves = Curves((1.0,), np.full((1, 9), 0.5), (), [np.zeros((8, 8, 3), np.uint8)])
    draw_speediness(tmp_path / "a.png", curves, 25.0, "a")
    assert (tmp_path / "a.png").stat().st_size > 1000


def refused(capsys, *words):
    assert main([str(w) for w in words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ssl-video: ") and error.count("\n") == 1
    return error


def test_bad_input_is_one_sentence(folder, tmp_path, capsys):
    run, video = folder / "run", folder / "a.mp4"
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 100)
    save_finetuned(tmp_path / "fine")
    draw_video(tmp_path / "short.mp4", SPAN - 1)
    for words, answer in (
        ((video, "--model", "random:r2plus1d_4"), "tells normal speed from faster"),
        ((video, "--model", tmp_path / "fine"), "tells normal speed from faster"),
        ((video, "--model", tmp_path / "none"), "does not exist"),
        ((tmp_path / "none.mp4", "--model", run), "There is no video file"),
        ((tmp_path, "--model", run), "a folder without pictures"),
        ((tmp_path / "empty.mp4", "--model", run), "cannot be used"),
        ((tmp_path / "bad.mp4", "--model", run), "cannot be used"),
        ((tmp_path / "short.mp4", "--model", run), f"has 6 frames, but a clip of {run} spans {SPAN}"),
        ((video, "--model", run, "--out", video.with_suffix(".csv"), "--overlay"), "over itself"),
        ((video, "--model", run, "--step", 0), "--step must be a whole number of 1 or more"),
        ((video, "--model", run, "--out", tmp_path / "x.txt"), "a folder or a .csv file"),
    ):
        assert answer in refused(capsys, "speediness", *words)


def test_a_file_that_was_cut_since_its_scan_is_a_mistake_of_one_sentence(tmp_path):
    path = mp4(tmp_path / "a.mkv", 20)
    video = one_video(path)
    with pytest.raises(UserError, match="ends after 20 of the 30 frames"):
        list(frames_of(replace(video, info=replace(video.info, frames=30))))
    path.write_bytes(b"")
    with pytest.raises(UserError, match="cannot be used"):
        list(frames_of(Video(str(path), info=video.info)))
