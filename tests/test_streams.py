"""Which stream of a file is its video, and of what size its frames are."""

from pathlib import Path

import numpy as np
import pytest

from ssl_video.errors import UserError
from ssl_video.video import fetch
from ssl_video.video.info import VideoError, VideoInfo
from ssl_video.video.rate import rate_of_file
from ssl_video.video.reader import get_reader, iterate_frames, read_frames
from ssl_video.video.scan import scan_one
from tests import videos

COVER, VIDEO = ("mjpeg", 1, (80, 80)), ("mpeg4", 30, (64, 48))
CHOSEN = {
    "a cover that is marked": ("v.mp4", [COVER, VIDEO], {0: "attached_pic"}),
    "a marked cover behind": ("v.mp4", [VIDEO, COVER], {1: "attached_pic"}),
    "a cover that is the default": ("v.mkv", [COVER, VIDEO], {0: "default"}),
    "a cover that nothing marks": ("v.mkv", [COVER, VIDEO], {}),
    "a cover of another kind": ("v.mov", [("png", 1, (200, 200)), VIDEO], {}),
    "one frame of a moving codec": ("v.mp4", [("mpeg4", 1, (200, 200)), VIDEO], {}),
    "a smaller stream before": ("v.mkv", [("mpeg4", 20, (32, 32)), VIDEO], {}),
    "a smaller stream behind": ("v.avi", [VIDEO, ("mpeg4", 20, (32, 32))], {}),
    "a larger stream that is not the default": ("v.mkv", [("mpeg4", 20, (96, 96)), VIDEO], {1: "default"}),
    "the first of equals": ("v.mkv", [VIDEO, ("mpeg4", 20, (64, 48))], {}),
}


def cover_first(path: Path) -> Path:
    """Put the notes of an mp4, which hold its cover, before its tracks; its header lies at the end."""
    data = path.read_bytes()
    at = data.index(b"moov") - 4
    boxes, place = [], at + 8
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        boxes.append(data[place : place + size])
        place += size
    boxes.sort(key=lambda box: [b"mvhd", b"udta"].index(box[4:8]) if box[4:8] in (b"mvhd", b"udta") else 2)
    path.write_bytes(data[: at + 8] + b"".join(boxes))
    return path


@pytest.mark.parametrize("case", CHOSEN)
def test_the_true_video_stream_is_read_by_everybody(tmp_path, case):
    name, streams, marked = CHOSEN[case]
    path = videos.of_streams(tmp_path / name, streams, marked)
    path = str(cover_first(path) if "cover that is marked" in case else path)
    info = scan_one(path)
    assert (info.frames, info.width, info.height, info.codec) == (30, 64, 48, "mpeg4")
    assert info.fps == pytest.approx(25, rel=0.01) and float(rate_of_file(path)) == pytest.approx(25, rel=0.01)
    frames = list(iterate_frames(path))
    assert len(frames) == 30 and frames[0].shape == (48, 64, 3)
    for facts in (info, None):
        assert np.array_equal(read_frames(path, [20, 3], facts), [frames[20], frames[3]])
    try:
        reader = get_reader("torchcodec")
    except UserError:
        return
    assert reader(path, [20, 3], info).shape == (2, 48, 64, 3)


def test_a_file_with_a_cover_alone_has_no_video(tmp_path):
    path = videos.of_streams(tmp_path / "v.mp4", [COVER], {0: "attached_pic"})
    with pytest.raises(VideoError, match=r"^it has no video stream but a cover$"):
        scan_one(str(path))


def test_a_stream_of_a_codec_that_nobody_knows_has_a_reason(tmp_path):
    path = videos.special(tmp_path / "v.mov", "png", "rgb24")
    path.write_bytes(path.read_bytes().replace(b"png ", b"qqqq"))
    with pytest.raises(VideoError, match=r"^there is no decoder of its video stream$"):
        scan_one(str(path))


@pytest.mark.parametrize("name", ["v.avi", "v.mkv", "v.mov"])
def test_frames_have_the_size_of_the_first_one_whatever_is_asked_for(tmp_path, name):
    path = str(videos.of_sizes(tmp_path / name, [(64, 48), (48, 96), (128, 96), (128, 48)]))
    info = scan_one(path)
    assert (info.frames, info.width, info.height) == (120, 64, 48)
    frames = list(iterate_frames(path))
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    for wanted in ([0, 31, 61, 91], [31], [119, 45, 61], [100]):
        for facts in (info, None):
            assert np.array_equal(read_frames(path, wanted, facts), [frames[n] for n in wanted])
    assert np.array_equal(next(iterate_frames(path, 45)), frames[45])


def test_a_frame_of_another_shape_is_fitted_between_bars_and_not_stretched(tmp_path):
    path = str(videos.of_sizes(tmp_path / "v.avi", [(64, 48), (48, 96), (128, 96), (128, 48)]))
    tall, same, wide = read_frames(path, [47, 77, 107])
    seen_HW = tall.max(2) > 40
    assert not seen_HW[:, :20].any() and seen_HW[:, 20:44].any() and not seen_HW[:, 44:].any()
    assert same.max(2)[:, :8].max() > 40 and same.max(2)[-4:].max() > 40
    seen_HW = wide.max(2) > 40
    assert not seen_HW[:12].any() and seen_HW[12:36].any() and not seen_HW[36:].any()


def test_a_scan_of_another_file_does_not_change_the_size_of_frames(tmp_path):
    path = str(videos.mp4(tmp_path / "v.mp4"))
    wrong = VideoInfo(40, 25.0, 32, 24, 1.6, "h264", 0, 512)
    assert read_frames(path, [30], wrong).shape == (1, 48, 64, 3)


def test_sound_starts_with_the_video_and_not_with_its_cover(tmp_path):
    path = str(cover_first(videos.of_streams(tmp_path / "v.mp4", [COVER, VIDEO], {0: "attached_pic"})))
    with fetch.open_media(path) as container:
        assert fetch.video_stream(container).index == 1
