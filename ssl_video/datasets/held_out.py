"""Which videos of a training list are kept from training."""

import dataclasses

import numpy as np

from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.many import first_labels, some, units
from ssl_video.errors import UserError


def kept_of(total: int, share: float) -> int:
    """How many of so many videos are kept from training: about a ``share`` below 1, else that many.

    One stays and one is kept at least. Raises UserError if a number of videos leaves none to train on.
    """
    if share < 1:
        return min(max(1, round(share * total)), total - 1)
    if share >= total:
        raise UserError(
            f"{share:g} of {total} videos cannot be held out, since none would be left to train on; hold out fewer, or "
            f"a fraction of them, by held_out=0.1, say (--held-out of pretrain, --option held_out= of evaluate)."
        )
    return int(share)


def held_out(videos: VideoSet, share: float, seed: int) -> tuple[VideoSet, VideoSet]:
    """Split a training list into (what stays, what is kept: about a fraction, or at most that many, see ``kept_of``).

    Videos of one group stay together (unless all are of one group), and every class gives about the same share, as far
    as groups and whole numbers allow. The same arguments give the same result; both parts keep the list's order.

    Raises:
        ValueError: if there are fewer than two videos, or ``share`` is not above 0.
        UserError: see ``kept_of``.
    """
    total = len(videos.videos)
    if total < 2 or not share > 0:
        raise ValueError(f"cannot hold out {share} of {total} videos")
    wanted = kept_of(total, share)
    unit_N = units(videos.videos)
    if len(unit_N) and unit_N[-1] == 0 and not unit_N.any():
        unit_N = np.arange(total)
    sizes_U = np.bincount(unit_N)
    order_U = _interleaved(unit_N, first_labels(videos.videos), np.random.default_rng(seed))
    chosen, held = [], 0
    for unit, size in zip(order_U.tolist(), sizes_U[order_U].tolist(), strict=True):
        if held + size <= wanted:
            chosen.append(unit)
            held += size
    out_U = np.zeros(len(sizes_U), bool)
    out_U[chosen or [order_U[sizes_U[order_U].argmin()]]] = True
    out_N = out_U[unit_N]
    return (
        dataclasses.replace(videos, videos=some(videos.videos, np.flatnonzero(~out_N))),
        VideoSet(f"{videos.name} (held out)", some(videos.videos, np.flatnonzero(out_N)), videos.classes),
    )


def _interleaved(unit_N: np.ndarray, labels_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(U,) the units in a random order of which every beginning holds about the same share of each class.

    Systematic sampling: the shuffled units of a class are laid out evenly on [0, 1) from a random start, and all units
    are sorted by their places. A unit counts for the first class of its first video. The last unit of every class comes
    after all others, so that no class is held out whole as long as that can be avoided.
    """
    firsts_U = np.unique(unit_N, return_index=True)[1]
    class_U = labels_N[firsts_U]
    by_class = np.argsort(class_U, kind="stable")
    shuffled, placed = [], []
    for members in np.split(by_class, np.flatnonzero(np.diff(class_U[by_class])) + 1):
        shuffled.append(members[rng.permutation(len(members))])
        places = (np.arange(len(members)) + rng.random()) / len(members)
        places[-1] += 1
        placed.append(places)
    return np.concatenate(shuffled)[np.argsort(np.concatenate(placed), kind="stable")]
