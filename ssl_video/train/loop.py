"""The training loop."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ssl_video.progress import showing
from ssl_video.run import Run
from ssl_video.train.config import TrainingConfig
from ssl_video.train.data import BatchKeys, ClipDataset, batches, clips_in, grouping, samples_to_fit, tensors
from ssl_video.train.distributed import Ranks
from ssl_video.train.log import Log, Meter
from ssl_video.train.objective import Context, Objective, Progress
from ssl_video.train.optim import set_schedules
from ssl_video.train.parallel import place, prepare
from ssl_video.train.precision import choose_precision
from ssl_video.train.resuming import opened
from ssl_video.train.saving import Saver
from ssl_video.train.stopping import StopSignals

Monitor = Callable[[Objective, int], dict[str, float]]
"""What is trained (its moving average where the configuration asks for one) and the steps done, to numbers.

Every rank calls it, with the same weights and buffers.
"""


class Interrupted(Exception):
    """A signal asked the run to stop; its state was saved."""


def context_of(seed: int, progress: Progress, ranks: Ranks, micro: int = 0, accumulate: int = 1) -> Context:
    """The randomness of one batch, keyed and not carried over from the one before: nothing of it has to be saved."""
    keys = [seed, progress.step * accumulate + micro]
    key = int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(key + ranks.rank)  # what modules draw by themselves, dropout for one
    return Context(progress, torch.Generator().manual_seed(key), ranks.rank, ranks.world_size, ranks.device)


def train(
    objective: Objective,
    dataset: ClipDataset,
    config: TrainingConfig,
    run: Run,
    ranks: Ranks = Ranks(),
    monitors: Sequence[Monitor] = (),
    progress: bool = False,
) -> Objective:
    """Train ``objective`` for the configured steps in all, resuming from the newest checkpoint of ``run``.

    A monitor that returns a number called "stop" ends the training after its step. ``progress``: with a bar.
    Checkpoints are written beside the training (``saving.Saver``), which waits for the last one.

    Returns the module whose weights count: ``objective``, or its moving average when the configuration asks for one.

    Raises:
        Interrupted: after SIGTERM or Ctrl-C, when the state is saved.
        UserError: when the loss, a clipped gradient or a weight that would be written or watched is not finite, a
            checkpoint cannot be written, or the data cannot be read.
    """
    steps, accumulate = config.steps_over(len(dataset.videos.videos)), config.optim.accumulate
    device = ranks.device
    dtype = choose_precision(config.precision, device)
    place(objective, config, ranks)
    found = opened(run, ranks)
    if found is None and ranks.first:  # the others get what is fitted when the objective is wrapped
        objective.fit(samples_to_fit(dataset), np.random.default_rng([config.seed]))
    ranks.barrier()  # the first may have fitted for long
    trained = prepare(objective, config, ranks)
    start = trained.load(found)
    del found  # its file is mapped
    keys = BatchKeys(
        len(dataset.videos.videos),
        config.clips_per_video,
        config.batch_size // ranks.world_size // dataset.views,
        seed=config.seed,
        start=start * accumulate,
        ranks=ranks,
        groups=grouping(dataset.videos, objective),
    ).in_blocks(config.block, config.window)
    loader = iter(batches(dataset, keys, config.workers, pin=device.type == "cuda"))
    meter = Meter(config.batch_size * accumulate, objective.collapse_below if ranks.first else None, device)

    with (
        StopSignals(ranks) as stop,
        Log(run, Progress(start, steps), config, ranks.first, progress) as log,
        Saver(run, ranks) as saver,
    ):
        for step in range(start, steps):
            lr = set_schedules(trained.optimizer, config.optim, Progress(step, steps))
            trained.optimizer.zero_grad(set_to_none=True)
            clips = 0
            for micro in range(accumulate):
                waiting_since = time.perf_counter()
                batch = next(loader)
                meter.waited(time.perf_counter() - waiting_since)
                clips += clips_in(batch)
                ctx = context_of(config.seed, Progress(step, steps), ranks, micro, accumulate)
                with trained.no_sync(skip=micro < accumulate - 1):
                    with torch.autocast(device.type, dtype, enabled=dtype is not None):
                        output = trained.forward(tensors(batch, device), ctx)
                    (output.loss / accumulate).backward()
                meter.add(step, output, batch["problems"])
            meter.clipped(step, trained.clip_gradients())
            done = step + 1
            trained.step(Progress(done, steps))
            saver.check()

            stopping, enough = stop.stopping(done), False
            watching = done % config.monitor_every == 0 or done == steps
            if watching or done % config.log_every == 0:
                seen = done * clips * ranks.world_size  # every step shows as many
                record = {"step": done, "lr": lr, "clips": seen} | ranks.mean(meter.record(done))
                if watching:
                    trained.check(done)
                    saver.wait()  # monitors start workers, and no process with a thread that writes should be forked
                    with trained.counting() as counts:
                        record |= _watch(monitors, counts, done)
                    enough = "stop" in ranks.all_say("stop" if "stop" in record else "")  # outside collectives
                    meter.restart()
                log.write(record, meter.replaced)
            log.tick(done)
            if done % config.checkpoint_every == 0 or done == steps or stopping or enough:
                meter.check(done)
                trained.check(done)
                if ranks.first:
                    log.check_there()
                saver.save(done, trained.state(done))
            if done == steps or stopping or enough:
                saver.wait()
                ranks.barrier()
            if enough:
                break
            if stopping and done < steps:
                raise Interrupted(f"Stopped by a signal at step {done} of {steps}; the state is saved")
    return trained.finished()


def _watch(monitors: Sequence[Monitor], objective: Objective, step: int) -> dict[str, float]:
    training = objective.training
    objective.eval()
    with torch.no_grad(), showing(False):
        numbers = {k: v for monitor in monitors for k, v in monitor(objective, step).items()}
    objective.train(training)
    return numbers
