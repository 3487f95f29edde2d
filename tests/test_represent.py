"""``ssl-video represent``: a video learned, resumed, painted on, rendered; and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ssl_video as sv
from ssl_video.apps import represent as app
from ssl_video.apps.options import RepresentOptions
from ssl_video.apps.represent import represent
from ssl_video.apps.represent_folder import Folder, Learned, write_film
from ssl_video.cli import main
from ssl_video.datasets.masks import read_mask
from ssl_video.errors import UserError
from ssl_video.implicit.numbers import overlap, psnr
from ssl_video.model import load_model
from ssl_video.processes import this_host
from ssl_video.tensors import load_tensors
from ssl_video.video.reader import iterate_frames
from tests.test_implicit import H, W, square_over_texture

FAST = RepresentOptions(size=W, steps=20, points=64)
ATLAS_FILES = {
    *("background.png", "foreground.png", "masks", "network.safetensors", "overlay.mp4", "reconstruction.mp4"),
    "report.json",
}


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def save(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Six frames of a square that goes to the right, as pictures, and the mask of the first beside the folder."""
    folder = tmp_path_factory.mktemp("clip")
    video, masks = square_over_texture()
    (folder / "frames").mkdir()
    for t, frame in enumerate(video):
        save(folder / "frames" / f"{t}.png", frame)
    save(folder / "mask.png", masks[0].astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def carrier():
    torch.manual_seed(0)
    return load_model("random:dense_resnet_8?width=4")


@pytest.fixture(scope="module")
def exact(clip):
    """The square's masks stand for those that tracking would carry."""
    _, masks = square_over_texture()
    return lambda frames, given, size, model: torch.from_numpy(masks[[0, 1, 3, 4, 5]])


@pytest.fixture(scope="module")
def learned(clip, exact, tmp_path_factory) -> Learned:
    """An atlas of the clip, learned long enough to tell its layers."""
    options = replace(FAST, steps=300, points=256)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "carried", exact)
        return represent(clip / "frames", tmp_path_factory.mktemp("learned") / "out", options, mask=clip / "mask.png")


def test_an_atlas_is_written_with_all_that_can_be_made_of_it(learned):
    assert {p.name for p in learned.folder.iterdir()} == ATLAS_FILES
    report = json.loads((learned.folder / "report.json").read_text())
    assert report == dict(learned.numbers)
    names = {"psnr_trained", "psnr_kept_out", "psnr_blend", "consistency_edit", "iou_given_mask", "minutes"}
    assert names <= set(report)
    assert len(list(iterate_frames(str(learned.folder / "reconstruction.mp4")))) == 6
    assert opened(learned.folder / "foreground.png").shape[2] == 4


def test_the_mask_follows_the_object(learned):
    _, masks = square_over_texture()
    found = [read_mask(p).astype(np.float32) for p in sorted((learned.folder / "masks").glob("*.png"))]
    assert overlap(found, masks) > 0.8


def test_the_numbers_of_the_report_are_those_of_the_frames(learned):
    video, _ = square_over_texture()
    shown = list(learned.frames())
    assert learned.numbers["psnr_kept_out"] == pytest.approx(psnr(shown[2], video[2]))
    trained = [psnr(shown[t], video[t]) for t in (0, 1, 3, 4, 5)]
    assert learned.numbers["psnr_trained"] == pytest.approx(np.mean(trained))
    blend = video[[1, 3]].astype(float).mean(0).round()
    assert learned.numbers["psnr_blend"] == pytest.approx(psnr(blend, video[2]))


def test_paint_on_the_foreground_goes_with_the_object(learned, tmp_path):
    picture = opened(learned.folder / "foreground.png")
    rows, columns = np.nonzero(picture[..., 3] > 128)
    y, x = int(np.median(rows)), int(np.median(columns))
    radius = max(2, picture.shape[0] // 10)
    picture[y - radius : y + radius, x - radius : x + radius] = (255, 0, 255, 255)
    plain = list(learned.frames())
    painted = list(learned.edited({"foreground": save(tmp_path / "painted.png", picture)}))
    changed = [np.abs(a.astype(int) - b).sum(-1) > 60 for a, b in zip(plain, painted, strict=True)]
    middles = np.array([np.nonzero(c)[1].mean() for c in changed])
    assert np.allclose(np.diff(middles), 2, atol=1)  # pixels a frame, as the square does
    assert all(c.mean() < 0.2 for c in changed)
    assert learned.numbers["consistency_edit"] < learned.numbers["consistency_pasted"]


def test_paint_on_the_background_lies_behind_the_object(learned, tmp_path):
    picture = opened(learned.folder / "background.png")
    picture[:] = (0, 255, 0, 255)
    _, masks = square_over_texture()
    for mask, frame in zip(masks, learned.edited({"background": save(tmp_path / "green.png", picture)}), strict=True):
        green = (frame[..., 1] > 200) & (frame[..., 0] < 60) & (frame[..., 2] < 60)
        assert green[mask == 0].mean() > 0.8 and green[mask == 1].mean() < 0.2


def test_a_film_has_any_size_and_number_of_frames(learned, tmp_path, capsys):
    out = tmp_path / "film.mp4"
    assert main(["represent", str(learned.folder), "--out", str(out), "--size", "64", "--frames", "11"]) == 0
    frames = list(iterate_frames(str(out)))
    assert len(frames) == 11 and frames[0].shape == (48, 64, 3)
    assert "11 frames of 64x48 pixels" in capsys.readouterr().out


def test_a_learned_video_is_read_back_as_it_was(learned):
    again = Folder(learned.folder).load()
    assert all(np.array_equal(a, b) for a, b in zip(learned.frames(), again.frames(), strict=True))
    assert (again.size, again.rate, again.numbers) == (learned.size, learned.rate, learned.numbers)


class Killed(BaseException):
    """The process ends."""


def killed_after(saves: int, monkeypatch):
    whole = Folder.save

    def save(self, state):
        whole(self, state)
        if state["step"] >= saves:
            raise Killed

    monkeypatch.setattr(Folder, "save", save)


@pytest.mark.parametrize("kind", ["atlas", "coordinates"])
def test_a_killed_learning_goes_on_with_the_same_line_to_the_same_bits(clip, tmp_path, monkeypatch, kind):
    options = replace(FAST, kind=kind)
    whole = represent(clip / "frames", tmp_path / "whole", options)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(8, patch)
        represent(clip / "frames", tmp_path / "out", options)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"checkpoint.pt"}
    resumed = represent(clip / "frames", tmp_path / "out", options)
    one, other = (load_tensors(x.folder / "network.safetensors")[0] for x in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert {p.name for p in resumed.folder.iterdir()} == {p.name for p in whole.folder.iterdir()}


def test_what_a_killed_process_began_to_write_is_removed(clip, tmp_path):
    left = tmp_path / "out" / f".checkpoint.{this_host()}-1-999999999-00000000.tmp.pt"
    left.parent.mkdir()
    left.write_text("half")
    represent(clip / "frames", tmp_path / "out", replace(FAST, kind="coordinates", steps=2))
    assert not left.exists()


def test_a_learning_that_is_killed_while_films_are_written_is_made_whole(clip, tmp_path, monkeypatch):
    def killed(*_args):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("ssl_video.apps.represent_folder.atlas_picture", killed)
        represent(clip / "frames", tmp_path / "out", FAST)
    assert not (tmp_path / "out" / "network.safetensors").exists()
    represent(clip / "frames", tmp_path / "out", FAST)
    assert {p.name for p in (tmp_path / "out").iterdir()} == ATLAS_FILES


def test_a_finished_one_is_found_without_learning(clip, tmp_path, monkeypatch):
    first = represent(clip / "frames", tmp_path / "out", FAST)
    monkeypatch.setattr(app, "train", None)
    assert represent(clip / "frames", tmp_path / "out", FAST).numbers == first.numbers
    with pytest.raises(UserError, match="learned from another --steps; choose another --out"):
        represent(clip / "frames", tmp_path / "out", replace(FAST, steps=21))


def test_a_mask_that_another_network_carries_is_another_learning(clip, carrier, tmp_path):
    made = {"mask": clip / "mask.png", "model": carrier}
    first = represent(clip / "frames", tmp_path / "out", FAST, **made)
    assert represent(clip / "frames", tmp_path / "out", FAST, **made).numbers == first.numbers
    with pytest.raises(UserError, match="learned from another --model; choose another --out"):
        represent(clip / "frames", tmp_path / "out", FAST, mask=clip / "mask.png")


def test_the_mask_is_carried_by_tracking(clip, carrier):
    footage = app.footage_from(app.Source(clip / "frames", clip / "mask.png", app._filled(FAST), carrier))
    _, masks = square_over_texture()
    assert footage.masks_SHW is not None and footage.masks_SHW.shape == (5, H, W)
    assert footage.given_HW is not None and np.array_equal(footage.given_HW.numpy(), masks[0])
    assert overlap(list(footage.masks_SHW.numpy()[:1]), masks[:1]) > 0.95


def test_frames_that_are_kept_out_are_not_looked_at(clip, tmp_path):
    changed = tmp_path / "changed"
    changed.mkdir()
    for file in (clip / "frames").iterdir():
        picture = opened(file)
        save(changed / file.name, 255 - picture if file.stem == "2" else picture)
    found = [app.footage_from(app.Source(folder, None, app._filled(FAST))) for folder in (clip / "frames", changed)]
    assert found[0].kept_out == [2]
    for name in ("ahead_RHW2", "behind_RHW2", "agree_RHW", "masks_SHW"):
        assert torch.equal(getattr(found[0], name), getattr(found[1], name))


def test_a_video_is_learned_from_a_frame_on_and_as_many_as_asked_for(clip):
    footage = app.footage_from(
        app.Source(clip / "frames", None, app._filled(replace(FAST, start=1, frames=4, size=16)))
    )
    assert footage.size == (4, 12, 16)


def test_the_verb_of_python(clip, tmp_path):
    found = sv.represent(clip / "frames", tmp_path / "out", options=replace(FAST, kind="coordinates"), progress=False)
    assert isinstance(found, Learned) and found.boxes == []


def refused(words: list, capsys) -> str:
    assert main(["represent", *map(str, words)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    return said[0]


def test_what_cannot_be_learned_is_refused_in_one_sentence(clip, tmp_path, capsys):
    out = ["--out", tmp_path / "out"]
    assert "There is no video" in refused([tmp_path / "no.mp4", *out], capsys)
    (tmp_path / "empty").mkdir()
    assert "has no frame" in refused([tmp_path / "empty", *out], capsys)
    (tmp_path / "text.mp4").write_text("no video")
    assert "cannot be used" in refused([tmp_path / "text.mp4", *out], capsys)
    small = save(tmp_path / "small.png", np.ones((4, 5), np.uint8))
    assert "has 5x4 pixels" in refused([clip / "frames", "--mask", small, *out], capsys)
    assert "There is no mask" in refused([clip / "frames", "--mask", tmp_path / "no.png", *out], capsys)
    assert "is a folder; --mask is a picture" in refused([clip / "frames", "--mask", clip, *out], capsys)
    file = clip / "mask.png"
    for no_folder in (file, file / "out"):
        assert f"{file} is a file; --out must name a folder" in refused([clip / "frames", "--out", no_folder], capsys)
    words = [clip / "frames", "--mask", clip / "mask.png", "--kind", "coordinates", *out]
    assert "--mask is of the foreground of an atlas" in refused(words, capsys)
    assert "ends before it" in refused([clip / "frames", "--start", "99", *out], capsys)
    assert "--kept-out must be" in refused([clip / "frames", "--kept-out", "1", *out], capsys)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_is_left_alone(clip, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert "is not empty" in refused([clip / "frames", "--out", tmp_path], capsys)


def test_edits_that_do_not_fit_are_refused_in_one_sentence(learned, clip, tmp_path, capsys):
    film = ["--out", tmp_path / "film.mp4"]
    small = save(tmp_path / "small.png", np.zeros((4, 5, 3), np.uint8))
    assert "has 5x4 pixels, but foreground.png" in refused([learned.folder, "--edit-foreground", small, *film], capsys)
    same = learned.folder / "background.png"
    assert "as it was" in refused([learned.folder, "--edit-background", same, *film], capsys)
    (tmp_path / "text.png").write_text("no picture")
    words = [learned.folder, "--edit-background", tmp_path / "text.png", *film]
    assert "cannot be used" in refused(words, capsys)
    assert "is no folder of a learned video" in refused([clip / "frames", "--edit-foreground", same, *film], capsys)
    assert "--steps is of the learning" in refused([learned.folder, "--steps", "5", *film], capsys)
    assert "ends in" in refused([learned.folder, "--out", tmp_path / "film.txt"], capsys)
    own = learned.folder / "overlay.mp4"
    assert "written over itself" in refused([learned.folder, "--out", own], capsys)


def test_coordinates_have_nothing_to_paint_on(clip, tmp_path):
    found = represent(clip / "frames", tmp_path / "out", replace(FAST, kind="coordinates"))
    with pytest.raises(UserError, match="nothing to paint on"):
        write_film(found, tmp_path / "film.mp4", {"foreground": clip / "mask.png"})


def test_a_damaged_network_is_refused(learned, tmp_path):
    file = tmp_path / "network.safetensors"
    whole = (learned.folder / file.name).read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        Folder(tmp_path).load()
    with pytest.raises(UserError, match="no folder of a learned video"):
        Folder(tmp_path / "nowhere").load()
