"""The rate of videos, and of the films that commands write: that of the source, whatever its header says."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ssl_video.apps.align import match_embeddings, write_side_by_side
from ssl_video.apps.cam_maps import Head, Maps
from ssl_video.apps.cam_pictures import Painter, write_beside
from ssl_video.apps.speediness_curve import write_overlay
from ssl_video.apps.speedup import plan_speed, write_comparison, write_speedup
from ssl_video.cli import main
from ssl_video.datasets.spec import one_video
from ssl_video.video.rate import rate_of_file, true_rate
from tests import videos

NTSC = Fraction(30000, 1001)


def uneven(path: Path, times_ms: list[int]) -> Path:
    """A file whose header tells no rate and whose frames have these times, as a browser records them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=60, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for time_ms, picture in zip(times_ms, videos.pictures(len(times_ms)), strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:48, :64]), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module", params=["ntsc", "uneven"])
def source(request, tmp_path_factory):
    """(path, rate) of a video of 29.97 frames a second, and of one whose frames come in uneven steps."""
    folder = tmp_path_factory.mktemp("source")
    if request.param == "ntsc":
        return videos.mp4(folder / "v.mp4", count=24, fps=NTSC), NTSC
    steps = np.where(np.arange(39) % 3 == 0, 100, 40)
    times = [0, *np.cumsum(steps).tolist()]
    return uneven(folder / "v.mkv", times), Fraction(39 * 1000, times[-1])


def plays_like(path: Path, rate: Fraction) -> bool:
    """Whether a film's frames come at the rate, by their times."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = sorted(packet.pts for packet in container.demux(stream) if packet.size)
        assert stream.time_base is not None
        measured = (len(times) - 1) / ((times[-1] - times[0]) * stream.time_base)
    return abs(float(measured / rate) - 1) < 0.002


def test_a_scan_and_a_look_at_the_packets_find_the_true_rate(source):
    path, rate = source
    assert float(rate_of_file(path)) == pytest.approx(float(rate), rel=0.002)
    assert one_video(path).info.fps == pytest.approx(float(rate), rel=0.002)


def test_films_of_flow_play_like_their_source(source, tmp_path):
    path, rate = source
    assert main(["explain", "flow", str(path), "--out", str(tmp_path), "--columns", "2", "--format", "svg"]) == 0
    assert plays_like(tmp_path / "v_flow_farneback.mp4", rate) and (tmp_path / "v_flow_farneback.svg").stat().st_size


def test_films_of_tracking_play_like_their_source(source, tmp_path):
    path, rate = source
    words = ["--model", "random:dense_resnet_8", "--points", "20,20", "--side", "32", "--out", str(tmp_path / "o")]
    assert main(["track", str(path), *words]) == 0
    assert plays_like(tmp_path / "o" / "overlay.mp4", rate)


def test_films_of_speediness_play_like_their_source(source, tmp_path):
    path, rate = source
    video = one_video(path)
    write_overlay(tmp_path / "o.mp4", video, np.full(video.frames, 0.7))
    assert plays_like(tmp_path / "o.mp4", rate)


def test_films_of_activation_maps_play_like_their_source(source, tmp_path):
    path, rate = source
    video = one_video(path)
    maps = Maps(np.random.default_rng(0).normal(size=(video.frames, 3, 4)).astype(np.float32))
    write_beside(tmp_path / "o.mp4", video, Painter(maps, None), Head(lambda f: f, "cool", "warm"))
    assert plays_like(tmp_path / "o.mp4", rate)


def test_films_of_two_videos_play_like_the_first(source, tmp_path):
    path, rate = source
    video, other = one_video(path), one_video(videos.mp4(tmp_path / "b.mp4", count=12))
    a_TD, b_TD = (np.linspace(0, 1, v.frames)[:, None] for v in (video, other))
    write_side_by_side(tmp_path / "o.mp4", video, other, match_embeddings(a_TD, b_TD))
    assert plays_like(tmp_path / "o.mp4", rate)


def test_what_is_sped_up_plays_at_the_rate_of_its_source(source, tmp_path):
    path, rate = source
    video = one_video(path)
    plan = plan_speed(np.linspace(1, 4, video.frames), 2.0, 4.0, 25.0)
    write_speedup(tmp_path / "o.mp4", video, plan)
    write_comparison(tmp_path / "c.mp4", video, plan)
    assert plays_like(tmp_path / "o.mp4", rate) and plays_like(tmp_path / "c.mp4", rate)


def test_a_header_is_believed_where_times_are_rounded_or_shifted_by_a_few_frames():
    milliseconds, stated = Fraction(1, 1000), Fraction(30)
    rounded = [round(n * 1000 / 30) for n in range(60)]
    assert true_rate(rounded, milliseconds, stated) == stated
    assert true_rate([*rounded[:-1], rounded[-1] + 67], milliseconds, stated) == stated
    assert true_rate([*rounded[:-1], None], milliseconds, Fraction(60)) == 60
    assert float(true_rate(rounded, milliseconds, Fraction(60))) == pytest.approx(30, rel=0.001)
    assert true_rate([0], milliseconds, None) == 25


def test_times_that_were_read_beat_a_rate_that_is_stated():
    clock, stated = Fraction(1, 6000), Fraction(1500, 43)
    assert true_rate([0, 100, 200, 300, 400], clock, stated) == 60  # no frame is shifted
    assert true_rate([n * 250 for n in range(2000)], clock, Fraction(25)) == 24
    assert true_rate([0, 240, 480, 720], clock, Fraction(1000)) == 25
    assert true_rate([0, 480, 720, 960, 1200], clock, Fraction(25)) == 25  # the first was put before the others


@pytest.mark.parametrize("stated", [Fraction(90000), Fraction(1000), Fraction(0), Fraction(-5), None])
@pytest.mark.parametrize("times", [[0], [None, None, None], [7, 7, 7], [0, 1, 2], []])
def test_rates_that_are_the_units_of_a_clock_are_not_believed(stated, times):
    assert true_rate(times, Fraction(1, 90000), stated) == 25
    assert true_rate([0, 3600, 7200], Fraction(1, 90000), stated) == 25


def test_a_browser_recording_lasts_as_long_as_its_frames_say(tmp_path):
    times = [0, *np.cumsum(np.where(np.arange(119) % 3 == 0, 100, 12)).tolist()]
    info = one_video(uneven(tmp_path / "v.mkv", times)).info
    assert info.frames == 120 and info.fps == pytest.approx(119 / times[-1] * 1000)
    assert info.duration_s == pytest.approx(times[-1] / 1000 * 120 / 119, abs=1e-5)


def test_a_video_of_one_frame_lasts_as_long_as_a_frame(tmp_path):
    info = one_video(uneven(tmp_path / "v.mkv", [0])).info
    assert (info.frames, info.fps) in [(1, 25), (1, 60)] and info.duration_s == round(1 / info.fps, 6)
