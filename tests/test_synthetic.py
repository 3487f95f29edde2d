"""The synthetic set: what is drawn, and what is written."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssl_video.datasets.drawing.motions import CLIPS, SEQUENCES
from ssl_video.datasets.drawing.scene import Scene
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.datasets.synthetic import CLASSES, Kind, SyntheticConfig, draw, synthesize
from ssl_video.errors import UserError
from ssl_video.video.reader import read_frames
from ssl_video.video.scan import scan_one

KINDS: tuple[Kind, ...] = ("clips", "sequences", "tracks", "prompts", "periodic")
CHANCE = 1 / len(CLIPS)


def files_of(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


# What is drawn


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_numbers_draw_the_same_video(kind: Kind):
    one, other = draw(kind, 5, seed=3), draw(kind, 5, seed=3)
    for field in ("frames_THWC", "masks_THW", "phase_T"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


@pytest.mark.parametrize("change", [{"seed": 4}, {"split": "test"}, {"number": 13}])
def test_another_seed_split_or_number_draws_another_background(change: dict):
    numbers = {"number": 5, "seed": 3, "split": "train"}
    one, other = draw("clips", **numbers), draw("clips", **numbers | change)
    assert one.label == other.label
    assert not np.array_equal(one.frames_THWC[0, 0], other.frames_THWC[0, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_classes_take_turns(kind: Kind):
    names = CLASSES[kind]
    assert [draw(kind, i, frames=8).label for i in range(2 * len(names))] == [*names, *names]


@pytest.mark.parametrize(("kind", "size"), [("clips", 56), ("clips", 112), ("sequences", 64), ("tracks", 128)])
def test_every_object_is_drawn_and_covers_a_modest_part_of_the_picture(kind: Kind, size: int):
    for number in range(12):
        scene = draw(kind, number, size=size)
        ids, pixels = np.unique(scene.masks_THW, return_counts=True)
        assert ids.tolist() == list(range(len(ids)))
        share = pixels[1:] / scene.masks_THW.size
        assert share.min() > 0.0005
        assert share.max() < 0.2


@pytest.mark.parametrize(("kind", "sprites"), [("clips", 2), ("tracks", 4)])
def test_the_number_of_objects_is_the_one_asked_for(kind: Kind, sprites: int):
    assert all(draw(kind, n, sprites=sprites).masks_THW.max() == sprites for n in range(8))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_separates_the_object_from_a_background_that_hardly_changes(kind: Kind):
    scene = draw(kind, 0, sprites=1)
    first, last = scene.frames_THWC[0].astype(int), scene.frames_THWC[-1].astype(int)
    never = (scene.masks_THW[[0, -1]] == 0).all(0)
    change_HW = np.abs(first - last).mean(-1)
    moved = (scene.masks_THW[0] == 0) != (scene.masks_THW[-1] == 0)
    assert change_HW[moved].mean() > 2 * change_HW[never].mean()


def test_phase_advances_at_the_natural_speed():
    phase_T = draw("clips", list(CLIPS).index("spin"), frames=200).phase_T
    assert phase_T.min() >= 0
    assert phase_T.max() < 1
    periods = np.diff(np.flatnonzero(np.diff(phase_T) < 0))
    assert 24 / 1.1 - 1 <= periods.mean() <= 24 / 0.9 + 1


def test_motions_without_a_phase_have_none():
    assert np.isnan(draw("clips", list(CLIPS).index("brown")).phase_T).all()


def test_a_sequence_passes_once_from_phase_0_to_1():
    for number in range(2 * len(SEQUENCES)):
        phase_T = draw("sequences", number).phase_T
        assert (phase_T[0], phase_T[-1]) == (0, 1)
        assert (np.diff(phase_T) > 0).all()


def test_two_sequences_of_one_action_are_warped_differently():
    one, other = (draw("sequences", n).phase_T for n in (0, len(SEQUENCES)))
    assert np.abs(one - other).max() > 0.02


@pytest.mark.parametrize("action", SEQUENCES)
def test_no_state_of_an_action_comes_twice(action: str):
    """Frames at least a fifth of the pass apart differ in place or size."""
    path = SEQUENCES[action](np.random.default_rng(0), 64, 64.0)
    state_TD = np.concatenate((path.centre_T2 / 64, path.scale_T2), axis=-1)
    distance_TT = np.linalg.norm(state_TD[:, None] - state_TD, axis=-1)
    apart_TT = np.abs(path.phase_T[:, None] - path.phase_T) > 0.2
    assert distance_TT[apart_TT].min() > 0.03


def test_objects_of_tracks_hide_each_other_and_start_in_the_open():
    for number in range(8):
        masks_THW = draw("tracks", number, sprites=3).masks_THW
        pixels_TN = np.stack([(masks_THW == n).sum((1, 2)) for n in (1, 2, 3)], axis=-1)
        seen_TN = pixels_TN / pixels_TN.max(0)
        assert seen_TN[:, :2].min() < 0.5  # the scale alone changes the area by less
        assert pixels_TN[0].min() > 100


# What must not give the class away


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Scene]]:
    return {
        "train": [draw("clips", n, split="train", frames=40) for n in range(320)],
        "test": [draw("clips", n, split="test", frames=40) for n in range(160)],
    }


def probe_accuracy(drawn: dict[str, list[Scene]], features) -> float:
    """Test accuracy of a ridge classifier whose strength is chosen on the training videos."""
    x, y = ({s: np.array([f(v) for v in videos]) for s, videos in drawn.items()} for f in (features, lambda v: v.label))
    model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 5, 13)))
    return float(model.fit(x["train"], y["train"]).score(x["test"], y["test"]))


def appearance(scene: Scene) -> np.ndarray:
    """One frame: 8 x 8 pixels in colour, histograms of its colours and of the strength and direction of its edges."""
    frame_HWC = scene.frames_THWC[20].astype(float)
    dy, dx = np.gradient(frame_HWC.mean(-1))
    strength = np.hypot(dx, dy)
    return np.concatenate(
        [
            frame_HWC.reshape(8, 7, 8, 7, 3).mean((1, 3)).ravel(),
            *(np.histogram(frame_HWC[..., c], 8, (0, 256))[0] for c in range(3)),
            np.histogram(strength, 8, (0, 60))[0],
            np.histogram(np.arctan2(dy, dx) % np.pi, 8, (0, np.pi), weights=strength)[0],
        ]
    )


def layout(scene: Scene) -> np.ndarray:
    """One frame's true masks: how many objects there are, and mean and spread of their places and sizes."""
    mask_HW = scene.masks_THW[20]
    places = [np.nonzero(mask_HW == n) for n in range(1, mask_HW.max() + 1)]
    facts_ND = np.array([(y.mean(), x.mean(), y.std(), x.std(), len(y)) for y, x in places if len(y)] or [[0.0] * 5])
    return np.concatenate(([len(facts_ND)], facts_ND.mean(0), facts_ND.std(0), facts_ND.min(0), facts_ND.max(0)))


def amount_of_motion(scene: Scene) -> np.ndarray:
    return np.abs(np.diff(scene.frames_THWC.astype(float), axis=0)).mean(keepdims=True).ravel()


def course_of_motion(scene: Scene) -> np.ndarray:
    """How the amount of motion varies over time: its sorted values and its spectrum, without its mean."""
    change_T = np.abs(np.diff(scene.frames_THWC.astype(float), axis=0)).mean((1, 2, 3))
    change_T = change_T / change_T.mean() - 1
    return np.concatenate((np.sort(change_T)[::4], np.abs(np.fft.rfft(change_T))))


# 160 test videos at chance 1/8: the binomial standard error is 0.026, so that 0.23 is four of them above chance.


@pytest.mark.parametrize("features", [appearance, layout])
def test_a_probe_of_one_frame_stays_near_chance(drawn, features):
    assert probe_accuracy(drawn, features) < CHANCE + 4 * np.sqrt(CHANCE * (1 - CHANCE) / 160)


def test_the_amount_of_motion_alone_says_little(drawn):
    assert probe_accuracy(drawn, amount_of_motion) < 0.3


def test_the_course_of_motion_tells_the_classes(drawn):
    assert probe_accuracy(drawn, course_of_motion) > 0.5


# What is written

SMALL = {"train": 16, "test": 8, "size": 32, "frames": 16}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return synthesize(tmp_path_factory.mktemp("set") / "clips", SyntheticConfig(**SMALL), workers=1).parent


def test_the_set_is_read_by_its_folder(written):
    splits = load_splits(str(written))
    assert splits.test is not None
    assert splits.warnings == ()
    assert splits.train.classes == tuple(sorted(CLIPS))
    assert [len(s.videos) for s in (splits.train, splits.test)] == [16, 8]
    assert not {v.group for v in splits.train.videos} & {v.group for v in splits.test.videos}


def test_classes_are_balanced_in_both_lists(written):
    splits = load_splits(str(written))
    assert splits.test is not None
    counts = [np.bincount([v.label for v in s.videos]).tolist() for s in (splits.train, splits.test)]
    assert counts == [[2] * 8, [1] * 8]


def test_the_manifest_says_what_a_scan_finds(written):
    for video in scanned(load_splits(str(written)).train).videos[:3]:
        assert video.info == scan_one(video.path)
        assert video.frames == 16


def test_files_show_what_was_drawn(written):
    video = load_splits(str(written)).train.videos[9]
    scene = draw("clips", 9, size=32, frames=16)
    difference = read_frames(video.path, range(16)).astype(int) - scene.frames_THWC
    assert np.abs(difference).mean() < 8


def test_annotations_are_those_of_the_scene(written):
    scene = draw("clips", 3, split="test", size=32, frames=16)
    with np.load(written / "annotations" / "test-00003.npz") as notes:
        np.testing.assert_array_equal(notes["masks_THW"], scene.masks_THW)
        np.testing.assert_array_equal(notes["phase_T"], scene.phase_T)


def test_every_frame_is_coded_by_itself(written):
    import av

    path = next((written / "videos").rglob("*.mp4"))
    with av.open(str(path)) as container:
        assert all(p.is_keyframe for p in container.demux(video=0) if p.size)


def test_the_number_of_workers_changes_no_byte(written, tmp_path):
    synthesize(tmp_path / "two", SyntheticConfig(**SMALL), workers=2)
    assert files_of(tmp_path / "two") == files_of(written)


def test_a_complete_set_is_used_as_it_is(written):
    before = {p: p.stat().st_mtime_ns for p in written.rglob("*")}
    synthesize(written, SyntheticConfig(**SMALL))
    assert {p: p.stat().st_mtime_ns for p in written.rglob("*")} == before


def test_an_interrupted_set_is_completed(written, tmp_path):
    out = tmp_path / "again"
    manifest = synthesize(out, SyntheticConfig(**SMALL), workers=1)
    kept, lost = out / "annotations" / "train-00001.npz", out / "annotations" / "train-00002.npz"
    manifest.unlink()
    lost.unlink()
    (out / "videos" / "orbit" / "train-00002.mp4").write_bytes(b"")
    time = kept.stat().st_mtime_ns
    synthesize(out, SyntheticConfig(**SMALL), workers=1)
    assert kept.stat().st_mtime_ns == time
    assert files_of(out) == files_of(written)


@pytest.mark.parametrize("change", [{"seed": 1}, {"frames": 20}, {"train": 24}, {"kind": "sequences"}])
def test_a_folder_of_other_parameters_is_refused(written, change):
    before = files_of(written)
    with pytest.raises(UserError, match="other parameters"):
        synthesize(written, SyntheticConfig(**SMALL | change))
    assert files_of(written) == before


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not empty"):
        synthesize(tmp_path, SyntheticConfig(**SMALL))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "clip"}, "did you mean 'clips'"),
        ({"size": 57}, "must be even"),
        ({"size": 0}, "--size must be a whole number of 1 or more"),
        ({"kind": "tracks", "size": 64}, "at least 128"),
        ({"frames": 0}, "--frames must be a whole number of 8 or more"),
        ({"kind": "sequences", "sprites": 2}, "one object"),
        ({"kind": "prompts", "sprites": 2}, "Videos of prompts have one object"),
        ({"kind": "periodic", "size": 30}, "at least 32"),
        ({"sprites": 0}, "--sprites must be a whole number from 1 to 20"),
        ({"train": 0}, "--train must be a whole number of 1 or more"),
        ({"seed": -1}, "--seed must be a whole number from 0 to"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        SyntheticConfig(**arguments)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, workers):
    out = tmp_path / "set"
    synthesize(out, SyntheticConfig(**SMALL), workers=1).unlink()
    for path in (out / "annotations").iterdir():
        path.unlink()
    (out / "annotations").rmdir()
    (out / "annotations").touch()  # a file where a folder is needed
    with pytest.raises(UserError, match="cannot be written"):
        synthesize(out, SyntheticConfig(**SMALL), workers=workers)
    assert not (out / "manifest.csv").exists()


def test_tracks_have_masks_and_no_labels(tmp_path):
    manifest = synthesize(tmp_path / "set", SyntheticConfig("tracks", frames=12, train=2, test=0), workers=1)
    splits = load_splits(str(manifest))
    assert splits.test is None
    assert not splits.train.labelled
    with np.load(tmp_path / "set" / "annotations" / "train-00001.npz") as notes:
        assert notes["masks_THW"].shape == (12, 128, 128)
        assert notes["masks_THW"].max() >= 3


def test_parameters_are_recorded(written):
    assert json.loads((written / "synthetic.json").read_text()).items() >= {"kind": "clips", "seed": 0, **SMALL}.items()


def test_a_script_without_a_main_guard_can_make_a_set(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from ssl_video.datasets.synthetic import SyntheticConfig, synthesize\n"
        "config = SyntheticConfig(train=16, test=0, size=32, frames=8)\n"
        f"print(synthesize({str(tmp_path / 'set')!r}, config, workers=2))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_file()


def test_drawing_a_video_in_parts_changes_nothing(monkeypatch):
    from ssl_video.datasets.drawing import scene

    whole = draw("clips", 4)
    monkeypatch.setattr(scene, "CHUNK_PIXELS", 1)
    parts = draw("clips", 4)
    difference = np.abs(whole.frames_THWC.astype(int) - parts.frames_THWC)
    assert difference.max() <= 1  # the box and with it rounding may differ
    assert (whole.masks_THW != parts.masks_THW).mean() < 1e-3
    np.testing.assert_array_equal(whole.phase_T, parts.phase_T)
