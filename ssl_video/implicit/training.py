"""A network trained on one video, step by step, to be stopped and resumed at any of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ssl_video.errors import UserError
from ssl_video.implicit.footage import Footage
from ssl_video.progress import Bar

END = 0.03
"""What is left of a learning rate at the end; it falls by the same factor in each step."""
BETAS, EPSILON = (0.9, 0.99), 1e-15
"""Of Adam, as for hash grids."""


def train(
    network: Any,
    footage: Footage,
    steps: int,
    pixels: int,
    seed: int = 0,
    *,
    state: dict[str, Any] | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Train ``network``, a module with ``groups`` and ``losses``, by Adam; a step draws what seed and step say.

    Args:
        network: changed in place.
        footage: what it learns.
        steps: in all.
        pixels: points of a step.
        seed: of what steps draw.
        state: what ``save`` was given, to go on from there.
        save: called with the state now and then, and at the end.

    Raises:
        UserError: if the loss is not finite.
    """
    optimizer = torch.optim.Adam(network.groups(), betas=BETAS, eps=EPSILON, fused=True)
    rates, first = [group["lr"] for group in optimizer.param_groups], 0
    if state is not None:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        first = int(state["step"])
    every = max(1, steps // 10)
    with Bar("represent", steps, "step", done=first) as bar:
        for step in range(first, steps):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * END ** (step / steps)
            optimizer.zero_grad(set_to_none=True)
            terms = network.losses(footage, pixels, keyed(seed, step), step / steps)
            loss = torch.stack(list(terms.values())).sum()
            if not torch.isfinite(loss):
                raise UserError(f"The loss is {float(loss)} at step {step}; try another --seed.")
            loss.backward()
            optimizer.step()
            bar.update()
            if save is not None and ((step + 1) % every == 0 or step + 1 == steps):
                save({"step": step + 1, "network": network.state_dict(), "optimizer": optimizer.state_dict()})


def keyed(seed: int, step: int) -> torch.Generator:
    """The generator of a step."""
    key = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator().manual_seed(key)
