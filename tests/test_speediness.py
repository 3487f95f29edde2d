import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import Context, Progress, Sample, Skip, build_pretext
from ssl_video.pretexts.speediness import drop_frames, space_evenly
from ssl_video.recipes import load_recipe
from ssl_video.video.info import VideoInfo
from tests.nets import drawn_frames, tiny_backbone, video_set

OPTIONS = {"frames": 4, "short_side": 12, "crop": 8, "min_size": 6, "max_size": 8}


def make(**options):
    return build_pretext("speediness", tiny_backbone(), OPTIONS | options)


def video_of(frames: int) -> Video:
    return Video("v.mp4", info=VideoInfo(frames, 25.0, 12, 12, frames / 25, "h264"))


def batch_of(pretext, count=3, seed=0):
    parts = []
    for i, video in enumerate(video_set(count).videos):
        rng = np.random.default_rng([seed, i])
        sample = pretext.sample(video, {}, rng)
        parts.append(pretext.transform(drawn_frames(video, sample.frames), sample, rng))
    return {k: torch.stack([torch.as_tensor(np.ascontiguousarray(p[k])) for p in parts]) for k in parts[0]}


def context(seed=0):
    return Context(Progress(0, 1), torch.Generator().manual_seed(seed))


@given(st.integers(1, 64), st.floats(1.0, 2.2), st.integers(0, 2**32))
def test_dropping_frames_keeps_their_order_and_gives_all_of_them(frames, factor, seed):
    kept = drop_frames(3 * frames, factor, frames, np.random.default_rng(seed))
    assert len(kept) == frames
    assert (np.diff(kept) > 0).all()
    assert kept[0] >= 0 and kept[-1] < 3 * frames


def test_a_clip_with_dropped_frames_plays_at_its_factor():
    rng = np.random.default_rng(0)
    for factor in (1.1, 2.0):
        spans = [np.ptp(drop_frames(192, factor, 64, rng)) / 63 for _ in range(300)]
        assert np.mean(spans) == pytest.approx(factor, rel=0.03)


@given(st.integers(1, 64), st.floats(1.0, 2.2), st.integers(0, 2**32))
def test_even_spacing_stays_in_the_window(frames, factor, seed):
    positions = space_evenly(3 * frames, factor, frames, np.random.default_rng(seed))
    assert positions[0] >= 0 and positions[-1] < 3 * frames
    assert len(positions) == frames


@pytest.mark.parametrize("size", [(480, 640), (720, 480), (256, 341)])
def test_the_paper_is_tested_on_the_middle_of_frames_of_height_224(size):
    options = load_recipe("speediness:paper")["pretext"]
    pretext = build_pretext("speediness", tiny_backbone(), {k: v for k, v in options.items() if k != "name"}).eval()
    frames_THWC = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    data = {"positions_VT": np.zeros((2, 1), int), "labels_V": np.array([0, 1])}
    sample = Sample((0,), data, each=pretext.view.small)
    tested = pretext.transform(frames_THWC, sample, np.random.default_rng(0))["clips_VTHWC"][0, 0]
    height, width = (n * 224 / min(size) for n in size)
    small_NCHW = torch.from_numpy(frames_THWC).permute(0, 3, 1, 2)
    shape = (round(height), round(width))
    whole_HWC = F.interpolate(small_NCHW, shape, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
    top, left = (shape[0] - 224) // 2, (shape[1] - 224) // 2
    assert tested.shape == (224, 224, 3)
    assert np.array_equal(tested, whole_HWC[top : top + 224, left : left + 224])
    assert (pretext.view.short_side, pretext.view.size) == (224, 224)
    assert np.array_equal(sample.each(frames_THWC[0]), whole_HWC)


def test_training_crops_a_larger_frame_than_the_test():
    def shape_of(pretext):
        sample = pretext.sample(video_of(20), {}, np.random.default_rng(0))
        return sample.each(np.zeros((24, 30, 3), np.uint8)).shape

    assert shape_of(make(test_short_side=8).train()) == (12, 15, 3)
    assert shape_of(make(test_short_side=8).eval()) == (8, 10, 3)
    assert shape_of(make().eval()) == (12, 15, 3) and make().view.short_side == 12  # without the option, as in training


@pytest.mark.parametrize("options", [{"test_short_side": 6}, {"short_side": 6, "test_short_side": 8}])
def test_a_crop_larger_than_the_frame_is_refused(options):
    with pytest.raises(UserError, match="crop of 8 pixels cannot be cut out of frames whose shorter side has 6"):
        make(**options)


def test_both_versions_of_a_clip_come_from_one_window_and_one_crop():
    pretext = make(random_size=False, colour=0.0)
    video = video_set(1).videos[0]
    sample = pretext.sample(video, {}, np.random.default_rng(3))
    assert isinstance(sample, Sample)
    assert sample.data["labels_V"].tolist() == [0, 1]
    assert max(sample.frames) - min(sample.frames) < 12
    clips = pretext.transform(drawn_frames(video, sample.frames), sample, np.random.default_rng(3))["clips_VTHWC"]
    shared = set(sample.data["positions_VT"][0]) & set(sample.data["positions_VT"][1])
    for position in shared:
        a, b = (list(sample.data["positions_VT"][v]).index(position) for v in (0, 1))
        assert np.array_equal(clips[0, a], clips[1, b])


def test_the_test_protocol_is_every_frame_against_every_second_one():
    pretext = make(stride=2).eval()
    sample = pretext.sample(video_of(100), {}, np.random.default_rng(0))
    frames = np.array(sample.frames)[sample.data["positions_VT"]]
    assert np.diff(frames).tolist() == [[2, 2, 2], [4, 4, 4]]


def test_a_video_shorter_than_the_window_is_skipped_with_the_reason():
    assert isinstance(make().sample(video_of(12), {}, np.random.default_rng(0)), Sample)
    outcome = make().sample(video_of(11), {}, np.random.default_rng(0))
    assert isinstance(outcome, Skip)
    assert "12 frames" in outcome.reason
    assert [make().train(mode).least_frames(np.array([25.0])).tolist() for mode in (True, False)] == [[12], [8]]


def test_without_same_batch_one_version_is_drawn():
    pretext = make(same_batch=False)
    drawn = [pretext.sample(video_of(40), {}, np.random.default_rng(s)).data["labels_V"].tolist() for s in range(30)]
    assert sorted(map(tuple, {tuple(d) for d in drawn})) == [(0,), (1,)]


def test_the_loss_is_binary_cross_entropy_on_max_over_space_and_mean_over_time():
    pretext = make(random_size=False, colour=0.0).double().eval()
    batch = batch_of(pretext)
    loss = pretext(batch, context()).loss.item()
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in (pretext.backbone.clip.mean, pretext.backbone.clip.std))
    total, count = 0.0, 0
    for clips, labels in zip(batch["clips_VTHWC"], batch["labels_V"], strict=True):
        for clip, label in zip(clips, labels, strict=True):
            x = ((clip.double() / 255 - mean) / std).permute(3, 0, 1, 2)[None]
            pooled = pretext.backbone(x)[0].flatten(2).max(2).values.mean(1)
            p = torch.sigmoid(pretext.head.weight[0] @ pooled + pretext.head.bias[0])
            total -= (torch.log(p) if label else torch.log(1 - p)).item()
            count += 1
    assert loss == pytest.approx(total / count, rel=1e-10)


def test_loss_and_gradients_are_finite_and_repeatable():
    def once():
        pretext = make()
        loss = pretext(batch_of(pretext), context(5)).loss
        loss.backward()
        return loss.item(), [p.grad.clone() for p in pretext.parameters()]

    (a, grads), (b, again) = once(), once()
    assert a == b
    assert all(torch.isfinite(g).all() and torch.equal(g, h) for g, h in zip(grads, again, strict=True))


def test_colour_and_size_change_both_versions_alike():
    pretext = make()
    batch = batch_of(pretext, 2)
    batch["clips_VTHWC"][:, 1] = batch["clips_VTHWC"][:, 0]  # the same clip under both labels
    features = pretext(batch, context(1)).features_ND.reshape(2, 2, -1)
    assert torch.allclose(features[:, 0], features[:, 1], atol=1e-5)


def test_an_unknown_option_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'frames'"):
        make(frame=3)
