"""One tuple in every order: what the pretexts that shuffle a tuple can train on at the price of one pass."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_video.constants import constant


def in_every_order(
    shown_BVD: Tensor, order_BV: Tensor, orders: Sequence[Sequence[int]], classes: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The features of shuffled tuples in each of K orders, and the classes of these.

    The loss of a tuple in an order drawn at random is an estimate of its mean over all orders, and most of its noise
    comes from the draw: what the features of a tuple have in common says nothing of the order, and cancels in the mean.

    Args:
        shown_BVD: features of the members of a tuple, as they were shown.
        order_BV: place v showed member order_BV[:, v] of the tuple.
        orders: K orders, each the member that every place shows.
        classes: the class of each.

    Returns:
        (B * K, V, D) and (B * K,).
    """
    true_BVD = torch.take_along_dim(shown_BVD, order_BV.argsort(1)[..., None], 1)
    device = shown_BVD.device
    tuples_BKVD = true_BVD[:, constant(tuple(map(tuple, orders)), device)]
    return tuples_BKVD.flatten(0, 1), constant(tuple(classes), device).repeat(len(shown_BVD))


def in_words(orders: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Each order, counted from 1: ``in the order 2-1-3``."""
    return tuple(f"in the order {'-'.join(str(place + 1) for place in order)}" for order in orders)
