"""Videos that are drawn: what is given stays, weights of a style, windows, seeds, kills, and what is refused."""

import copy
import itertools
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ssl_video as sv
from ssl_video.apps.generate import Drawing, Painters, generate, noise_key, styled
from ssl_video.apps.generate_folder import liveliest_row
from ssl_video.apps.generate_given import Given, fitted, fitted_masks, known_of
from ssl_video.apps.generate_measures import lowered, motion, psnr, rms, seam_ratio
from ssl_video.apps.options import GenerateOptions
from ssl_video.backbones.base import build_backbone
from ssl_video.cli import main
from ssl_video.errors import UserError
from ssl_video.model import Model, load_model
from ssl_video.pretexts.base import build_pretext
from ssl_video.pretraining import write_weights
from ssl_video.processes import LOCK
from ssl_video.run import Run
from tests.killed import kill_and_repeat, names

SIDE, FRAMES = 16, 4
NOTE = "generate.json"
CLIP = {"frames": FRAMES, "stride": 2, "short_side": SIDE, "size": SIDE}
TASKS = {"unconditional": 1, "first_frame": 1, "inpainting": 1, "cinemagraph": 1}
WORDS = ("a", "red", "blue", "circle", "square")
QUICK = GenerateOptions(steps=3, lossless=True)


def made(folder: Path, seed: int = 0, words: tuple[str, ...] = (), channels=(8, 16), **options) -> Path:
    """The folder of a run with random weights; nothing of it is zero, so that all that is told has an effect."""
    name = "video_upscaling" if "factor" in options else "video_diffusion"
    torch.manual_seed(seed)
    shape = {"channels": channels, "layers": 1, "frames": FRAMES, "words": 8}
    backbone = build_backbone("stunet", **shape, low_resolution="factor" in options)
    pretext = build_pretext(name, backbone, CLIP | options | ({"captions": True} if words else {}))
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    if words:
        backbone.network.learn_words(words)  # pyright: ignore
    folder.mkdir()
    write_weights(Run(folder), pretext)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder of runs, pictures, masks and videos."""
    place = tmp_path_factory.mktemp("place")
    made(place / "run", words=WORDS, **TASKS)
    made(place / "plain", seed=1)
    made(place / "wide", seed=2, channels=(16, 16))
    made(place / "up", seed=3, factor=2, short_side=2 * SIDE, size=2 * SIDE)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (9, SIDE, SIDE, 3), dtype=np.uint8)
    (place / "video").mkdir()
    (place / "masks").mkdir()
    (place / "nothing").mkdir()
    for number, frame_HWC in enumerate(frames):
        Image.fromarray(frame_HWC).save(place / "video" / f"{number}.png")
        moved_HW = np.zeros((SIDE, SIDE), np.uint8)
        moved_HW[4:8, number : number + 5] = 255
        Image.fromarray(moved_HW).save(place / "masks" / f"{number}.png")
    Image.fromarray(frames[0]).save(place / "image.png")
    Image.fromarray(np.zeros((SIDE, 2 * SIDE, 3), np.uint8)).save(place / "long.png")
    Image.fromarray(box()).save(place / "box.png")
    Image.fromarray(box()[1:]).save(place / "other.png")
    Image.fromarray(0 * box()).save(place / "empty.png")
    return place


def box() -> np.ndarray:
    """A mask in black and white."""
    mask_HW = np.zeros((SIDE, SIDE), np.uint8)
    mask_HW[3:9, 5:12] = 255
    return mask_HW


@pytest.fixture
def model(place) -> Model:
    return load_model(str(place / "run"))


@pytest.fixture
def video(place) -> np.ndarray:
    """Every second frame of the video."""
    return np.stack([np.asarray(Image.open(place / "video" / f"{n}.png")) for n in (0, 2, 4, 6)])


def drawn(painters: Painters | Model, options: GenerateOptions = QUICK, number: int = 0, **given) -> np.ndarray:
    """The frames of one video, without a folder."""
    painters = painters if isinstance(painters, Painters) else Painters(painters)
    what = Given(**given)
    known = known_of(what, painters.model, options)
    drawing = Drawing(painters, styled(painters, options), known, options)
    return drawing.one(what.prompts[0] if what.prompts else None, number)[0]


# what is given


def test_a_video_begins_with_the_image_exactly_and_moves_on(model, place, tmp_path):
    done = generate(Painters(model), Given(image=place / "image.png"), tmp_path / "o", QUICK)
    frames = np.load(tmp_path / "o" / "000.npy")
    assert (frames[0] == np.asarray(Image.open(place / "image.png"))).all() and (frames[1] != frames[0]).any()
    measured = done.films[0].measured
    assert measured["motion_px"] > measured["motion_px_frozen"] + 0.1
    assert 3 < measured["psnr_before_paste_db"] < 30  # nobody has trained this network


def test_of_a_filled_video_the_known_pixels_stay_and_the_others_are_drawn_anew_for_each_seed(model, place, video):
    given = {"video": place / "video", "mask": place / "box.png"}
    one, other = drawn(model, number=0, **given), drawn(model, number=1, **given)
    inside_HW = box() > 0
    assert (one[:, ~inside_HW] == video[:, ~inside_HW]).all() and (other[:, ~inside_HW] == video[:, ~inside_HW]).all()
    assert (one[:, inside_HW] != other[:, inside_HW]).mean() > 0.9


def test_a_folder_of_masks_has_one_for_each_frame_of_the_file(model, place, video):
    filled = drawn(model, video=place / "video", mask=place / "masks")
    changed_THW = (filled != video).any(3)
    for row, number in enumerate((0, 2, 4, 6)):
        there = np.zeros((SIDE, SIDE), bool)
        there[4:8, number : number + 5] = True
        assert not changed_THW[row][~there].any() and changed_THW[row][there].mean() > 0.9


def test_outside_of_its_region_a_cinemagraph_stands_still(model, place):
    frames = drawn(model, image=place / "image.png", cinemagraph=place / "box.png")
    image_HWC, inside_HW = np.asarray(Image.open(place / "image.png")), box() > 0
    assert (frames[:, ~inside_HW] == image_HWC[~inside_HW]).all() and (frames[0] == image_HWC).all()
    assert (frames[1:][:, inside_HW] != image_HWC[inside_HW]).mean() > 0.9


def test_an_edit_of_strength_0_gives_the_video_back_and_a_stronger_one_is_farther_away(model, place, video):
    strengths = (0, 0.3, 0.6, 0.9)
    edits = [drawn(model, replace(QUICK, edit=s), video=place / "video") for s in strengths]
    assert (edits[0] == video).all()
    far = [rms(edit, video) for edit in edits]
    assert far == sorted(far) and far[1] > 1 and far[3] > 1.5 * far[1]


def test_an_edit_within_a_mask_leaves_what_is_outside(model, place, video):
    edited = drawn(model, replace(QUICK, edit=0.5), video=place / "video", mask=place / "box.png")
    assert (edited[:, box() == 0] == video[:, box() == 0]).all() and (edited != video).any()


def test_a_text_changes_the_video_as_far_as_guidance_says(model):
    silent, text = drawn(model), ("a red circle",)
    none, plain, more = (drawn(model, replace(QUICK, guidance=g), prompts=text) for g in (0.0, 1.0, 3.0))
    assert (none == silent).all() and (plain != silent).any() and rms(more, silent) > rms(plain, silent)


def test_images_and_masks_are_cut_to_the_same_square():
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 14, 3), dtype=np.uint8)
    assert (fitted(frames, 8, True, "v") == frames[:, :, 3:11]).all()
    assert (fitted_masks(frames[..., 0] > 99, 8) == (frames[:, :, 3:11, 0] > 99)).all()
    assert (fitted_masks(frames[..., 0] > 99, 4) == (frames[:, 1::2, 4:11:2, 0] > 99)).all()


# networks


def test_a_style_of_weight_0_is_none_and_of_weight_1_has_its_spatial_weights(model, place):
    painters = Painters(model, load_model(str(place / "plain")))
    assert (drawn(painters, replace(QUICK, style_weight=0.0)) == drawn(model)).all()
    mixed = styled(painters, replace(QUICK, style_weight=1.0)).network
    assert painters.style is not None
    own, theirs = model.backbone.network.state_dict(), painters.style.backbone.network.state_dict()
    for name, part in mixed.part_of.items():  # pyright: ignore
        assert torch.equal(mixed.state_dict()[name], theirs[name] if part == "spatial" else own[name]), name
    assert (drawn(painters, replace(QUICK, style_weight=1.0)) != drawn(model)).any()


def test_half_of_a_style_lies_in_the_middle_and_changes_neither_network(model, place):
    style = load_model(str(place / "plain"))
    networks = [one.backbone.network for one in (model, style)]
    before = [{name: tensor.clone() for name, tensor in one.state_dict().items()} for one in networks]
    mixed = styled(Painters(model, style), replace(QUICK, style_weight=0.5)).network.state_dict()
    for name, part in networks[0].part_of.items():  # pyright: ignore
        own, theirs = (one[name] for one in before)
        torch.testing.assert_close(mixed[name], (own + theirs) / 2 if part == "spatial" else own)
    for one, was in zip(networks, before, strict=True):
        assert all(torch.equal(tensor, was[name]) for name, tensor in one.state_dict().items())


def test_the_weights_that_count_draw_and_not_those_that_were_trained(model):
    assert model.pretext is not None
    before, student = drawn(model), copy.deepcopy(model.backbone)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1.5)
    model.pretext.backbone = student
    assert (drawn(model) == before).all()
    model.backbone = student
    assert (drawn(model) != before).any()


def test_what_is_longer_and_larger_than_in_training_is_drawn_without_a_frame_of_nothing_or_twice(model):
    frames = drawn(model, replace(QUICK, frames=11, size=22))
    assert frames.shape == (11, 22, 22, 3)
    assert frames.std((1, 2, 3)).min() > 10
    apart = np.abs(frames[:, None].astype(int) - frames[None]).mean((2, 3, 4)) + 1000 * np.eye(11)
    assert apart.min() > 5


def test_a_larger_video_is_made_of_the_small_one_that_is_drawn_without(model, place, tmp_path):
    painters = Painters(model, upscaler=load_model(str(place / "up")))
    large = drawn(painters, replace(QUICK, frames=9))
    assert large.shape == (9, 2 * SIDE, 2 * SIDE, 3)
    done = generate(painters, Given(), tmp_path / "o", replace(QUICK, frames=9))
    assert done.size == (9, 32, 32) and (np.load(tmp_path / "o" / "000.npy") == large).all()
    fit = psnr(lowered(large, 2), drawn(model, replace(QUICK, frames=9)))
    assert done.films[0].measured["psnr_made_small_again_db"] == pytest.approx(fit, abs=1e-3)


# what is measured


def test_ratios_and_differences_are_those_of_their_definitions():
    a, b = np.zeros((2, 4, 4, 3), np.uint8), np.full((2, 4, 4, 3), 51, np.uint8)
    assert psnr(a, b) == pytest.approx(20 * np.log10(5)) and psnr(a, a) == 100 and rms(a, b) == 51
    squares = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    assert lowered(squares, 2).ravel().tolist() == [2, 4, 10, 12]  # 2.5, 4.5, 10.5, 12.5 to even


def test_a_clip_that_stands_still_has_no_more_motion_than_a_frozen_one():
    frames = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    still, moving = motion(frames.repeat(5, 0)), motion(np.stack([np.roll(frames[0], 2 * n, 1) for n in range(5)]))
    assert still["motion_px"] == pytest.approx(still["motion_px_frozen"]) and moving["motion_px"] > 1


def test_a_jump_between_windows_is_a_seam():
    even = np.zeros((8, 2, 2, 3), np.uint8) + np.arange(8, dtype=np.uint8)[:, None, None, None]
    jumps = even + np.where(np.arange(8) > 3, 9, 0).astype(np.uint8)[:, None, None, None]
    assert seam_ratio(even, 4, 0) == 1 and seam_ratio(jumps, 4, 0) == 10
    assert seam_ratio(even, 8, 0) is None and seam_ratio(0 * even, 4, 0) is None


def test_a_slice_is_of_the_row_that_changes():
    clip = np.zeros((4, 9, 5, 3), np.uint8)
    clip[2, 6, 1] = 200
    assert liveliest_row(clip) == 6 and liveliest_row(0 * clip) == 4


# the folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def words_of(place: Path, out: Path | str, *more: object) -> list[str]:
    return ["generate", "--model", str(place / "run"), "--steps", "2", "--out", str(out), *map(str, more)]


def test_the_same_line_writes_the_same_bytes_and_another_seed_others(place, tmp_path):
    line = ("--prompt", "a red circle", "a blue square", "--number", "2", "--lossless")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert main(words_of(place, tmp_path / name, *line, "--seed", seed)) == 0
    a, b, c = (contents(tmp_path / name) for name in "abc")
    films = [f"00{n}.{kind}" for n in range(4) for kind in ("mp4", "npy")]
    assert sorted(a) == sorted([*films, "generate.json", "sheet.png", "xt.png"])
    assert a == b and all(a[name] != c[name] for name in films)


def test_a_video_depends_on_its_number_and_not_on_how_many_there_are(model, tmp_path):
    generate(Painters(model), Given(), tmp_path / "three", replace(QUICK, number=3))
    generate(Painters(model), Given(), tmp_path / "two", replace(QUICK, number=2))
    three, two = (contents(tmp_path / name) for name in ("three", "two"))
    assert three["000.npy"] == two["000.npy"] and three["001.mp4"] == two["001.mp4"]
    assert three["000.npy"] != three["001.npy"] and noise_key(0, 1) != noise_key(1, 0)


def test_the_note_says_what_was_asked_for_and_measured_and_frames_are_kept_only_on_demand(place, tmp_path, capsys):
    line = ("--image", place / "image.png", "--prompt", "a red circle", "--eta", ".5")
    assert main(words_of(place, tmp_path / "o", *line)) == 0
    assert sorted(contents(tmp_path / "o")) == ["000.mp4", "generate.json", "sheet.png", "xt.png"]
    note = json.loads((tmp_path / "o" / "generate.json").read_text())
    assert note["from"] == {"model": str(place / "run"), "image": str(place / "image.png")}
    assert note["asked"]["eta"] == 0.5 and note["asked"]["prompts"] == ["a red circle"] and note["finished"]
    assert (note["task"], note["frames"], note["height"], note["fps"]) == ("first_frame", 4, SIDE, 12.5)
    (film,) = note["videos"]
    assert set(film["measured"]) == {"psnr_before_paste_db", "motion_px", "motion_px_frozen"}
    said = capsys.readouterr().out
    assert "1 video of 4 frames, 16x16, 12.5 frames a second" in said and "before it was pasted (PSNR)" in said


def test_a_line_that_has_ended_draws_nothing_again_and_another_one_is_refused(place, tmp_path, monkeypatch, capsys):
    assert main(words_of(place, tmp_path / "o", "--seed", 4)) == 0
    before = contents(tmp_path / "o")
    assert main(words_of(place, tmp_path / "o", "--seed", 5)) == 2
    assert "were asked for otherwise (seed differ" in capsys.readouterr().err
    monkeypatch.setattr(Drawing, "one", None)
    assert main(words_of(place, tmp_path / "o", "--seed", 4)) == 0
    assert contents(tmp_path / "o") == before


def test_a_film_that_is_missing_is_drawn_again_with_the_same_bytes(place, tmp_path):
    line = words_of(place, tmp_path / "o", "--number", 2)
    assert main(line) == 0
    before = contents(tmp_path / "o")
    (tmp_path / "o" / "001.mp4").unlink()
    assert main(line) == 0
    assert contents(tmp_path / "o") == before


def test_python_draws_like_the_command(place, tmp_path):
    assert main(words_of(place, tmp_path / "a", "--prompt", "a red circle", "--lossless")) == 0
    options = GenerateOptions(steps=2, lossless=True)
    done = sv.generate(place / "run", tmp_path / "b", prompt="a red circle", options=options, progress=False)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert done.written == tuple(tmp_path / "b" / n for n in ("000.mp4", "000.npy", "sheet.png", "xt.png", NOTE))


@pytest.fixture(scope="module")
def undisturbed(place, tmp_path_factory) -> Path:
    """The folder of two films that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "out"
    assert main(words_of(place, folder, "--number", 2)) == 0
    return folder


def test_what_is_killed_goes_on(place, undisturbed, tmp_path):
    line = words_of(place, tmp_path / "out", "--number", 2)
    assert kill_and_repeat(line, tmp_path, "out", 11, names(undisturbed)) == ""  # within the second film
    assert {k: v for k, v in contents(tmp_path / "out").items() if k != LOCK} == contents(undisturbed)


@pytest.mark.parametrize("at", [0, 4, 8, 13, 18])
def test_what_is_interrupted_at_any_write_goes_on(place, undisturbed, tmp_path, monkeypatch, at):
    line, real, writes = words_of(place, tmp_path / "out", "--number", 2), os.fsync, itertools.count()

    def fsync(file: int) -> None:
        if next(writes) == at:
            raise KeyboardInterrupt
        real(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        assert main(line) == 130
    assert main(line) == 0
    assert contents(tmp_path / "out") == contents(undisturbed)


# what is refused


@pytest.mark.parametrize(
    "words, said",
    [
        (["--prompt", "a rde circle"], "The word 'rde' of 'a rde circle' is not known; did you mean 'red'?"),
        (["--prompt", " "], "The prompt ' ' has no word"),
        (["--guidance", "3"], "--guidance goes beyond a text; give one by --prompt"),
        (["--model", "plain", "--prompt", "a circle"], "plain was trained without captions and knows no words"),
        (
            ["--model", "plain", "--image", "image.png"],
            "plain was not trained to go on from a first frame, but",
        ),
        (["--model", "plain", *["--video", "video", "--mask", "box.png"]], "plain was not trained to fill a part of a"),
        (["--model", "random:r2plus1d_4?width=4"], "needs a model that draws videos (a run of video_diffusion), and"),
        (["--model", "up"], "needs a model that draws videos"),
        (["--model", "no"], "no does not exist; a model is"),
        (["--image", "none.png"], "The image none.png cannot be used: there is no none.png"),
        (["--image", "long.png"], "long.png has 32x16 pixels, and what is drawn is a square; add --crop"),
        (["--image", "image.png", "--video", "video"], "begins with --image or is made of --video; give one"),
        (["--image", "image.png", "--cinemagraph", "other.png"], "other.png has 16x15 pixels, but image.png has 16x16"),
        (["--image", "image.png", "--cinemagraph", "no.png"], "The mask no.png cannot be used: there is no no.png"),
        (["--cinemagraph", "box.png"], "--cinemagraph marks what moves of a picture; name that by --image"),
        (["--mask", "box.png"], "--mask marks what is filled of a video; name that by --video"),
        (["--video", "video"], "Say what is made of --video: --mask M fills a part of it, --edit 0.5"),
        (["--video", "video", "--mask", "other.png"], "other.png has 16x15 pixels, but video has 16x16"),
        (["--video", "video", "--mask", "empty.png"], "The mask empty.png marks nothing"),
        (["--video", "video", "--mask", "image.png"], "image.png is a picture in colour"),
        (["--video", "video", "--mask", "nothing"], "nothing has no mask of frame 0 of video"),
        (["--video", "nothing", "--edit", ".5"], "nothing cannot be used: it is a folder without pictures"),
        (["--video", "no.mp4", "--edit", ".5"], "There is no video file no.mp4"),
        (
            ["--video", "video", "--edit", ".5", "--frames", "6"],
            "6 is more than video has for this run, 5 of 9",
        ),
        (["--video", "video", "--edit", "1.5"], "--edit must be a number from 0 to 1"),
        (["--video", "video", "--edit", "-0.1"], "--edit must be a number from 0 to 1"),
        (["--edit", ".5"], "--edit draws a video anew; name it by --video"),
        (["--style", "wide"], "wide has spatial weights of another shape than run"),
        (["--style", "up"], "up has spatial weights of another shape than run"),
        (["--style", "random:r2plus1d_4?width=4"], "needs a model that tells a clip from noise (stunet), and"),
        (["--style-weight", "1"], "--style-weight is the weight of a style; name a run by --style"),
        (["--style", "plain", "--style-weight", "2"], "--style-weight must be a number from 0 to 1"),
        (["--upscale", "plain"], "needs a model that makes videos larger (a run of video_upscaling), and plain does"),
        (["--upscale", "no"], "no does not exist; a model is"),
        (["--size", "2"], "run draws videos of 4 pixels or more; use --size 4"),
        (["--frames", "0"], "--frames must be a whole number of 1 or more"),
        (["--number", "0"], "--number must be a whole number of 1 or more"),
        (["--steps", "0"], "--steps must be a whole number of 1 or more"),
        (["--solver", "heun", "--eta", "1"], "--eta is fresh noise in steps of ddim, and heun has none"),
        (["--solver", "euler"], "--solver"),
        (["--out", "video"], "video exists and is not empty; choose another --out"),
        (["--out", "box.png"], "box.png is a file; --out must name a folder"),
        (["--out", "box.png/films"], "box.png is a file; --out must name a folder"),
    ],
)
def test_wrong_input_is_one_sentence_and_nothing_is_written(place, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(place)
    for flag, value in (("--model", "run"), ("--out", str(tmp_path / "o"))):
        words = words if flag in words else [*words, flag, value]
    assert main(["generate", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_damaged_frames_are_one_sentence_and_drawn_again_when_they_are_removed(model, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    one, options = (Painters(model), Given(), tmp_path), replace(QUICK, number=2, steps=1)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("ssl_video.apps.generate_folder.draw_sheet", interrupted)
        generate(*one, options)
    frames = tmp_path / "001.npy"
    before = np.load(frames)
    frames.write_bytes(frames.read_bytes()[:100])
    with pytest.raises(UserError, match=r"001.npy is damaged .*; remove it, and call again"):
        generate(*one, options)
    frames.unlink()
    assert len(generate(*one, options).films) == 2 and (np.load(frames) == before).all()


def test_a_damaged_note_is_one_sentence(place, tmp_path):
    (tmp_path / NOTE).write_text('{"asked": 3')
    with pytest.raises(UserError, match=r"generate.json is damaged .*; remove the folder, or choose another --out\."):
        sv.generate(place / "run", tmp_path, progress=False)
