import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_video.apps.speediness_curve import Curves
from ssl_video.apps.speedup import allowed_speeds, check_factor, kept_frames, plan_speed, versions
from ssl_video.cli import main
from ssl_video.datasets.spec import one_video
from ssl_video.errors import UserError
from ssl_video.video.reader import read_frames
from ssl_video.video.sound import RATE, has_sound, read_sound
from tests.speed_run import draw_video, save, save_finetuned
from tests.test_speediness_curve import refused

SPEEDS = st.lists(st.floats(1, 5), min_size=4, max_size=60).map(np.array)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run, and a video of 60 frames with sound."""
    folder = tmp_path_factory.mktemp("speedup")
    save(folder / "run")
    draw_video(folder / "a.mp4", 60, sound=True)
    return folder


@settings(max_examples=100, deadline=None)
@given(SPEEDS, st.floats(0, 1), st.floats(0, 1), st.floats(0, 400))
def test_the_result_is_within_a_frame_of_the_request_and_never_runs_backwards(allowed_N, part, room, alpha):
    count = len(allowed_N)
    factor = 1 + part * (min(count / 2, 5) - 1)
    plan = plan_speed(allowed_N, factor, factor + room * 5, alpha)
    assert abs(len(plan.kept_M) - count / factor) <= 1
    assert (np.diff(plan.kept_M) > 0).all() and plan.kept_M[0] >= 0 and plan.kept_M[-1] < count
    assert plan.result_N1[0] == 0 and plan.result_N1[-1] == pytest.approx(len(plan.kept_M))
    assert plan.speed_N.min() >= 1 - 1e-9 and plan.speed_N.max() <= factor + room * 5 + 1e-9


@settings(max_examples=50, deadline=None)
@given(SPEEDS, st.floats(1, 1.9), st.floats(0, 400))
def test_the_papers_form_never_runs_backwards_either(allowed_N, factor, alpha):
    plan = plan_speed(allowed_N, factor, 5.0, alpha, form="mean")
    assert (np.diff(plan.kept_M) > 0).all() and plan.kept_M[-1] < len(allowed_N)
    assert abs(len(plan.kept_M) - (1 / plan.speed_N).sum()) <= 1


def test_factor_one_keeps_every_frame():
    assert plan_speed(np.repeat([1.0, 2.0], 30), 1.0, 2.0, 10.0).kept_M.tolist() == list(range(60))


def test_what_allows_more_speed_gets_more():
    plan = plan_speed(np.repeat([1.0, 4.0], 100), 2.0, 4.0, 1.0)
    assert plan.speed_N[20] < 1.5 and plan.speed_N[-20] > 2.5
    assert (plan.kept_M < 100).sum() > 2 * (plan.kept_M >= 100).sum()


def test_where_all_is_alike_the_result_is_even():
    for form in ("duration", "mean"):
        plan = plan_speed(np.full(90, 1.0), 3.0, 6.0, 100.0, form=form, beta=1e6)
        assert plan.kept_M.tolist() == list(range(1, 90, 3))


def test_each_version_is_a_quarter_faster_up_to_the_largest_speed():
    assert versions(4.0) == (*(1.25**n for n in range(7)), 4.0)
    assert versions(1.25**3) == tuple(1.25**n for n in range(4))
    assert versions(1.0) == (1.0,)


def test_the_allowed_speed_is_the_largest_that_still_looks_normal():
    normal_XN = np.array([[0.9, 0.9, 0.1, 0.2], [0.8, 0.2, 0.1, 0.3], [0.4, 0.6, 0.2, 0.5]])
    assert allowed_speeds(Curves((1.0, 2.0, 3.0), normal_XN)).tolist() == [2.0, 3.0, 1.0, 3.0]
    assert allowed_speeds(Curves((1.0, 2.0, 3.0), normal_XN), 0.85).tolist() == [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("factor", "max_speed", "frames", "answer"),
    [
        (0.5, 2.0, 100, "--factor must be 1 or more, not 0.5"),
        (float("nan"), 2.0, 100, "1 or more"),
        (-2.0, 2.0, 100, "1 or more"),
        (60.0, 99.0, 100, "by 50 at most, not by 60"),
        (101.0, 101.0, 1000, "by 100 at most"),
        (float("inf"), 2.0, 100, "by 50 at most"),
        (3.0, 2.0, 100, "lies between"),
        (3.0, float("nan"), 100, "lies between"),
        (3.0, 1000.0, 100, "lies between"),
        (2.0, 4.0, 1, "by 1 at most"),
    ],
)
def test_a_factor_that_cannot_be_is_refused(factor, max_speed, frames, answer):
    with pytest.raises(UserError, match=answer):
        check_factor(factor, max_speed, frames)


def test_kept_frames_are_those_of_the_video(folder):
    video = one_video(folder / "a.mp4")
    kept = list(kept_frames(video, [0, 3, 3, 58]))
    np.testing.assert_array_equal(np.stack(kept), read_frames(video.path, [0, 3, 3, 58]))


def words(folder, out, *more):
    return ["speedup", str(folder / "a.mp4"), "--model", str(folder / "run"), "--out", str(out), *more]


def test_the_command_writes_a_video_with_its_sound_a_picture_a_csv_and_a_comparison(folder, tmp_path, capsys):
    out = tmp_path / "fast.mp4"
    assert main(words(folder, out, "--factor", "2.5", "--compare", "--smooth", "0.1")) == 0
    said = capsys.readouterr().out
    assert "24 of 60 frames are kept, 0.96 of 2.40 s: 2.500 times as fast" in said and "no sound" not in said
    with (tmp_path / "fast.csv").open() as file:
        rows = list(csv.DictReader(file))
    speed_N = np.array([float(r["speed"]) for r in rows])
    assert len(rows) == 60 and (1 / speed_N).sum() == pytest.approx(24, abs=0.02)
    video = one_video(out)
    sound = np.concatenate(list(read_sound(str(out))), axis=1)
    assert video.frames == 24 and sound.shape[1] / RATE == pytest.approx(24 / 25, abs=0.05)
    assert np.abs(np.fft.rfft(sound[0])).argmax() * RATE / sound.shape[1] == pytest.approx(440, abs=5)
    compared = one_video(tmp_path / "fast_compare.mp4")
    assert compared.frames == 24 and compared.info.width == 128
    assert (tmp_path / "fast.png").stat().st_size > 1000


def test_the_comparison_shows_the_even_version_on_the_left_and_the_video_on_the_right(folder, tmp_path):
    out = tmp_path / "fast.mp4"
    assert main(words(folder, out, "--factor", "3", "--compare", "--mute")) == 0
    compared = read_frames(str(tmp_path / "fast_compare.mp4"), range(20)).astype(int)
    even = read_frames(str(folder / "a.mp4"), range(1, 60, 3)).astype(int)
    own = read_frames(str(out), range(20)).astype(int)
    compared = compared[:, -70 - 48 : -70]  # names above, the curve below
    assert np.abs(compared[:, :, :64] - even).mean() < 6 and np.abs(compared[:, :, 64:] - own).mean() < 6


def test_sound_can_be_left_out(folder, tmp_path, capsys):
    assert main(words(folder, tmp_path / "fast.mov", "--mute")) == 0
    assert not has_sound(str(tmp_path / "fast.mov")) and "no sound" in capsys.readouterr().out


def test_the_papers_form_is_an_option(folder, tmp_path, capsys):
    assert main(words(folder, tmp_path / "fast.mkv", "--form", "mean", "--mute")) == 0
    with (tmp_path / "fast.csv").open() as file:
        speed_N = np.array([float(r["speed"]) for r in csv.DictReader(file)])
    assert one_video(tmp_path / "fast.mkv").frames == pytest.approx((1 / speed_N).sum(), abs=1)


def test_bad_input_is_one_sentence(folder, tmp_path, capsys):
    run, video = folder / "run", folder / "a.mp4"
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 100)
    save_finetuned(tmp_path / "fine")
    for more, answer in (
        ((video, "--model", tmp_path / "fine"), "tells normal speed from faster"),
        ((video, "--model", "random:r2plus1d_4"), "tells normal speed from faster"),
        ((tmp_path / "empty.mp4", "--model", run), "cannot be used"),
        ((tmp_path / "bad.mp4", "--model", run), "cannot be used"),
        ((tmp_path / "no.mp4", "--model", run), "There is no video file"),
        ((video, "--model", run, "--factor", 0.9), "--factor must be a number of 1 or more"),
        ((video, "--model", run, "--factor", 31), "by 30 at most"),
        ((video, "--model", run, "--max-speed", 1.5), "--max-speed lies between"),
        ((video, "--model", run, "--smooth", -1), "--smooth"),
        ((video, "--model", run, "--form", "maen"), "form"),
        ((video, "--model", run, "--out", video), "over itself"),
        ((video, "--model", run, "--out", tmp_path / "x"), ".mp4, .mov or .mkv"),
        ((video, "--model", run, "--out", tmp_path / "x.webm"), ".mp4, .mov or .mkv"),
    ):
        assert answer in refused(capsys, "speedup", *more)
