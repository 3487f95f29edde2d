import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_video.apps.align import agreement, carried, match_embeddings, match_videos, middles, warping_path
from ssl_video.cli import main
from ssl_video.datasets.base import Video
from ssl_video.datasets.phases import FramePhases, read_csv
from ssl_video.errors import UserError
from ssl_video.model import load_model
from ssl_video.video.info import VideoInfo
from ssl_video.video.reader import read_frames
from ssl_video.video.scan import scan_one
from ssl_video.video.writer import write_video


def line(*places):
    return np.array(places, float)[:, None]


def cheapest(costs, i=0, j=0):
    """Cost of the cheapest way from (i, j) to the last pair, by trying all."""
    ways = [(i + a, j + b) for a, b in ((1, 1), (1, 0), (0, 1)) if i + a < len(costs) and j + b < len(costs[0])]
    return costs[i][j] + min((cheapest(costs, *way) for way in ways), default=0)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32))
def test_the_warping_path_is_a_cheapest_one_that_leaves_nothing_out(A, B, seed):
    costs = np.random.default_rng(seed).integers(0, 5, (A, B)).astype(float)
    path = warping_path(costs)
    assert path[0].tolist() == [0, 0] and path[-1].tolist() == [A - 1, B - 1]
    assert {tuple(step) for step in np.diff(path, axis=0).tolist()} <= {(1, 1), (1, 0), (0, 1)}
    assert costs[tuple(path.T)].sum() == cheapest(costs.tolist())


def test_a_video_and_itself_match_frame_by_frame():
    x = np.random.default_rng(0).normal(size=(9, 4))
    for method in ("dtw", "nearest"):
        match = match_embeddings(x, x, method)
        assert match.b_of_A.tolist() == match.a_of_B.tolist() == list(range(9))


def test_a_video_at_half_the_speed_is_matched_with_every_frame_twice():
    match = match_embeddings(line(0, 1, 2), line(0, 0, 1, 1, 2, 2))
    assert match.a_of_B.tolist() == [0, 0, 1, 1, 2, 2]
    assert match.b_of_A.tolist() == [0, 2, 4]


def test_warping_keeps_the_order_where_nearest_neighbours_jump():
    a, b = line(0, 1, 0.1, 3), line(0, 1, 2, 3)
    assert match_embeddings(a, b, "nearest").b_of_A.tolist() == [0, 1, 0, 3]
    assert (np.diff(match_embeddings(a, b).b_of_A) >= 0).all()


def test_of_several_matches_the_middle_one_counts():
    assert middles(np.array([[0, 0], [1, 0], [1, 1], [1, 2], [2, 3], [2, 4]])).tolist() == [0, 1, 3]


def test_phases_are_carried_to_the_frames_that_match():
    match = match_embeddings(line(0, 1, 2), line(0, 0.1, 1.1, 2, 2.1))
    labels = carried(FramePhases(("Setup", "", "Swing")), match)
    assert labels == FramePhases(("Setup", "Setup", "", "Swing", "Swing"))
    assert agreement(labels, FramePhases(("Setup", "Swing", "Swing", "Swing", ""))) == pytest.approx(2 / 3)
    assert agreement(labels, FramePhases(("", "", "Swing", "", ""))) is None


def test_videos_that_are_too_long_are_refused():
    long = Video("v.mp4", info=VideoInfo(10_000, 25.0, 8, 8, 400, "h264"))
    with pytest.raises(UserError, match="cut the videos"):
        match_videos(load_model("random:r2plus1d_4?width=4"), long, long)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A square that crosses the picture, at 24 frames/s and, in half as many frames and another size, at 12."""
    folder = tmp_path_factory.mktemp("pair")

    def frames(count, size):
        for n in range(count):
            frame = np.zeros((size, size + 8, 3), np.uint8)
            left = round((size - 8) * n / (count - 1))
            frame[8:24, left : left + 8] = 255
            yield frame

    write_video(folder / "a.mp4", frames(12, 40), 24)
    write_video(folder / "b.mp4", frames(6, 48), 12)
    (folder / "a_phases.csv").write_text(
        "frame,phase\n" + "".join(f"{n},{'left' if n < 6 else 'right'}\n" for n in range(14))
    )
    return folder


def words(pair, out, *more):
    return [
        "align",
        str(pair / "a.mp4"),
        str(pair / "b.mp4"),
        "--model",
        "random:r2plus1d_4?width=4",
        "--out",
        str(out),
        *more,
    ]


@pytest.mark.parametrize("method", ["dtw", "nearest"])
def test_the_command_writes_a_video_a_picture_and_phases(pair, tmp_path, capsys, method):
    out = tmp_path / "aligned.mp4"
    assert main(words(pair, out, "--method", method)) == 0
    said = capsys.readouterr().out
    assert "12 frames at 24 frames/s" in said and "6 frames at 12 frames/s" in said
    assert "The rates differ" in said and "2 phases are of frames beyond the end" in said
    info = scan_one(str(out))
    assert (info.frames, info.fps, info.width) == (12, 24, 96) and info.height > 40  # 48 + 47, made even
    assert (tmp_path / "aligned.png").stat().st_size > 1000
    labels = read_csv(tmp_path / "aligned_phases_of_B.csv")
    assert sorted(labels) == list(range(6)) and set(labels.values()) <= {"left", "right"}
    if method == "dtw":
        assert labels[0] == "left" and labels[5] == "right"


def test_the_video_shows_the_first_video_unchanged_on_the_left(pair, tmp_path):
    out = tmp_path / "aligned.mp4"
    assert main(words(pair, out)) == 0
    ours, original = (read_frames(str(p), range(12)).astype(int) for p in (out, pair / "a.mp4"))
    assert np.abs(ours[:, -40:, :48] - original).mean() < 4


def test_without_phases_none_are_carried(pair, tmp_path):
    a, b = pair / "b.mp4", pair / "a.mp4"
    out = tmp_path / "aligned.mp4"
    assert main(["align", str(a), str(b), "--model", "random:r2plus1d_4?width=4", "--out", str(out)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["aligned.mp4", "aligned.png"]


def test_a_missing_video_is_one_sentence(pair, tmp_path, capsys):
    assert main(["align", str(pair / "a.mp4"), str(tmp_path / "no.mp4"), "--model", "random:r2plus1d_4"]) == 2
    assert capsys.readouterr().err == f"ssl-video: There is no video file {tmp_path / 'no.mp4'}.\n"
