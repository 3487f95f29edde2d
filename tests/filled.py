"""Weights that need no generator: what published networks give with them is known."""

from collections.abc import Mapping

import torch
from torch import Tensor


def filled(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """float64 tensors of these names and shapes: 0.05 sin(0.7 j + 1.3 i), for number j of the i-th name, sorted.

    Weights of norms are one more.
    """
    made = {}
    for i, name in enumerate(sorted(shapes)):
        count = torch.Size(shapes[name]).numel()
        values = 0.05 * torch.sin(0.7 * torch.arange(count, dtype=torch.float64) + 1.3 * i)
        made[name] = (values + ("norm" in name and name.endswith("weight"))).view(shapes[name])
    return made
