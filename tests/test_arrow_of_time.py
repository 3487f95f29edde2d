import math

import numpy as np
import pytest
import torch
from torch import nn

from ssl_video.backbones.base import BACKBONES, FLOW_MEAN, FLOW_STD, Backbone, ClipSpec, build_backbone, chain
from ssl_video.cli import main
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.flow import flow_of, for_modality
from ssl_video.datasets.spec import one_video
from ssl_video.datasets.statistics import statistics_of
from ssl_video.errors import UserError
from ssl_video.pretexts.arrow_of_time import BACKWARD, FORWARD, STILL
from ssl_video.pretexts.base import Context, Progress, Redraw, Sample, Skip, build_pretext
from ssl_video.train.data import REDRAWS, ClipDataset
from ssl_video.video import cues
from ssl_video.video.flow import encode, farneback
from ssl_video.video.info import VideoInfo
from ssl_video.video.reader import read_frames
from ssl_video.video.writer import Encoding, write_video
from tests.nets import drawn_frames, tiny_backbone, video_set

PLAIN = {"zero_borders": False, "stabilise": False}
OPTIONS = {"frames": 4, "short_side": 12, "crop": 8, **PLAIN}


def flow_backbone() -> Backbone:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv3d(2, 6, 3, (1, 2, 2), 1), nn.BatchNorm3d(6), nn.ReLU())
    clip = ClipSpec(4, 8, modality="flow", channels=2, mean=FLOW_MEAN, std=FLOW_STD, min_size=4)
    return chain({"stem": stem}, feature_dim=6, strides=(1, 2, 2), clip=clip)


def make(backbone: Backbone | None = None, **options):
    torch.manual_seed(1)
    return build_pretext("arrow_of_time", backbone or tiny_backbone(), OPTIONS | options)


def video_of(frames: int) -> Video:
    return Video("v.mp4", info=VideoInfo(frames, 25.0, 12, 12, frames / 25, "h264"))


def samples(pretext, video, stats=None, count=120):
    drawn = [pretext.sample(video, stats or {}, np.random.default_rng(seed)) for seed in range(count)]
    assert all(isinstance(s, Sample) for s in drawn)
    return [[s for s in drawn if s.data["label"] == label] for label in (FORWARD, BACKWARD)]


def context():
    return Context(Progress(0, 1), torch.Generator().manual_seed(0))


def texture(height=48, width=64, seed=3):
    """Smooth gray noise, the same in all three channels."""
    noise = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 1, height // 4, width // 4)))
    smooth = nn.functional.interpolate(noise, size=(height, width), mode="bicubic")[0, 0].numpy()
    return np.repeat(np.clip(128 + 50 * smooth, 40, 255).astype(np.uint8)[..., None], 3, axis=2)


def uncovered(count=9):
    """A patch that moves to the right faster and faster over a texture: it uncovers there what it covers here."""
    frames = np.repeat(texture(128, 160)[None], count, 0)
    patch = texture(40, 40, seed=8)
    for n in range(count):
        left = 10 + n * n
        frames[n, 40:80, left : left + 40] = patch
    return frames


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory) -> VideoSet:
    path = tmp_path_factory.mktemp("v") / "v.mp4"
    write_video(path, uncovered(), encoding=Encoding({"crf": "0", "preset": "ultrafast"}, pixel_format="yuv444p"))
    return VideoSet("drawn", (one_video(path),))


def test_forward_clips_run_forward_and_backward_clips_are_frames_in_reverse_order():
    forward, backward = samples(make(stride=2), video_of(15))
    assert len(forward) > 8 and len(backward) > 8
    assert all(set(np.diff(s.frames)) == {2} for s in forward)
    assert all(set(np.diff(s.frames)) == {-2} for s in backward)
    assert {min(s.frames) for s in forward} == {min(s.frames) for s in backward} == set(range(9))
    assert not any(s.reversed for s in forward + backward)


def test_backward_clips_of_flow_are_read_in_order_from_the_flow_of_the_reversed_video():
    forward, backward = samples(make(flow_backbone(), stride=2), video_of(15))
    assert all(set(np.diff(s.frames)) == {2} for s in forward + backward)
    assert not any(s.reversed for s in forward) and all(s.reversed for s in backward)
    assert {s.frames[0] for s in forward} == {s.frames[0] for s in backward} == set(range(9))


def test_a_backward_clip_of_flow_is_the_flow_of_its_frames_reversed_and_not_the_negated_flow(on_disk):
    pretext = make(flow_backbone(), short_side=128, crop=128).eval()
    both = for_modality(on_disk, "flow", reversed=pretext.needs.reversed)
    dataset = ClipDataset(both, pretext, seed=0)
    frames_THWC = read_frames(on_disk.videos[0].path, range(9))
    flow_of_reversed = encode(farneback(frames_THWC[::-1]))
    labels = set()
    for epoch in range(12):
        drawn = dataset[epoch, 0, 0]
        first = pretext.sample(both.videos[0], {}, np.random.default_rng([0, epoch, 0, 0, 0])).frames[0]
        labels.add(drawn["label"])
        if drawn["label"] == BACKWARD:
            assert np.array_equal(drawn["clip_THWC"], flow_of_reversed[first : first + 4, :, 16:144])
            negated = encode(-farneback(frames_THWC[::-1][first : first + 5][::-1]))[::-1, :, 16:144]
            assert np.abs(drawn["clip_THWC"].astype(int) - negated).max() > 10
        else:
            assert np.array_equal(drawn["clip_THWC"], encode(farneback(frames_THWC))[first : first + 4, :, 16:144])
    assert labels == {FORWARD, BACKWARD}


def test_flow_of_one_direction_is_refused_where_both_are_needed(on_disk):
    forward = flow_of(on_disk)
    assert for_modality(forward, "flow") is forward
    with pytest.raises(UserError, match="holds optical flow of one direction"):
        for_modality(forward, "flow", reversed=True)
    both = for_modality(on_disk, "flow", reversed=True)
    assert for_modality(both, "flow", reversed=True) is both
    assert for_modality(on_disk, "rgb", reversed=True) is on_disk


def test_a_video_without_flow_is_left_out_and_named_once(on_disk, tmp_path):
    write_video(tmp_path / "one.mp4", uncovered(1))
    mixed = VideoSet("mixed", (*on_disk.videos, one_video(tmp_path / "one.mp4")))
    both = for_modality(mixed, "flow", reversed=True)
    assert [v.source for v in both.videos] == [on_disk.videos[0].path] and both.videos[0].backwards.frames == 8
    assert [p.reason for p in both.problems] == ["it has one frame only, and flow needs two"]


def test_a_video_shorter_than_a_clip_is_skipped_with_the_reason():
    assert isinstance(make(stride=3).sample(video_of(10), {}, np.random.default_rng(0)), Sample)
    outcome = make(stride=3).sample(video_of(9), {}, np.random.default_rng(0))
    assert isinstance(outcome, Skip) and "10 frames" in outcome.reason
    outcome = make(flow_backbone()).sample(video_of(3), {}, np.random.default_rng(0))
    assert isinstance(outcome, Skip) and "4 flow fields" in outcome.reason
    assert make(stride=3).least_frames(np.array([25.0, 30.0])).tolist() == [10, 10]
    assert make(flow_backbone()).least_frames(np.array([25.0])).tolist() == [4]


def test_borders_of_flow_are_those_that_are_black_in_all_frames_around_the_fields_of_either_direction():
    pretext = make(flow_backbone(), zero_borders=True)
    assert pretext.needs.statistics == ("black_borders",)
    borders_T4 = np.zeros((16, 4), np.float32)
    borders_T4[:, 0] = np.arange(16) / 100  # the first frame of a clip has the smallest border
    for drawn in samples(pretext, video_of(15), {"black_borders": borders_T4}):
        for sample in drawn:
            first = sample.frames[0] if not sample.reversed else 14 - sample.frames[-1]
            assert sample.data["borders_4"].tolist() == pytest.approx([first / 100, 0, 0, 0])


def test_statistics_of_borders_are_asked_for_only_where_they_are_used():
    assert make(flow_backbone(), zero_borders=False).needs.statistics == ()
    assert make(tiny_backbone(), zero_borders=True).needs.statistics == ()
    assert make().needs.reversed


def test_statistics_of_flow_are_those_of_the_frames_that_it_comes_from(tmp_path):
    frames = np.pad(uncovered()[:, :, :96], ((0, 0), (32, 32), (0, 0), (0, 0)))
    write_video(tmp_path / "v.mp4", frames, encoding=Encoding({"crf": "20"}))
    info = VideoInfo(8, 25.0, 64, 128, 0.32, "flow")
    video = Video(str(tmp_path / "flow.npy"), info=info, copy_of=str(tmp_path / "v.mp4"))
    borders_T4 = statistics_of(video, ["black_borders"])["black_borders"]
    assert borders_T4.shape == (9, 4)
    assert np.allclose(borders_T4, [32 / 192, 32 / 192, 0, 0], atol=1 / 192)


def test_what_is_in_black_bars_does_not_reach_the_network():
    noise = np.random.default_rng(0).integers(0, 20, (4, 16, 12, 3), dtype=np.uint8)
    noise[:, 4:12] = np.random.default_rng(1).integers(0, 256, (4, 8, 12, 3), dtype=np.uint8)
    for option, left in ((True, 0), (False, noise[:, :4].max())):
        pretext = make(zero_borders=option, short_side=12, crop=12).eval()
        sample = Sample((0, 1, 2, 3), {"label": FORWARD, "borders_4": np.zeros(4, np.float32)})
        clip = pretext.transform(noise, sample, np.random.default_rng(0))["clip_THWC"]
        assert clip.shape == (4, 12, 12, 3) and clip[:, :2].max() == clip[:, -2:].max() == left
        assert np.array_equal(clip[:, 2:10], noise[:, 4:12])


def test_flow_in_black_bars_is_no_motion():
    flow = np.random.default_rng(0).integers(0, 256, (4, 16, 12, 2), dtype=np.uint8)
    pretext = make(flow_backbone(), zero_borders=True, crop=12).eval()
    sample = Sample((0, 1, 2, 3), {"label": FORWARD, "borders_4": np.array([0.25, 0.25, 0, 0], np.float32)})
    clip = pretext.transform(flow, sample, np.random.default_rng(0))["clip_THWC"]
    assert (clip[:, :2] == 128).all() and (clip[:, -2:] == 128).all()
    assert np.array_equal(clip[:, 2:10], flow[:, 4:12])


@pytest.mark.parametrize("of_flow", [True, False])
def test_what_has_no_direction_is_drawn_again(of_flow):
    pretext = make(flow_backbone() if of_flow else tiny_backbone(), zero_borders=True)
    still = np.full((4, 12, 12, 2 if of_flow else 3), 128, np.uint8)
    still[1:] += np.uint8(STILL["flow" if of_flow else "rgb"])
    data = {"label": BACKWARD, "borders_4": np.zeros(4, np.float32)}
    rng = np.random.default_rng(0)
    outcome = pretext.transform(still, Sample((0, 1, 2, 3), data), rng)
    assert isinstance(outcome, Redraw) and outcome.reason == "nothing moves in it"
    still[3, 0] += 20
    assert isinstance(pretext.transform(still, Sample((0, 1, 2, 3), data), rng), dict)
    black = Sample((0, 1, 2, 3), data | {"borders_4": np.ones(4, np.float32)})
    outcome = pretext.transform(np.zeros_like(still), black, rng)
    assert isinstance(outcome, Redraw) and outcome.reason == "it is black all over"


def test_a_clip_whose_camera_cannot_be_followed_is_drawn_again():
    pretext = make(flow_backbone(), stabilise=True, short_side=64, crop=48)
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 2), dtype=np.uint8)
    data = {"label": FORWARD, "borders_4": np.zeros(4, np.float32)}
    outcome = pretext.transform(noise, Sample((0, 1, 2, 3), data), np.random.default_rng(0))
    assert isinstance(outcome, Redraw) and outcome.reason == "its camera's motion cannot be found"


def test_the_camera_is_followed_through_frames_that_run_forward_whatever_the_label(monkeypatch):
    seen = []
    monkeypatch.setattr(
        cues, "frames_without_camera", lambda frames_THWC, _inside: seen.append(frames_THWC) or frames_THWC
    )
    pretext, frames = make(stabilise=True, crop=12).eval(), drawn_frames(video_set(1).videos[0], range(4))
    for label, shown in ((FORWARD, frames), (BACKWARD, frames[::-1])):
        sample = Sample((0, 1, 2, 3), {"label": label, "borders_4": np.zeros(4, np.float32)})
        clip = pretext.transform(shown, sample, np.random.default_rng(0))["clip_THWC"]
        assert np.array_equal(clip, shown) and np.array_equal(seen[-1], frames)


def test_a_video_that_asks_for_redraws_for_ever_gives_its_place_to_another():
    pretext = make()
    still = np.full((1, 12, 12, 3), 90, np.uint8)
    reads = []

    def read(video, frames, each=None):
        reads.append(video.path)
        return drawn_frames(video, frames) if video.path.endswith("/1.mp4") else still.repeat(len(frames), 0)

    drawn = ClipDataset(video_set(2), pretext, seed=0, read=read)[0, 0, 0]
    assert reads[:REDRAWS] == ["/v/class0/0.mp4"] * REDRAWS and reads[-1] == "/v/class1/1.mp4"
    assert {p.reason for p in drawn["problems"]} == {"nothing moves in it"}


def batch_of(pretext, count=6):
    parts = []
    for i, video in enumerate(video_set(count).videos):
        sample = pretext.sample(video, {}, np.random.default_rng(i))
        parts.append(pretext.transform(drawn_frames(video, sample.frames), sample, np.random.default_rng(i)))
    clips = torch.stack([torch.as_tensor(p["clip_THWC"]) for p in parts])
    return {"clip_THWC": clips, "label": torch.tensor([p["label"] for p in parts])}


def test_the_loss_is_binary_cross_entropy_of_backward_on_the_mean_of_the_map():
    pretext = make().double().eval()
    batch = batch_of(pretext)
    output = pretext(batch, context())
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in (pretext.backbone.clip.mean, pretext.backbone.clip.std))
    total, right = 0.0, 0
    assert set(batch["label"].tolist()) == {FORWARD, BACKWARD}
    for clip, label in zip(batch["clip_THWC"], batch["label"].tolist(), strict=True):
        x = ((clip.double() / 255 - mean) / std).permute(3, 0, 1, 2)[None]
        logit = (pretext.head.weight[0] @ pretext.backbone(x)[0].mean((1, 2, 3)) + pretext.head.bias[0]).item()
        backward = 1 / (1 + math.exp(-logit))
        total -= math.log(backward if label == BACKWARD else 1 - backward)
        right += (backward > 0.5) == (label == BACKWARD)
    assert output.loss.item() == pytest.approx(total / 6, rel=1e-10)
    assert output.metrics["accuracy"].item() == pytest.approx(right / 6)


def test_the_heat_map_is_the_classifier_at_every_cell_and_its_mean_is_the_logit():
    pretext = make().double().eval()
    features = torch.randn(2, 8, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    heat = pretext.heat_map(features)
    assert heat.shape == (2, 3, 4, 5)
    assert torch.allclose(heat[1, 2, 3, 4], pretext.head(features[1, :, 2, 3, 4])[0])
    assert torch.allclose(heat.mean((1, 2, 3)), pretext.head(features.mean((2, 3, 4)))[:, 0])


def test_loss_and_gradients_are_finite_and_repeatable():
    def once():
        pretext = make()
        loss = pretext(batch_of(pretext), Context(Progress(0, 1), torch.Generator().manual_seed(5))).loss
        loss.backward()
        return loss.item(), [p.grad.clone() for p in pretext.parameters()]

    (a, grads), (b, again) = once(), once()
    assert a == b
    assert all(torch.isfinite(g).all() and torch.equal(g, h) for g, h in zip(grads, again, strict=True))


def test_an_obvious_arrow_is_learned():
    torch.manual_seed(0)
    pretext = make(build_backbone("r2plus1d_4"), frames=8, short_side=24, crop=20)
    dataset = ClipDataset(video_set(8), pretext, seed=0, read=drawn_frames)  # videos that grow brighter
    optimizer = torch.optim.AdamW(pretext.parameters(), 0.002)
    for step in range(60):
        drawn = [dataset[step, number, 0] for number in range(8)]
        clips, labels = [d["clip_THWC"] for d in drawn], [d["label"] for d in drawn]
        output = pretext({"clip_THWC": torch.from_numpy(np.stack(clips)), "label": torch.tensor(labels)}, context())
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    assert output.metrics["accuracy"] == 1 and output.loss < 0.3


def test_tcam_takes_the_published_clip_and_its_heat_map_has_a_cell_for_16_pixels():
    pretext = build_pretext("arrow_of_time", build_backbone("tcam"), {}).eval()
    with torch.no_grad():
        features = pretext.backbone(torch.zeros(1, 2, 20, 32, 32))
    assert pretext.heat_map(features).shape == (1, 1, 2, 2)
    with pytest.raises(UserError, match="exactly 20 frames, not of 16"):
        build_pretext("arrow_of_time", build_backbone("tcam"), {"frames": 16})


def test_a_network_of_flow_is_pretrained_and_tested_on_both_directions(on_disk, tmp_path, monkeypatch, capsys):
    BACKBONES.names()
    monkeypatch.setitem(BACKBONES._members, "toy_flow", flow_backbone)
    data, run = ["--data", on_disk.videos[0].path, "--workers", "0"], str(tmp_path / "run")
    small = "--pretext.frames=4 --pretext.short-side=56 --pretext.crop=48 --steps=4 --batch-size=2"
    words = ["pretrain", "--pretext", "arrow_of_time", "--backbone", "toy_flow", "--out", run]
    assert main([*words, *data, *small.split()]) == 2
    assert "add --pretext.no-both-directions" in capsys.readouterr().err
    assert main([*words, *data, *small.split(), "--pretext.no-both-directions"]) == 0
    assert "Next: ssl-video index" in capsys.readouterr().out
    assert main(["evaluate", "pretext", "--model", run, *data]) == 0
    assert "1 videos, 4 samples" in capsys.readouterr().out
