import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import default_collate

from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import Context, Progress, Sample, Skip, build_pretext
from ssl_video.pretexts.order_prediction import ORDERS, busiest_window
from ssl_video.video.info import VideoInfo
from tests.nets import tiny_backbone

OPTIONS = {
    "interval": (2, 4), "motion": "difference", "short_side": 16, "window": 12, "crop": 6, "jitter": 1, "grid": 2,
    "width": 8, "dropout": 0.0,
}  # fmt: skip


def make(**options):
    return build_pretext("order_prediction", tiny_backbone(), OPTIONS | options)


def draw(pretext, frames=40, seed=0, motion=None) -> Sample | Skip:
    video = Video("v.mp4", info=VideoInfo(frames, 25.0, 16, 16, frames / 25, "h264"))
    moved = np.ones(frames, np.float32) if motion is None else np.float32(motion)
    return pretext.sample(video, {"frame_difference": moved}, np.random.default_rng(seed))


def told(count=4) -> np.ndarray:
    """Frames whose channels say the row, the column and ten times the place of the frame."""
    t, y, x = np.meshgrid(np.arange(count) * 10, np.arange(16), np.arange(16), indexing="ij")
    return np.stack([y, x, t], -1).astype(np.uint8)


def shown(pretext, class_, direction=1, seed=0) -> np.ndarray:
    sample = Sample((3, 6, 9, 12), {"shown": ORDERS[class_][::direction], "class": class_})
    return pretext.transform(told(), sample, np.random.default_rng(seed))["frames_SHWC"]


def test_there_is_one_class_for_an_order_and_its_reverse():
    assert len(ORDERS) == 12
    classes = {order: ORDERS.index(min(order, order[::-1])) for order in itertools.permutations(range(4))}
    assert sorted(classes.values()) == sorted([*range(12), *range(12)])


def test_frames_are_shown_in_the_order_of_their_class_forwards_or_backwards():
    pretext, seen = make(), set()
    for seed in range(400):
        sample = draw(pretext, seed=seed)
        assert sample.data["shown"] in (ORDERS[sample.data["class"]], ORDERS[sample.data["class"]][::-1])
        seen.add(sample.data["shown"])
    assert seen == set(itertools.permutations(range(4)))
    pretext = make(split_channels=False)
    for class_, direction in itertools.product(range(12), (1, -1)):
        places = shown(pretext, class_, direction)[:, 0, 0, 2] // 10
        assert tuple(places) == ORDERS[class_][::direction]


@given(st.integers(1, 6), st.integers(0, 6), st.integers(0, 30), st.integers(0, 10**6))
def test_the_four_frames_keep_their_distances_and_stay_inside_the_video(least, more, longer, seed):
    frames = 3 * least + 1 + longer
    motion = 0.2 + np.random.default_rng(seed).random(frames)
    read = np.array(draw(make(interval=(least, least + more)), frames, seed, motion).frames)
    assert read[0] >= 0 and read[-1] < frames
    assert (np.diff(read) >= least).all() and (np.diff(read) <= least + more).all()


def test_tuples_are_drawn_where_something_moves():
    motion = np.zeros(60)
    motion[30:34] = 9  # frames 29 to 33 move
    for seed in range(50):
        read = draw(make(), 60, seed, motion).frames
        assert read[0] < 33 and read[-1] >= 30


def test_a_still_or_short_video_is_skipped_with_the_reason():
    still, short = draw(make(), motion=np.zeros(40)), draw(make(), 6)
    assert isinstance(still, Skip) and still.reason == "no motion to sample"
    assert isinstance(short, Skip) and "7 frames" in short.reason
    assert isinstance(draw(make(), 7), Sample)


def test_the_window_is_where_most_moves():
    frames = np.zeros((4, 30, 40, 3), np.uint8)
    frames[1, 20:24, 5:9] = 200
    frames[2, 2:4, 30:32] = 90
    slow = max(
        ((top, left) for top in range(19) for left in range(29)),
        key=lambda p: sum(
            abs(float(b) - float(a))
            for x, y in itertools.pairwise(frames[:, p[0] : p[0] + 12, p[1] : p[1] + 12, 0])
            for a, b in zip(x.flat, y.flat, strict=True)
        ),
    )
    top, left = busiest_window(frames, 12)
    assert (top, left) == slow
    assert top <= 20 and top + 12 >= 24 and left <= 5 and left + 12 >= 9


def test_a_window_as_large_as_the_frame_is_the_frame():
    assert busiest_window(told(), 16) == (0, 0)


def test_each_frame_is_shaken_by_itself_around_a_place_that_they_share_inside_the_window():
    pretext, offsets = make(split_channels=False), set()
    for seed in range(60):
        corners = np.sort(shown(pretext, 0, seed=seed)[:, 0, [0, -1], :2], axis=1)[:, 0].astype(int)  # mirrored or not
        spread = corners.max(0) - corners.min(0)
        assert (spread <= 2).all()
        assert corners.min() >= 0 and corners.max() <= 12 - 6 + 4  # the window is at most 4 from the corner
        offsets |= {tuple(c) for c in corners - corners[0]}
    assert len(offsets) > 9
    at_test = shown(pretext.eval(), 0)[:, 0, 0, :2]
    assert (at_test == at_test[0]).all()


def test_all_frames_of_a_tuple_are_mirrored_or_none():
    pretext = make(split_channels=False)
    directions = [np.diff(shown(pretext, 0, seed=seed)[:, 0, :2, 1].astype(int))[:, 0] for seed in range(30)]
    assert all(len(set(d)) == 1 for d in directions) and {d[0] for d in directions} == {1, -1}


def test_one_channel_of_each_frame_is_shown_as_all_three_and_green_at_test():
    pretext, plain, drawn = make(), make(split_channels=False), set()
    for seed in range(20):
        # shaken and mirrored alike, because channels are drawn in both
        split, whole = shown(pretext, 0, seed=seed), shown(plain, 0, seed=seed)
        assert (split == split[..., :1]).all()
        drawn.add(
            tuple(
                next(k for k in range(3) if (s[..., 0] == w[..., k]).all()) for s, w in zip(split, whole, strict=True)
            )
        )
    assert {k for channels in drawn for k in channels} == {0, 1, 2}
    assert any(len(set(channels)) > 1 for channels in drawn)
    assert (shown(pretext.eval(), 0) == shown(plain.eval(), 0)[..., 1:2]).all()


def test_the_loss_is_cross_entropy_over_a_shared_layer_of_all_pairs():
    pretext = make().double().eval()
    parts = []
    for seed in range(2):
        frames = np.random.default_rng(seed).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
        parts.append(pretext.transform(frames, draw(pretext, seed=seed), np.random.default_rng(0)))
    batch = default_collate(parts)
    output = pretext(batch, Context(Progress(0, 1), torch.Generator()))
    spec, head = pretext.backbone.clip, pretext.head
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in (spec.mean, spec.std))
    total = 0.0
    for frames, class_ in zip(batch["frames_SHWC"], batch["class"], strict=True):
        seen = []
        for frame in frames:
            x = ((frame.double() / 255 - mean) / std).permute(2, 0, 1)[None, :, None]
            map_Dhw = pretext.backbone(x)[0, :, 0]  # 3 x 3 cells, pooled to overlapping quarters of 2 x 2
            cells = [map_Dhw[:, y : y + 2, x : x + 2].mean((1, 2)) for y in (0, 1) for x in (0, 1)]
            fc6 = head.frame[2]
            seen.append(torch.clamp(fc6.weight @ torch.stack(cells, 1).flatten() + fc6.bias, min=0))
        fc7, pairs = head.pair[0], []
        for i, j in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
            before = (fc7.weight @ torch.cat([seen[i], seen[j]]) + fc7.bias) / math.sqrt(1 + 1e-5)
            pairs.append(torch.clamp(before, min=0))
        logits = (head.fc8.weight @ torch.cat(pairs) + head.fc8.bias).tolist()
        total += math.log(sum(map(math.exp, logits))) - logits[class_]
    assert len(logits) == 12
    assert output.loss.item() == pytest.approx(total / 2, rel=1e-10)


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({"interval": (0, 3)}, "2 values, each a whole number of 1 or more"),
        ({"interval": (4, 3)}, "two ascending numbers"),
        ({"crop": 11}, "must fit into the window"),
        ({"window": 17}, "must fit into the window"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, answer):
    with pytest.raises(UserError, match=answer):
        make(**options)
