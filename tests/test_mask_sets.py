import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ssl_video.datasets.base import Video
from ssl_video.datasets.jhmdb import read_joints
from ssl_video.datasets.masks import masks_of, objects_in, read_mask
from ssl_video.datasets.points import points_of
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.errors import UserError
from ssl_video.video import pictures
from ssl_video.video.info import VideoError, VideoInfo
from ssl_video.video.pictures import picture_files
from ssl_video.video.reader import iterate_frames, read_frames
from ssl_video.video.scan import scan_one
from tests.tracks import davis, save_frames, save_mask

MASK = np.array([[0, 1, 2], [255, 2, 2]], np.uint8).repeat(8, 0).repeat(8, 1)


def gray(count, height=16, width=24):
    return np.arange(count, dtype=np.uint8).repeat(height * width * 3).reshape(count, height, width, 3)


def test_a_folder_of_pictures_is_a_video(tmp_path):
    save_frames(tmp_path / "v", gray(12), ".png")
    assert read_frames(str(tmp_path / "v"), [11, 2, 2])[:, 0, 0, 0].tolist() == [11, 2, 2]
    assert [frame[0, 0, 0] for frame in iterate_frames(str(tmp_path / "v"), 9)] == [9, 10, 11]
    info = scan_one(str(tmp_path / "v"))
    assert (info.frames, info.width, info.height) == (12, 24, 16)


def test_pictures_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("f10.png", "f9.png", "f1.jpg", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in picture_files(tmp_path)] == ["f1.jpg", "f9.png", "f10.png"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "00001.png").write_bytes(b"no picture"), "00001.png cannot be decoded"),
        (lambda folder: (folder / "00001.png").write_bytes(b""), "00001.png cannot be decoded"),
        (lambda folder: save_mask(folder / "00001.png", MASK[:8]), "00001.png is 24x8 pixels large"),
    ],
)
def test_a_picture_that_does_not_fit_makes_the_folder_a_problem(tmp_path, spoil, reason):
    save_frames(tmp_path / "v", gray(3), ".png")
    spoil(tmp_path / "v")
    with pytest.raises(VideoError, match=reason):
        scan_one(str(tmp_path / "v"))


def test_a_picture_cut_off_is_refused(tmp_path):
    path = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(VideoError, match="cannot be decoded"):
        pictures.read_picture(path)


def test_a_picture_is_not_decoded_if_it_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "LARGEST", 100)
    save_mask(tmp_path / "a.png", MASK)
    with pytest.raises(VideoError, match="24x16 pixels is too large"):
        read_mask(tmp_path / "a.png")


def test_an_empty_folder_and_a_frame_that_is_not_there_are_said(tmp_path):
    with pytest.raises(VideoError, match="without pictures"):
        scan_one(str(tmp_path))
    save_frames(tmp_path / "v", gray(3))
    with pytest.raises(VideoError, match="there is no frame 3"):
        read_frames(str(tmp_path / "v"), [0, 3])


def test_masks_are_numbers_whatever_their_colours(tmp_path):
    save_mask(tmp_path / "palette.png", MASK)
    save_mask(tmp_path / "gray.png", MASK, palette=False)
    for name in ("palette.png", "gray.png"):
        assert (read_mask(tmp_path / name) == MASK).all()
    assert objects_in(MASK) == [1, 2]


def test_only_gray_masks_of_0_and_255_are_binary(tmp_path):
    binary = np.where(MASK == 2, 255, 0)
    save_mask(tmp_path / "gray.png", binary, palette=False)
    save_mask(tmp_path / "palette.png", binary)
    Image.fromarray(binary.astype(np.uint8)).convert("RGB").save(tmp_path / "rgb.png")
    Image.fromarray(binary.astype(np.uint8)).convert("RGBA").save(tmp_path / "rgba.png")
    Image.fromarray(binary > 0).save(tmp_path / "bits.png")
    for name in ("gray.png", "rgb.png", "rgba.png", "bits.png"):
        assert objects_in(read_mask(tmp_path / name)) == [1]
    assert objects_in(read_mask(tmp_path / "palette.png")) == []  # 255 is void there


def test_a_sequence_is_binary_or_not_as_its_first_mask_is(tmp_path):
    numbered, void = MASK.copy(), np.where(MASK == 2, 255, 0)
    root = davis(tmp_path, {"a": np.stack([numbered, void])}, {"a": gray(2)}, year="2016")
    (video,) = scanned(load_splits(f"davis:{root}").train).videos
    masks = masks_of(video)
    assert masks is not None and (masks[1] == void).all()


def test_masks_are_found_by_the_names_of_frames(tmp_path):
    root = davis(tmp_path, {"a": np.stack([MASK] * 3)}, {"a": gray(3)})
    (root / "Annotations" / "480p" / "a" / "00000.png").rename(root / "Annotations" / "480p" / "a" / "00007.png")
    (video,) = scanned(load_splits(f"davis:{root}").train).videos
    masks = masks_of(video)
    assert masks is not None and masks[0] is None and (masks[2] == MASK).all()


def test_masks_of_drawn_sets_lie_in_arrays(tmp_path):
    video = Video(str(tmp_path / "videos" / "tracks" / "x.mp4"), info=VideoInfo(3, 25.0, 24, 16, 0.1, "h264"))
    assert masks_of(video) is None
    (tmp_path / "annotations").mkdir()
    np.savez(tmp_path / "annotations" / "x.npz", masks_THW=MASK[None])
    masks = masks_of(video)
    assert masks is not None and (masks[0] == MASK).all() and masks[1] is None


@pytest.mark.parametrize(
    "content", [{}, {"masks_THW": MASK}, {"masks_THW": MASK[None].astype(float)}, {"masks_THW": np.array([[[{}]]])}]
)
def test_an_array_that_is_no_mask_is_refused(tmp_path, content):
    video = Video(str(tmp_path / "x.mp4"), info=VideoInfo(3, 25.0, 24, 16, 0.1, "h264"))
    (tmp_path / "annotations").mkdir()
    np.savez(tmp_path / "annotations" / "x.npz", **content)
    masks = masks_of(video)
    assert masks is not None
    with pytest.raises(VideoError, match=r"x\.npz"):
        masks[0]


def test_the_newest_year_of_davis_is_split_1_and_years_are_splits(tmp_path):
    root = davis(tmp_path, {"a": MASK[None], "b": MASK[None]}, {"a": gray(1), "b": gray(1)})
    (root / "ImageSets" / "2016").mkdir()
    (root / "ImageSets" / "2016" / "val.txt").write_text("b\n")
    (root / "ImageSets" / "2016" / "train.txt").write_text("a\nabsent\n")
    assert [v.path[-1] for v in load_splits(f"davis:{root}").train.videos] == ["a", "b"]
    of_2016 = load_splits(f"davis:{root}", 2016)
    assert of_2016.test is not None
    assert [v.path[-1] for v in of_2016.train.videos] == ["a"] and [v.path[-1] for v in of_2016.test.videos] == ["b"]
    assert "1 of the 2 videos" in of_2016.warnings[0]
    with pytest.raises(UserError, match=r"no list of the year 2018; there are: 2017, 2016"):
        load_splits(f"davis:{root}", 2018)


def test_the_lists_of_2016_as_first_published_and_no_list_at_all(tmp_path):
    root = davis(tmp_path, {"a": MASK[None], "b": MASK[None]}, {"a": gray(1), "b": gray(1)})
    lists = root / "ImageSets" / "2017"
    (lists / "val.txt").unlink()
    assert len(load_splits(f"davis:{root}").train.videos) == 2
    (root / "ImageSets" / "480p").mkdir()
    line = "/JPEGImages/480p/b/0000{0}.jpg /Annotations/480p/b/0000{0}.png\n"
    (root / "ImageSets" / "480p" / "val.txt").write_text(line.format(0) + line.format(1))
    assert [v.path[-1] for v in load_splits(f"davis:{root}").train.videos] == ["b"]


@pytest.mark.parametrize("name", ["davis", "vip", "jhmdb"])
def test_a_folder_that_is_not_the_set_is_said(tmp_path, name):
    with pytest.raises(UserError, match=r"There (is|are) no"):
        load_splits(f"{name}:{tmp_path}")


def test_joints_count_from_0_and_frames_without_are_not_known(tmp_path):
    positions = np.random.default_rng(0).uniform(1, 50, (2, 15, 4))
    savemat(tmp_path / "j.mat", {"pos_img": positions})
    info = VideoInfo(6, 25.0, 24, 16, 0.1, "pictures")
    video = Video(str(tmp_path), info=info, annotation=str(tmp_path / "j.mat"), annotated="jhmdb_joints")
    joints_TJ2 = points_of(video)
    assert joints_TJ2 is not None
    assert joints_TJ2[3, 2].tolist() == (positions[:, 2, 3] - 1).tolist()
    assert np.isnan(joints_TJ2[4:]).all()


@pytest.mark.parametrize("content", [b"", b"no mat file at all", {"pos_img": np.zeros((3, 15, 4))}, {"other": 1}])
def test_a_file_that_holds_no_joints_is_refused(tmp_path, content):
    path = tmp_path / "j.mat"
    path.write_bytes(content) if isinstance(content, bytes) else savemat(path, content)
    with pytest.raises(VideoError, match=r"j\.mat"):
        read_joints(path)
