import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.io import savemat

from ssl_video.cli import main
from ssl_video.datasets.annotations import ANNOTATIONS
from ssl_video.datasets.base import ListedVideo, VideoList
from ssl_video.datasets.points import PointReader, points_of
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.errors import UserError
from ssl_video.eval.affinity import Affinity, propagate
from ssl_video.eval.base import Task, evaluate
from ssl_video.eval.calibration import batch_norms
from ssl_video.eval.carry import carry_masks, carry_points, gaussians, largest, one_hot, peaks, rounded_gaussians
from ssl_video.eval.dense import calibrate_on_maps, lab_features, network_features, resized_mask
from ssl_video.eval.propagation import Propagation
from ssl_video.eval.regions import jaccard
from ssl_video.model import Model, load_model
from ssl_video.train.data import read_video
from ssl_video.video.augment import resize
from ssl_video.video.info import VideoInfo
from tests.tracks import davis, drawn, save_frames, save_mask, save_masks

SMALL = "random:dense_resnet_8?width=4"


def measured(spec, model=None, preset="default", **options):
    splits = load_splits(str(spec))
    test = scanned(splits.test or splits.train)
    task = Task(str(spec), 1, test, None)
    return evaluate("propagation", load_model(model) if model else None, task, preset=preset, options=options)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two tracks of several objects in the layout of DAVIS-2017."""
    scenes = {name: drawn(number) for number, name in enumerate(("first", "second"))}
    root = tmp_path_factory.mktemp("davis")
    return davis(
        root, {n: s.masks_THW for n, s in scenes.items()}, {n: s.frames_THWC for n, s in scenes.items()}
    ), scenes


def still(masks_THW):
    """Gray frames for masks that matter alone."""
    return np.full((*masks_THW.shape, 3), 90, np.uint8)


def one(root, masks_THW, year="2017", frames_THWC=None):
    return davis(root, {"a": masks_THW}, {"a": still(masks_THW) if frames_THWC is None else frames_THWC}, year)


def square(frames=5, side=40):
    masks_THW = np.zeros((frames, 64, 96), np.uint8)
    masks_THW[:, 8 : 8 + side, 20 : 20 + side] = 1
    return masks_THW


def test_identity_is_the_first_mask_against_all_others(two):
    root, scenes = two
    result = measured(f"davis:{root}", features="identity")
    j = []
    for scene in scenes.values():
        first = scene.masks_THW[0]
        for n in set(first.ravel().tolist()) - {0}:
            j.append(np.mean([jaccard(first == n, mask == n) for mask in scene.masks_THW[1:-1]]))
    assert result.metrics["J_mean"] == pytest.approx(np.mean(j))
    assert result.metrics["J&F"] == pytest.approx((result.metrics["J_mean"] + result.metrics["F_mean"]) / 2)
    assert result.counts == {"sequences": 2, "frames": 12, "frames_without_annotation": 0, "objects": len(j)}
    assert set(result.per_video) == {"first", "second"} and set(result.per_video["first"]) == set(result.metrics)


def test_colours_that_tell_objects_apart_carry_their_masks():
    frames_THWC = np.zeros((4, 64, 96, 3), np.uint8)
    masks_THW = np.zeros((4, 64, 96), np.uint8)
    for t in range(4):
        frames_THWC[t] = (30, 30, 200)
        for n, (y, colour) in enumerate(((8, (220, 30, 30)), (40, (30, 220, 30))), 1):
            frames_THWC[t, y : y + 16, 8 + 8 * t : 32 + 8 * t] = colour
            masks_THW[t, y : y + 16, 8 + 8 * t : 32 + 8 * t] = n
    carried = carry_masks(frames_THWC, masks_THW[0], [1, 2], lab_features(), Affinity(2, 12, 1))
    for t, mask_HW in enumerate(carried):
        assert min(jaccard(mask_HW == n, masks_THW[t] == n) for n in (1, 2)) > 0.8


def test_a_network_is_shown_single_frames_and_its_layer_before_the_last():
    model = load_model("random:resnet18?output_stride=8")
    frame_HWC = drawn(frames=8).frames_THWC[0]
    found = network_features(model, None, 64)(frame_HWC)
    assert found.shape == (256, 8, 8)  # of layer3
    assert torch.allclose(found.norm(dim=0), torch.ones(8, 8))
    assert network_features(model, "layer4", 64)(frame_HWC).shape[0] == 512


@pytest.mark.parametrize(
    ("name", "frames", "cells"),
    [
        ("r2plus1d_4", 8, (4, 5)),
        ("r3d_10", 8, (4, 5)),
        ("c3d", 16, (3, 3)),
        ("vivit_tiny", 2, (4, 4)),
        ("vit?depth=1", 2, (8, 9)),
        ("vit?depth=1&tubelet=1,16,16", 1, (4, 4)),
        ("dinov2?depth=1&width=48", 1, (5, 5)),
    ],
)
def test_a_network_of_clips_is_shown_a_frame_that_stands_still(name, frames, cells, monkeypatch):
    model, shown = load_model(f"random:{name}"), []
    dense_map = Model.dense_map
    monkeypatch.setattr(
        Model, "dense_map", lambda self, clips, stage: shown.append(clips) or dense_map(self, clips, stage)
    )
    found = network_features(model, None)(drawn(frames=1).frames_THWC[0, :64, :70])
    assert shown[0].shape[1] == frames
    assert (shown[0] == shown[0][:, :1]).all()
    assert found.shape[1:] == cells


@pytest.mark.parametrize("name", ["i3d_r50", "r2plus1d_4"])
def test_a_network_of_clips_is_calibrated_on_frames_that_stand_still(two, name, monkeypatch):
    videos, model, shown = scanned(load_splits(f"davis:{two[0]}", 1).train), load_model(f"random:{name}"), []
    normalise = Model.normalise
    monkeypatch.setattr(Model, "normalise", lambda self, clips: shown.append(clips.shape[1]) or normalise(self, clips))
    calibrate_on_maps(model, videos.videos, side=64)
    assert set(shown) == {max(model.backbone.strides[0], model.backbone.clip.smallest[0])}


def test_frames_are_resized_to_whole_patches():
    frame_HWC = drawn(frames=1).frames_THWC[0, :60, :45]
    features = network_features(load_model("random:vit?depth=1&tubelet=1,16,16"))
    assert torch.equal(features(frame_HWC), features(resize(frame_HWC[None], (64, 48))[0]))


@pytest.mark.parametrize("name", ["late_fusion_pool", "lrcn"])
def test_a_network_without_maps_is_refused_in_a_sentence(name):
    with pytest.raises(UserError, match="no map of frames of any size"):
        network_features(load_model(f"random:{name}"))


def test_unknown_stages_are_refused(two):
    with pytest.raises(UserError, match="has no stage 'layer9'"):
        measured(f"davis:{two[0]}", SMALL, stage="layer9", side=32)


def test_the_command_prints_every_sequence_and_the_total(two, capsys, tmp_path):
    out = tmp_path / "r.json"
    words = ["evaluate", "propagation", "--data", f"davis:{two[0]}", "--model", SMALL, "--out", str(out)]
    assert main([*words, "--preset", "crw-davis-240", "--option", "side=64"]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("first  ", "second  ", "J&F", "J_mean", "F_mean"))
    (result,) = json.loads(out.read_text())
    assert result["preset"] == "crw-davis-240" and result["options"]["side"] == 64
    assert set(result["per_video"]) == {"first", "second"}


def test_without_a_model_the_sentence_names_what_does_without(two, capsys):
    assert main(["evaluate", "propagation", "--data", f"davis:{two[0]}"]) == 2
    assert "features=lab" in capsys.readouterr().err


def test_drawn_tracks_are_data_as_they_are(tmp_path):
    synthesize(tmp_path / "t", SyntheticConfig("tracks", train=1, test=1, size=128, frames=8), workers=1)
    result = measured(tmp_path / "t", SMALL, side=64)
    assert result.counts["sequences"] == 1 and result.counts["frames"] == 6


def test_every_preset_names_its_numbers():
    presets = Propagation.presets
    davis_480, small, jhmdb, vip = (presets[n] for n in ("crw-davis", "crw-davis-240", "crw-jhmdb", "crw-vip"))
    assert (davis_480.side, davis_480.context, davis_480.radius, davis_480.top_k) == (0, 20, 12, 10)
    assert davis_480.temperature == 0.05 and small.side == 240
    assert (jhmdb.context, jhmdb.side, jhmdb.measure, jhmdb.points) == (7, 320, "points", "rounded")
    assert (vip.context, vip.side, vip.measure, vip.classes) == (4, 560, "parts", 20)
    siam = presets["siam-davis"]
    assert (siam.side, siam.context, siam.radius, siam.top_k, siam.temperature) == (480, 20, 20, 7, 0.7)
    cycle = presets["timecycle-davis"]
    assert (cycle.context, cycle.side, cycle.square, cycle.rule) == (7, 320, True, "per-frame")


def test_timecycle_runs_on_squares(two):
    assert 0 <= measured(f"davis:{two[0]}", SMALL, "timecycle-davis", side=64).metrics["J&F"] <= 1


def test_the_masks_of_another_method_are_measured(tmp_path, capsys):
    root = one(tmp_path / "set", square() * 255, "2016")
    halves = square()
    halves[:, 28:48] *= 2  # two objects, together the one of 2016
    save_masks(tmp_path / "found" / "a", halves)
    options = ["--option", f"results={tmp_path / 'found'}"]
    assert main(["evaluate", "propagation", "--data", f"davis:{root}", *options]) == 0
    assert "J&F       1.0000" in capsys.readouterr().out
    (tmp_path / "found" / "a" / "00002.png").unlink()
    with pytest.raises(UserError, match="has no mask for frame 2 of it"):
        measured(f"davis:{root}", results=str(tmp_path / "found"))
    with pytest.raises(UserError, match="There is no folder 'nowhere'"):
        measured(f"davis:{root}", results="nowhere")


def test_void_is_background(tmp_path):
    masks_THW = square()
    masks_THW[1:, 8:28] = np.where(masks_THW[1:, 8:28] == 1, 255, masks_THW[1:, 8:28])
    result = measured(f"davis:{one(tmp_path, masks_THW)}", features="identity")
    assert result.counts["objects"] == 1
    assert result.metrics["J_mean"] == pytest.approx(0.5)


def test_the_binary_masks_of_2016_are_one_object(tmp_path):
    result = measured(f"davis:{one(tmp_path, square() * 255, '2016')}", features="identity")
    assert result.counts["objects"] == 1 and result.metrics["J&F"] == 1


def test_an_object_that_leaves_the_frame_is_right_to_be_gone_and_wrong_to_stay(tmp_path):
    masks_THW = square(6)
    masks_THW[3:] = 0
    staying = measured(f"davis:{one(tmp_path / 'a', masks_THW)}", features="identity")
    assert staying.metrics["J_mean"] == staying.metrics["F_mean"] == 0.5
    colours = still(masks_THW)
    colours[masks_THW == 1] = (250, 30, 30)
    gone = measured(f"davis:{one(tmp_path / 'b', masks_THW, '2017', colours)}", features="lab", top_k=3)
    assert gone.metrics["J_mean"] > 0.9


def test_frames_without_an_annotation_are_left_out_and_counted(tmp_path):
    root = one(tmp_path, square(7))
    (root / "Annotations" / "480p" / "a" / "00003.png").unlink()
    counts = measured(f"davis:{root}", features="identity").counts
    assert counts["frames"] == 4 and counts["frames_without_annotation"] == 1


def other_size(folder):
    save_mask(folder / "00000.png", np.ones((32, 48)))


def later_size(folder):
    save_mask(folder / "00002.png", np.ones((32, 48)))


def no_first(folder):
    (folder / "00000.png").unlink()


def empty(folder):
    save_mask(folder / "00000.png", np.zeros((64, 96)))


def only_void(folder):
    save_mask(folder / "00000.png", np.where(square()[0], 255, 0))


def too_many(folder):
    Image.fromarray(np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)).save(folder / "00000.png")


def in_colour(folder):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)).save(folder / "00000.png")


def no_picture(folder):
    (folder / "00000.png").write_bytes(b"no picture")


def only_the_first(folder):
    for path in folder.glob("0000[1-9].png"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (other_size, "its first mask has 48x32 pixels, its frames 96x64"),
        (later_size, "the mask of frame 2 has another size"),
        (no_first, "its first frame has no mask"),
        (empty, "the mask of its first frame is empty"),
        (only_void, "the mask of its first frame is empty"),
        (too_many, "numbers objects up to 6143; a mask may have 254"),
        (in_colour, "is a picture in colour"),
        (no_picture, "00000.png cannot be decoded"),
        (only_the_first, "none of its frames between the first and the last one has a mask"),
    ],
)
def test_a_sequence_that_cannot_be_measured_is_left_out_with_its_reason(tmp_path, spoil, reason):
    masks = {"good": square(), "spoilt": square()}
    root = davis(tmp_path, masks, {name: still(m) for name, m in masks.items()})
    spoil(root / "Annotations" / "480p" / "spoilt")
    result = measured(f"davis:{root}", features="identity")
    assert list(result.per_video) == ["good"]
    (left_out,) = result.skipped
    assert reason in left_out["reason"]


def test_parts_of_which_no_pixel_is_of_a_class_are_left_out_with_the_reason(tmp_path):
    masks = {"good": square(), "void": square()}
    root = davis(tmp_path, masks, {name: still(m) for name, m in masks.items()})
    for path in (root / "Annotations" / "480p" / "void").glob("0000[1-9].png"):
        save_mask(path, np.full((64, 96), 255))
    result = measured(f"davis:{root}", features="identity", measure="parts")
    assert list(result.per_video) == ["good"] and np.isfinite(result.metrics["mIoU"])
    assert "its masks have no pixel of the classes 0 to 19" in result.skipped[0]["reason"]


def test_results_with_numbers_that_are_no_class_are_left_out_with_the_reason(tmp_path):
    masks = {"good": square(), "wrong": square()}
    root = davis(tmp_path, masks, {name: still(m) for name, m in masks.items()})
    for name, mask_THW in masks.items():
        found_THW = mask_THW.copy()
        found_THW[2] *= 25 if name == "wrong" else 1
        save_masks(tmp_path / "results" / name, found_THW)
    result = measured(f"davis:{root}", results=str(tmp_path / "results"), measure="parts")
    assert list(result.per_video) == ["good"] and result.metrics["mIoU"] == 1
    assert "the result of frame 2 has classes above 19" in result.skipped[0]["reason"]


@pytest.mark.parametrize("frames", [1, 2])
def test_a_video_of_one_frame_or_two_has_nothing_to_measure(tmp_path, capsys, frames):
    root = one(tmp_path, square(frames))
    assert main(["evaluate", "propagation", "--data", f"davis:{root}", "--option", "features=identity"]) == 2
    assert "the first and the last one are not measured" in capsys.readouterr().err


def test_254_objects_are_carried_a_few_at_a_time():
    mask_HW = np.arange(1, 255, dtype=np.uint8).reshape(2, 127).repeat(8, 0).repeat(8, 1)
    frames = [drawn(frames=8).frames_THWC[0][:16, :16].repeat(64, 1)[:, :1016]] * 2
    *_, carried = carry_masks(frames, mask_HW, list(range(1, 255)), cells, Affinity(1, 3, 1))
    assert (carried == mask_HW).mean() > 0.8


def cells(frame_HWC):
    """Features that are different in each cell."""
    generator = torch.Generator().manual_seed(0)
    found = torch.randn(64, frame_HWC.shape[0] // 8, frame_HWC.shape[1] // 8, generator=generator)
    return torch.nn.functional.normalize(found, dim=0)


def test_objects_of_few_pixels_may_be_left_out_of_the_carrying(tmp_path):
    masks_THW = square(4, side=2)
    assert measured(f"davis:{one(tmp_path, masks_THW)}", features="identity").metrics["J_mean"] == 1
    assert measured(f"davis:{tmp_path}", features="identity", least_pixels=5).metrics["J_mean"] == 0


@pytest.mark.parametrize(("width", "carried"), [(12, True), (11, False)])
def test_timecycle_wants_twelve_pixels_of_an_object_in_the_square_of_320(tmp_path, width, carried):
    masks_THW = np.zeros((4, 640, 960), np.uint8)
    masks_THW[:, 100:102, 300 : 300 + 3 * width] = 1  # 6 pixels of the frame are one of the square
    small = Image.fromarray(masks_THW[0]).resize((320, 320), Image.Resampling.NEAREST)
    assert np.count_nonzero(np.asarray(small)) == width
    result = measured(f"davis:{one(tmp_path, masks_THW)}", features="identity", preset="timecycle-davis")
    assert result.metrics["J_mean"] == float(carried)


def test_masks_are_resized_to_the_pixel_that_a_centre_lies_in():
    for number, (size, side, square) in enumerate([((53, 87), 32, True), ((31, 20), 64, True), ((90, 60), 24, False)]):
        mask_HW = np.random.default_rng(number).integers(0, 5, size).astype(np.uint8)
        height, width = (side, side) if square else (36, 24)
        expected = Image.fromarray(mask_HW).resize((width, height), Image.Resampling.NEAREST)
        assert (resized_mask(mask_HW, side, square) == np.asarray(expected)).all()
    assert (resized_mask(mask_HW, 0, True) == mask_HW).all()


def test_the_largest_of_many_labels_is_found_in_parts():
    soft = torch.rand(40, 3, 4, generator=torch.Generator().manual_seed(0))
    whole = torch.nn.functional.interpolate(soft[None], size=(9, 10), mode="bilinear", align_corners=False)[0]
    assert torch.equal(largest(soft, (9, 10)), whole.argmax(0))


def test_labels_are_one_hot_by_number_and_the_rest_is_background():
    mask_HW = np.array([[0, 7, 255], [3, 3, 9]], np.uint8)
    assert one_hot(mask_HW, [3, 7]).tolist() == [[[1, 0, 1], [0, 0, 1]], [[0, 0, 0], [1, 1, 0]], [[0, 1, 0], [0, 0, 0]]]


def test_points_are_found_where_their_gaussians_were_put():
    points = torch.tensor([[3.0, 2.0], [7.5, 4.0], [np.nan, np.nan]], dtype=torch.float64)
    found = peaks(gaussians(points, (8, 12)))
    assert torch.allclose(found[:2], points[:2], atol=0.2)
    assert found[2].isnan().all()


def drawn_as_the_random_walk_draws(x, y, height, width, sigma=0.5):
    """A Gaussian of 4x4 numbers, the largest of them third, that is laid over the map around the rounded point."""
    window = [[math.exp(-((i - 2) ** 2 + (j - 2) ** 2) / (2 * sigma**2)) for j in range(4)] for i in range(4)]
    left, top, right, bottom = int(x - 1.5), int(y - 1.5), int(x + 2.5), int(y + 2.5)
    drawn_hw = np.zeros((height, width))
    for i in range(max(0, top), min(bottom, height)):
        for j in range(max(0, left), min(right, width)):
            drawn_hw[i, j] = window[i - top][j - left]
    return drawn_hw


def test_rounded_points_are_drawn_into_a_window_of_4x4_cells():
    points = np.random.default_rng(0).uniform(-4, 16, (200, 2)).tolist()
    points += [[5.0, 6.0], [5.49, 5.5], [0.0, 0.3], [1.2, 1.5], [-0.6, 11.9], [13.4, 3.0], [-9.0, 3.0], [30.0, 3.0]]
    expected = [drawn_as_the_random_walk_draws(x, y, 12, 13) for x, y in points]
    assert np.allclose(rounded_gaussians(torch.tensor(points, dtype=torch.float64), (12, 13)), expected, atol=1e-7)
    middle = rounded_gaussians(torch.tensor([[5.4, 6.5]], dtype=torch.float64), (12, 13))[0]
    assert middle.argmax() == 7 * 13 + 5 and middle[7, 5] == 1 and (middle > 0).sum() == 16
    assert (middle[5:9, 3:7] > 0).all()


def test_an_unknown_point_is_drawn_nowhere():
    assert not rounded_gaussians(torch.tensor([[np.nan, 3.0]], dtype=torch.float64), (8, 8)).any()


def test_the_cell_of_a_rounded_point_stands_for_its_first_pixel():
    maps_TDhw = F.normalize(torch.randn(3, 8, 40, 40, generator=torch.Generator().manual_seed(0)), dim=1)
    frames, how = np.zeros((3, 240, 320, 3), np.uint8), Affinity(7, 12, 10)
    points, given = np.array([[151.0, 100.0], [33.3, 200.9]]), iter(maps_TDhw)
    _, *found = carry_points(frames, points, lambda _: next(given), how, rounded=True)
    labels = [drawn_as_the_random_walk_draws(x * 40 / 320, y * 40 / 240, 40, 40) for x, y in points]
    _, *carried = propagate(iter(maps_TDhw), torch.tensor(np.array(labels)).float(), how)
    for points_J2, soft_Jhw in zip(found, carried, strict=True):
        for point, soft_hw in zip(points_J2, soft_Jhw.double().numpy(), strict=True):
            cells = sorted(np.ndindex(40, 40), key=lambda cell: -soft_hw[cell])[:3]
            total = sum(soft_hw[cell] for cell in cells)
            x, y = (sum(soft_hw[cell] * cell[axis] for cell in cells) / total for axis in (1, 0))
            assert point == pytest.approx([x * 320 / 40, y * 240 / 40])


def test_a_joint_that_stands_still_comes_back_to_its_cell_or_with_the_option_to_itself():
    def alone(_):  # a cell is like no other
        return torch.eye(1600).reshape(1600, 40, 40)

    frames, point, how = np.zeros((2, 320, 320, 3), np.uint8), np.array([[150.0, 90.0]]), Affinity(7, 12, 1)
    *_, rounded = carry_points(frames, point, alone, how, rounded=True)
    *_, exact = carry_points(frames, point, alone, how)
    assert np.abs(rounded - [152, 88]).max() < 2  # cells 18.75 and 11.25 are 19 and 11
    assert np.abs(exact - point).max() < 1


def test_a_point_moves_with_its_colour():
    frames_THWC = np.full((4, 64, 96, 3), 40, np.uint8)
    for t in range(4):
        frames_THWC[t, 24:40, 16 + 8 * t : 32 + 8 * t] = (230, 60, 20)
    *_, last = carry_points(frames_THWC, np.array([[23.5, 31.5]]), lab_features(), Affinity(3, 12, 4))
    assert np.abs(last[0] - (47.5, 31.5)).max() < 6


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A drawn track as JHMDB and as VIP: the joints are corners of its first object, the parts its objects."""
    root, scene = tmp_path_factory.mktemp("people"), drawn(3)
    joints = np.empty((2, 15, 8))
    for t, mask in enumerate(scene.masks_THW):
        ys, xs = np.nonzero(mask == 1)
        joints[:, :, t] = np.linspace((xs.min(), ys.min()), (xs.max(), ys.max()), 15).T + 1
    save_frames(root / "jhmdb" / "Rename_Images" / "wave" / "someone", scene.frames_THWC, ".png")
    where = root / "jhmdb" / "joint_positions" / "wave" / "someone"
    where.mkdir(parents=True)
    savemat(where / "joint_positions.mat", {"pos_img": joints, "viewpoint": "N"})
    (root / "jhmdb" / "splits").mkdir()
    (root / "jhmdb" / "splits" / "wave_test_split1.txt").write_text("someone.avi 2\nabsent.avi 1\n")
    save_frames(root / "vip" / "Images" / "videos1", scene.frames_THWC)
    parts = root / "vip" / "Annotations" / "Category_ids" / "videos1"
    parts.mkdir(parents=True)
    for t in (0, 3, 6):
        save_mask(parts / f"{t:05d}.png", scene.masks_THW[t], palette=False)
    (root / "vip" / "lists").mkdir()
    (root / "vip" / "lists" / "val_videos.txt").write_text("videos1\n")
    return root, scene, joints.transpose(2, 1, 0) - 1


def test_points_of_jhmdb_are_measured(people):
    root, _, joints_TJ2 = people
    result = measured(f"jhmdb:{root / 'jhmdb'}", features="identity", preset="crw-jhmdb")
    box = np.hypot(*np.ptp(joints_TJ2, axis=1).T) * 0.6
    near = np.linalg.norm(joints_TJ2 - joints_TJ2[0], axis=2) / box[:, None]
    assert result.metrics["PCK@0.2"] == pytest.approx((near[1:] <= 0.2).mean())
    assert result.counts == {"sequences": 1, "frames": 7, "frames_without_annotation": 0}
    carried = measured(f"jhmdb:{root / 'jhmdb'}", features="lab", preset="crw-jhmdb", side=128)
    assert carried.metrics["PCK@0.5"] > 0.3


def test_parts_of_vip_are_measured_over_all_pixels_where_there_is_an_annotation(people):
    root, scene, _ = people
    result = measured(f"vip:{root / 'vip'}", features="identity", preset="crw-vip", first_frame=False)
    first, later = scene.masks_THW[0], scene.masks_THW[[3, 6]]
    ious = []
    for n in sorted(set(later.ravel().tolist()) | set(first.ravel().tolist())):
        ious.append(((first == n) & (later == n)).sum() / ((first == n) | (later == n)).sum())
    assert result.metrics["mIoU"] == pytest.approx(np.mean(ious))
    assert result.counts == {"sequences": 1, "frames": 2, "frames_without_annotation": 5}
    assert measured(f"vip:{root / 'vip'}", features="identity", preset="crw-vip").counts["frames"] == 3


def test_a_class_beyond_the_number_of_classes_is_said(people):
    with pytest.raises(UserError, match="has classes above 1"):
        measured(f"vip:{people[0] / 'vip'}", features="identity", preset="crw-vip", classes=2)


def test_masks_are_not_points(two):
    with pytest.raises(UserError, match="it has no points beside it"):
        measured(f"davis:{two[0]}", features="identity", preset="crw-jhmdb")


@pytest.fixture
def corners():
    """Another form of points, known to nobody but this file: the corners of the frame, of which the last moves."""

    @ANNOTATIONS.register("corners")
    class Corners(PointReader):
        def points(self, video):
            points_TJ2 = np.tile(np.array([[0.0, 0], [95, 0], [0, 63]]), (video.frames, 1, 1))
            points_TJ2[:, 2, 0] += 10 * np.arange(video.frames)
            return points_TJ2

    yield "corners"
    ANNOTATIONS._members.pop("corners")


def test_another_set_of_points_needs_its_own_file_only(corners, tmp_path):
    folder = one(tmp_path, square(5)) / "JPEGImages" / "480p" / "a"
    videos = scanned(VideoList("corners", (ListedVideo(str(folder), annotated=corners),)))
    task = Task("corners", 1, videos, None)
    result = evaluate("propagation", None, task, preset="crw-jhmdb", options={"features": "identity"})
    assert result.metrics["PCK@0.1"] == pytest.approx(2 / 3)


def test_an_unknown_form_of_annotation_is_a_sentence():
    with pytest.raises(UserError, match="did you mean 'jhmdb_joints'"):
        points_of(ListedVideo("x.mp4", annotated="jhmdb_jonts").scanned(VideoInfo(1, 25.0, 8, 8, 0.04, "h264")))


def test_the_statistics_of_an_untrained_network_may_be_those_of_the_training_frames_it_is_shown(two):
    torch.manual_seed(0)
    model = load_model("random:dense_resnet_8?width=2")
    videos = scanned(load_splits(f"davis:{two[0]}").train).videos
    calibrated = calibrate_on_maps(model, videos, side=32)
    (first, *_), (as_it_was, *_) = batch_norms(calibrated.backbone), batch_norms(model.backbone)
    given = []
    first.register_forward_pre_hook(lambda _norm, x: given.append(x[0].transpose(0, 1).flatten(1)))
    features = network_features(calibrated, side=32)
    for video in videos:
        features(read_video(video, [video.frames // 2])[0])
    x_CN = torch.cat(given, 1)
    assert torch.allclose(first.running_mean, x_CN.mean(1), atol=1e-4) and not as_it_was.running_mean.any()
    assert torch.allclose(first.running_var, x_CN.var(1), rtol=1e-3)


def test_published_settings_are_not_calibrated_and_calibration_changes_an_untrained_network(two):
    assert not any(preset.calibrate for preset in Propagation.presets.values())
    numbers = []
    for options in ({}, {"calibrate": False}, {"calibrate": True}):
        torch.manual_seed(0)
        numbers.append(measured(f"davis:{two[0]}", SMALL, side=128, **options).metrics)
    assert numbers[0] == numbers[1] != numbers[2]
