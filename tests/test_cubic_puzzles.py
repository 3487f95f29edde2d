import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import default_collate

from ssl_video.errors import UserError
from ssl_video.pretexts.base import Context, Progress, Sample, Skip, build_pretext
from ssl_video.pretexts.cubic_puzzles import PERMUTATIONS, SPACE, TIME
from tests.nets import drawn_frames, tiny_backbone, video_set

OPTIONS = {"frames": 4, "cell_frames": 6, "crop": 4, "cell": 6, "short_side": 12, "width": 5, "dropout": 0.0}


def make(**options):
    return build_pretext("cubic_puzzles", tiny_backbone(), OPTIONS | {"replicate": 0.0} | options)


def draw(pretext, seed=0, frames=40, **data) -> Sample:
    sample = pretext.sample(video_set(1, frames=frames).videos[0], {}, np.random.default_rng(seed))
    assert isinstance(sample, Sample)
    return Sample(sample.frames, {**sample.data, **data})


def told(sample) -> np.ndarray:
    """Frames of 12 x 12 pixels whose channels say the frame's number, the row and the column."""
    t, y, x = np.meshgrid(np.uint8(sample.frames), np.arange(12), np.arange(12), indexing="ij")
    return np.stack([t, y, x], -1).astype(np.uint8)


def pieces_of(pretext, sample, seed=0) -> np.ndarray:
    return pretext.transform(told(sample), sample, np.random.default_rng(seed))["pieces_PTHWC"]


def test_a_puzzle_over_space_shows_the_four_cells_in_the_order_of_its_class():
    pretext = make(puzzles="space")
    for class_, order in enumerate(PERMUTATIONS):
        pieces = pieces_of(pretext, draw(pretext, class_, **{"class": class_}), class_)
        rows, columns = pieces[:, 0, 0, 0, 1] // 6, pieces[:, 0, 0, 0, 2] // 6
        assert tuple(2 * rows + columns) == order


def test_a_puzzle_over_time_shows_the_four_cells_in_the_order_of_its_class():
    pretext = make(puzzles="time")
    for class_, order in enumerate(PERMUTATIONS):
        pieces = pieces_of(pretext, draw(pretext, class_, frames=24, **{"class": class_}))
        assert tuple(pieces[:, 0, 0, 0, 0] // 6) == order


@given(st.integers(0, 10**6))
def test_the_pieces_of_a_puzzle_differ_in_one_axis_only_and_stay_inside_their_cells(seed):
    pretext = make()
    sample = draw(pretext, seed, frames=24)
    pieces = pieces_of(pretext, sample, seed)
    assert pieces.shape == (4, 4, 4, 4, 3)
    first, last = pieces[:, 0, 0, 0] // 6, pieces[:, -1, -1, -1] // 6
    assert (first == last).all()  # no piece reaches into another cell
    cells_of_time, cells_of_space = {c[0] for c in first}, {(c[1], c[2]) for c in first}
    axis = sample.data["axis"]
    assert (len(cells_of_time), len(cells_of_space)) == ((1, 4) if axis == SPACE else (4, 1))
    assert (np.diff(pieces[:, :, 0, 0, 0].astype(int), axis=1) == 1).all()


def test_pieces_are_shaken_in_training_and_in_the_middle_of_their_cells_at_test():
    pretext = make(puzzles="space")
    corners = [pieces_of(pretext, draw(pretext, seed), seed)[:, 0, 0, 0, 1:] % 6 for seed in range(20)]
    assert {tuple(c) for c in np.concatenate(corners)} == {(y, x) for y in range(3) for x in range(3)}
    pretext.eval()
    assert (pieces_of(pretext, draw(pretext))[:, 0, 0, 0, 1:] % 6 == 1).all()


def test_both_kinds_of_puzzle_and_all_permutations_are_drawn():
    samples = [draw(make(), seed) for seed in range(400)]
    axes = np.bincount([s.data["axis"] for s in samples])
    assert axes[SPACE] > 160 and axes[TIME] > 160
    assert {s.data["class"] for s in samples} == set(range(24))


def test_replication_shows_one_channel_three_times_the_same_in_all_pieces():
    pretext = make(replicate=1.0)
    sample = draw(pretext)
    chosen = set()
    for seed in range(12):
        pieces = pieces_of(pretext, sample, seed)
        assert (pieces == pieces[..., :1]).all()
        plain = make().transform(told(sample), sample, np.random.default_rng(seed))["pieces_PTHWC"]
        values = [set(plain[..., c].ravel()) for c in range(3)]
        chosen |= {c for c in range(3) if set(pieces[..., 0].ravel()) <= values[c]}
    assert len(chosen) == 3
    at_test = pieces_of(pretext.eval(), sample)
    assert (at_test[..., 1] != at_test[..., 2]).any()


def test_a_video_shorter_than_the_four_cells_is_skipped_with_the_reason():
    pretext, rng = make(stride=2), np.random.default_rng(0)
    assert isinstance(pretext.sample(video_set(1, frames=47).videos[0], {}, rng), Sample)
    outcome = pretext.sample(video_set(1, frames=46).videos[0], {}, rng)
    assert isinstance(outcome, Skip) and "47 frames" in outcome.reason


def test_the_papers_puzzle_needs_128_frames():
    pretext = build_pretext("cubic_puzzles", tiny_backbone(), {})
    assert isinstance(pretext.sample(video_set(1, frames=127).videos[0], {}, np.random.default_rng(0)), Skip)
    assert max(draw(pretext, frames=128).frames) < 128


def test_the_loss_is_cross_entropy_of_the_fused_pieces():
    pretext = make().double().eval()
    videos = video_set(3).videos
    parts = []
    for n, video in enumerate(videos):
        sample = draw(pretext, n)
        parts.append(pretext.transform(drawn_frames(video, sample.frames), sample, np.random.default_rng(n)))
    batch = default_collate(parts)
    output = pretext(batch, Context(Progress(0, 1), torch.Generator()))
    spec, (first, _, _, last) = pretext.backbone.clip, pretext.head
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in (spec.mean, spec.std))
    total = 0.0
    for pieces, class_ in zip(batch["pieces_PTHWC"], batch["class"], strict=True):
        maps = [pretext.backbone(((x.double() / 255 - mean) / std).permute(3, 0, 1, 2)[None])[0] for x in pieces]
        fused = torch.cat([x.flatten(1).mean(1) for x in maps])
        hidden = torch.clamp(first.weight @ fused + first.bias, min=0)
        logits = (last.weight @ hidden + last.bias).tolist()
        total += math.log(sum(map(math.exp, logits))) - logits[class_]
    assert len(logits) == 24
    assert output.loss.item() == pytest.approx(total / 3, rel=1e-10)


@pytest.mark.parametrize("options", [{"frames": 7}, {"crop": 7}, {"cell": 7}])
def test_pieces_that_do_not_fit_are_refused(options):
    with pytest.raises(UserError, match="must fit into a cell"):
        make(**options)
