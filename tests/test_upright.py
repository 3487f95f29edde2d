"""Which way up frames are: turned and mirrored as FFmpeg's command does, in every reader and in the scan."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from ssl_video.errors import UserError
from ssl_video.video.cache import make_copy
from ssl_video.video.rate import rate_of_file
from ssl_video.video.reader import get_reader, iterate_frames, read_frames
from ssl_video.video.scan import scan_one
from tests import videos

SHOWN = {
    "as it is stored": ((1, 0, 0, 1), lambda p: p),
    "hflip": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "vflip": ((1, 0, 0, -1), lambda p: p[::-1]),
    "hflip and vflip": ((-1, 0, 0, -1), lambda p: p[::-1, ::-1]),
    "transpose=clock": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "transpose=cclock": ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    "transpose=cclock_flip": ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
    "transpose=clock_flip": ((0, -1, -1, 0), lambda p: np.rot90(p, 2).swapaxes(0, 1)),
}
"""FFmpeg's filters, the numbers a, b, c, d of the matrix that it applies them for, and what they do."""


@pytest.mark.parametrize("filters", SHOWN)
def test_a_display_matrix_is_applied_as_by_ffmpeg(tmp_path, filters):
    matrix, show = SHOWN[filters]
    path = videos.mp4(tmp_path / "v.mp4")
    stored = [show(frame) for frame in iterate_frames(str(path))]
    path = str(videos.with_matrix(path, matrix))
    info = scan_one(path)
    assert (info.height, info.width) == stored[0].shape[:2] and info.pts_step > 0
    assert np.array_equal(list(iterate_frames(path)), stored)
    for facts in (info, None):
        assert np.array_equal(read_frames(path, [30, 3], facts), [stored[30], stored[3]])
    copy = make_copy(path, info.frames, tmp_path / "copy.npy", "raw", None)
    assert np.array_equal(np.load(tmp_path / "copy.npy"), stored) and copy.width == info.width
    try:
        reader = get_reader("torchcodec")
    except UserError:
        return
    found = reader(path, [30, 3], info).astype(int)
    assert np.abs(found - np.stack([stored[30], stored[3]])).mean() < 3


def test_a_matrix_that_is_damaged_leaves_frames_as_they_are(tmp_path):
    path = videos.mp4(tmp_path / "v.mp4", count=3)
    stored = list(iterate_frames(str(path)))
    path = str(videos.with_matrix(path, (0, 0, 0, 0)))
    assert np.array_equal(list(iterate_frames(path)), stored)


@pytest.mark.parametrize("held", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_a_picture_is_a_video_of_one_frame_the_right_way_up(tmp_path, held, suffix):
    notes = Image.Exif()
    notes[0x0112] = held
    path = tmp_path / f"a{suffix}"
    Image.fromarray(videos.pictures(1)[0]).save(path, exif=notes)
    with Image.open(path) as picture:
        upright_HWC = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    info = scan_one(str(path))
    assert (info.frames, info.height, info.width) == (1, *upright_HWC.shape[:2])
    assert info.fps == rate_of_file(path) == 25 and info.duration_s == 0.04
    assert np.array_equal(read_frames(str(path), [0, 0], info), [upright_HWC] * 2)
    assert np.array_equal(list(iterate_frames(str(path))), [upright_HWC])


def test_a_picture_that_moves_is_read_with_all_its_frames(tmp_path):
    path = videos.special(tmp_path / "a.apng", "apng", "rgb24").rename(tmp_path / "a.png")
    assert scan_one(str(path)).frames == 6
    assert len(list(iterate_frames(str(path)))) == 6
