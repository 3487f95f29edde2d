"""Masks whose values are no numbers of objects: smoothed, or kept by a lossy format."""

import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from ssl_video.apps.marks import mask_from_file
from ssl_video.cli import main
from ssl_video.datasets.base import Video
from ssl_video.datasets.mask_pictures import read_values
from ssl_video.datasets.masks import Masks, masks_of, objects_in, read_mask
from ssl_video.errors import UserError
from ssl_video.eval.propagation import PropagationConfig, _mask_scores
from ssl_video.video.info import VideoError, VideoInfo
from tests.tracks import save_frames, save_mask, save_masks

SIZE = (91, 73)
SMOOTH = "black and white with smooth edges; what is lighter than half is taken as one object"


def drawn(*, times: int = 8, fill: int = 255) -> Image.Image:
    """A blob and a bar, larger by ``times``."""
    picture = Image.new("L", (SIZE[0] * times, SIZE[1] * times))
    draw = ImageDraw.Draw(picture)
    draw.ellipse([times * v for v in (20, 12, 62, 55)], fill=fill)
    draw.rectangle([times * v for v in (66, 30, 73, 61)], fill=fill)
    return picture


HARD = drawn(times=1)
TRUE_HW = np.asarray(HARD) > 0
ANTI_ALIASED = drawn().resize(SIZE, Image.Resampling.BOX)
BLURRED = HARD.filter(ImageFilter.GaussianBlur(1))


def with_opacity(opacity: Image.Image) -> Image.Image:
    return Image.merge("LA", [Image.new("L", SIZE, 255), opacity])


@pytest.mark.parametrize(
    ("name", "picture", "options"),
    [
        ("anti_aliased.png", ANTI_ALIASED, {}),
        ("resized.png", drawn(times=2).resize(SIZE, Image.Resampling.LANCZOS), {}),
        ("blurred.png", BLURRED, {}),
        ("rgb.png", ANTI_ALIASED.convert("RGB"), {}),
        ("opacity.png", with_opacity(ANTI_ALIASED), {}),
        ("16_bits.png", Image.fromarray(np.asarray(ANTI_ALIASED).astype(np.uint16) * 257), {}),
        ("floats.tif", Image.fromarray(np.asarray(ANTI_ALIASED).astype(np.float32) / 255), {}),
        ("fine.jpg", HARD, {"quality": 95}),
        ("coarse.jpg", HARD, {"quality": 40}),
        ("anti_aliased.jpg", ANTI_ALIASED.convert("RGB"), {"quality": 75}),
        ("lossy.webp", HARD.convert("RGB"), {"quality": 75}),
    ],
)
def test_one_object_with_smooth_edges_is_cut_at_half_and_that_is_said(tmp_path, name, picture, options):
    picture.save(tmp_path / name, **options)
    with pytest.warns(UserWarning, match=f"^{name}: {SMOOTH}"):
        mask_HW = read_mask(tmp_path / name)
    assert objects_in(mask_HW) == [1]
    assert np.count_nonzero((mask_HW == 1) != TRUE_HW) < 0.06 * np.count_nonzero(TRUE_HW)


def test_a_jpeg_that_was_saved_as_png_is_no_better(tmp_path):
    for quality in (50, 75, 95):
        HARD.save(tmp_path / "a.jpg", quality=quality)
        Image.open(tmp_path / "a.jpg").save(tmp_path / "a.png")
        with pytest.warns(UserWarning, match=SMOOTH):
            assert objects_in(read_mask(tmp_path / "a.png")) == [1]


@pytest.mark.parametrize(
    ("name", "picture", "options"),
    [
        ("hard.png", HARD, {}),
        ("hard_16_bits.png", Image.fromarray(np.asarray(HARD).astype(np.uint16) * 257), {}),
        ("hard_floats.tif", Image.fromarray(TRUE_HW.astype(np.float32)), {}),
        ("hard_opacity.png", with_opacity(HARD), {}),
        ("lossless.webp", HARD.convert("RGB"), {"lossless": True}),
    ],
)
def test_one_object_with_hard_edges_needs_no_word(tmp_path, name, picture, options):
    picture.save(tmp_path / name, **options)
    assert np.array_equal(read_mask(tmp_path / name), TRUE_HW)


def two_smoothed():
    """Objects 100 and 200, enlarged with interpolation."""
    small = np.zeros((24, 30), np.uint8)
    small[4:16, 4:12], small[6:20, 16:26] = 100, 200
    return Image.fromarray(small).resize((120, 96), Image.Resampling.BICUBIC)


def photograph():
    noise_HW = np.random.default_rng(0).integers(0, 256, (24, 30), np.uint8)
    return Image.fromarray(noise_HW).resize((120, 96), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("name", "picture", "reason"),
    [
        (
            "two.png",
            two_smoothed(),
            "no numbers of objects .their edges are smooth.; save it as a PNG",
        ),
        (
            "two.jpg",
            two_smoothed(),
            "no numbers of objects .its format changes values.; save it as a PNG",
        ),
        ("labels.jpg", Image.fromarray(TRUE_HW.astype(np.uint8) * 3), "its format changes values"),
        ("photograph.png", photograph(), "no numbers of objects"),
        ("feathered.png", HARD.filter(ImageFilter.GaussianBlur(9)), "no numbers of objects"),
        ("palette.png", ANTI_ALIASED.convert("P"), "values that are no numbers of objects; save it as a PNG"),
        ("dim.png", ANTI_ALIASED.point(lambda v: v * 2 // 3), "no numbers of objects"),
        ("floats.tif", Image.fromarray(np.asarray(HARD).astype(np.float32) / 100), "values that are no whole numbers"),
        (
            "many.png",
            Image.fromarray(np.array([[0, 300]], np.uint16)),
            "numbers objects up to 300; a mask may",
        ),
    ],
)
def test_gray_levels_that_are_no_numbers_are_refused_with_what_to_do(tmp_path, name, picture, reason):
    picture.save(tmp_path / name)
    with pytest.raises(VideoError, match=f"^{name} .*{reason}"):
        read_mask(tmp_path / name)


def numbered(count: int, radius: float, seed: int) -> np.ndarray:
    """Discs, numbered from 1 on, some on others."""
    rng = np.random.default_rng(seed)
    y_H1, x_W = np.arange(120)[:, None], np.arange(160)
    mask_HW = np.zeros((120, 160), np.uint8)
    for number in range(1, count + 1):
        (y, x), r = rng.uniform((0, 0), (120, 160)), radius * rng.uniform(0.5, 1)
        mask_HW[(y_H1 - y) ** 2 + (x_W - x) ** 2 <= r**2] = number
    return mask_HW


@pytest.mark.parametrize(("count", "radius"), [(1, 20), (2, 1), (5, 12), (20, 8), (40, 12), (40, 2)])
@pytest.mark.parametrize("palette", [True, False])
def test_numbers_of_objects_are_kept_however_many_and_small(tmp_path, count, radius, palette):
    for seed in range(5):
        mask_HW = numbered(count, radius, seed)
        save_mask(tmp_path / "a.png", mask_HW, palette)
        assert np.array_equal(read_mask(tmp_path / "a.png"), mask_HW)


def test_void_around_objects_is_not_taken_for_an_object(tmp_path):
    mask_HW = numbered(6, 12, 0)
    around = np.pad(mask_HW, 1)
    border_HW = np.any([around[1 + y : 121 + y, 1 + x : 161 + x] != mask_HW for y, x in ((0, 1), (1, 0), (0, -1))], 0)
    mask_HW[border_HW] = 255
    save_mask(tmp_path / "a.png", mask_HW, palette=False)
    assert np.array_equal(read_mask(tmp_path / "a.png"), mask_HW)


def test_objects_at_other_gray_levels_are_numbers(tmp_path):
    mask_HW = np.zeros((40, 60), np.uint8)
    mask_HW[5:20, 5:20], mask_HW[10:30, 25:40], mask_HW[22:35, 42:58] = 38, 75, 113
    save_mask(tmp_path / "a.png", mask_HW, palette=False)
    assert objects_in(read_mask(tmp_path / "a.png")) == [38, 75, 113]


def sequence(tmp_path, pictures) -> Masks:
    (tmp_path / "masks").mkdir()
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / "masks" / f"{number:05d}.png")
    return Masks(tmp_path / "masks", len(pictures))


def test_a_sequence_in_black_and_white_may_have_smooth_edges(tmp_path):
    masks = sequence(tmp_path, [ANTI_ALIASED, BLURRED, Image.new("L", SIZE)])
    with pytest.warns(UserWarning, match=f"the masks in .*masks: {SMOOTH}"):
        assert masks.binary and [objects_in(masks[t]) for t in range(3)] == [[1], [1], []]  # pyright: ignore


def test_a_smooth_mask_in_a_sequence_of_numbers_is_refused(tmp_path):
    masks = sequence(tmp_path, [Image.fromarray(numbered(2, 12, 0)), ANTI_ALIASED])
    with pytest.warns(UserWarning, match=SMOOTH), pytest.raises(VideoError, match="its sequence numbers objects"):
        masks[1]


def test_an_array_of_masks_is_held_to_numbers_too(tmp_path):
    (tmp_path / "annotations").mkdir()
    np.savez(tmp_path / "annotations" / "x.npz", masks_THW=np.asarray(two_smoothed())[None])
    video = Video(str(tmp_path / "x.mp4"), info=VideoInfo(3, 25.0, 120, 96, 0.1, "h264"))
    masks = masks_of(video)
    assert masks is not None
    with pytest.raises(VideoError, match=r"frame 0 of x\.npz has .* no numbers of objects"):
        masks[0]


def test_results_of_others_come_in_by_the_same_door(tmp_path):
    save_frames(tmp_path / "v", np.zeros((4, SIZE[1], SIZE[0], 3), np.uint8), ".png")
    save_masks(tmp_path / "truth", np.repeat(np.where(TRUE_HW, 255, 0)[None], 4, 0), palette=False)
    video = Video(str(tmp_path / "v"), info=VideoInfo(4, 25.0, *SIZE, 0.2, "pictures"))
    video = Video(video.path, info=video.info, annotation=str(tmp_path / "truth"), annotated="mask_pictures")
    found = tmp_path / "results" / "v"
    found.mkdir(parents=True)
    config = PropagationConfig(results=str(tmp_path / "results"))
    for number in range(4):
        ANTI_ALIASED.save(found / f"{number:05d}.png")
    with pytest.warns(UserWarning, match=SMOOTH):
        measured = _mask_scores(video, None, config)
    assert measured.scores[0, 0] > 0.9  # J
    for number in range(4):
        two_smoothed().resize(SIZE).save(found / f"{number:05d}.png")
    with pytest.raises(VideoError, match="no numbers of objects"):
        _mask_scores(video, None, config)


def test_tracking_refuses_what_is_no_mask_and_says_what_it_cut(tmp_path, capsys):
    frames = np.random.default_rng(0).integers(0, 256, (3, SIZE[1], SIZE[0], 3), np.uint8)
    save_frames(tmp_path / "v", frames, ".png")
    two_smoothed().resize(SIZE).save(tmp_path / "two.png")
    with pytest.raises(UserError, match=r"^The mask .*two\.png cannot be used: two\.png has .* save it as a PNG"):
        mask_from_file(tmp_path / "two.png", frames[0])
    ANTI_ALIASED.save(tmp_path / "one.jpg")
    words = ["track", str(tmp_path / "v"), "--model", "random:dense_resnet_8?width=2", "--out", str(tmp_path / "o")]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main([*words, "--mask", str(tmp_path / "one.jpg")]) == 0
    assert f"ssl-video: warning: one.jpg: {SMOOTH}." in capsys.readouterr().err
    assert objects_in(read_values(tmp_path / "o" / "masks" / "00000.png", "")[0]) == [1]
