"""Optical flow: what the methods find, how it is stored, and that networks of flow are trained and measured on it."""

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.utils import flow_to_image

from ssl_video.backbones.base import BACKBONES, FLOW_MEAN, FLOW_STD, Backbone, ClipSpec, chain
from ssl_video.cli import main
from ssl_video.datasets.base import ListedVideo, VideoList, VideoSet
from ssl_video.datasets.flow import flow_of, for_modality
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS, Needs
from ssl_video.pretexts.speediness import Speediness
from ssl_video.video import augment
from ssl_video.video.cache import build_clip_cache, copy_path, make_copy
from ssl_video.video.flow import FLOWS, check_flow, colour_wheel, decode, encode, flow_method
from ssl_video.video.reader import VideoError, read_frames
from ssl_video.video.writer import Encoding, write_video
from tests import videos

LOSSLESS = {"crf": "0", "preset": "ultrafast"}


def texture(height: int = 64, width: int = 96) -> np.ndarray:
    """Smooth gray noise, the same in all three channels."""
    noise = torch.from_numpy(np.random.default_rng(3).normal(size=(1, 1, height // 4, width // 4)))
    smooth = nn.functional.interpolate(noise, size=(height, width), mode="bicubic")[0, 0].numpy()
    return np.repeat(np.clip(128 + 50 * smooth, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def shifted(dx: int, dy: int, count: int = 4) -> np.ndarray:
    """A picture that moves by (dx, dy) pixels a frame, round the borders."""
    return np.stack([np.roll(texture(), (n * dy, n * dx), (0, 1)) for n in range(count)])


def write(path: Path, frames_THWC: np.ndarray) -> str:
    write_video(path, frames_THWC, encoding=Encoding(LOSSLESS, pixel_format="yuv444p"))
    return str(path)


def scanned_set(*paths: str) -> VideoSet:
    return scanned(VideoList("drawn", tuple(ListedVideo(p) for p in paths)))


@pytest.mark.parametrize("method", ["farneback", "dis", "farneback?window=21"])
@pytest.mark.parametrize(("dx", "dy"), [(2, 0), (-1, 0), (0, 3), (1, -2)])
def test_a_shifted_picture_flows_by_its_shift(method, dx, dy):
    flow = flow_method(method)(shifted(dx, dy))
    assert flow.shape == (3, 64, 96, 2) and flow.dtype == np.float32
    assert np.allclose(np.median(flow[:, 16:-16, 16:-16], axis=(1, 2)), [dx, dy], atol=0.1)


@pytest.mark.parametrize("method", ["farneback", "dis"])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (8, 5), (3, 90), (11, 17)])
def test_small_frames_have_flow_too(method, size):
    flow = flow_method(method)(shifted(0, 0, 2)[:, : size[0], : size[1]])
    assert flow.shape == (1, *size, 2) and np.isfinite(flow).all()


@pytest.fixture(scope="module")
def raft_weights(tmp_path_factory):
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("raft") / "raft_small.pth"
    torch.save(raft_small().state_dict(), path)
    return path


def test_raft_takes_frames_of_any_size_and_weights_from_a_file(raft_weights):
    flow = flow_method(f"raft?weights={raft_weights}")(shifted(1, 0, 2)[:, :50, :70])
    assert flow.shape == (1, 50, 70, 2) and flow.dtype == np.float32 and np.isfinite(flow).all()


def test_raft_with_weights_that_are_not_finite_is_one_sentence(raft_weights, tmp_path):
    state = torch.load(raft_weights, weights_only=True)
    next(iter(state.values())).view(-1)[0] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(UserError, match=r"cannot be had from .*nan\.pth \(NaN or infinite numbers in 1 of \d+ tensors"):
        flow_method(f"raft?weights={tmp_path / 'nan.pth'}")(shifted(1, 0, 2)[:, :50, :70])


def test_raft_without_its_weights_is_one_sentence(tmp_path, monkeypatch):
    def unreachable(*_words, **_options):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(UserError, match=r"cannot be had from torchvision's weights .*no route to host.*raft\?weights"):
        check_flow("raft?size=large")
    with pytest.raises(UserError, match="cannot be had from"):
        check_flow(f"raft?weights={tmp_path / 'nothing.pth'}")


def test_wrong_names_and_options_of_a_method_are_answered():
    with pytest.raises(UserError, match="did you mean 'farneback'"):
        flow_method("farnebeck")
    with pytest.raises(UserError, match="did you mean 'window'"):
        flow_method("farneback?windw=3")
    assert set(FLOWS) == {"farneback", "dis", "raft"}


def test_stored_flow_is_off_by_half_a_step_and_cut_at_20_pixels():
    flow = np.random.default_rng(0).uniform(-20, 20, (5, 6, 2)).astype(np.float32)
    assert np.abs(decode(encode(flow)) - flow).max() <= 20 / 127 / 2 + 1e-5
    assert encode(np.array([0.0, 20.0, 500.0, -500.0])).tolist() == [128, 255, 255, 0]


def test_the_statistics_of_flow_turn_stored_values_into_pixels_over_20():
    flow = np.linspace(-20, 20, 4 * 6 * 8 * 2).reshape(1, 4, 6, 8, 2)
    x_BCTHW = augment.to_float(torch.from_numpy(encode(flow)), FLOW_MEAN, FLOW_STD)
    assert torch.allclose(x_BCTHW.permute(0, 2, 3, 4, 1), torch.from_numpy(flow).float() / 20, atol=0.005)


def test_flow_is_resized_and_cropped_like_pictures():
    flow = np.full((3, 20, 30, 2), (140, 120), np.uint8)
    out = augment.crop(augment.resize_short_side(flow, 12), 10, np.random.default_rng(0))
    assert out.shape == (3, 10, 10, 2) and (out == (140, 120)).all()


def test_the_flow_of_a_mirrored_video_is_the_mirrored_flow():
    frames = shifted(3, 1)
    flow, of_mirrored = (flow_method("farneback")(f) for f in (frames, frames[:, :, ::-1]))
    difference = decode(augment.mirror(encode(flow))) - decode(encode(of_mirrored))
    assert np.abs(difference[:, 8:-8, 8:-8]).mean() < 0.1


def test_mirroring_twice_changes_nothing_but_a_value_beyond_the_cut():
    flow = np.arange(256, dtype=np.uint8).reshape(1, 8, 16, 2)
    twice = augment.mirror(augment.mirror(flow))
    assert np.array_equal(twice, np.maximum(flow, (1, 0)))


def test_a_flip_negates_dx_of_flow_and_leaves_pictures_alone():
    flow, pictures = np.full((2, 4, 4, 2), (138, 130), np.uint8), np.full((2, 4, 4, 3), 7, np.uint8)
    seen = {tuple(augment.flip(flow, np.random.default_rng(n))[0, 0, 0]) for n in range(8)}
    assert seen == {(138, 130), (118, 130)}
    assert all((augment.flip(pictures, np.random.default_rng(n)) == 7).all() for n in range(8))


def test_the_colour_wheel_shows_direction_as_hue_and_magnitude_as_saturation():
    right, down, left, still = (4.0, 0.0), (0.0, 4.0), (-4.0, 0.0), (0.0, 0.0)
    picture = colour_wheel(np.array([[right, down, left, still, (2.0, 0.0)]]))
    assert picture.tolist() == [[[255, 0, 0], [255, 229, 0], [0, 209, 255], [255, 255, 255], [255, 127, 127]]]
    assert colour_wheel(np.zeros((2, 2, 2))).min() == 255
    assert colour_wheel(np.array([[right]]), maximum=8).tolist() == [[[255, 127, 127]]]
    assert colour_wheel(np.array([[right]]), maximum=1).tolist() == [[[255, 0, 0]]]


def test_without_a_maximum_flow_is_coloured_as_torchvision_colours_it():
    flow_HW2 = np.random.default_rng(0).normal(size=(9, 12, 2)).astype(np.float32)
    theirs = flow_to_image(torch.from_numpy(flow_HW2).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    assert (colour_wheel(flow_HW2) == theirs).all()


def test_a_copy_holds_the_flow_between_neighbours(tmp_path):
    frames = shifted(2, 1, 6)
    path = write(tmp_path / "v.mp4", frames)
    (video,) = flow_of(scanned_set(path), "dis", None, out=tmp_path / "c").videos
    assert video.frames == 5 and video.source == path and video.info.width == 96
    stored = read_frames(video.path, [4, 0, 2], video.info)
    assert stored.shape == (3, 64, 96, 2) and stored.dtype == np.uint8
    assert np.allclose(np.median(decode(stored)[:, 16:-16, 16:-16], axis=(1, 2)), [2, 1], atol=0.2)


def test_reversed_flow_is_that_of_the_video_played_backwards(tmp_path):
    frames = np.concatenate([shifted(3, 0, 4), np.roll(shifted(0, 2, 4), 9, 2)])
    there, back = write(tmp_path / "v.mp4", frames), write(tmp_path / "back.mp4", frames[::-1])
    copies = []
    for name, path, reversed in (("a", there, True), ("b", back, False), ("c", there, False)):
        make_copy(path, 8, tmp_path / f"{name}.npy", "farneback", None, reversed)
        copies.append(np.load(tmp_path / f"{name}.npy"))
    assert np.array_equal(copies[0], copies[1])
    assert not np.array_equal(copies[0], copies[2])


def test_flow_that_is_there_is_kept(tmp_path):
    path = write(tmp_path / "v.mp4", shifted(1, 0))
    pairs = [(path, scanned_set(path).videos[0].info)]
    before = build_clip_cache(pairs, tmp_path / "c", "farneback", 32)
    stamp = Path(before[path][0]).stat().st_mtime_ns
    assert build_clip_cache(pairs, tmp_path / "c", "farneback", 32) == before
    assert Path(before[path][0]).stat().st_mtime_ns == stamp


def test_every_method_size_and_direction_has_its_own_copy(tmp_path):
    kinds = [("farneback", 32), ("dis", 32), ("farneback", 48), ("farneback", 32, True), ("farneback?window=9", 32)]
    assert len({copy_path("/v.mp4", tmp_path, *kind) for kind in kinds}) == len(kinds)


def test_a_video_of_one_frame_has_no_flow(tmp_path):
    path = write(tmp_path / "short.mp4", shifted(1, 0, 1))
    with pytest.raises(VideoError, match="it has one frame only, and flow needs two"):
        make_copy(path, 1, tmp_path / "c.npy", "farneback", None)


def test_where_opencv_cannot_be_imported_flow_is_refused_in_one_sentence(tmp_path, monkeypatch):
    path = write(tmp_path / "v.mp4", shifted(1, 0))
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"needs OpenCV.*pip install opencv-python-headless"):
        flow_of(scanned_set(path), out=tmp_path / "c")


def test_a_network_is_shown_what_it_takes(tmp_path):
    path = write(tmp_path / "v.mp4", shifted(1, 0))
    rgb = scanned_set(path)
    flow = for_modality(rgb, "flow")
    assert for_modality(rgb, "rgb") is rgb and for_modality(flow, "flow") is flow
    assert flow.videos[0].source == path and flow.hash != rgb.hash
    with pytest.raises(UserError, match="holds optical flow, but the network takes rgb"):
        for_modality(flow, "rgb")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    words = ["--train", "6", "--test", "4", "--size", "40", "--frames", "26"]
    assert main(["data", "synthesize", "--out", str(folder), *words]) == 0
    return folder


@pytest.fixture
def flow_things(monkeypatch):
    """A backbone and a pretext that look at flow."""

    def toy_flow(*, width: int = 4) -> Backbone:
        """A toy."""
        stages = {"stem": nn.Sequential(nn.Conv3d(2, width, 3, (1, 4, 4), 1), nn.BatchNorm3d(width), nn.ReLU())}
        clip = ClipSpec(8, 32, modality="flow", channels=2, mean=FLOW_MEAN, std=FLOW_STD, min_size=8)
        return chain(stages, feature_dim=width, strides=(1, 4, 4), clip=clip)

    class FlowSpeediness(Speediness):
        """A toy."""

        needs = replace(Speediness.needs, modality="flow")

    BACKBONES.names(), PRETEXTS.names()
    monkeypatch.setitem(BACKBONES._members, "toy_flow", toy_flow)
    monkeypatch.setitem(PRETEXTS._members, "flow_speediness", FlowSpeediness)


def test_a_network_of_flow_is_pretrained_evaluated_indexed_and_asked(drawn, flow_things, tmp_path, capsys):
    assert Speediness.needs == Needs()
    run, index = str(tmp_path / "run"), str(tmp_path / "index")
    small = "--pretext.frames=8 --pretext.short-side=32 --pretext.crop=32 --pretext.colour=0 --steps=3 --batch-size=4"
    small += " --pretext.min-size=24 --pretext.max-size=32 --workers=0 --monitor-every=3 --probe"
    words = ["pretrain", "--pretext", "flow_speediness", "--backbone", "toy_flow", "--data", str(drawn), "--out", run]
    assert main([*words, *small.split()]) == 0
    assert "retrieval recall@1" in capsys.readouterr().out
    assert main(["evaluate", "linear", "--model", run, "--data", str(drawn), "--workers", "0"]) == 0
    assert main(["index", "--model", run, "--data", str(drawn), "--out", index, "--workers", "0"]) == 0
    source = next((drawn / "videos").rglob("*.mp4"))
    capsys.readouterr()
    assert main(["query", index, str(source), "--top-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(line.endswith(".mp4") for line in lines[1:])


def test_data_flow_writes_a_manifest_to_train_from(drawn, flow_things, tmp_path, capsys):
    folder = tmp_path / "videos"
    folder.mkdir()
    for n in range(3):
        videos.mp4(folder / f"{n}.mp4", count=30)
    write(folder / "short.mp4", shifted(1, 0, 1))
    out = tmp_path / "flow"
    words = ["data", "flow", "--data", str(folder), "--out", str(out), "--method", "dis", "--short-side", "32"]
    assert main([*words, "--reversed"]) == 0
    said = capsys.readouterr().out
    assert "The flow of 3 videos is in" in said and "1 left out" in said
    assert f"left out: {folder / 'short.mp4'}: it has one frame only" in said
    rows = list(csv.DictReader((out / "manifest.csv").read_text().splitlines()))
    assert [r["frames"] for r in rows] == ["29"] * 3 + [""] and {r["codec"] for r in rows} == {"flow", ""}
    loaded = load_splits(str(out)).train
    assert for_modality(loaded, "flow") is loaded
    assert main(["index", "--model", "random:toy_flow", "--data", str(out), "--out", str(tmp_path / "i")]) == 0


def test_explain_flow_draws_a_sheet_and_a_video(tmp_path, capsys):
    path = write(tmp_path / "v.mp4", shifted(2, 0, 12))
    assert main(["explain", "flow", path, "--method", "dis", "--out", str(tmp_path / "o")]) == 0
    assert capsys.readouterr().out.count("v_flow_dis") == 2
    (copy,) = scanned_set(str(tmp_path / "o" / "v_flow_dis.mp4")).videos
    assert (copy.frames, copy.info.width) == (11, 192) and copy.info.height > 64
    assert (tmp_path / "o" / "v_flow_dis.png").stat().st_size > 1000
