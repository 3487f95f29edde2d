import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import default_collate

from ssl_video.errors import UserError
from ssl_video.pretexts.base import Context, Progress, Sample, Skip, build_pretext
from tests.nets import drawn_frames, tiny_backbone, video_set

OPTIONS = {"frames": 4, "gap": 2, "short_side": 12, "crop": 8, "width": 5, "dropout": 0.0}


def make(**options):
    return build_pretext("clip_order", tiny_backbone(), OPTIONS | options)


def numbered(sample) -> np.ndarray:
    """Frames of 12 x 12 pixels of which every pixel says the frame's number."""
    return np.broadcast_to(np.uint8(sample.frames)[:, None, None, None], (len(sample.frames), 12, 12, 3))


def draw(pretext, class_=None, seed=0, frames=40):
    rng = np.random.default_rng(seed)
    sample = pretext.sample(video_set(1, frames=frames).videos[0], {}, rng)
    assert isinstance(sample, Sample)
    return sample if class_ is None else Sample(sample.frames, {"class": class_})


def shown_order(pretext, class_) -> tuple[int, ...]:
    """Which clip of the file, counted from 0, is shown first, second, ..., read from the pixels."""
    sample = draw(pretext, class_)
    clips = pretext.transform(numbered(sample), sample, np.random.default_rng(0))["clips_VTHWC"]
    starts = clips[:, 0, 0, 0, 0]
    return tuple(sorted(starts).index(s) for s in starts)


def test_the_class_is_the_index_of_the_order_vector_and_not_of_its_inverse():
    pretext = make()
    orders = [shown_order(pretext, class_) for class_ in range(6)]
    assert orders == list(itertools.permutations(range(3)))
    # a 3-cycle is another order than its inverse: (1, 2, 0) shows the second clip first, (2, 0, 1) the third
    assert orders[3] == (1, 2, 0) and tuple(np.argsort(orders[3])) == orders[4] == (2, 0, 1)


@given(
    st.integers(2, 5), st.integers(1, 5), st.integers(0, 4), st.integers(1, 3), st.integers(0, 9), st.integers(0, 99)
)
def test_clips_are_as_long_and_as_far_apart_as_asked_and_inside_the_video(clips, frames, gap, stride, more, seed):
    pretext = make(clips=clips, frames=frames, gap=gap, stride=stride)
    span = (clips * frames + (clips - 1) * gap - 1) * stride + 1
    read = np.array(draw(pretext, seed=seed, frames=span + more).frames)
    assert read.min() >= 0 and read.max() < span + more
    steps = np.full(clips * frames - 1, stride)
    steps[frames - 1 :: frames] += gap * stride
    assert np.diff(read).tolist() == steps.tolist()


def test_a_video_shorter_than_the_span_is_skipped_with_the_reason():
    pretext, rng = make(), np.random.default_rng(0)
    assert isinstance(pretext.sample(video_set(1, frames=16).videos[0], {}, rng), Sample)
    outcome = pretext.sample(video_set(1, frames=15).videos[0], {}, rng)
    assert isinstance(outcome, Skip) and "16 frames" in outcome.reason


def test_the_papers_tuple_spans_64_frames():
    pretext = build_pretext("clip_order", tiny_backbone(), {})
    read = draw(pretext, frames=64).frames
    assert len(read) == 48 and read[0] == 0 and read[-1] == 63


def test_all_frames_of_a_clip_have_one_crop_and_the_clips_have_their_own():
    pretext = make()
    ramp = np.arange(144, dtype=np.uint8).reshape(1, 12, 12, 1) * np.ones((12, 1, 1, 3), np.uint8)
    corners = set()
    for seed in range(5):
        sample = draw(pretext, 0, seed)
        clips = pretext.transform(ramp, sample, np.random.default_rng(seed))["clips_VTHWC"]
        assert (clips == clips[:, :1]).all()
        corners.add(tuple(clips[:, 0, 0, 0, 0]))
    assert any(len(set(places)) > 1 for places in corners)
    still = pretext.eval().transform(ramp, draw(pretext, 0), np.random.default_rng(0))["clips_VTHWC"]
    assert (still == ramp[0, 2:10, 2:10]).all()


def test_all_orders_are_drawn_equally_often():
    counts = np.bincount([draw(make(), seed=seed).data["class"] for seed in range(600)], minlength=6)
    assert counts.min() > 70 and counts.max() < 130


def test_the_loss_is_cross_entropy_over_a_shared_layer_of_all_pairs():
    pretext = make().double().eval()
    parts = []
    for n, video in enumerate(video_set(3).videos):
        sample = draw(pretext, n)
        parts.append(pretext.transform(drawn_frames(video, sample.frames), sample, np.random.default_rng(n)))
    batch = default_collate(parts)
    output = pretext(batch, Context(Progress(0, 1), torch.Generator()))

    spec, head = pretext.backbone.clip, pretext.head
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in (spec.mean, spec.std))
    total, right = 0.0, 0
    for clips, class_ in zip(batch["clips_VTHWC"], batch["class"], strict=True):
        f = [pretext.backbone(((x.double() / 255 - mean) / std).permute(3, 0, 1, 2)[None])[0] for x in clips]
        f = [x.flatten(1).mean(1) for x in f]
        pairs = [
            torch.relu(head.fc7.weight @ torch.cat([f[i], f[j]]) + head.fc7.bias)
            for i in range(3)
            for j in range(i + 1, 3)
        ]
        logits = [(w @ torch.cat(pairs) + b).item() for w, b in zip(head.fc8.weight, head.fc8.bias, strict=True)]
        total += math.log(sum(map(math.exp, logits))) - logits[class_]
        right += logits.index(max(logits)) == class_
    assert output.loss.item() == pytest.approx(total / 3, rel=1e-10)
    assert output.metrics["accuracy"].item() == pytest.approx(right / 3)


@pytest.mark.parametrize("clips", [1, 6])
def test_a_number_of_clips_without_a_sensible_number_of_orders_is_refused(clips):
    with pytest.raises(UserError, match=f"clips must be a whole number from 2 to 5, not {clips}"):
        make(clips=clips)
