import numpy as np
import pytest
import torch
from torch import nn

from ssl_video.apps.explain_affinity import Affinity, affinity_of, draw_affinity
from ssl_video.apps.options import AffinityOptions
from ssl_video.backbones.base import ClipSpec, chain
from ssl_video.cli import main
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.model import Model
from ssl_video.video.info import VideoInfo
from ssl_video.video.scan import scan_one
from ssl_video.video.view import View
from ssl_video.video.writer import write_video

CELL, H, W = 8, 48, 64


def pooling_model() -> Model:
    """The mean colour of each cell of 8x8 pixels."""
    clip = ClipSpec(frames=1, size=16, mean=(0.5,) * 3, std=(0.5,) * 3, min_size=8)
    pool = nn.Conv3d(3, 3, (1, CELL, CELL), (1, CELL, CELL), bias=False)
    pool.weight.data = torch.eye(3)[:, :, None, None, None].repeat(1, 1, 1, CELL, CELL) / CELL**2
    backbone = chain({"pool": pool}, feature_dim=3, strides=(1, CELL, CELL), clip=clip)
    return Model("pooling", backbone, View(1, 1, 16, 16), {}, torch.device("cpu"))


def wandering(places) -> np.ndarray:
    """A red cell on noise of blue and green, at these (row, column) of the map."""
    noise_HW3 = np.random.default_rng(0).integers(100, 200, (H // CELL, W // CELL, 3)) * (0, 1, 1)
    frames = []
    for row, column in places:
        cells = noise_HW3.copy()
        cells[row, column] = (250, 0, 0)
        frames.append(np.kron(cells, np.ones((CELL, CELL, 1))).astype(np.uint8))
    return np.stack(frames)


@pytest.fixture
def video(tmp_path) -> Video:
    path = tmp_path / "v.npy"
    np.save(path, wandering([(1, 2), (1, 3), (4, 6), (5, 0)]))
    return Video(str(path), info=INFO)


INFO = VideoInfo(4, 25.0, W, H, 4 / 25, "npy")


def test_the_heat_is_where_the_point_s_cell_went(video):
    found = affinity_of(pooling_model(), video, (2 * CELL, 2 * CELL - 1), 0, (1, 2, 3))
    assert found.chances_Shw.shape == (3, H // CELL, W // CELL)
    assert found.chances_Shw.sum((1, 2)) == pytest.approx([1, 1, 1], abs=1e-5)
    assert [found.peak(place) for place in range(3)] == [(28, 12), (52, 36), (4, 44)]


def test_chances_are_the_softmax_of_cosine_similarities(video):
    found = affinity_of(pooling_model(), video, (0, 0), 0, (1,), AffinityOptions(temperature=0.3))
    cells = np.load(video.path)[:2, ::CELL, ::CELL].astype(np.float64) / 127.5 - 1
    query, keys = cells[0, 0, 0], cells[1].reshape(-1, 3)
    similar = keys @ query / np.linalg.norm(keys, axis=1) / np.linalg.norm(query)
    expected = np.exp(similar / 0.3) / np.exp(similar / 0.3).sum()
    np.testing.assert_allclose(found.chances_Shw[0].ravel(), expected, rtol=1e-4)


def test_earlier_frames_and_smaller_frames_can_be_looked_at(video):
    found = affinity_of(pooling_model(), video, (52, 36), 2, (0,), AffinityOptions(short_side=24))
    assert found.chances_Shw.shape == (1, 3, 4)
    assert found.peak(0) == (24, 8)  # the cell of twice the size that holds it


@pytest.mark.parametrize(
    "point, frame, others, said",
    [
        ((W, 0), 0, (1,), "outside of the frames, which have 64x48 pixels"),
        ((0, -1), 0, (1,), "outside of the frames"),
        ((0, 0), 4, (1,), "frames 0 to 3; there is no frame 4"),
        ((0, 0), 0, (-1,), "there is no frame -1"),
    ],
)
def test_a_point_or_frame_that_is_not_there_is_refused(video, point, frame, others, said):
    with pytest.raises(UserError, match=said):
        affinity_of(pooling_model(), video, point, frame, others)


def test_a_map_of_one_cell_and_an_unknown_stage_are_refused(video):
    with pytest.raises(UserError, match="single cell"):
        affinity_of(pooling_model(), video, (0, 0), 0, (1,), AffinityOptions(short_side=8))
    with pytest.raises(UserError, match="no stage 'conv9'"):
        affinity_of(pooling_model(), video, (0, 0), 0, (1,), AffinityOptions(stage="conv9"))


def test_the_picture_has_the_point_and_the_heat_in_their_places(tmp_path):
    """Looked at by colour: red at the point, and bright only in the likeliest corner."""
    from PIL import Image

    chances_Shw = np.full((1, 4, 4), 0.001)
    chances_Shw[0, 3, 0] = 1 - 15 * 0.001
    affinity = Affinity((0, 7), (80, 80), np.zeros((2, 80, 80, 3), np.uint8), (60, 20), chances_Shw)
    draw_affinity(affinity, tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    half = round(picture.shape[1] * 2.6 / 6.1)  # at the right is the colour scale
    reds = np.argwhere((picture[:, :half, 0] > 200) & (picture[:, :half, 1] < 100))
    assert reds.mean(0) == pytest.approx([picture.shape[0] * 0.30, half * 0.76], abs=12)
    other = picture[:, half : 2 * half]
    heat = np.argwhere((other[..., 0] > 150) & (other[..., 2] < 190))
    assert heat.mean(0) / other.shape[:2] == pytest.approx([0.80, 0.16], abs=0.03)


def test_the_command_draws_later_frames_and_says_where_the_point_went(tmp_path, capsys):
    path = tmp_path / "v.mp4"
    write_video(path, iter(wandering([(1, n % 8) for n in range(12)])))
    words = ["explain", "affinity", str(path), "--model", "random:dense_resnet_8?width=4", "--point", "20,12"]
    assert scan_one(str(path)).frames == 12
    assert main([*words, "--out", str(tmp_path / "o")]) == 0
    said = capsys.readouterr().out
    assert [line.split(":")[0] for line in said.splitlines()[:5]] == [f"frame {n}" for n in (2, 4, 6, 8, 11)]
    assert (tmp_path / "o" / "v_affinity_20_12_frame0.png").stat().st_size > 1000
    assert main([*words, "--out", str(tmp_path / "o"), "--frame", "11", "--to", "0"]) == 0
    assert "frame 0: likeliest at" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, said",
    [
        (["--point", "20"], "two whole numbers x,y"),
        (["--point", "a,b"], "two whole numbers x,y"),
        (["--point", "640,1"], "outside of the frames"),
        (["--point", "1,1", "--frame", "11"], "is the last of"),
        (["--point", "1,1", "--frame", "12"], "there is no frame 12"),
        (["--point", "1,1", "--temperature", "0"], "--temperature"),
        (["--point", "1,1", "--to", *"1" * 21], "at most 20 frames"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(tmp_path, capsys, words, said):
    path = tmp_path / "v.mp4"
    write_video(path, iter(wandering([(1, n % 8) for n in range(12)])))
    assert main(["explain", "affinity", str(path), "--model", "random:dense_resnet_8?width=4", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_video_of_one_frame_is_refused(tmp_path, capsys):
    path = tmp_path / "v.mp4"
    write_video(path, iter(wandering([(1, 1)])))
    words = ["--model", "random:dense_resnet_8?width=4", "--point", "1,1"]
    assert main(["explain", "affinity", str(path), *words]) == 2
    assert "has one frame only" in capsys.readouterr().err


def test_what_is_no_video_is_refused(tmp_path, capsys):
    (tmp_path / "v.mp4").write_bytes(b"no video")
    words = ["--model", "random:dense_resnet_8?width=4", "--point", "1,1"]
    assert main(["explain", "affinity", str(tmp_path / "v.mp4"), *words]) == 2
    assert "cannot be used" in capsys.readouterr().err
