import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import default_collate

from ssl_video.backbones.base import Backbone, ClipSpec, PerFrame, chain
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.statistics import STATISTICS, flow_magnitude, measure, statistics_of
from ssl_video.errors import UserError
from ssl_video.pretexts.base import Context, Progress, Redraw, Sample, Skip, build_pretext
from ssl_video.pretexts.motion import draw_window
from ssl_video.pretexts.tuple_verification import IN_ORDER, SHUFFLED
from ssl_video.train.data import REDRAWS, ClipDataset, usable
from ssl_video.video.flow import farneback
from ssl_video.video.info import VideoInfo
from ssl_video.video.reader import VideoError
from ssl_video.video.writer import write_video
from tests.nets import tiny_backbone, video_set

OPTIONS = {"tau_max": 10, "tau_min": 3, "size": 8, "grid": 2, "width": 5, "dropout": 0.0, "motion": "difference"}


def frame_network() -> Backbone:
    torch.manual_seed(0)
    stages = {"conv": PerFrame(nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU()))}
    return chain(stages, feature_dim=6, strides=(1, 2, 2), clip=ClipSpec(frames=1, size=8, min_size=4))


def make(**options):
    return build_pretext("tuple_verification", frame_network(), OPTIONS | options)


def video_of(frames: int) -> Video:
    return Video("v.mp4", info=VideoInfo(frames, 25.0, 12, 12, frames / 25, "h264"))


def draw(pretext, frames=40, seed=0, motion=None):
    moved = np.ones(frames, np.float32) if motion is None else np.float32(motion)
    return pretext.sample(video_of(frames), {"frame_difference": moved}, np.random.default_rng(seed))


def numbered(sample) -> np.ndarray:
    """Frames of which every pixel says the frame's number, five times."""
    return np.broadcast_to(np.uint8(sample.frames)[:, None, None, None] * 5, (5, 8, 8, 3))


@given(st.integers(2, 12), st.integers(1, 5), st.integers(0, 60), st.integers(0, 10**6))
def test_the_five_frames_keep_their_distances_and_stay_inside_the_video(tau_max, tau_min, more, seed):
    frames = 2 * tau_min + 3 + more
    motion = 0.2 + np.random.default_rng(seed).random(frames) ** 4
    sample = draw(make(tau_max=tau_max, tau_min=tau_min), frames, seed, motion)
    a, b, c, d, e = sample.frames
    assert 0 <= a < b < c < d < e < frames
    assert d - b <= tau_max
    assert all(tau_min <= away <= tau_min + tau_max for away in (b - a, e - d))


def test_tuples_have_the_ends_b_and_d_and_the_middle_that_their_label_says():
    pretext, seen = make(), set()
    for seed in range(200):
        sample = draw(pretext, seed=seed)
        parts = pretext.transform(numbered(sample), sample, np.random.default_rng(0))
        if isinstance(parts, Redraw):
            continue
        places = tuple(sample.frames.index(f // 5) for f in parts["frames_SHWC"][:, 0, 0, 0])
        assert parts["label"] == (IN_ORDER if places in ((1, 2, 3), (3, 2, 1)) else SHUFFLED)
        seen.add(places)
    assert seen == {(1, 2, 3), (3, 2, 1), (1, 0, 3), (3, 0, 1), (1, 4, 3), (3, 4, 1)}


def test_three_quarters_of_the_tuples_are_not_in_order_and_half_at_test():
    pretext = make()
    for mode, part in ((True, 0.75), (False, 0.5)):
        pretext.train(mode)
        labels = [draw(pretext, seed=seed).data["label"] for seed in range(1000)]
        assert np.mean(labels) == pytest.approx(1 - part, abs=0.05)


def test_windows_are_drawn_in_proportion_to_their_motion():
    # of two frames each: the motion of a window's second frame is inside of it
    motion_T, rng = np.array([7.0, 0, 1, 0, 3, 0]), np.random.default_rng(0)
    counts = np.bincount([draw_window(motion_T, 2, rng) for _ in range(4000)], minlength=5)
    assert counts[[0, 2, 4]].tolist() == [0, 0, 0]
    assert counts[3] / 4000 == pytest.approx(0.75, abs=0.03)


def test_longer_windows_are_drawn_by_the_sum_of_their_motion():
    motion_T, rng = np.random.default_rng(1).random(12), np.random.default_rng(0)
    sums = np.array([sum(motion_T[start + 1 : start + 5]) for start in range(8)])
    counts = np.bincount([draw_window(motion_T, 5, rng) for _ in range(8000)], minlength=8)
    assert counts / 8000 == pytest.approx(sums / sums.sum(), abs=0.02)


def test_where_nothing_moves_no_window_is_taken():
    motion = np.zeros(60)
    motion[30:34] = 9  # frames 29 to 33 move
    for seed in range(50):
        _, b, _, d, _ = draw(make(), 60, seed, motion).frames
        assert b < 33 and d >= 30


def test_a_still_video_is_skipped_with_the_reason():
    outcome = draw(make(), motion=np.zeros(40))
    assert isinstance(outcome, Skip) and outcome.reason == "no motion to sample"


def test_a_video_shorter_than_a_tuple_is_skipped_with_the_reason():
    assert isinstance(draw(make(), 9), Sample)
    outcome = draw(make(), 8)
    assert isinstance(outcome, Skip) and "9 frames" in outcome.reason


def test_the_papers_tuple_needs_33_frames():
    pretext = build_pretext("tuple_verification", frame_network(), {"motion": "difference"})
    assert isinstance(draw(pretext, 33), Sample) and isinstance(draw(pretext, 32), Skip)


@pytest.mark.parametrize("like", [0, 4])
def test_a_middle_frame_that_looks_like_its_rival_is_drawn_again(like):
    pretext = make(min_difference=30.0)
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    for label, shown in ((IN_ORDER, (1, 2, 3)), (SHUFFLED, (1, 0, 3))):
        sample = Sample((1, 5, 7, 9, 15), {"shown": shown, "label": label})
        assert isinstance(pretext.transform(frames, sample, np.random.default_rng(0)), dict)
        alike = frames.copy()
        alike[like] = np.clip(alike[2], 5, 250) + 5  # 25 at most where nothing was cut
        outcome = pretext.transform(alike, sample, np.random.default_rng(0))
        assert isinstance(outcome, Redraw) and "alike" in outcome.reason
        assert isinstance(make(min_difference=0).transform(alike, sample, np.random.default_rng(0)), dict)


def test_a_video_of_look_alikes_is_drawn_again_a_bounded_number_of_times_then_replaced_and_counted(monkeypatch):
    pretext, videos = make(), video_set(2)
    monkeypatch.setattr(
        "ssl_video.train.data.statistics_of", lambda video, names: {n: np.ones(video.frames, np.float32) for n in names}
    )

    reads: list[str] = []

    def read(video, frames, each=None):
        reads.append(video.path)
        if video.path.endswith("/0.mp4"):
            return np.zeros((5, 12, 12, 3), np.uint8)
        return np.random.default_rng(frames).integers(0, 256, (5, 12, 12, 3), dtype=np.uint8)

    for seed in range(8):
        reads.clear()
        problems = ClipDataset(videos, pretext, seed, read)[0, 0, 0]["problems"]
        assert problems and all("alike" in p.reason and p.path.endswith("/0.mp4") for p in problems)
        assert len(reads) == REDRAWS * len(problems) + 1  # the last read served


def test_a_video_whose_motion_cannot_be_measured_is_left_out_with_the_reason(monkeypatch):
    def measured(video, names):
        if video.path.endswith("/0.mp4"):
            raise VideoError("truncated")
        return {n: np.ones(video.frames, np.float32) for n in names}

    monkeypatch.setattr("ssl_video.train.data.statistics_of", measured)
    fit = usable(video_set(2), make())
    assert (len(fit.videos), [p.reason for p in fit.problems]) == (1, ["truncated"])


def test_the_loss_is_cross_entropy_over_three_branches_with_shared_weights():
    pretext = make().double().eval()
    parts = []
    for seed in range(3):
        sample = draw(pretext, seed=seed)
        frames = np.random.default_rng(seed).integers(0, 256, (5, 12, 12, 3), dtype=np.uint8)
        parts.append(pretext.transform(frames, sample, np.random.default_rng(0)))
    batch = default_collate(parts)
    output = pretext(batch, Context(Progress(0, 1), torch.Generator()))
    spec, branch = pretext.backbone.clip, pretext.head.branch
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in (spec.mean, spec.std))
    total = 0.0
    for frames, label in zip(batch["frames_SHWC"], batch["label"], strict=True):
        towers = []
        for frame in frames:
            x = ((frame.double() / 255 - mean) / std).permute(2, 0, 1)[None, :, None]
            map_Dhw = pretext.backbone(x)[0, :, 0]
            cells = [map_Dhw[:, y : y + 2, x : x + 2].mean((1, 2)) for y in (0, 2) for x in (0, 2)]
            hidden = torch.stack(cells, 1).flatten()
            for linear in (branch[2], branch[6]):  # batch norm starts as a division by sqrt(1 + eps)
                hidden = torch.clamp((linear.weight @ hidden + linear.bias) / math.sqrt(1 + 1e-5), min=0)
            towers.append(hidden)
        logits = (pretext.head.fc8.weight @ torch.cat(towers) + pretext.head.fc8.bias).tolist()
        total += math.log(sum(map(math.exp, logits))) - logits[label]
    assert output.loss.item() == pytest.approx(total / 3, rel=1e-10)


def test_a_network_that_brings_time_together_is_refused():
    parts = dict(tiny_backbone().stages)
    backbone = chain(parts, feature_dim=6, strides=(2, 2, 2), clip=ClipSpec(frames=1, size=8, min_size=4))
    with pytest.raises(UserError, match="temporal stride of at most 1"):
        build_pretext("tuple_verification", backbone, OPTIONS)


def test_its_options_say_which_statistic_it_needs():
    assert make(motion="difference").needs.statistics == ("frame_difference",)
    assert make(motion="flow").needs.statistics == ("flow_magnitude",)
    assert make(motion="flow").needs.max_temporal_stride == 1


@pytest.mark.parametrize("options", [{"tau_min": 0}, {"tau_max": 1}])
def test_distances_that_leave_no_tuple_are_refused(options):
    with pytest.raises(UserError, match=r"tau_m\w+ must be a whole number of \d or more"):
        make(**options)


def test_the_magnitude_of_flow_is_that_of_a_texture_moved_by_hand(tmp_path):
    texture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8).repeat(6, 0).repeat(6, 1)
    frames = [texture[:, 2 * t : 2 * t + 96] for t in range(6)]  # 96 pixels wide: 2 of them are 4/3 of 64
    np.save(tmp_path / "moved.npy", np.stack(frames)[:, :96])
    measured = flow_magnitude(str(tmp_path / "moved.npy"))
    assert measured.shape == (6,) and measured[0] == 0
    assert measured[1:] == pytest.approx(4 / 3, rel=0.2)


def test_flow_of_small_frames_is_measured_at_their_own_size(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), dtype=np.uint8)
    np.save(tmp_path / "small.npy", frames)
    by_hand = [0.0, *(np.sqrt((field.astype(np.float64) ** 2).sum(-1)).mean() for field in farneback(frames))]
    assert flow_magnitude(str(tmp_path / "small.npy")) == pytest.approx(by_hand, rel=1e-5)


def test_statistics_are_measured_once_for_all_videos_and_unreadable_ones_are_passed_over(tmp_path, monkeypatch):
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, np.zeros((4, 20, 30, 3), np.uint8))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    videos = tuple(replace(video_of(4), path=str(tmp_path / name)) for name in ("a.npy", "broken.mp4", "b.npy"))
    measure(VideoSet("three", videos), ("flow_magnitude",))
    monkeypatch.setitem(STATISTICS, "flow_magnitude", None)  # nothing is measured again
    assert statistics_of(videos[2], ("flow_magnitude",))["flow_magnitude"].shape == (4,)


@pytest.mark.parametrize("motion", ["flow", "difference"])
def test_a_still_video_has_no_motion_for_all_the_noise_of_its_compression(tmp_path, motion):
    picture = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    write_video(tmp_path / "still.mp4", [picture] * 30)
    pretext = make(motion=motion)
    stats = {name: STATISTICS[name](str(tmp_path / "still.mp4")) for name in pretext.needs.statistics}
    outcome = pretext.sample(video_of(30), stats, np.random.default_rng(0))
    assert isinstance(outcome, Skip) and outcome.reason == "no motion to sample"
