"""What every number that a network gives passes before it is used, kept or shown: it is finite."""

from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor

from ssl_video.backbones.weights.files import OTHER_WEIGHTS
from ssl_video.errors import UserError

LARGEST = 1e15
"""Features beyond it count as infinite: their squares, summed up over a list, would be in single precision."""


def check_features(name: str, found: Sequence[Tensor | np.ndarray], what: str = "video", before: int = 0) -> None:
    """Raise UserError unless all features that the model called ``name`` gives are finite, an array for each ``what``.

    None is left out: it is the network that is at fault. ``before`` of them were good.
    """
    if bad := count_bad(found):
        count = before + len(found)
        which = f"{bad} of the first {count} {what}s" if count > 1 else f"a {what}"
        raise UserError(
            f"{name} cannot be used: its features of {which} are not finite (NaN, or beyond {LARGEST:g}), though its "
            f"weights are; {OTHER_WEIGHTS}."
        )


def count_bad(found: Iterable[Tensor | np.ndarray]) -> int:
    """How many of the arrays hold a number that is NaN, or beyond ``LARGEST``."""
    return sum(not (x.max() <= LARGEST and x.min() >= -LARGEST) for x in found)
