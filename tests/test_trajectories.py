"""Improved trajectories: Fisher vectors against their definition, histograms, tracks, and the encoder as a whole."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_video.cli import main
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.encoders.base import ENCODERS, Encoder, build_encoder
from ssl_video.encoders.descriptors import BINS, BLOCK, describe, integral, orientations
from ssl_video.encoders.fisher import Mixture, fisher_vector, fit_mixture, normalise
from ssl_video.encoders.tracks import TrackConfig, Trajectories, moving, track, without_camera
from ssl_video.errors import UserError
from ssl_video.eval.base import EVALUATIONS, Task, evaluate
from ssl_video.model import load_model, load_model_or_encoder
from ssl_video.video.children import Children
from ssl_video.video.info import VideoInfo
from ssl_video.video.writer import write_video
from tests.test_flow import texture

# ---- Fisher vectors


@pytest.fixture(scope="module")
def clusters():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(m, s, (300, 6)) for m, s in ((0, 1), (6, 0.5), (-5, 2))])


def plain(dimensions: int, components: int) -> Mixture:
    """A mixture of random Gaussians without a projection."""
    rng = np.random.default_rng(1)
    weights, shape = rng.dirichlet(np.ones(components)), (components, dimensions)
    eye = np.eye(dimensions)
    return Mixture(np.zeros(dimensions), eye, weights, rng.normal(size=shape), rng.uniform(0.5, 2, shape))


def test_a_fisher_vector_is_the_gradient_of_the_log_likelihood():
    mixture = plain(4, 3)
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(50, 4)))
    means = torch.tensor(mixture.means_KD, requires_grad=True)
    deviations = torch.tensor(mixture.deviations_KD, requires_grad=True)
    gaussians = torch.distributions.Independent(torch.distributions.Normal(means, deviations), 1)
    chosen = torch.distributions.Categorical(torch.from_numpy(mixture.weights_K))
    torch.distributions.MixtureSameFamily(chosen, gaussians).log_prob(x).mean().backward()
    assert means.grad is not None and deviations.grad is not None
    # the Fisher information of a mean is w / s^2, that of a deviation 2 w / s^2
    root = mixture.deviations_KD / np.sqrt(mixture.weights_K)[:, None]
    expected = [means.grad.numpy() * root, deviations.grad.numpy() * root / np.sqrt(2)]
    assert np.allclose(fisher_vector(x.numpy(), mixture), np.concatenate([e.ravel() for e in expected]), atol=1e-10)


def test_posteriors_are_those_of_the_definition():
    mixture, x = plain(4, 3), np.random.default_rng(2).normal(size=(7, 4))
    for row, found in zip(x, mixture.posteriors(x), strict=True):
        densities = [
            w * np.prod(np.exp(-((row - m) ** 2) / (2 * s**2)) / s)
            for w, m, s in zip(mixture.weights_K, mixture.means_KD, mixture.deviations_KD, strict=True)
        ]
        assert np.allclose(found, np.array(densities) / sum(densities))


def test_the_mean_fisher_vector_of_the_fitted_data_is_zero(clusters):
    mixture = fit_mixture(clusters, 6, 3, seed=0)
    assert np.sort(mixture.weights_K).tolist() == pytest.approx([1 / 3] * 3, abs=0.02)
    fitted, other = (fisher_vector(mixture.project(x), mixture) for x in (clusters, clusters + 1))
    assert np.abs(fitted).max() < 0.01 < 0.3 < np.abs(other).max()


def test_many_descriptors_in_parts_are_all_of_them(clusters):
    mixture = fit_mixture(clusters, 4, 2, seed=0)
    x = mixture.project(np.tile(clusters, (10, 1)))
    halves = (fisher_vector(x[:5000], mixture) * 5000 + fisher_vector(x[5000:], mixture) * 4000) / 9000
    assert np.allclose(fisher_vector(x, mixture), halves, atol=1e-6)


def test_normalising_takes_signed_roots_and_length_one():
    assert np.allclose(normalise(np.array([4.0, -9.0, 0.0])), np.array([2, -3, 0]) / np.sqrt(13))
    assert not normalise(fisher_vector(np.zeros((0, 4)), plain(4, 3))).any()


# ---- histograms


@pytest.mark.parametrize("bin", range(8))
def test_a_direction_falls_into_its_bin(bin):
    angle = 2 * np.pi * bin / 8
    dx, dy = (np.full((6, 8), 3 * f(angle), np.float32) for f in (np.cos, np.sin))
    found = orientations(dx, dy, 8)
    assert found.shape == (3, 4, 8)
    assert np.allclose(found, 3 * BLOCK**2 * np.eye(8)[bin], atol=0.1)


def test_a_direction_between_two_bins_is_shared_by_nearness():
    angle = 2 * np.pi * 7.25 / 8  # between the last bin and the first
    dx, dy = (np.full((2, 2), f(angle), np.float32) for f in (np.cos, np.sin))
    assert np.allclose(orientations(dx, dy, 8)[0, 0] / BLOCK**2, [0.25, 0, 0, 0, 0, 0, 0, 0.75], atol=0.01)


def test_pixels_that_stand_still_are_counted_in_a_bin_of_their_own():
    dx = np.array([[0.1, 2.0], [0.0, 0.3]], np.float32)
    assert np.allclose(orientations(dx, np.zeros_like(dx), 8, still=0.4)[0, 0], [2, 0, 0, 0, 0, 0, 0, 0, 3])


def test_a_descriptor_is_that_of_a_slow_count_around_the_track():
    rng = np.random.default_rng(0)
    grays = rng.uniform(0, 255, (6, 50, 60)).astype(np.float32)
    flows = rng.normal(0, 2, (6, 50, 60, 2)).astype(np.float32)
    points = np.array([[(30 + 2 * n, 24 - 2 * n) for n in range(6)], [(59, 0)] * 6])  # the second: at a corner
    found = describe([integral(g, f) for g, f in zip(grays, flows, strict=True)], points)
    assert {name: d.shape for name, d in found.items()} == {n: (2, 12 * b) for n, b in BINS.items()}
    for row, places in enumerate(([(30 + 2 * n - 16, 24 - 2 * n - 16) for n in range(6)], [(28, 0)] * 6)):
        expected = np.zeros((3, 2, 2, 8))
        for n, (left, top) in enumerate(places):
            left, top = max(left, 0), max(top, 0)
            gray = np.pad(grays[n].astype(np.float64), 1, mode="reflect")
            dx, dy = gray[1:-1, 2:] - gray[1:-1, :-2], gray[2:, 1:-1] - gray[:-2, 1:-1]
            for y in range(top, top + 32):
                for x in range(left, left + 32):
                    place = np.arctan2(dy[y, x], dx[y, x]) / (2 * np.pi) * 8 % 8
                    cell = expected[n // 2, (y - top) // 16, (x - left) // 16]
                    cell[int(place) % 8] += np.hypot(dx[y, x], dy[y, x]) * (1 - place % 1)
                    cell[int(place + 1) % 8] += np.hypot(dx[y, x], dy[y, x]) * (place % 1)
        assert np.allclose(found["hog"][row], np.sqrt(expected / expected.sum()).ravel(), atol=2e-3)


# ---- tracks


def panned(count: int = 20, dx: int = 2, dy: int = 1) -> np.ndarray:
    """A window that moves over a large still picture, as a camera does."""
    large = texture(200, 240)
    return np.stack([large[10 + dy * n :, 20 + dx * n :][:96, :128] for n in range(count)])


def with_square(frames: np.ndarray) -> np.ndarray:
    """A textured square that moves over the frames by 3 pixels a frame."""
    frames, square = frames.copy(), 255 - texture(40, 40)
    for n, frame in enumerate(frames):
        frame[30:70, 10 + 3 * n : 50 + 3 * n] = square
    return frames


SMALL = TrackConfig(short_side=96, scales=2)


def test_a_camera_that_pans_over_a_still_scene_leaves_almost_no_tracks():
    kept, all_tracks = (len(track(panned(), TrackConfig(96, 2, camera=c)).starts_P) for c in (True, False))
    assert kept < 0.02 * all_tracks and all_tracks > 300


@pytest.mark.parametrize("dx", [0, 2], ids=["still", "panning"])
def test_a_moving_square_is_tracked_and_nothing_else(dx):
    found = track(with_square(panned(dx=dx, dy=0)), SMALL)
    x_PL, y_PL = found.points_PL2[..., 0], found.points_PL2[..., 1]
    off_PL = np.maximum(np.abs(x_PL - 30 - 3 * (found.starts_P[:, None] + np.arange(16))), np.abs(y_PL - 50))
    assert len(off_PL) > 100 and (off_PL.min(1) < 28).mean() > 0.99  # the square and a border: flow is smooth
    steps = np.diff(found.points_PL2[off_PL[:, 0] < 10], axis=1)
    assert len(steps) > 10 and np.allclose(np.median(steps, axis=(0, 1)), [3, 0], atol=0.1)


def test_a_still_video_has_no_tracks():
    found = track(panned(dx=0, dy=0), SMALL)
    assert len(found.starts_P) == 0 and {n: d.shape for n, d in found.descriptors.items()} == {
        "trajectory": (0, 30), "hog": (0, 96), "hof": (0, 108), "mbhx": (0, 96), "mbhy": (0, 96)
    }  # fmt: skip


def test_no_frame_and_one_frame_have_no_tracks():
    assert len(track([], SMALL).starts_P) == len(track(panned(1), SMALL).starts_P) == 0


def test_the_shape_of_a_track_is_its_steps_over_their_length():
    found = track(with_square(panned(dx=0, dy=0)), SMALL)
    steps = found.descriptors["trajectory"].astype(float).reshape(-1, 15, 2)
    assert np.allclose(np.linalg.norm(steps, axis=2).sum(1), 1, atol=0.01)
    assert np.allclose(np.median(steps, axis=(0, 1)), [1 / 15, 0], atol=0.005)


def test_what_the_camera_adds_to_the_flow_is_removed():
    h, w = 60, 80
    y, x = np.mgrid[:h, :w].astype(np.float32)
    zoom = np.stack([0.03 * (x - 40) + 1, 0.03 * (y - 30) - 2], -1)
    own = np.zeros((h, w, 2), np.float32)
    own[20:30, 30:45] = (4, 1)
    gray = texture(64, 80)[:h, :, 0].copy()
    found = without_camera(gray, zoom + own * 1.03)
    assert np.allclose(found, own, atol=0.1)


def test_tracks_that_no_object_makes_are_left_out():
    steps = np.zeros((5, 15, 2))
    steps[0] += (3, 0)  # an object
    steps[1] += 0.05  # stands still
    steps[2] += (15, 0)  # crosses the picture
    steps[3, 7] = (25, 0)  # jumps once
    steps[4] += (3, 0)  # moves with the camera
    own = steps.copy()
    own[4] = 0.5
    points = np.concatenate([np.zeros((5, 1, 2)), steps.cumsum(1)], axis=1)
    assert moving(points, own, 240).tolist() == [True, False, False, False, False]
    assert moving(points / 2, own / 2, 120).tolist() == [True, False, False, False, False]


def test_at_most_so_many_tracks_are_kept_and_they_are_among_all():
    frames = with_square(panned(dx=0, dy=0))
    every = track(frames, SMALL)
    some = track(frames, TrackConfig(96, 2, at_most=15))
    assert len(some.starts_P) == 15 < len(every.starts_P)
    rows = {tuple(p.ravel()) for p in every.points_PL2}
    assert all(tuple(p.ravel()) in rows for p in some.points_PL2)


# ---- the encoder


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Squares that move right (class 0) or down (class 1), and a file that is no video."""
    folder = tmp_path_factory.mktemp("clips")
    info = VideoInfo(18, 25.0, 128, 96, 0.72, "h264")
    made = []
    for n in range(6):
        frames = with_square(panned(18, 0, 0))
        frames = frames if n % 2 == 0 else np.ascontiguousarray(frames.transpose(0, 2, 1, 3))
        frames = np.roll(frames, 4 * n, (1, 2)[n % 2])
        write_video(folder / f"{n}.mp4", frames)
        made.append(Video(str(folder / f"{n}.mp4"), (n % 2,), info=info))
    (folder / "bad.mp4").write_text("no video")
    return (*made, Video(str(folder / "bad.mp4"), (0,), info=info))


@pytest.fixture(scope="module")
def task(clips):
    classes = ("right", "down")
    return Task("clips", 1, VideoSet("train", clips[:4], classes), VideoSet("test", clips[4:], classes), workers=1)


SPEC = "improved-trajectories?gmm=4&short_side=96&scales=1"


@pytest.fixture(scope="module")
def encoder(task):
    encoder = build_encoder(SPEC)
    encoder.fit(task.train, 1)
    return encoder


def test_the_encoder_gives_a_vector_a_video_and_names_those_it_could_not_read(encoder, task, clips):
    found = encoder.encode(task.test, 1)
    assert found.videos == list(clips[4:6]) and [p.path for p in found.problems] == [clips[6].path]
    assert found.features_ND.shape == (2, 2 * 4 * (15 + 48 + 54 + 48 + 48)) and found.features_ND.dtype == np.float32
    assert np.allclose(np.linalg.norm(found.features_ND, axis=1), np.sqrt(5), atol=1e-4)


def test_the_encoder_repeats_and_computes_a_video_once(encoder, task, monkeypatch):
    again = build_encoder(SPEC)
    monkeypatch.setattr(Children, "request", lambda *_: pytest.fail("nothing is left to compute"))
    again.fit(task.train, 1)
    assert np.array_equal(again.encode(task.train, 1).features_ND, encoder.encode(task.train, 1).features_ND)


@pytest.mark.parametrize("protocol", ["svm", "linear", "knn", "retrieval"])
def test_protocols_measure_an_encoder(encoder, task, protocol):
    result = evaluate(protocol, encoder, task)
    assert result.preset == ("trajectories" if protocol == "svm" else "default")
    assert result.model == SPEC and result.metrics[{"retrieval": "recall@1"}.get(protocol, "top1")] == 1.0
    assert len(result.skipped) == 1 and not result.transductive


def test_what_an_encoder_cannot_do_is_refused_in_one_sentence(encoder, task):
    with pytest.raises(UserError, match=r"pretext measures networks, and .* is an encoder; encoders go with .*svm"):
        evaluate("pretext", encoder, task)
    with pytest.raises(UserError, match="sees whole videos"):
        evaluate("linear", encoder, task, options={"still": True})
    with pytest.raises(UserError, match="is an encoder, not a network"):
        load_model(SPEC)
    with pytest.raises(UserError, match="did you mean 'gmm'"):
        build_encoder("improved-trajectories?gnm=4")
    with pytest.raises(UserError, match="step must be a whole number of 1 or more"):
        build_encoder("improved-trajectories?step=0")


def test_a_training_list_without_motion_is_refused(tmp_path):
    write_video(tmp_path / "still.mp4", panned(18, 0, 0))
    video = Video(str(tmp_path / "still.mp4"), (0,), info=VideoInfo(18, 25.0, 128, 96, 0.72, "h264"))
    with pytest.raises(UserError, match="have no trajectories"):
        build_encoder(SPEC).fit(VideoSet("still", (video,)), 1)


def test_names_lead_to_encoders_and_to_models():
    assert all(isinstance(load_model_or_encoder(name), Encoder) for name in ENCODERS.names())
    assert not isinstance(load_model_or_encoder("random:r2plus1d_4"), Encoder)


def test_the_command_measures_an_encoder(clips, tmp_path, capsys):
    lines = ["path,label,split"] + [f"{v.path},c{v.label},{'test' if n > 3 else 'train'}" for n, v in enumerate(clips)]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    words = [
        "evaluate",
        "svm",
        "--model",
        SPEC,
        "--data",
        str(tmp_path / "list.csv"),
        "--out",
        str(tmp_path / "r.json"),
    ]
    assert main(words) == 0
    (result,) = json.loads(Path(tmp_path / "r.json").read_text())
    assert result["options"]["c"] == 100.0 and result["metrics"]["top1"] == 1.0
    assert "videos were left out" in capsys.readouterr().out


def test_every_evaluation_says_whether_it_takes_encoders():
    assert {n for n in EVALUATIONS.names() if EVALUATIONS[n].takes_encoders} >= {"linear", "knn", "retrieval", "svm"}
    assert isinstance(Trajectories(np.zeros((0, 16, 2)), np.zeros(0), {}).descriptors, dict)
