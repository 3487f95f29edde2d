"""An order of an epoch in blocks of neighbours."""

import numpy as np
import pytest

from ssl_video.errors import UserError
from ssl_video.train.data import BatchKeys
from ssl_video.train.distributed import Ranks
from ssl_video.train.order import Blocks


def slowly(seed: int, epoch: int, count: int, block: int, window: int) -> list[int]:
    """The same order as a list, cut, permuted and mixed step by step."""
    first = int(np.random.default_rng([seed, epoch, 1]).integers(count))
    ring = [(first + n) % count for n in range(count)]
    whole = count // block
    order = np.random.default_rng([seed, epoch]).permutation(whole)
    keys = [key for n in order for key in ring[n * block : (n + 1) * block]] + ring[whole * block :]
    mixed = []
    for number, begin in enumerate(range(0, count, block * window)):
        part = keys[begin : begin + block * window]
        mixed += [part[n] for n in np.random.default_rng([seed, epoch, 2, number]).permutation(len(part))]
    return mixed


@pytest.mark.parametrize(("count", "block", "window"), [(100, 8, 3), (64, 8, 2), (5, 8, 3), (1, 1, 1), (37, 5, 1)])
def test_an_order_in_blocks_is_the_one_that_is_made_step_by_step(count, block, window):
    order = Blocks(3, 2, count, block, window)
    found = order[np.arange(count)]
    assert found.tolist() == slowly(3, 2, count, block, window)
    assert sorted(found.tolist()) == list(range(count))
    backwards = [int(order[np.array([n])][0]) for n in reversed(range(count))]
    assert backwards[::-1] == found.tolist()


def test_neighbours_are_read_soon_after_each_other():
    found = Blocks(0, 0, 10_000, 50, 4)[np.arange(10_000)]
    place = np.empty(10_000, int)
    place[found] = np.arange(10_000)
    apart = np.abs(np.diff(place))
    assert np.mean(apart < 200) > 0.95  # of one block, but for those at its ends
    assert len(set((found[:200] // 50).tolist())) <= 8  # a window holds four blocks, cut anywhere on the ring


def test_an_order_in_blocks_is_another_one_in_another_epoch_or_by_another_seed():
    orders = [Blocks(seed, epoch, 60, 4, 2)[np.arange(60)].tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(map(tuple, orders))) == 4


def keys(start: int = 0, ranks: Ranks = Ranks(), block: int = 3, size: int = 4) -> list[list[tuple[int, int, int]]]:
    made = iter(BatchKeys(10, 2, size, seed=1, start=start, ranks=ranks).in_blocks(block, 2))
    return [next(made) for _ in range(12)]


def test_a_training_in_blocks_shows_every_clip_once_an_epoch_and_resumes_where_it_was():
    whole = [key for batch in keys() for key in batch]
    assert sorted(whole[:20]) == [(0, video, clip) for video in range(10) for clip in range(2)]
    assert keys(start=5)[:7] == keys()[5:]


def test_several_processes_share_the_order_in_blocks():
    parts = [keys(ranks=Ranks(rank, 2), size=2) for rank in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == keys()


def test_without_blocks_the_order_is_what_it_was():
    shuffled = iter(BatchKeys(10, 2, 4, seed=1))
    assert [next(shuffled) for _ in range(12)] == keys(block=0)


def test_blocks_and_batches_of_one_class_exclude_each_other():
    with pytest.raises(UserError, match="--block orders videos by where they lie, but this pretext by their classes"):
        BatchKeys(4, 1, 2, seed=0, groups=[0, 0, 1, 1]).in_blocks(2, 2)
