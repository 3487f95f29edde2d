"""How one objective is trained by many processes. The loop knows these few functions, and not what is behind them."""

import torch
import torch.distributed as dist

from ssl_video.errors import UserError
from ssl_video.train.config import TrainingConfig
from ssl_video.train.distributed import Ranks
from ssl_video.train.objective import Objective
from ssl_video.train.parts import check_compiler, named_parts, set_passes
from ssl_video.train.precision import channels_last, fp32_where_bf16_is_wrong
from ssl_video.train.trained import Trained


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
    if sharded(config, ranks) and config.minutes is not None:
        raise UserError(
            "--shard is for networks that one process cannot time; give --steps or --epochs, not --minutes."
        )
    if config.compile:
        check_compiler()
    if config.gradients == "bf16" and ranks.world_size > 1:
        try:
            dist.all_reduce(torch.zeros(1, dtype=torch.bfloat16, device=ranks.device))
        except RuntimeError:
            raise UserError("These processes cannot add bf16 numbers; leave --gradients bf16 out.") from None


def sharded(config: TrainingConfig, ranks: Ranks) -> bool:
    """True if the weights are divided; one process has nobody to divide them with."""
    return config.shard and ranks.world_size > 1


def place(objective: Objective, config: TrainingConfig, ranks: Ranks) -> None:
    """Onto the device, in its layout; what is sharded stays where it is until then, since it may not fit."""
    objective.train()
    if not sharded(config, ranks):
        objective.to(ranks.device)
        channels_last(objective)
    fp32_where_bf16_is_wrong(objective)


def prepare(objective: Objective, config: TrainingConfig, ranks: Ranks) -> Trained:
    """What the loop trains, of an objective that is built and fitted. Raises UserError."""
    set_passes(objective, named_parts(objective.backbone, config.checkpoint_activations), config.compile)
    if not sharded(config, ranks):
        return Trained(objective, config, ranks)
    from ssl_video.train.sharding import Sharded  # which takes a second to import

    return Sharded(objective, config, ranks)
