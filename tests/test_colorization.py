import math
import sys

import numpy as np
import pytest
import torch

from ssl_video.backbones.base import build_backbone
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.eval.classification import Classification, ClassificationConfig
from ssl_video.model import load_model
from ssl_video.pretexts.base import Context, Progress, Redraw, Sample, Skip, View, build_pretext
from ssl_video.pretexts.colorization import (
    cluster,
    colour_loss,
    colour_spread,
    colours_of,
    nearest_colour,
    pointer,
    regression_loss,
    with_location,
)
from ssl_video.pretraining import write_weights
from ssl_video.run import Run
from ssl_video.train.data import ClipDataset, samples_to_fit
from ssl_video.video.colours import LUMINANCE, in_colours, rgb_to_lab
from ssl_video.video.info import VideoInfo
from tests.nets import drawn_frames, tiny_backbone, video_set

OPTIONS = {"references": 2, "fps": 5.0, "colours": 4, "embedding": 6, "dilations": [], "short_side": 16, "crop": 16}
PALETTE = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40))


def make(**options):
    torch.manual_seed(2)
    return build_pretext("colorization", tiny_backbone(), OPTIONS | options)


def video_of(frames: int, fps: float = 25.0) -> Video:
    return Video("v.mp4", info=VideoInfo(frames, fps, 16, 16, frames / fps, "h264"))


def context(seed=0):
    return Context(Progress(0, 1), torch.Generator().manual_seed(seed))


def blocks(seed: int, frames: int = 3, size: int = 16) -> np.ndarray:
    """A picture of coloured squares of 8 pixels, moving by one square from frame to frame."""
    squares = np.random.default_rng(seed).integers(0, 4, (size // 8, size // 8))
    shifted = np.stack([np.roll(squares, t, 1) for t in range(frames)])
    return np.array(PALETTE, np.uint8)[shifted].repeat(8, 1).repeat(8, 2)


def batch_of(*clips) -> dict[str, torch.Tensor]:
    return {"clip_THWC": torch.from_numpy(np.stack(clips))}


def read_blocks(video, frames, each=None):
    """Coloured squares for every video but the one that is numbered 0, which is gray."""
    number = int(video.path.rsplit("/", 1)[1].split(".")[0])
    return blocks(number, len(frames)) if number else np.repeat(drawn_frames(video, frames)[..., :1], 3, 3)


# sampling


def test_frames_are_taken_at_the_rate_asked_for_whatever_the_rate_of_the_file():
    for fps, step in ((25.0, 5), (50.0, 10), (5.0, 1)):
        sample = make().sample(video_of(60, fps), {}, np.random.default_rng(1))
        assert isinstance(sample, Sample)
        assert np.diff(sample.frames).tolist() == [step, step]


def test_a_file_slower_than_the_rate_gives_frames_that_follow_each_other_and_none_twice():
    sample = make().sample(video_of(60, 2.0), {}, np.random.default_rng(1))
    assert isinstance(sample, Sample)
    assert np.diff(sample.frames).tolist() == [1, 1]


def test_the_published_sample_spans_13_frames_of_25_a_second_and_shorter_videos_are_skipped():
    pretext = build_pretext("colorization", tiny_backbone(), {})
    assert isinstance(pretext.sample(video_of(13), {}, np.random.default_rng(0)), Sample)
    outcome = pretext.sample(video_of(12), {}, np.random.default_rng(0))
    assert isinstance(outcome, Skip) and "13 frames" in outcome.reason


def test_all_frames_have_one_crop_and_one_flip():
    pretext = make(short_side=20)
    picture_HWC = np.random.default_rng(0).integers(0, 256, (20, 28, 3), dtype=np.uint8)
    seen = set()
    for seed in range(8):
        clip = pretext.transform(np.repeat(picture_HWC[None], 3, 0), Sample((0, 1, 2)), np.random.default_rng(seed))
        assert isinstance(clip, dict) and clip["clip_THWC"].shape == (3, 16, 16, 3)
        assert (clip["clip_THWC"] == clip["clip_THWC"][0]).all()
        seen.add(clip["clip_THWC"][0].tobytes())
    assert len(seen) > 4


@pytest.mark.parametrize("tint", [(1.0, 1.0, 1.0), (1.0, 0.9, 0.7)])
def test_gray_and_tinted_frames_are_refused_with_a_reason(tint):
    tone_THW1 = np.linspace(120, 180, 3 * 16 * 16).reshape(3, 16, 16, 1)
    frames_THWC = (tone_THW1 * np.array(tint)).astype(np.uint8)
    outcome = make(min_colour=5.0).transform(frames_THWC, Sample((0, 1, 2)), np.random.default_rng(0))
    assert isinstance(outcome, Redraw) and "colours" in outcome.reason


def test_a_gray_video_is_counted_and_another_one_takes_its_place():
    dataset = ClipDataset(video_set(3), make(), seed=0, read=read_blocks)
    item = dataset[(0, 0, 0)]
    assert {p.path for p in item["problems"]} == {"/v/class0/0.mp4"}
    assert all("colours" in p.reason for p in item["problems"])
    assert colour_spread(torch.from_numpy(item["clip_THWC"])) > 5


# colours


def test_lab_is_that_of_opencv_as_far_as_its_tables_go():
    cv2 = pytest.importorskip("cv2")
    rgb_NHC = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    rgb_NHC[0, :16] = np.arange(16)[:, None]  # dark grays, where the curve is a straight line
    theirs = cv2.cvtColor(rgb_NHC.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    ours = rgb_to_lab(torch.from_numpy(rgb_NHC)).numpy()
    assert np.abs(ours - theirs).max() < 0.5 and np.abs(ours - theirs).mean() < 0.1


def test_lab_of_known_colours():
    """L, a, b of the primaries as Lindbloom's calculator gives them for sRGB and D65, to two digits."""
    rgb = torch.tensor([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [119, 119, 119]])
    lab = rgb_to_lab(rgb.double())
    expected = [[0, 0, 0], [100, 0, 0], [53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86]]
    assert torch.allclose(lab[:5], torch.tensor(expected, dtype=torch.float64), atol=0.03)
    assert lab[5, 1:].abs().max() < 1e-3


def test_gray_and_lab_input_are_the_same_under_autocast():
    clip = torch.from_numpy(blocks(1))[None]
    for colours in ("gray", "lab"):
        expected = in_colours(clip, colours)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(in_colours(clip, colours), expected)


def test_the_colour_of_a_cell_is_that_of_its_mean_rgb():
    clip = torch.randint(0, 256, (2, 3, 8, 12, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    ab = colours_of(clip, (2, 3))
    mean = clip[1, 2, 4:8, 8:12].double().mean((0, 1))
    assert torch.allclose(ab[1, 2, 1, 2].double(), rgb_to_lab(mean)[1:], atol=1e-3)


def test_the_network_sees_gray_frames_with_three_equal_channels(monkeypatch):
    pretext = make()
    shown = []
    forward = pretext.backbone.forward
    monkeypatch.setattr(pretext.backbone, "forward", lambda x: shown.append(x) or forward(x))
    clip = blocks(3)
    pretext(batch_of(clip), context())
    spec = pretext.backbone.clip
    gray_THW = clip.astype(np.float64) @ np.array(LUMINANCE) / 255
    for channel in range(3):
        expected = (gray_THW - spec.mean[channel]) / spec.std[channel]
        assert np.allclose(shown[0][0, channel].numpy(), expected, atol=1e-5)


# clusters


def test_fitted_clusters_are_the_colours_of_the_training_videos_and_are_saved():
    pretext = make()
    dataset = ClipDataset(video_set(6), pretext, seed=0, read=read_blocks)
    pretext.fit(samples_to_fit(dataset), np.random.default_rng(0))
    expected = rgb_to_lab(torch.tensor(PALETTE))[:, 1:]
    found = pretext.state_dict()["centroids_K2"]
    assert torch.cdist(expected, found).min(1).values.max() < 0.1
    assert len(set(nearest_colour(expected, found).tolist())) == 4


def test_no_more_videos_are_read_for_the_clusters_than_asked_for():
    pretext = make(fit_videos=2)
    taken = []

    def samples():
        for number in range(9):
            taken.append(number)
            yield {"clip_THWC": blocks(number)}

    pretext.fit(samples(), np.random.default_rng(0))
    assert taken == [0, 1]


def test_fewer_colours_than_clusters_leave_clusters_that_are_never_named():
    ab = np.array([[10.0, 0.0], [0.0, 10.0], [10.0, 0.0]])
    centroids = torch.from_numpy(cluster(ab, 5, np.random.default_rng(0)))
    assert centroids.shape == (5, 2) and torch.isfinite(centroids).all()
    many = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)) * 20
    assert set(nearest_colour(many, centroids).tolist()) == {0, 1}


def test_clusters_are_repeatable_distinct_and_none_is_empty():
    ab = np.random.default_rng(0).normal(0, 20, (3000, 2))
    centroids, again = (cluster(ab, 16, np.random.default_rng(1)) for _ in range(2))
    assert (centroids == again).all() and len(np.unique(centroids, axis=0)) == 16
    assert len(nearest_colour(torch.from_numpy(ab), torch.from_numpy(centroids)).unique()) == 16


# pointer and loss


def slow_loss(references_BID, target_BJD, references_BI, target_BJ, temperature):
    """Equations 1 to 3, place by place."""
    total = 0.0
    for b in range(len(references_BI)):
        losses = []
        for j, right in enumerate(target_BJ[b].tolist()):
            scores = [math.exp(f @ target_BJD[b, j] / temperature) for f in references_BID[b]]
            y = sum(s for s, c in zip(scores, references_BI[b].tolist(), strict=True) if c == right) / sum(scores)
            if y > 0:
                losses.append(-math.log(y))
        total += sum(losses) / max(len(losses), 1)
    return total / len(references_BI)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_loss_is_that_of_the_obvious_loop_over_places(temperature):
    g = torch.Generator().manual_seed(0)
    references, target = (torch.randn(3, n, 4, generator=g, dtype=torch.float64) for n in (12, 5))
    classes_BI, classes_BJ = torch.randint(0, 3, (3, 12), generator=g), torch.randint(0, 5, (3, 5), generator=g)
    loss = colour_loss(pointer(references, target, temperature), classes_BI, classes_BJ)
    expected = slow_loss(references, target, classes_BI, classes_BJ, temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_a_perfect_pointer_has_no_loss():
    """The cross-entropy of probabilities taken for logits would be ln(1 + 15/e) = 1.874 here."""
    g = torch.Generator().manual_seed(0)
    classes_BI = torch.cat([torch.arange(16), torch.randint(0, 16, (32,), generator=g)])[None]
    classes_BJ = torch.randint(0, 16, (1, 20), generator=g)
    logits_BJI = 40.0 * (classes_BJ[:, :, None] == classes_BI[:, None])
    assert 0 <= colour_loss(logits_BJI, classes_BI, classes_BJ) < 1e-6


def test_a_pointer_that_is_surely_wrong_has_a_gradient():
    logits = torch.tensor([[[200.0, 0.0]]], requires_grad=True)
    loss = colour_loss(logits, torch.tensor([[0, 1]]), torch.tensor([[1]]))
    loss.backward()
    assert loss.item() == pytest.approx(200)
    assert logits.grad is not None and logits.grad[0, 0].tolist() == pytest.approx([1, -1])


def test_places_whose_colour_no_reference_has_do_not_count():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 4, 6, generator=g, dtype=torch.float64)
    classes_BI = torch.tensor([[0, 0, 1, 1, 2, 2]])
    some = colour_loss(logits, classes_BI, torch.tensor([[0, 1, 5, 5]]))
    alone = colour_loss(logits[:, :2], classes_BI, torch.tensor([[0, 1]]))
    assert torch.equal(some, alone)


def test_a_clip_without_a_colour_to_copy_has_a_loss_of_zero_and_a_finite_gradient():
    logits = torch.randn(1, 2, 3, requires_grad=True, generator=torch.Generator().manual_seed(0))
    loss = colour_loss(logits, torch.tensor([[0, 0, 1]]), torch.tensor([[2, 3]]))
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and not logits.grad.any()


def test_the_temperature_is_that_of_the_options_in_training_and_a_half_at_test(monkeypatch):
    seen = []
    module = sys.modules[type(make()).__module__]
    monkeypatch.setattr(module, "pointer", lambda r, t, temperature: seen.append(temperature) or pointer(r, t, 1.0))
    pretext = make(temperature=0.8)
    pretext.train()(batch_of(blocks(1)), context())
    pretext.eval()(batch_of(blocks(1)), context())
    assert seen == [0.8, 0.5]


def test_the_head_gets_x_and_y_of_every_cell():
    with_xy = with_location(torch.zeros(2, 3, 2, 3, 5))
    assert with_xy.shape == (2, 5, 2, 3, 5)
    assert with_xy[1, 3, 1, 2].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert with_xy[1, 4, 1, :, 3].tolist() == [-1, 0, 1]


def test_the_dilated_head_keeps_the_map_and_its_time():
    pretext = make(dilations=[1, 2], channels=5)
    assert pretext.head(torch.zeros(2, 10, 3, 8, 8)).shape == (2, 6, 3, 8, 8)


# metrics


def test_metrics_count_pointer_copying_in_place_and_the_commonest_colour():
    """Squares that move by one: the last reference is wrong where neighbours differ."""
    pretext = make().eval()
    pretext.centroids_K2.copy_(rgb_to_lab(torch.tensor(PALETTE))[:, 1:])
    clip = blocks(1)
    squares = (clip[:, ::2, ::2, None] == np.array(PALETTE)).all(-1).argmax(-1).reshape(3, -1)  # cells of 2 pixels
    metrics = pretext(batch_of(clip), context()).metrics
    assert metrics["accuracy_copy"].item() == pytest.approx((squares[1] == squares[2]).mean())
    commonest = np.bincount(squares[:2].ravel()).argmax()
    assert metrics["accuracy_majority"].item() == pytest.approx((squares[2] == commonest).mean())
    assert metrics["copyable"].item() == 1
    assert 0.2 < metrics["accuracy_copy"] < 0.9


def test_training_on_one_clip_beats_copying_in_place():
    pretext = make().train()
    pretext.centroids_K2.copy_(rgb_to_lab(torch.tensor(PALETTE))[:, 1:])
    optimizer = torch.optim.Adam(pretext.parameters(), 0.02)
    batch, losses, output = batch_of(blocks(1), blocks(2)), [], None
    for _ in range(60):
        output = pretext(batch, context())
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
    assert output is not None and losses[-1] < 0.2 * losses[0]
    assert output.metrics["accuracy"] > output.metrics["accuracy_copy"]


def test_colorize_gives_each_cell_a_mean_of_the_reference_colours():
    pretext = make().eval()
    clip = torch.from_numpy(blocks(1))[None]
    ab = pretext.colorize(clip)
    logits, _, true_BTP2 = pretext._point(clip, torch.ones(1, 2, dtype=torch.bool))
    references_I2 = true_BTP2[0, :-1].flatten(0, 1)
    expected = sum((w * c for w, c in zip(logits[0, 10].softmax(0), references_I2, strict=True)), torch.zeros(2))
    assert ab.shape == (1, 8, 8, 2)
    assert torch.allclose(ab[0, 1, 2], expected, atol=1e-4)


# MAST's training


@pytest.mark.parametrize("training", [True, False])
def test_lab_dropout_leaves_out_a_or_b_of_whole_clips_and_stretches_the_rest(monkeypatch, training):
    pretext = make(lab_dropout=True).train(training)
    shown = []
    forward = pretext.backbone.forward
    monkeypatch.setattr(pretext.backbone, "forward", lambda x: shown.append(x) or forward(x))
    clip = blocks(3)
    pretext(batch_of(*[clip] * 40), context())
    lab_THWC = rgb_to_lab(torch.from_numpy(clip).double())
    signed_THWC = (lab_THWC - torch.tensor([50.0, 0, 0])) / torch.tensor([50.0, 127, 127])  # what MAST's network sees
    gone = set()
    for seen_CTHW in shown[0]:
        expected = []
        for lost in (1, 2):
            kept_THWC = signed_THWC.clone()
            kept_THWC[..., lost] = 0
            code_THWC = 1.5 * kept_THWC * torch.tensor([127.5, 127, 127]) + torch.tensor([127.5, 128, 128])
            spec = pretext.backbone.clip
            pixels_THWC = (code_THWC / 255 - torch.tensor(spec.mean)) / torch.tensor(spec.std)
            expected.append(pixels_THWC.permute(3, 0, 1, 2).float())
        fits = [torch.allclose(seen_CTHW, one_CTHW, atol=1e-4) for one_CTHW in expected]
        assert sum(fits) == 1
        gone.add(fits.index(True))
    assert gone == {0, 1}


def test_the_loss_of_lab_dropout_is_of_the_channel_that_was_left_out():
    pretext = make(lab_dropout=True)
    missing_B2 = pretext._missing(200, context())
    assert (missing_B2.sum(1) == 1).all() and 70 < int(missing_B2[:, 0].sum()) < 130
    assert make()._missing(3, context()).all()  # gray has neither


def test_the_regression_counts_only_what_was_left_out():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, generator=g, dtype=torch.float64)
    ab_BI2, ab_BJ2 = (20 * torch.randn(2, n, 2, generator=g, dtype=torch.float64) for n in (5, 3))
    missing = torch.tensor([[True, False], [True, True]])
    total = 0.0
    for b in range(2):
        losses = []
        for channel in (0, 1):
            for j in range(3):
                copied = sum(logits[b, j].softmax(0)[i] * ab_BI2[b, i, channel] for i in range(5))
                error = abs(copied - ab_BJ2[b, j, channel]).item() * 20 / 127
                if missing[b, channel]:
                    losses.append(error**2 / 2 if error < 1 else error - 0.5)
        total += sum(losses) / len(losses) / 2
    assert regression_loss(logits, ab_BI2, ab_BJ2, missing).item() == pytest.approx(total, rel=1e-12)


def test_lab_dropout_trains_all_weights_and_lets_evaluations_see_lab():
    pretext = make(lab_dropout=True).train()
    pretext(batch_of(blocks(1), blocks(2)), context()).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pretext.parameters() if p.ndim > 1)
    assert pretext.view.colours == "lab" and make().view.colours == "gray"


# evaluations


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    backbone = build_backbone("dense_resnet_8", width=4)
    pretext = build_pretext("colorization", backbone, OPTIONS | {"short_side": 32, "crop": 32})
    pretext.centroids_K2.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]))
    write_weights(Run(tmp_path), pretext)
    return tmp_path


def test_a_loaded_run_shows_gray_to_its_network(run):
    model = load_model(str(run))
    assert model.view.colours == "gray"
    colour = torch.from_numpy(blocks(1, 3, 32))[None]
    gray = (colour.double() @ torch.tensor(LUMINANCE, dtype=torch.float64)).round().to(torch.uint8)
    same = model.dense_map(colour) - model.dense_map(gray[..., None].repeat(1, 1, 1, 1, 3))
    assert same.abs().max() < 0.05  # gray values were rounded
    channels = model.normalise(colour)
    assert torch.equal(channels[:, 0], channels[:, 1]) and torch.equal(channels[:, 0], channels[:, 2])


def test_the_clusters_travel_with_the_run_and_stay_for_the_random_network_of_the_run(run):
    for spec in (str(run), f"random:{run}"):
        pretext = load_model(spec).pretext
        assert pretext is not None
        assert pretext.state_dict()["centroids_K2"][:, 0].tolist() == [1, 3, 5, 7]
    weights = [
        load_model(spec).backbone.state_dict()["network.stem.module.0.weight"] for spec in (str(run), f"random:{run}")
    ]
    assert not torch.equal(*weights)


def test_fine_tuning_shows_what_the_view_says():
    view = View(3, 1, 16, 16, colours="gray")
    classification = Classification(ClassificationConfig(), tiny_backbone(), view, ("x", "y")).eval()
    colour = torch.from_numpy(blocks(1))[None]
    batch = {"clip_THWC": colour, "target_K": torch.tensor([[1.0, 0.0]])}
    gray = batch | {"clip_THWC": in_colours(colour, "gray")}
    assert classification(batch, context()).loss.item() == pytest.approx(classification(gray, context()).loss.item())
    rgb = Classification(ClassificationConfig(), tiny_backbone(), View(3, 1, 16, 16), ("x", "y")).eval()
    rgb.load_state_dict(classification.state_dict())
    assert rgb(batch, context()).loss.item() != pytest.approx(classification(batch, context()).loss.item())


# mistakes


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"references": 0}, "references"),
        ({"colours": 1}, "colours"),
        ({"fps": 0.0}, "fps"),
        ({"temperature": 0.0}, "temperature"),
        ({"crop": 32}, "crop of 32"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_sentence(options, word):
    with pytest.raises(UserError, match=word):
        make(**options)


@pytest.mark.parametrize("name", ["resnet18", "r2plus1d_4"])
def test_a_network_with_a_coarse_map_is_refused(name):
    with pytest.raises(UserError, match="stride of at most"):
        build_pretext("colorization", build_backbone(name), {})


def test_it_fits_and_trains_where_opencv_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    pretext = make()
    dataset = ClipDataset(video_set(3), pretext, seed=0, read=read_blocks)
    pretext.fit(samples_to_fit(dataset), np.random.default_rng(0))
    pretext(batch_of(dataset[(0, 1, 0)]["clip_THWC"]), context()).loss.backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in pretext.backbone.parameters())
