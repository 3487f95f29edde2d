"""How one objective is trained by many processes. The loop knows these few functions, and not what is behind them."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ssl_video.backbones.weights import load_into
from ssl_video.errors import UserError
from ssl_video.train.config import TrainingConfig
from ssl_video.train.distributed import Ranks


def check(config: TrainingConfig, ranks: Ranks) -> None:
    """Raise UserError for what these processes cannot do together."""
    each = ranks.world_size * config.views
    if config.batch_size % each:
        views = f", with {config.views} views of each clip (--views)" if config.views > 1 else ""
        raise UserError(
            f"--batch-size {config.batch_size} cannot be divided among {ranks.world_size} processes{views}; "
            f"use a multiple of {each}."
        )
    if config.sync_bn and ranks.world_size > 1 and ranks.device.type != "cuda":
        raise UserError("--sync-bn needs a GPU for every process; leave it out on CPUs.")


def wrap(module: nn.Module, config: TrainingConfig, ranks: Ranks) -> nn.Module:
    """The module whose forward pass trains ``module`` with all ranks. They start with the first rank's tensors."""
    if ranks.world_size == 1:
        return module
    if config.sync_bn:
        nn.SyncBatchNorm.convert_sync_batchnorm(module)  # in place below the root
    return DistributedDataParallel(module)


def no_sync(wrapped: nn.Module, skip: bool) -> AbstractContextManager[Any]:
    """In this context, if ``skip``, gradients stay on their rank: they are summed up over several batches first."""
    return wrapped.no_sync() if skip and isinstance(wrapped, DistributedDataParallel) else nullcontext()


def clip_gradients(module: nn.Module, norm: float | None) -> Tensor | None:
    """Scale the gradient of all parameters together down to ``norm``; its norm before, where there is one to keep."""
    return None if norm is None else nn.utils.clip_grad_norm_(module.parameters(), norm)


def state_of(modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, step: int) -> dict[str, Any]:
    """All that a resumed training needs, as tensors and numbers."""
    state = {name: module.state_dict() for name, module in modules.items()}
    return state | {"optimizer": optimizer.state_dict(), "step": step}


def load_state(
    state: Mapping[str, Any] | None, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, ranks: Ranks
) -> int:
    """Load what the first rank has read, on all of them; the number of steps that were done, 0 if there is nothing.

    Raises UserError for weights that do not fit, or are not finite.
    """
    state = ranks.share(state)
    if state is None:
        return 0
    for name, module in modules.items():
        load_into(module, state[name], f"The checkpoint of step {state['step']}")
    scales = [{k: group[k] for k in ("lr_scale", "decay_scale")} for group in optimizer.param_groups]
    optimizer.load_state_dict(state["optimizer"])
    for group, scale in zip(optimizer.param_groups, scales, strict=True):  # they are configuration, not state
        group.update(scale)
    return state["step"]
