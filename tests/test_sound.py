import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_video.video.sound import RATE, SHORTEST_S, has_sound, pieces, read_sound, stretched
from ssl_video.video.writer import write_video
from tests.speed_run import draw_video
from tests.videos import pictures


def curve(seconds=6.0, fps=30):
    """Times of frames in a video, and in a result whose speed goes from 1 to 3 and back."""
    source_s = np.arange(round(seconds * fps) + 1) / fps
    speed = 2 - np.cos(2 * np.pi * (source_s[:-1] + 0.5 / fps) / seconds)
    return source_s, np.concatenate([[0], np.cumsum(1 / speed)]) / fps


def test_every_moment_of_the_sound_comes_at_its_time_and_all_is_as_long_as_asked():
    source_s, result_s = curve()
    beeps_s = np.arange(0.5, 6, 0.5)
    sound = np.zeros((2, 6 * RATE), np.float32)
    for at in beeps_s:
        first = round(at * RATE)
        sound[:, first : first + 1500] = np.sin(np.arange(1500) / 8)
    out = np.concatenate(list(stretched(np.array_split(sound, 70, axis=1), source_s, result_s)), axis=1)
    assert out.shape == (2, round(result_s[-1] * RATE))
    for wanted_s in np.interp(beeps_s, source_s, result_s):
        around = slice(round((wanted_s - 0.1) * RATE), round((wanted_s + 0.08) * RATE))
        loud = np.flatnonzero(np.abs(out[0, around]) > 0.5)
        assert abs((around.start + loud[0]) / RATE - wanted_s) < 0.045


def test_a_tone_keeps_its_pitch_and_its_loudness():
    source_s, result_s = curve()
    tone = np.tile(np.sin(2 * np.pi * 440 * np.arange(6 * RATE) / RATE), (2, 1)).astype(np.float32)
    out = np.concatenate(list(stretched([tone], source_s, result_s)), axis=1)[0]
    assert np.abs(np.fft.rfft(out)).argmax() * RATE / len(out) == pytest.approx(440, abs=1)
    blocks = out[: len(out) // 960 * 960].reshape(-1, 960)
    assert np.sqrt((blocks[:-3] ** 2).mean(1)).min() > 0.4  # of 0.71: no hole, not at the seams either


def test_sound_that_ends_early_is_followed_by_silence():
    source_s = np.array([0.0, 2.0, 4.0])
    out = np.concatenate(list(stretched([np.ones((2, RATE), np.float32)], source_s, source_s / 2)), axis=1)
    assert out.shape[1] == 2 * RATE and not out[:, RATE:].any()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1, 8), min_size=1, max_size=80).map(np.array), st.integers(5, 60))
def test_pieces_cover_the_video_and_are_long_enough_for_the_filter(speed_N, fps):
    source_s = np.arange(len(speed_N) + 1) / fps
    result_s = np.concatenate([[0], np.cumsum(1 / speed_N)]) / fps
    cuts = pieces(source_s, result_s)
    assert cuts[0] == 0 and cuts[-1] == len(speed_N) and (np.diff(cuts) > 0).all()
    if len(cuts) > 2:
        assert np.diff(result_s[cuts]).min() >= SHORTEST_S - 1e-9


def test_even_speed_is_one_piece_up_to_ten_seconds():
    source_s = np.arange(251) / 25
    assert pieces(source_s, source_s / 2) == [0, 250]
    assert pieces(np.arange(501) / 25, np.arange(501) / 50) == [0, 250, 500]


def test_a_video_has_the_sound_that_was_written(tmp_path):
    draw_video(tmp_path / "a.mp4", 50, sound=True)
    sound = np.concatenate(list(read_sound(str(tmp_path / "a.mp4"))), axis=1)
    assert sound.shape[1] / RATE == pytest.approx(2, abs=0.05)
    assert np.sqrt((sound[:, 5000:-5000] ** 2).mean()) == pytest.approx(0.5 / np.sqrt(2), abs=0.02)


def test_sound_longer_than_the_pictures_is_cut_to_them(tmp_path):
    write_video(tmp_path / "a.mp4", pictures(25), 25, sound=iter([np.ones((2, RATE // 2), np.float32)] * 10))
    assert sum(b.shape[1] for b in read_sound(str(tmp_path / "a.mp4"))) / RATE == pytest.approx(1, abs=0.05)


def test_a_video_without_sound_and_no_video_at_all_have_none(tmp_path):
    assert not has_sound(str(draw_video(tmp_path / "a.mp4", 3)))
    (tmp_path / "b.mp4").write_text("no video")
    assert not has_sound(str(tmp_path / "b.mp4")) and not has_sound(str(tmp_path / "c.mp4"))


def test_the_odd_files_give_sound_or_none_and_never_raise(shared_data):
    for path in sorted((shared_data / "odd").iterdir()):
        block = next(iter(read_sound(str(path))), None)
        assert block is None or block.shape[0] == 2
