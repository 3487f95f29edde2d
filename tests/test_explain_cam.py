import numpy as np
import pytest
import torch
from torch import nn

from ssl_video.apps.cam_maps import Head, Maps, activation_maps, correlation, flow_magnitudes, head_of
from ssl_video.apps.cam_pictures import Painter, evidence_colours, overlay
from ssl_video.apps.options import CamOptions
from ssl_video.backbones.base import FLOW_MEAN, FLOW_STD, ClipSpec, chain
from ssl_video.cli import main
from ssl_video.datasets.spec import one_video
from ssl_video.errors import UserError
from ssl_video.model import Classifier, Model, load_model
from ssl_video.video.reader import read_frames
from ssl_video.video.view import View
from ssl_video.video.writer import Encoding, write_video
from tests.speed_run import draw_video, save, save_finetuned
from tests.test_speediness_curve import refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of two pretexts, a fine-tuned model, and a video of 20 frames."""
    folder = tmp_path_factory.mktemp("cam")
    save(folder / "speediness")
    save(folder / "arrow", "arrow_of_time", stabilise=False)
    save_finetuned(folder / "fine")
    draw_video(folder / "a.mp4", 20)
    return folder


def loaded(folder, name):
    return load_model(str(folder / name)), one_video(folder / "a.mp4")


@torch.no_grad()
def test_a_frames_map_is_the_mean_over_the_clips_that_show_it(folder):
    model, video = loaded(folder, "arrow")
    maps = activation_maps(model, video, head_of(model, video), CamOptions(short_side=16)).values_Nhw
    frames = read_frames(video.path, range(20))
    sums, counts = np.zeros(maps.shape), np.zeros(20)
    for first in range(20 - 6):
        shown = first + np.arange(0, 8, 2)
        whole = torch.nn.functional.interpolate(
            torch.from_numpy(frames[shown]).permute(0, 3, 1, 2), (16, 21), mode="bilinear", antialias=True
        )
        features = model.dense_map(whole.permute(0, 2, 3, 1)[None])
        logits = torch.einsum("dthw,d->thw", features[0], model.pretext.head.weight[0]) + model.pretext.head.bias
        assert logits.shape[0] == 2  # two cells of time, each in the middle of its two frames
        for weights, n in zip(((1, 0), (0.75, 0.25), (0.25, 0.75), (0, 1)), shown, strict=True):
            sums[n] += weights[0] * logits[0].numpy() + weights[1] * logits[1].numpy()
            counts[n] += 1
    np.testing.assert_allclose(maps, sums / counts[:, None, None], atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_mean_of_a_classifiers_maps_is_its_logit(batch_norm):
    torch.manual_seed(0)
    classifier, features = Classifier(5, ("a", "b", "c"), batch_norm=batch_norm), torch.randn(2, 5, 3, 4, 6)
    classifier(3 * features + 1)
    classifier.eval()
    assert classifier.heat_maps(features).shape == (2, 3, 3, 4, 6)
    torch.testing.assert_close(classifier.heat_maps(features).mean((2, 3, 4)), classifier(features))


def test_what_looks_slow_is_orange_and_its_name_depends_on_the_speed_of_looking(folder):
    model, video = loaded(folder, "speediness")
    features = torch.randn(1, model.backbone.feature_dim, 2, 3, 3)
    head = head_of(model, video)
    torch.testing.assert_close(head.maps(features), -model.pretext.heat_map(features))
    assert (head.cool, head.warm) == ("looks sped up", "looks normal")
    twice = head_of(model, video, speed=2.0)
    assert (twice.cool, twice.warm) == ("normal", "slowed")
    colours = evidence_colours()
    assert colours[0, 2] > 150 > colours[0, 0] and colours[-1, 0] > 200 > colours[-1, 2]


def test_the_other_heads_say_what_they_choose_between(folder):
    model, video = loaded(folder, "arrow")
    assert (head_of(model, video).cool, head_of(model, video).warm) == ("forward", "backward")
    model, video = loaded(folder, "fine")
    assert head_of(model, video, "run").warm == "run"
    logits = model.logits(torch.from_numpy(model.view.prepare(read_frames(video.path, [0, 1, 2, 3])))[None])
    assert head_of(model, video).warm == model.classifier.classes[int(logits.argmax())]  # all clips look much alike


def test_a_network_of_flow_is_shown_flow_and_every_frame_gets_a_map(folder):
    torch.manual_seed(0)
    spec = ClipSpec(frames=4, size=16, modality="flow", channels=2, mean=FLOW_MEAN, std=FLOW_STD, min_size=16)
    stem = nn.Conv3d(2, 3, (1, 4, 4), (1, 4, 4))
    backbone = chain({"stem": stem}, feature_dim=3, strides=(1, 4, 4), clip=spec)
    model = Model("flow", backbone, View(4, 1, 16, 16), {}, torch.device("cpu"))
    maps = activation_maps(model, one_video(folder / "a.mp4"), Head(lambda f: f.mean(1), "a", "b"))
    assert maps.values_Nhw.shape == (20, 4, 5) and maps.values_Nhw.std() > 0
    np.testing.assert_array_equal(maps.values_Nhw[19], maps.values_Nhw[18])


def test_frames_that_no_clip_shows_get_what_lies_between_their_neighbours(folder):
    model, video = loaded(folder, "speediness")  # frames 0, 2, 4, 6 and 9, 11, 13, 15
    maps = activation_maps(model, video, head_of(model, video), CamOptions(step=9)).values_Nhw
    np.testing.assert_allclose(maps[7], maps[6] * 2 / 3 + maps[9] / 3, atol=1e-5)
    np.testing.assert_array_equal(maps[19], maps[15])


def test_maps_of_the_centre_leave_the_sides_alone():
    frame = np.full((20, 40, 3), 100, np.uint8)
    maps = Maps(np.ones((1, 2, 2), np.float32), 1.0, 0.5)
    out = overlay(frame, maps, 0, evidence_colours(), -maps.limit)
    assert (out[:, :10] == 100).all() and (out[:, 30:] == 100).all() and (out[:, 10:30, 0] > 150).all()


def test_no_evidence_is_nearly_clear():
    frame = np.full((8, 8, 3), 100, np.uint8)
    values = np.zeros((2, 2, 2), np.float32)
    values[1] = 5
    maps = Maps(values)
    colours = evidence_colours()
    assert np.abs(overlay(frame, maps, 0, colours, -maps.limit).astype(int) - 100).max() < 20
    assert overlay(frame, maps, 1, colours, -maps.limit)[4, 4, 0] > 180


def test_flow_is_large_where_something_moves(tmp_path):
    def frames():
        texture = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1)
        for n in range(8):
            frame = np.full((96, 192, 3), 80, np.uint8)
            frame[20:68, 10 + 3 * n : 58 + 3 * n] = texture
            yield frame

    write_video(tmp_path / "a.mp4", frames(), 25, Encoding({"crf": "10"}))
    maps = flow_magnitudes(one_video(tmp_path / "a.mp4"))
    n, h, w = maps.values_Nhw.shape
    assert (n, h, w) == (8, 24, 48)
    left, right = maps.values_Nhw[3, 6:16, 6:14].mean(), maps.values_Nhw[3, :, 32:].mean()
    assert left == pytest.approx(3 * 25 / 96, rel=0.3) and right < 0.1 * left


def test_correlation_is_one_with_itself_and_nothing_with_a_constant():
    a = Maps(np.random.default_rng(0).normal(size=(4, 3, 5)))
    finer = Maps(a.values_Nhw.repeat(2, 1).repeat(2, 2))
    assert correlation(a, finer) == pytest.approx(1)
    assert correlation(a, Maps(-finer.values_Nhw)) == pytest.approx(-1)
    assert correlation(a, Maps(np.ones((4, 6, 10)))) == 0


def test_the_painter_draws_the_frame_and_a_picture_for_each_map():
    frame = np.full((8, 8, 3), 100, np.uint8)
    one, two = Maps(np.ones((1, 2, 2))), Maps(np.ones((1, 3, 3)))
    assert len(Painter(one, None)(frame, 0)) == 2 and len(Painter(one, two)(frame, 0)) == 3


@pytest.mark.parametrize("name", ["speediness", "arrow", "fine"])
def test_the_command_writes_a_video_and_a_sheet(folder, tmp_path, capsys, name):
    words = ["explain", "cam", str(folder / "a.mp4"), "--model", str(folder / name), "--out", str(tmp_path)]
    assert main([*words, *(["--flow", "farneback"] if name == "speediness" else []), "--columns", "3"]) == 0
    said = capsys.readouterr().out
    assert "20 maps of" in said and ("correlation with the magnitude" in said) == (name == "speediness")
    shown = one_video(tmp_path / "a_cam.mp4")
    assert shown.info.width == 64 * (3 if name == "speediness" else 2)
    assert shown.frames == 20 and (tmp_path / "a_cam.png").stat().st_size > 1000


def test_more_columns_than_frames_show_every_frame_once(folder, tmp_path):
    draw_video(tmp_path / "b.mp4", 7)
    words = ["explain", "cam", str(tmp_path / "b.mp4"), "--model", str(folder / "speediness"), "--out", str(tmp_path)]
    assert main([*words, "--columns", "9"]) == 0


def test_bad_input_is_one_sentence(folder, tmp_path, capsys):
    run, video = folder / "speediness", folder / "a.mp4"
    (tmp_path / "empty.mp4").touch()
    for words, answer in (
        ((video, "--model", "random:r2plus1d_4"), "says where a clip speaks for which answer"),
        ((video, "--model", run, "--class", "run"), "has no classes"),
        ((video, "--model", folder / "fine", "--class", "rum"), "did you mean 'run'"),
        ((tmp_path / "empty.mp4", "--model", run), "cannot be used"),
        ((tmp_path / "no.mp4", "--model", run), "There is no video file"),
        ((video, "--model", run, "--flow", "farnback"), "did you mean 'farneback'"),
        ((video, "--model", run, "--speed", 0.5), "--speed must be a number from 1 to 16"),
        ((video, "--model", run, "--speed", 4), "has 20 frames, but"),
        ((video, "--model", run, "--short-side", 4), "at least 16 pixels"),
    ):
        assert answer in refused(capsys, "explain", "cam", *words)
    with pytest.raises(UserError, match="needs two"):
        flow_magnitudes(one_video(draw_video(tmp_path / "one.mp4", 1)))
