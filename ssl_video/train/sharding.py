"""What is trained, divided among the processes: each holds some rows of every weight (FSDP2, ``fully_shard``)."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import AveragedModel

from ssl_video.checkpoints import Pieces
from ssl_video.errors import UserError
from ssl_video.tensors import local, not_finite
from ssl_video.train.distributed import Ranks
from ssl_video.train.log import stop_at
from ssl_video.train.objective import Objective, Output
from ssl_video.train.parts import parts_of
from ssl_video.train.trained import Trained, averaging


class Sharded(Trained):
    """``module`` is a copy of ``objective`` whose weights are sharded part by part, as are those of the average.

    ``objective`` keeps its structure and its buffers, for samples and monitors, and gets weights when they are needed.
    Buffers are whole on every process; before each forward pass they are the first one's, as without shards.
    """

    def _wrap(self) -> nn.Module:
        check_shardable(self.objective)
        send(chain(self.objective.parameters(), self.objective.buffers()), self.ranks)
        if self.config.sync_bn:
            nn.SyncBatchNorm.convert_sync_batchnorm(self.objective)
        self.module = copy.deepcopy(self.objective)
        self._shard(self.module)
        saved = self.module.state_dict().keys()
        self._kept = [x for name, x in self.module.named_buffers() if name in saved]
        self._counts = self.objective
        if self.config.optim.ema is None:
            empty(self.objective)  # otherwise the average is still to be made of it
        return self.module

    def _averaged(self, decay: float) -> AveragedModel:
        average = AveragedModel(self.objective, multi_avg_fn=of_shards(averaging(decay)), use_buffers=True)
        self._shard(average.module)
        empty(self.objective)
        self._counts = copy.deepcopy(self.objective)
        return average

    def _shard(self, module: nn.Module) -> None:
        """In place, and onto the device, part by part."""
        mesh = init_device_mesh(self.ranks.device.type, (self.ranks.world_size,))
        reduced = torch.bfloat16 if self.config.gradients == "bf16" else None
        policy = MixedPrecisionPolicy(reduce_dtype=reduced)
        for part in parts_of(module):
            part.register_forward_hook(not_a_view)  # before that of fully_shard
            fully_shard(part, mesh=mesh, mp_policy=policy)
        fully_shard(module, mesh=mesh, mp_policy=policy)

    def forward(self, batch: Mapping[str, Tensor], ctx: Any) -> Output:
        """The loss of this process's part of a batch."""
        send_together(self._kept)
        return self.module(batch, ctx)

    def no_sync(self, skip: bool) -> AbstractContextManager[Any]:
        """In this context, if ``skip``, gradients stay on their rank, whole."""
        cast(FSDPModule, self.module).set_requires_gradient_sync(not skip)
        return nullcontext()

    def clip_gradients(self) -> Tensor | None:
        """As of a network that is whole."""
        norm = super().clip_gradients()
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def check(self, step: int) -> None:
        """Raise UserError, on all ranks, if one of them has a weight that is not finite."""
        for module in self.modules.values():
            found = self.ranks.gathered(not_finite(module))
            stop_at(step, list(dict.fromkeys(chain.from_iterable(found))), len(module.state_dict()))

    @contextmanager
    def counting(self) -> Iterator[Objective]:
        """What counts, whole on every process for as long as this lasts."""
        fill(self._counts, self._source, self.ranks.device)
        self.ranks.equalise(self._counts)
        try:
            yield self._counts
        finally:
            empty(self._counts)

    def finished(self) -> Objective:
        """What counts; like ``objective`` it gets its weights again, on the CPU of every process."""
        fill(self.objective, self.module, torch.device("cpu"))
        if self._counts is not self.objective:
            fill(self._counts, self._source, torch.device("cpu"))
        return self._counts

    @property
    def _source(self) -> nn.Module:
        return self.module if self.average is None else self.average.module

    def _put(self, own: Tensor, x: Tensor | Pieces) -> None:
        if isinstance(own, DTensor):
            own.to_local().copy_(rows_for(own, x, self.ranks))
        else:
            super()._put(own, x)

    def _moment(self, like: Tensor, x: Tensor | Pieces) -> Tensor:
        if not isinstance(like, DTensor) or x.shape != like.shape:
            return super()._moment(like, x)
        rows = rows_for(like, x, self.ranks).to(like.device, copy=True)
        return DTensor.from_local(
            rows, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
        )


torch.export.register_dataclass(Output)  # so that the gradient that comes to its loss is seen


def not_a_view(_part: nn.Module, _inputs: Any, output: Any) -> Any:
    """What a part puts out, copied if it is a view: one that is changed in place, by a ReLU, would lose its hook."""
    return output.clone() if isinstance(output, Tensor) and output._is_view() else output


def check_shardable(module: nn.Module) -> None:
    """Raise UserError for a parameter that has no rows."""
    scalars = [name for name, p in module.named_parameters() if p.ndim == 0]
    if scalars:
        raise UserError(f"--shard cannot divide the single number {scalars[0]}; leave it out for this network.")


def rows_for(own: DTensor, x: Tensor | Pieces, ranks: Ranks) -> Tensor:
    """Those of ``x`` that this process holds of ``own``, of which each holds as many, but for the last ones."""
    first = min(ranks.rank * -(-own.shape[0] // ranks.world_size), own.shape[0])
    number = own.to_local().shape[0]
    return x.rows(first, number) if isinstance(x, Pieces) else x.narrow(0, first, number)


@torch.no_grad()
def send(tensors: Iterable[Tensor], ranks: Ranks) -> None:
    """Give all ranks the first one's, one after the other, by way of the device."""
    for x in tensors:
        sent = x.to(ranks.device).contiguous()
        dist.broadcast(sent, 0)
        x.copy_(sent)


@torch.no_grad()
def send_together(tensors: Iterable[Tensor]) -> None:
    """As ``send``, of tensors on the device, those of one type at once."""
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for x in tensors:
        kinds.setdefault(x.dtype, []).append(x)
    for some in kinds.values():
        flat = torch.cat([x.flatten() for x in some])
        dist.broadcast(flat, 0)
        for x, sent in zip(some, flat.split([x.numel() for x in some]), strict=True):
            x.copy_(sent.view_as(x))


def empty(module: nn.Module) -> None:
    """Let go of the numbers of all parameters."""
    for p in module.parameters():
        p.data = p.data.new_empty(0)


@torch.no_grad()
def fill(module: nn.Module, shards: nn.Module, device: torch.device) -> None:
    """Give a module the whole weights and the buffers of the one whose shards the processes hold."""
    for p, shard in zip(module.parameters(), shards.parameters(), strict=True):
        p.data = (shard.full_tensor() if isinstance(shard, DTensor) else shard.detach().clone()).to(device)
    for x, other in zip(module.buffers(), shards.buffers(), strict=True):
        x.data = other.to(device, copy=True)


def of_shards(average: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any, Any], None]:
    """An average of lists of tensors, on what this process holds of them: torch's takes either kind, and no mixture."""

    def on_shards(averaged: Iterable[Tensor], current: Iterable[Tensor], count: Any) -> None:
        average([local(x) for x in averaged], [local(x) for x in current], count)

    return on_shards
