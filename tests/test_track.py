import csv
import weakref
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ssl_video.apps import track as app
from ssl_video.apps.adapt import adapt
from ssl_video.apps.marks import Marks, mask_of_boxes
from ssl_video.apps.options import TrackOptions
from ssl_video.apps.paint import PALETTE, paint_mask, paint_points
from ssl_video.apps.track import Source, track, track_masks, track_points
from ssl_video.backbones.base import ClipSpec, build_backbone, chain
from ssl_video.cli import main
from ssl_video.datasets.masks import read_mask
from ssl_video.errors import UserError
from ssl_video.eval.affinity import Affinity
from ssl_video.eval.dense import FrameFeatures, network_features
from ssl_video.model import Model, load_model
from ssl_video.pretexts.base import Output, Pretext, Sample, View, build_pretext
from ssl_video.pretraining import write_weights
from ssl_video.run import Run
from ssl_video.video.reader import iterate_frames
from ssl_video.video.writer import write_video
from tests import videos

CELL, H, W = 8, 48, 64
RANDOM = "random:dense_resnet_8?width=4"
HOW = Affinity(context=2, radius=3, top_k=1)
PATHS = {1: [(0, 0), (0, 1), (1, 1), (1, 2)], 2: [(4, 5), (4, 6), None, None]}
"""Row and column of the map where each of two objects of 2x2 cells begins, in four frames; the second one leaves."""
SEEN = [1, 2], [1, 2], [1], [1]


def pooling_features() -> FrameFeatures:
    """The mean colour of each cell of 8x8 pixels."""
    clip = ClipSpec(frames=1, size=16, mean=(0.5,) * 3, std=(0.5,) * 3, min_size=8)
    pool = nn.Conv3d(3, 3, (1, CELL, CELL), (1, CELL, CELL), bias=False)
    pool.weight.data = torch.eye(3)[:, :, None, None, None].repeat(1, 1, 1, CELL, CELL) / CELL**2
    backbone = chain({"pool": pool}, feature_dim=3, strides=(1, CELL, CELL), clip=clip)
    return network_features(Model("pooling", backbone, View(1, 1, 16, 16), {}, torch.device("cpu")))


def mask(frame: int) -> np.ndarray:
    mask_hw = np.zeros((H // CELL, W // CELL), np.uint8)
    for number, path in PATHS.items():
        if (place := path[frame]) is not None:
            mask_hw[place[0] : place[0] + 2, place[1] : place[1] + 2] = number
    return np.kron(mask_hw, np.ones((CELL, CELL), np.uint8))


def picture(frame: int) -> np.ndarray:
    """A red and a green object before blue."""
    return np.array([(20, 20, 200), (250, 10, 10), (10, 250, 10)], np.uint8)[mask(frame)]


def save(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_back(path: Path) -> list[np.ndarray]:
    return list(iterate_frames(str(path)))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Four frames as pictures, and the mask of the first one beside the folder."""
    path = tmp_path / "frames"
    path.mkdir()
    for n in range(4):
        save(path / f"{n:03d}.png", picture(n))
    save(tmp_path / "mask.png", mask(0))
    return path


def test_objects_are_followed_and_one_that_leaves_has_no_pixels_left(folder, tmp_path):
    done = track_masks(Source(folder), mask(0), pooling_features(), HOW, tmp_path / "o")
    assert (done.start, done.frames, done.last_seen, done.broken) == (0, 4, {1: 3, 2: 1}, None)
    for n in range(4):
        found, truth = read_mask(tmp_path / "o" / "masks" / f"{n:05d}.png"), mask(n)
        assert set(np.unique(found)) == {0, *SEEN[n]}
        for number in SEEN[n]:
            both, either = (found == number) & (truth == number), (found == number) | (truth == number)
            assert both.sum() > 0.9 * either.sum()


def test_masks_have_a_palette_and_the_video_shows_every_frame(folder, tmp_path):
    track_masks(Source(folder), mask(0), pooling_features(), HOW, tmp_path / "o")
    written = Image.open(tmp_path / "o" / "masks" / "00001.png")
    assert written.mode == "P"
    assert (np.asarray(written.convert("RGB"))[4, CELL + 4] == PALETTE[1]).all()
    shown = read_back(tmp_path / "o" / "overlay.mp4")
    assert len(shown) == 4 and shown[0].shape[1] == W and shown[0].shape[0] > H


def test_void_is_background(folder, tmp_path):
    given = mask(0)
    given[:, 40:] = 255
    done = track_masks(Source(folder), given, pooling_features(), HOW, tmp_path / "o")
    assert done.last_seen == {1: 3}
    assert np.array_equal(read_mask(tmp_path / "o" / "masks" / "00000.png"), np.where(given == 255, 0, given))


def test_points_are_followed(folder, tmp_path):
    start = np.array([(CELL - 0.5, CELL - 0.5)])  # the middle of the first object
    done = track_points(
        Source(folder), start, pooling_features(), Affinity(context=2, radius=3, top_k=4), tmp_path / "o"
    )
    assert done.last_seen == {1: 3}
    rows = rows_of(tmp_path / "o" / "points.csv")
    assert [(row["frame"], row["point"]) for row in rows] == [(str(n), "1") for n in range(4)]
    assert (float(rows[0]["x"]), float(rows[0]["y"])) == (7.5, 7.5)
    for n, row in enumerate(rows):
        y, x = np.argwhere(mask(n) == 1).mean(0)
        assert abs(float(row["x"]) - x) <= CELL / 2 and abs(float(row["y"]) - y) <= CELL / 2


def test_a_point_that_is_lost_has_an_empty_place(folder, tmp_path, monkeypatch):
    places = [np.array([(5.0, 6.0), (1.0, 2.0)]), np.array([(np.nan, np.nan), (3.0, 2.0)])]
    monkeypatch.setattr(app, "carry_points", lambda frames, *_: (p for p, _ in zip(places, frames, strict=False)))
    done = track_points(Source(folder), places[0], pooling_features(), HOW, tmp_path / "o")
    assert done.last_seen == {1: 0, 2: 1}
    written = (tmp_path / "o" / "points.csv").read_text().splitlines()
    assert written == ["frame,point,x,y", "0,1,5.00,6.00", "0,2,1.00,2.00", "1,1,,", "1,2,3.00,2.00"]


def test_each_frame_is_done_before_the_next_is_read_and_no_frames_pile_up(tmp_path, monkeypatch):
    out, alive = tmp_path / "o", []

    def watched(_path, _start):
        for n in range(12):
            assert n == 0 or (out / "masks" / f"{n - 1:05d}.png").exists()
            assert sum(one() is not None for one in alive) <= 3
            frame_HWC = picture(n % 4)
            alive.append(weakref.ref(frame_HWC))
            yield frame_HWC

    monkeypatch.setattr(app, "iterate_frames", watched)
    assert track_masks(Source(tmp_path), mask(0), pooling_features(), HOW, out).frames == 12


def test_tracking_can_start_later(folder, tmp_path):
    done = track_masks(Source(folder, 1), mask(1), pooling_features(), HOW, tmp_path / "o")
    assert (done.start, done.frames, done.last_seen) == (1, 3, {1: 3, 2: 1})
    assert sorted(p.name for p in (tmp_path / "o" / "masks").iterdir()) == [f"{n:05d}.png" for n in (1, 2, 3)]


@pytest.mark.parametrize("spoil", ["no picture", "another size"])
def test_what_was_tracked_before_a_video_breaks_off_is_kept_and_said(folder, tmp_path, capsys, spoil):
    if spoil == "no picture":
        (folder / "002.png").write_bytes(b"no picture")
    else:
        save(folder / "002.png", picture(2)[:40])
    words = ["track", str(folder), "--model", RANDOM, "--out", str(tmp_path / "o"), "--side", "0"]
    assert main([*words, "--mask", str(tmp_path / "mask.png")]) == 0
    assert "The video breaks off after frame 1: 002.png" in capsys.readouterr().out
    assert len(list((tmp_path / "o" / "masks").iterdir())) == 2
    assert len(read_back(tmp_path / "o" / "overlay.mp4")) == 2


def test_a_file_that_was_cut_off_is_tracked_as_far_as_it_decodes(tmp_path):
    path = videos.avi_with_b_frames(tmp_path / "v.avi", 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 4 // 5])
    done = track_points(Source(path), np.array([(5, 5)]), pooling_features(), HOW, tmp_path / "o")
    assert 2 < done.frames < 40
    assert done.broken == f"the file announces 40 frames, of which {done.frames} decode"


def test_boxes_are_numbered_in_their_order_and_later_ones_lie_on_top():
    mask_HW = mask_of_boxes([(0, 0, W, H), (8, 4, 2, 3)], np.zeros((H, W, 3), np.uint8))
    assert (mask_HW == 2).sum() == 6 and (mask_HW[4:7, 8:10] == 2).all() and (mask_HW == 1).sum() == H * W - 6


def test_more_boxes_than_masks_can_number_are_refused():
    boxes = [(n % W, n // W, 1, 1) for n in range(255)]
    assert mask_of_boxes(boxes[:254], np.zeros((H, W, 3), np.uint8)).max() == 254
    with pytest.raises(UserError, match="At most 254 boxes"):
        mask_of_boxes(boxes, np.zeros((H, W, 3), np.uint8))


def test_an_object_is_half_covered_and_lined_by_its_colour():
    mask_HW = np.zeros((9, 9), np.uint8)
    mask_HW[2:7, 2:7] = 3
    painted = paint_mask(np.full((9, 9, 3), 100, np.uint8), mask_HW)
    assert (painted[mask_HW == 0] == 100).all()
    assert (painted[2:7, 2] == PALETTE[3]).all() and (painted[6, 2:7] == PALETTE[3]).all()
    assert (painted[3:6, 3:6] == (100 + PALETTE[3].astype(int)) // 2).all()


def test_points_are_discs_of_their_colours_and_lost_ones_are_not_drawn():
    painted = paint_points(np.zeros((60, 60, 3), np.uint8), np.array([[(20.0, 30.0), (np.nan, np.nan)]]))
    y, x = np.nonzero(painted.any(2))
    assert (y.mean(), x.mean()) == pytest.approx((30, 20), abs=0.1)
    assert (painted[30, 20] == PALETTE[1]).all()


def test_the_first_colours_of_the_palette_can_be_told_apart():
    colours = PALETTE[:9].astype(int)
    apart = np.abs(colours[:, None] - colours[None]).sum(2) + 1000 * np.eye(9, dtype=int)
    assert apart.min() > 60 and len(np.unique(PALETTE, axis=0)) == 256


@pytest.fixture
def clip(tmp_path) -> Path:
    """A video file of the four frames, three times there and back."""
    write_video(tmp_path / "v.mp4", [picture(abs(n % 6 - 3)) for n in range(18)], fps=10)
    return tmp_path / "v.mp4"


def test_the_command_tracks_a_mask_in_a_file_at_the_rate_of_the_file(clip, tmp_path, capsys):
    words = ["track", str(clip), "--mask", str(save(tmp_path / "m.png", mask(3)))]
    words += ["--model", RANDOM, "--out", str(tmp_path / "o"), "--side", "0"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "1 object, 18 frames, " in said and "s a frame" in said
    assert len(list((tmp_path / "o" / "masks").iterdir())) == 18
    with av.open(str(tmp_path / "o" / "overlay.mp4")) as container:
        assert container.streams.video[0].average_rate == 10


def test_a_binary_mask_is_one_object(clip, tmp_path):
    mask_file = save(tmp_path / "m.png", np.where(mask(3) == 1, 255, 0).astype(np.uint8))
    words = ["track", str(clip), "--mask", str(mask_file), "--model", RANDOM, "--out", str(tmp_path / "o")]
    assert main([*words, "--side", "0"]) == 0
    assert np.array_equal(read_mask(tmp_path / "o" / "masks" / "00000.png"), mask(3))


def test_the_command_takes_boxes_and_points_side_by_side_or_one_by_one(clip, tmp_path, capsys):
    words = ["track", str(clip), "--model", RANDOM, "--side", "0"]
    assert main([*words, "--box", "0,0,16,16", "40,32,16,16", "--out", str(tmp_path / "b")]) == 0
    assert main([*words, "--points", "7,7", "--points", "47.5,39", "--out", str(tmp_path / "p")]) == 0
    said = capsys.readouterr().out
    assert "2 objects, 18 frames" in said and "2 points, 18 frames" in said
    assert np.unique(read_mask(tmp_path / "b" / "masks" / "00000.png")).tolist() == [0, 1, 2]
    assert len(rows_of(tmp_path / "p" / "points.csv")) == 2 * 18
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == ["overlay.mp4", "points.csv"]


def test_python_tracks_like_the_command(clip, tmp_path):
    words = ["track", str(clip), "--model", RANDOM, "--side", "0", "--points", "7,7"]
    torch.manual_seed(0)
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    torch.manual_seed(0)
    done = track(clip, load_model(RANDOM), Marks(points=[(7, 7)]), tmp_path / "b", TrackOptions(side=0))
    assert done.written == (tmp_path / "b" / "points.csv", tmp_path / "b" / "overlay.mp4") and done.frames == 18
    assert rows_of(tmp_path / "a" / "points.csv") == rows_of(done.written[0])


def test_the_old_name_of_a_flag_is_understood_with_a_note(clip, tmp_path, capsys):
    words = ["track", str(clip), "--model", RANDOM, "--side", "0", "--points", "7,7", "--out", str(tmp_path / "o")]
    assert main([*words, "--topk", "5"]) == 0
    assert "calls --topk --top-k now" in capsys.readouterr().err


def test_an_object_that_leaves_is_said(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ssl_video.apps.track.network_features", lambda *_: pooling_features())
    words = ["track", str(folder), "--mask", str(tmp_path / "mask.png"), "--model", RANDOM]
    assert main([*words, "--out", str(tmp_path / "o"), "--top-k", "1", "--radius", "3"]) == 0
    said = capsys.readouterr().out
    assert "object 2 was last seen in frame 1; the last frame is 3." in said and "object 1 was" not in said


MASK = ["--mask", "mask.png"]


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "Say what to track by one of --mask FILE, --box"),
        (["--box"], "Say what to track by one of"),
        ([*MASK, "--box", "0,0,8,8"], "Say what to track by one of"),
        (["--mask", "none.png"], "The mask none.png cannot be used: there is no none.png"),
        (["--mask", "small.png"], "has 63x48 pixels, but the frames of the video have 64x48"),
        (["--mask", "empty.png"], "The mask empty.png is empty"),
        (["--mask", "void.png"], "The mask void.png is empty"),
        (["--mask", "many.png"], "numbers objects up to 300; a mask may have 254"),
        (["--mask", "frames/000.png"], "is a picture in colour"),
        (["--box", "0,0,8"], "--box takes x,y,width,height as numbers with commas, not '0,0,8'"),
        (["--box", "0,0,8,x"], "--box takes x,y,width,height"),
        (["--box", "60,0,8,8"], "The box 60,0,8,8 does not lie within the frame, which has 64x48 pixels"),
        (["--box=-1,0,8,8"], "The box -1,0,8,8 does not lie within"),
        (["--box", "0,0,0,8"], "The box 0,0,0,8 does not lie within"),
        (["--box", "nan,0,8,8"], "does not lie within"),
        (["--box", "4,4,8,8", "0,0,20,20"], "Box 1 lies wholly under later ones"),
        (["--points", "64,1"], "The point 64,1 lies outside of the frame, which has 64x48 pixels"),
        (["--points", "inf,1"], "lies outside of the frame"),
        (["--points", "1;2"], "--points takes x,y as numbers"),
        ([*MASK, "--start", "3"], "frame 3 is its last one, and there is no other to track anything to"),
        ([*MASK, "--start", "9"], "there is no frame 9: it ends before it"),
        ([*MASK, "--start", "-1"], "--start"),
        ([*MASK, "--preset", "crw-davi"], "There is no preset 'crw-davi' of propagation; did you mean 'crw-davis'"),
        ([*MASK, "--side", "-1"], "--side must be a whole number of 0 or more"),
        ([*MASK, "--top-k", "0"], "--top-k must be a whole number of 1 or more"),
        ([*MASK, "--stage", "conv9"], "no stage 'conv9'"),
        ([*MASK, "--seed", "-1"], "--seed must be a whole number from 0 to"),
        ([*MASK, "--adapt-lr", "0"], "--adapt-lr must be a number above 0"),
        ([*MASK, "--adapt-steps", "2"], "has no pretext to adapt by"),
        ([*MASK, "--model", "random:late_fusion_pool"], "has no map of frames of any size"),
        ([*MASK, "--out", "frames"], "frames exists and is not empty; choose another --out"),
        ([*MASK, "--out", "mask.png"], "mask.png is a file; --out must name a folder"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(folder, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "small.png", mask(0)[:, 1:])
    save(tmp_path / "empty.png", mask(0) * 0)
    Image.fromarray(np.full((H, W), 255, np.uint8)).convert("P").save(tmp_path / "void.png")
    save(tmp_path / "many.png", np.arange(H * W, dtype=np.uint16).reshape(H, W) % 301)
    for flag, value in (("--model", RANDOM), ("--out", "o")):
        words = words if flag in words else [*words, flag, value]
    assert main(["track", "frames", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "o").exists() or not any((tmp_path / "o").iterdir())


@pytest.mark.parametrize(
    "name, said",
    [
        ("one.mp4", "one.mp4 cannot be used: it has one frame only, and there is no other"),
        ("text.mp4", "text.mp4 cannot be used: it cannot be decoded"),
        ("none.mp4", "none.mp4 cannot be used: there is no such file"),
        ("nothing", "nothing cannot be used: it has no frame"),
    ],
)
def test_a_video_that_cannot_be_tracked_is_refused(tmp_path, monkeypatch, capsys, name, said):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "one.mp4", [picture(0)])
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "nothing").mkdir()
    assert main(["track", name, "--points", "1,1", "--model", RANDOM, "--out", "o"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


OPTIONS = {"frames": 2, "fps": None, "short_side": 32, "crop": 32, "patch": 16, "patch_stride": 16}


@pytest.fixture(scope="module")
def walker(tmp_path_factory) -> Path:
    """The folder of a run of the contrastive random walk that was not trained."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    pretext = build_pretext("contrastive_random_walk", build_backbone("dense_resnet_8", width=4), OPTIONS)
    write_weights(Run(folder), pretext)
    return folder


def weights(model: Model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.backbone.parameters()])


def test_adaptation_changes_a_copy_in_the_same_way_for_the_same_seed(walker, tmp_path):
    video = videos.mp4(tmp_path / "v.mp4", 12)
    model = load_model(str(walker))
    before = weights(model).clone()
    first, again, other = (adapt(model, video, 2, 1e-2, seed) for seed in (0, 0, 1))
    assert len(first.losses) == 2 and np.isfinite(first.losses).all()
    assert torch.equal(weights(model), before) and not torch.equal(weights(first.model), before)
    assert torch.equal(weights(first.model), weights(again.model)) and first.losses == again.losses
    assert not torch.equal(weights(first.model), weights(other.model))
    assert not first.model.backbone.training


class Brightness(Pretext):
    """Guess the mean brightness of a frame by one number, which nothing random disturbs."""

    def __init__(self, backbone):
        super().__init__(None, backbone)
        self.guess = nn.Parameter(torch.zeros(1, 1))

    @property
    def view(self):
        return View(1, 1, 16, 16)

    def sample(self, video, stats, rng):
        return Sample((0,))

    def transform(self, frames_THWC, sample, rng):
        return {"clip_THWC": frames_THWC}

    def forward(self, batch, ctx):
        loss = (self.guess - batch["clip_THWC"].float().mean() / 255).square().mean()
        return Output(loss, {}, self.guess)


class Spoiled(Brightness):
    """Its last step leaves NaN behind."""

    def after_step(self, progress):
        self.guess.data.fill_(float("nan"))


def test_every_step_of_adaptation_lowers_the_loss(folder):
    backbone = build_backbone("dense_resnet_8", width=4)
    model = Model("guess", backbone, View(1, 1, 16, 16), {}, torch.device("cpu"), Brightness(backbone))
    losses = adapt(model, folder, 8, 1e-2).losses
    assert all(after < before for before, after in pairwise(losses))


def test_an_adaptation_that_diverges_says_what_to_lower(folder):
    backbone = build_backbone("dense_resnet_8", width=4)
    model = Model("guess", backbone, View(1, 1, 16, 16), {}, torch.device("cpu"), Brightness(backbone))
    with pytest.raises(UserError, match=r"^The loss is inf at step 1 of the adaptation; use a lower --adapt-lr\.$"):
        adapt(model, folder, 3, 1e30)
    with pytest.raises(UserError, match=r"^The weights are not finite after 1 steps of adaptation; use a lower"):
        adapt(replace(model, pretext=Spoiled(backbone)), folder, 1, 1e-2)


def test_the_command_adapts_and_says_so(walker, tmp_path, capsys):
    video = videos.mp4(tmp_path / "v.mp4", 12)
    words = ["track", str(video), "--points", "9,9", "--model", str(walker), "--side", "0"]
    assert main([*words, "--adapt-steps", "2", "--out", str(tmp_path / "o")]) == 0
    assert "adapted in 2 steps" in capsys.readouterr().out


def test_a_model_without_heads_and_a_video_that_is_too_short_are_refused(walker, tmp_path):
    video = videos.mp4(tmp_path / "v.mp4", 12)
    with pytest.raises(UserError, match="no pretext to adapt by"):
        adapt(load_model(RANDOM), video, 1, 1e-3)
    pretext = build_pretext(
        "contrastive_random_walk", build_backbone("dense_resnet_8", width=4), OPTIONS | {"frames": 13}
    )
    write_weights(Run(tmp_path / "long"), pretext)
    with pytest.raises(UserError, match="shorter than the 13 frames"):
        adapt(load_model(str(tmp_path / "long")), video, 1, 1e-3)
