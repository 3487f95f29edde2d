"""Taps: the places of a network whose maps can be had, with their sizes."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

Triple = tuple[int, int, int]
LONGER = 96
"""How much longer than the smallest clip the second is, or a multiple of it: divisible by the usual strides."""


@dataclass(frozen=True)
class Tap:
    """A place of a network whose map can be had.

    Args:
        module: the module whose output, (B, dim, t, h, w), is the map.
        dim: channels; 0: they and the strides are found when they are asked for (``sized``).
        strides: (t, h, w), clip size over map size; 0 along an axis that the network brings together into one cell,
            however long it is.
    """

    module: nn.Module
    dim: int = 0
    strides: Triple = (0, 0, 0)


def sized(
    network: nn.Module, taps: Mapping[str, Tap], channels: int, smallest: Triple, fixed: tuple[bool, bool, bool]
) -> dict[str, Tap]:
    """The taps with the sizes that were left open, seen in a twin of ``network`` that has no numbers.

    A clip longer by a multiple of a tap's stride has so many more cells. Along a ``fixed`` axis a clip has one length,
    and the stride is that over the cells.
    """
    modules = {name: tap.module for name, tap in taps.items()}
    more = [0 if f else math.lcm(s or 1, LONGER) for f, s in zip(fixed, list(taps.values())[-1].strides, strict=True)]
    small = _shapes(network, modules, (1, channels, *smallest))
    large = _shapes(network, modules, (1, channels, *(n + m for n, m in zip(smallest, more, strict=True))))

    def of(name: str, tap: Tap) -> Tap:
        if tap.dim:
            return tap
        axes = zip(smallest, more, small[name][2:], large[name][2:], strict=True)
        t, h, w = (m // (b - a) if b > a else 0 if m else n // a for n, m, a, b in axes)
        return replace(tap, dim=small[name][1], strides=(t, h, w))

    return {name: of(name, tap) for name, tap in taps.items()}


def _shapes(network: nn.Module, modules: Mapping[str, nn.Module], clip: tuple[int, ...]) -> dict[str, torch.Size]:
    """The shapes that the modules put out, on torch's meta device: nothing is computed, drawn or changed."""
    tensors = {id(t): _empty(t) for t in (*network.parameters(), *network.buffers())}
    memo: dict[int, object] = dict(tensors)  # a deep copy that finds its tensors there copies none
    twin = copy.deepcopy(network, memo).eval()
    shapes: dict[str, torch.Size] = {}

    def note(name: str):
        return lambda _module, _x, y: shapes.update({name: y.shape})

    for name, module in modules.items():
        of_twin = memo[id(module)]
        assert isinstance(of_twin, nn.Module)
        of_twin.register_forward_hook(note(name))
    with torch.device("meta"), torch.no_grad():
        twin(torch.empty(clip))
    return shapes


def _empty(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
