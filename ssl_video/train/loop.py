"""The training loop."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ssl_video.train.checkpoint import resume, save_checkpoint
from ssl_video.train.config import RunConfig
from ssl_video.train.data import BatchKeys, ClipDataset, batches, grouping, samples_to_fit, tensors
from ssl_video.train.distributed import Ranks
from ssl_video.train.log import Log, Meter, StopSignals
from ssl_video.train.objective import Context, Objective, Progress
from ssl_video.train.optim import build_optimizer, learning_rate
from ssl_video.train.precision import channels_last, choose_precision, fp32_where_bf16_is_wrong

Monitor = Callable[[Objective, int], dict[str, float]]


class Interrupted(Exception):
    """A signal asked the run to stop; its state was saved."""


def context_of(seed: int, progress: Progress, ranks: Ranks, micro: int = 0, accumulate: int = 1) -> Context:
    """The randomness of one step, keyed and not carried over from the step before: nothing of it has to be saved."""
    key = int(np.random.SeedSequence([seed, progress.step * accumulate + micro]).generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(key + ranks.rank)  # what modules draw by themselves, dropout for one
    return Context(progress, torch.Generator().manual_seed(key), ranks.rank, ranks.world_size)


def train(
    pretext: Objective,
    dataset: ClipDataset,
    config: RunConfig,
    steps: int,
    run: Path,
    device: torch.device,
    ranks: Ranks = Ranks(),
    monitors: Sequence[Monitor] = (),
) -> Objective:
    """Train ``pretext`` for ``steps`` steps in all, going on from the newest checkpoint of the folder ``run``.

    A monitor that returns a number called "stop" ends the training after its step.

    Returns the module whose weights count: ``pretext``, or its moving average when the configuration asks for one.

    Raises:
        Interrupted: after SIGTERM or Ctrl-C, when the state is saved.
        UserError: when the loss is not finite, a checkpoint cannot be written, or the data cannot be read.
    """
    pretext.to(device).train()
    channels_last(pretext)
    fp32_where_bf16_is_wrong(pretext)
    dtype = choose_precision(config.precision, device)
    optimizer = build_optimizer(config.optim, pretext)
    average = None
    if config.optim.ema is not None:
        average = AveragedModel(pretext, multi_avg_fn=get_ema_multi_avg_fn(config.optim.ema), use_buffers=True)
    modules: dict[str, nn.Module] = {"pretext": pretext}
    if average is not None:
        modules["average"] = average

    start = resume(run, modules, optimizer)
    if start == 0 and ranks.first:  # the others get its buffers from DistributedDataParallel
        pretext.fit(samples_to_fit(dataset), np.random.default_rng([config.seed]))
    parallel: nn.Module = pretext
    if ranks.world_size > 1:
        if config.sync_bn and device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(pretext)  # in place below the root
        parallel = DistributedDataParallel(pretext)
    accumulate = config.optim.accumulate
    keys = BatchKeys(
        len(dataset.videos.videos),
        config.clips_per_video,
        config.batch_size // ranks.world_size,
        seed=config.seed,
        start=start * accumulate,
        rank=ranks.rank,
        ranks=ranks.world_size,
        groups=grouping(dataset.videos, pretext),
    )
    loader = iter(batches(dataset, keys, config.workers, pin=device.type == "cuda"))
    meter = Meter(config.batch_size * accumulate)

    def save(step: int) -> None:
        meter.check(step)
        if ranks.first:
            state = {name: module.state_dict() for name, module in modules.items()}
            save_checkpoint(run, step, state | {"optimizer": optimizer.state_dict(), "step": step})
        ranks.barrier()

    with StopSignals() as stop, Log(run, start, steps, config, ranks.first) as log:
        for step in range(start, steps):
            lr = learning_rate(config.optim, step, steps)
            for group in optimizer.param_groups:
                group["lr"] = lr * group["scale"]
            optimizer.zero_grad(set_to_none=True)
            for micro in range(accumulate):
                waiting_since = time.perf_counter()
                batch = next(loader)
                meter.waited(time.perf_counter() - waiting_since)
                ctx = context_of(config.seed, Progress(step, steps), ranks, micro, accumulate)
                last = micro == accumulate - 1
                with nullcontext() if last or parallel is pretext else parallel.no_sync():  # pyright: ignore
                    with torch.autocast(device.type, dtype, enabled=dtype is not None):
                        output = parallel(tensors(batch, device), ctx)
                    (output.loss / accumulate).backward()
                meter.add(step, output, batch["problems"])
            if config.optim.clip_norm is not None:
                nn.utils.clip_grad_norm_(pretext.parameters(), config.optim.clip_norm)
            optimizer.step()
            pretext.after_step(Progress(step + 1, steps))
            if average is not None:
                average.update_parameters(pretext)

            done = step + 1
            stopping, enough = ranks.any(stop.asked, device), False
            if done % config.log_every == 0 or done == steps:
                record = {"step": done, "lr": lr} | ranks.mean(meter.record(done), device)
                if done % config.monitor_every == 0 or done == steps:
                    record |= _monitor(monitors, pretext, done) if ranks.first else {}
                    enough = ranks.any("stop" in record, device)
                    meter.restart()
                log.write(record, meter.replaced)
            log.tick(done)
            if done % config.checkpoint_every == 0 or done == steps or stopping or enough:
                save(done)
            if enough:
                break
            if stopping and done < steps:
                raise Interrupted(f"Stopped by a signal at step {done} of {steps}; the state is saved")
    return cast(Objective, average.module) if average is not None else pretext


def _monitor(monitors: Sequence[Monitor], pretext: Objective, step: int) -> dict[str, float]:
    pretext.eval()
    with torch.no_grad():
        numbers = {k: v for monitor in monitors for k, v in monitor(pretext, step).items()}
    pretext.train()
    return numbers
