"""A checkpoint as all processes take it: the first one alone reads a file, each one reads of shards what it needs."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ssl_video.checkpoints import Pieces, read
from ssl_video.run import Run
from ssl_video.tensors import each_tensor
from ssl_video.train.distributed import Ranks

Check = Callable[[Mapping[str, Any], bool], dict[str, Any]]
"""A state, and whether its numbers are to be looked at, to what of it fits. Raises UserError."""


@dataclass(frozen=True)
class Outline:
    """A tensor that the first rank alone has."""

    shape: torch.Size
    dtype: torch.dtype


@dataclass(frozen=True)
class Found:
    """The newest checkpoint. ``state`` is None on ranks that are ``sent`` what the first one reads."""

    state: Mapping[str, Any] | None
    ranks: Ranks
    sent: bool

    def checked(self, check: Check) -> dict[str, Any]:
        """What ``check`` makes of the state; on ranks that are sent it, with outlines in the places of tensors.

        Raises its UserError on all ranks.
        """
        fitting: dict[str, Any] = {}

        def outlines() -> dict[str, Any]:
            fitting.update(check(self.state or {}, True))
            return each_tensor(fitting, lambda x: Outline(x.shape, x.dtype)) if self.sent else {}

        told = self.ranks.first_does(outlines)
        if self.ranks.first:
            return fitting
        return told if self.sent else check(self.state or {}, False)

    def is_tensor(self, x: object) -> bool:
        """True for what ``tensor`` is to be asked for."""
        return isinstance(x, Tensor | Pieces | Outline)

    def tensor(self, x: Any) -> Tensor | Pieces:
        """A tensor of the checked state. All ranks ask for the same ones in the same order; none is kept here."""
        if not self.sent:
            return x
        device = self.ranks.device
        if isinstance(x, Outline):
            own = torch.empty(x.shape, dtype=x.dtype, device=device)
        else:
            own = x.to(device).contiguous()
        dist.broadcast(own, 0)
        return own


def opened(run: Run, ranks: Ranks) -> Found | None:
    """The newest checkpoint of a run that can be read, its files mapped; None, on all ranks, if there is none.

    Raises UserError, on all ranks, if none can be read.
    """
    newest = functools.cache(lambda: run.saved.newest(mapped=True))  # on the first rank, which tells its name
    path = ranks.first_does(lambda: None if (found := newest()) is None else found[0])
    if path is None:
        return None
    sent = ranks.world_size > 1 and not path.is_dir()
    if ranks.first:
        found = newest()
        assert found is not None
        return Found(found[1], ranks, sent)
    return Found(None if sent else read(path, compared=False), ranks, sent)
