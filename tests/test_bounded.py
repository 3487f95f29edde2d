"""What is held of a video: a frame at a time as it was decoded, and clips at the size at which they are used."""

import contextlib
import gc
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from PIL import Image

from ssl_video.apps.align import DRAWN, _coarse, _in_turn
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.eval import features as features_module
from ssl_video.eval import frames as frames_module
from ssl_video.eval.classification import Classification, ClassificationConfig
from ssl_video.eval.dense import resized
from ssl_video.eval.features import Extraction, extract
from ssl_video.model import Model
from ssl_video.train import data as data_module
from ssl_video.train.data import read_video
from ssl_video.video import reader as reader_module
from ssl_video.video import scan as scan_module
from ssl_video.video.augment import resize_height, resize_short_side
from ssl_video.video.cache import copy_bytes
from ssl_video.video.info import VideoInfo
from ssl_video.video.reader import VideoError, iterate_frames, opened, read_frames
from ssl_video.video.scan import scan_one
from ssl_video.video.upright import scaled_size
from ssl_video.video.view import View
from tests.nets import tiny_backbone
from tests.videos import avi_with_b_frames, mp4, of_sizes, pictures, with_matrix


def small(frame_HWC):
    return resize_short_side(frame_HWC[None], 12)[0]


def folder_of(path, count=40):
    path.mkdir()
    for number, picture in enumerate(pictures(count)):
        Image.fromarray(picture).save(path / f"{number:03d}.png")
    return path


def array_of(path, count=40):
    np.save(path, np.stack(pictures(count)))
    return path


SOURCES = {
    "seekable.mp4": mp4,
    "counted.avi": avi_with_b_frames,
    "turned.mp4": lambda path: with_matrix(mp4(path), (0, -1, 1, 0)),
    "array.npy": array_of,
    "folder": folder_of,
}
every_source = pytest.mark.parametrize("name", SOURCES)


def scanned(path):
    if path.suffix == ".npy":
        return Video(str(path), info=VideoInfo(40, 25.0, 64, 48, 1.6, "raw"))
    return Video(str(path), info=scan_one(str(path)))


@every_source
def test_frames_are_resized_one_by_one_to_the_same_bytes_as_all_at_once(name, tmp_path):
    video, numbers = scanned(SOURCES[name](tmp_path / name)), [3, 4, 30, 4]
    sizes = []

    def each(frame_HWC):
        sizes.append(frame_HWC.shape)
        return small(frame_HWC)

    full_THWC = read_frames(video.path, numbers, video.info)
    np.testing.assert_array_equal(read_frames(video.path, numbers, video.info, each), resize_short_side(full_THWC, 12))
    assert set(sizes) == {full_THWC.shape[1:]}
    np.testing.assert_array_equal(np.stack(list(iterate_frames(video.path, 38, each))), [
        small(frame_HWC) for frame_HWC in iterate_frames(video.path, 38)
    ])  # fmt: skip


@pytest.mark.parametrize("name", ["seekable.mp4", "turned.mp4"])
def test_a_decoded_frame_is_freed_before_the_garbage_collector_comes(name, tmp_path):
    path = str(SOURCES[name](tmp_path / name))

    def alive():
        return sum(type(thing) is VideoFrame for thing in gc.get_objects())

    gc.collect()
    gc.freeze()  # none of the million objects that there are by now is looked at
    gc.disable()
    try:
        before = alive()
        most = max(alive() - before for _ in iterate_frames(path))
    finally:
        gc.enable()
    assert most <= 3


@pytest.mark.parametrize("options", [{}, {"crop": "resized"}, {"short_sides": (12, 14, 20)}])
@pytest.mark.parametrize("training", [True, False])
def test_fine_tuning_makes_the_same_clips_of_frames_that_were_resized_when_they_were_decoded(options, training):
    config = ClassificationConfig(**options)
    trained = Classification(config, tiny_backbone(), View(4, 2, 16, 12), ("a", "b")).train(training)
    video = Video("a.mp4", (0,), info=VideoInfo(40, 25.0, 64, 48, 1.6, "h264"))
    whole = np.stack(pictures(40))
    clips = []
    for early in (True, False):
        rng = np.random.default_rng(5)
        sample = trained.sample(video, {}, rng)
        frames_THWC = whole[list(sample.frames)]
        if early and sample.each:
            frames_THWC = np.stack([sample.each(frame_HWC) for frame_HWC in frames_THWC])
        clips.append(trained.transform(frames_THWC, sample, rng)["clip_THWC"])
    np.testing.assert_array_equal(*clips)


def test_a_large_clip_that_is_read_as_it_is_is_made_smaller_but_no_other(tmp_path, monkeypatch):
    video = scanned(mp4(tmp_path / "a.mp4"))
    assert read_video(video, range(4)).shape == (4, 48, 64, 3)
    monkeypatch.setattr(data_module, "LARGEST_CLIP", 48 * 64)
    assert read_video(video, [0]).shape == (1, 48, 64, 3)
    assert read_video(video, range(4)).shape == (4, 24, 32, 3)
    assert read_video(replace(video, resized_to=40), range(4)).shape == (4, 40, 53, 3)


def model_of():
    return Model("tiny", tiny_backbone().eval(), View(4, 2, 12, 8), {}, torch.device("cpu"))


@every_source
@pytest.mark.parametrize("crops, clips, shuffle", [(1, 0, False), (3, 0, False), (1, 9, False), (1, 9, True)])
def test_features_do_not_depend_on_the_portions_in_which_clips_are_read(
    name, crops, clips, shuffle, tmp_path, monkeypatch
):
    video = scanned(SOURCES[name](tmp_path / name))
    what = Extraction(clips, crops=crops, shuffle=shuffle)
    videos = VideoSet("some", (video, replace(video, labels=(1,)), video))
    whole = extract(model_of(), videos, what, workers=0)
    monkeypatch.setattr(features_module, "PORTION", 2 * 3 * crops * 4 * 8 * 8)  # two clips
    for workers in (0, 2):
        parts = extract(model_of(), videos, what, workers=workers)
        assert [v.labels for v in parts.videos] == [(), (1,), ()]
        np.testing.assert_array_equal(np.stack(parts.starts), np.stack(whole.starts))
        np.testing.assert_allclose(np.stack(parts.clips_KD), np.stack(whole.clips_KD), atol=1e-6)


def test_a_file_in_which_frames_are_counted_is_decoded_once_for_all_portions(tmp_path, monkeypatch):
    video, opens = scanned(avi_with_b_frames(tmp_path / "a.avi")), []
    monkeypatch.setattr(features_module, "PORTION", 1)
    monkeypatch.setattr(reader_module, "opened", lambda *a: opens.append(a) or opened(*a))
    extract(model_of(), VideoSet("one", (video,)), Extraction(0), workers=0)
    assert len(opens) == 1


def test_a_video_that_breaks_off_between_portions_is_left_out_whole(tmp_path, monkeypatch):
    good = scanned(avi_with_b_frames(tmp_path / "a.avi"))
    short = replace(good, info=replace(good.info, frames=60))
    monkeypatch.setattr(features_module, "PORTION", 1)
    found = extract(model_of(), VideoSet("two", (short, good)), Extraction(0, batch=2), workers=0)
    assert found.videos == [good] and [p.reason for p in found.problems] == [
        "there is no frame 42: the file ends before it"
    ]
    assert len(found.starts[0]) == len(found.clips_KD[0]) == 12


@pytest.mark.parametrize("at_once", [16, 32])
def test_embeddings_of_frames_do_not_depend_on_how_many_are_held(at_once, tmp_path, monkeypatch):
    video = scanned(mp4(tmp_path / "a.mp4", count=90))
    (whole_TD,), _ = frames_module.embed_frames(model_of(), [video])
    monkeypatch.setattr(frames_module, "AT_ONCE", at_once)
    (parts_TD,), _ = frames_module.embed_frames(model_of(), [video])
    assert len(whole_TD) == 90
    np.testing.assert_array_equal(parts_TD, whole_TD)


@every_source
@pytest.mark.parametrize("numbers", [[0, 0, 3, 7, 39], [5, 2, 2, 39, 0], list(range(39, -1, -1)) * 4])
def test_the_second_video_of_an_alignment_comes_frame_by_frame_in_any_order(name, numbers, tmp_path):
    video = scanned(SOURCES[name](tmp_path / name))
    whole = read_frames(video.path, numbers, video.info, small)
    np.testing.assert_array_equal(np.stack(list(_in_turn(video, np.array(numbers), small))), whole)


def test_the_picture_of_a_long_alignment_has_averages():
    values_AB = np.random.default_rng(0).normal(size=(7, 2 * DRAWN))
    np.testing.assert_allclose(_coarse(values_AB), values_AB.reshape(7, DRAWN, 2).mean(2))
    np.testing.assert_array_equal(_coarse(values_AB[:, :9]), values_AB[:, :9])


def test_frames_above_the_limit_are_refused_with_their_size_and_the_limit(tmp_path, monkeypatch):
    path = str(mp4(tmp_path / "a.mp4"))
    monkeypatch.setattr(reader_module, "LARGEST", 48 * 64 - 1)
    with pytest.raises(VideoError, match=r"^its frames of 64x48 pixels are above the limit of 3071 pixels a frame$"):
        next(iterate_frames(path))
    monkeypatch.setattr(reader_module, "LARGEST", 48 * 64)
    assert next(iterate_frames(path)).shape == (48, 64, 3)


@pytest.mark.parametrize("width, height", [(65535, 65535), (65535, 2000), (9000, 9000)])
def test_a_size_that_a_header_only_claims_takes_no_memory(width, height, tmp_path):
    path = tmp_path / "a.gif"
    Image.new("L", (8, 8)).save(path, save_all=True, append_images=[Image.new("L", (8, 8), 9)])
    data = bytearray(path.read_bytes())
    struct.pack_into("<HH", data, 6, width, height)
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"above the limit of|it has no frame that decodes"):
        scan_one(str(path))


def test_frames_that_become_too_large_on_the_way_are_passed_over(tmp_path, monkeypatch):
    path = of_sizes(tmp_path / "a.mkv", [(64, 48), (320, 240)])
    whole = sum(1 for _ in iterate_frames(str(path)))
    monkeypatch.setattr(reader_module, "LARGEST", 100 * 100)
    assert 0 < sum(1 for _ in iterate_frames(str(path))) < whole


@pytest.mark.parametrize("height, width", [(240, 320), (720, 1280), (60, 240), (240, 60), (1, 1), (2160, 3840)])
@pytest.mark.parametrize("side", [16, 112, 256])
def test_ordinary_frames_keep_their_aspect_ratio(height, width, side):
    scale = side / min(height, width)
    assert scaled_size(height, width, side) == (
        max(side, round(height * scale)), max(side, round(width * scale))
    )  # fmt: skip


@pytest.mark.parametrize("height, width", [(66, 640), (640, 66), (10, 8000), (1, 5000)])
def test_very_wide_and_narrow_frames_are_not_blown_up(height, width):
    frame_HWC = np.zeros((height, width, 3), np.uint8)
    most = max(height, width, 4 * 480)
    h, w, _ = resize_short_side(frame_HWC[None], 480)[0].shape
    assert min(h, w) == 480 and max(h, w) <= most
    assert max(resize_height(frame_HWC, 480).shape[:2]) <= max(most, 480)
    h, w, _ = resized(frame_HWC, 480, False).shape
    assert max(h, w) <= most and abs(h / w * width / height - 1) < 0.1
    info = VideoInfo(1, 25.0, width, height, 0.04, "h264")
    assert copy_bytes(info, "raw", 480) == resize_short_side(frame_HWC[None], 480).nbytes


def test_long_panoramas_that_are_made_smaller_keep_their_aspect_ratio():
    assert scaled_size(1000, 8000, 100) == (100, 800)


def test_the_index_of_a_long_file_is_read_while_the_file_is_open(tmp_path, monkeypatch):
    path, open_now = str(mp4(tmp_path / "a.mp4")), [False]

    class Entry:
        is_keyframe = property(lambda self: open_now[0] or pytest.fail("read behind the end of the file"))
        timestamp = is_keyframe

    class Stream:
        index_entries = (Entry(),)

    class Container:
        def seek(self, *_args, **_options):
            return None

    @contextlib.contextmanager
    def drawn(_path):
        open_now[0] = True
        yield Container(), Stream()
        open_now[0] = False

    info = replace(scan_one(path), pts_start=0, pts_step=1.0)
    monkeypatch.setattr(scan_module, "opened", drawn)
    assert scan_module._key_frames(path, info) == [1]  # True is the time 1
