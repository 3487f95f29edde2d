"""Pictures of every kind as frames: RGB of 8 bits, the right way up."""

import json
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from ssl_video.video.cache import finished, make_copy
from ssl_video.video.info import VideoError
from ssl_video.video.pictures import read_picture, read_stored
from tests.tracks import save_frames

RAMP_HW = np.tile(np.linspace(0, 255, 16).round().astype(np.uint8), (8, 1))
RGB_HWC = np.stack([RAMP_HW, RAMP_HW[:, ::-1], np.full_like(RAMP_HW, 7)], 2)
OPAQUE_HW = np.where(np.arange(16) < 8, 255, 0).astype(np.uint8)[None].repeat(8, 0)


def in_rgb(gray_HW):
    return np.repeat(np.asarray(gray_HW)[..., None], 3, 2)


def palette():
    """Sixteen columns of sixteen colours, and what they look like."""
    picture = Image.fromarray(RAMP_HW // 17)
    picture.putpalette([value for n in range(16) for value in (10 * n, 0, 255 - 10 * n)])
    n_HW = RAMP_HW // 17
    return picture, np.stack([10 * n_HW, 0 * n_HW, 255 - 10 * n_HW], 2)


def tiff(values_HW, sample_format):
    """An uncompressed TIFF of one channel, as no writer of Pillow makes it: 1 unsigned, 2 signed."""
    height, width = values_HW.shape
    data = values_HW.astype(values_HW.dtype.newbyteorder("<")).tobytes()
    tags = {256: width, 257: height, 258: 8 * values_HW.itemsize, 259: 1, 262: 1, 273: 8 + 2 + 12 * 10 + 4}
    tags |= {277: 1, 278: height, 279: len(data), 339: sample_format}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + data


@pytest.mark.parametrize(
    ("name", "picture", "seen_HWC", "options"),
    [
        ("gray.png", Image.fromarray(RAMP_HW), in_rgb(RAMP_HW), {}),
        ("rgb.png", Image.fromarray(RGB_HWC), RGB_HWC, {}),
        ("bits.png", Image.fromarray(RAMP_HW > 100), in_rgb(np.where(RAMP_HW > 100, 255, 0)), {}),
        ("16.png", Image.fromarray(RAMP_HW.astype(np.uint16) * 257), in_rgb(RAMP_HW), {}),
        ("16.tif", Image.fromarray(RAMP_HW.astype(np.uint16) * 257), in_rgb(RAMP_HW), {}),
        ("float.tif", Image.fromarray(RAMP_HW.astype(np.float32) / 255), in_rgb(RAMP_HW), {}),
        ("cmyk.tif", Image.fromarray(RGB_HWC).convert("CMYK"), RGB_HWC, {}),
        ("lab.tif", Image.new("LAB", (16, 8), (128, 128, 128)), np.full((8, 16, 3), 119), {}),
        ("palette.png", palette()[0], palette()[1], {}),
        (
            "gray_and_opacity.png",
            Image.merge("LA", [Image.fromarray(RAMP_HW), Image.fromarray(OPAQUE_HW)]),
            in_rgb(np.where(OPAQUE_HW > 0, RAMP_HW, 0)),
            {},
        ),
        (
            "rgb_and_opacity.png",
            Image.merge("RGBA", [*Image.fromarray(RGB_HWC).split(), Image.fromarray(OPAQUE_HW)]),
            np.where(OPAQUE_HW[..., None] > 0, RGB_HWC, 0),
            {},
        ),
        (
            "palette_with_a_transparent_colour.png",
            palette()[0],
            np.where((RAMP_HW == 3 * 17)[..., None], 0, palette()[1]),
            {"transparency": 3},
        ),
        (
            "palette_with_transparent_colours.png",
            palette()[0],
            np.where((RAMP_HW < 2 * 17)[..., None], 0, palette()[1]),
            {"transparency": bytes([0, 0])},
        ),
        (
            "gray_with_a_transparent_level.png",
            Image.fromarray(RAMP_HW),
            in_rgb(np.where(RAMP_HW == 17, 0, RAMP_HW)),
            {"transparency": 17},
        ),
    ],
)
def test_a_picture_of_any_mode_is_read_as_what_it_looks_like(tmp_path, name, picture, seen_HWC, options):
    picture.save(tmp_path / name, **options)
    found_HWC = read_picture(tmp_path / name)
    assert found_HWC.dtype == np.uint8 and np.array_equal(found_HWC, seen_HWC)


@pytest.mark.parametrize("most", [255, 4095, 65535])
def test_a_gray_map_is_scaled_by_its_own_largest_value(tmp_path, most):
    data = np.array([0, most // 3, most], ">u2" if most > 255 else "u1").tobytes()
    (tmp_path / "a.ppm").write_bytes(b"P5 3 1 %d\n" % most + data)
    assert read_picture(tmp_path / "a.ppm")[0, :, 0].tolist() == [0, 85, 255]


@pytest.mark.parametrize(
    ("values", "sample_format"),
    [
        (np.array([[0, 2**15, 2**16 - 1]], np.uint16), 1),
        (np.array([[-5, 2**14, 2**15 - 1]], np.int16), 2),
        (np.array([[0, 2**31, 2**32 - 1]], np.uint32), 1),
        (np.array([[-5, 2**30, 2**31 - 1]], np.int32), 2),
    ],
)
def test_whole_numbers_of_a_tiff_are_scaled_by_their_depth_and_sign(tmp_path, values, sample_format):
    (tmp_path / "a.tif").write_bytes(tiff(values, sample_format))
    assert read_picture(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("value", [-0.1, 1.1, 200.0, float("nan")])
def test_floating_point_outside_of_0_to_1_has_no_colour(tmp_path, value):
    Image.fromarray(np.full((4, 4), value, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(VideoError, match=r"a\.tif holds floating point outside of 0 to 1"):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("held", range(1, 9))
def test_a_picture_is_turned_upright_as_its_exif_says(tmp_path, held, suffix):
    notes = Image.Exif()
    notes[0x0112] = held
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.kron(RGB_HWC, np.ones((4, 4, 1), np.uint8))).save(path, exif=notes)
    with Image.open(path) as picture:
        upright_HWC = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    assert upright_HWC.shape == ((64, 32, 3) if held >= 5 else (32, 64, 3))
    assert np.array_equal(read_picture(path), upright_HWC)
    assert np.array_equal(read_stored(path).values, upright_HWC)


def test_damaged_exif_leaves_a_picture_as_it_is(tmp_path):
    Image.fromarray(RGB_HWC).save(tmp_path / "a.png", exif=b"Exif\0\0no notes at all")
    assert np.array_equal(read_picture(tmp_path / "a.png"), RGB_HWC)


def test_values_that_are_numbers_are_read_as_they_are_stored(tmp_path):
    numbers_HW = np.array([[0, 1, 300]], np.uint16)
    Image.fromarray(numbers_HW).save(tmp_path / "a.png")
    palette()[0].save(tmp_path / "b.png", transparency=3)
    assert read_stored(tmp_path / "a.png").values.tolist() == numbers_HW.tolist()
    stored = read_stored(tmp_path / "b.png")
    assert stored.palette and np.array_equal(stored.values, RAMP_HW // 17)


def test_copies_of_pictures_that_version_0_1_made_are_made_anew(tmp_path):
    save_frames(tmp_path / "v", np.repeat(RGB_HWC[None], 3, 0), ".png")
    copy = tmp_path / "v.npy"
    make_copy(str(tmp_path / "v"), 3, copy, "raw", None)
    assert finished(str(tmp_path / "v"), copy) is not None
    note = copy.with_suffix(".json")
    stat = (tmp_path / "v").stat()
    made = json.loads(note.read_text())
    before = {"source": f"{stat.st_size}|{stat.st_mtime_ns}", "size": copy.stat().st_size}  # how it noted a source
    note.write_text(json.dumps(before | {"info": made["info"]}))
    assert finished(str(tmp_path / "v"), copy) is None
