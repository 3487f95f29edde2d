"""How long a training takes on this machine, measured on steps that are thrown away before it starts."""

import copy
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ssl_video.datasets.base import Video
from ssl_video.train.config import TrainingConfig
from ssl_video.train.data import BatchKeys, ClipDataset, ReadFrames, collate, grouping, samples_to_fit, tensors
from ssl_video.train.distributed import Ranks
from ssl_video.train.loop import context_of
from ssl_video.train.objective import Objective, Progress
from ssl_video.train.optim import build_optimizer
from ssl_video.train.precision import channels_last, choose_precision, fp32_where_bf16_is_wrong

READING_S = 4.0
"""Seconds that are spent on reading samples; what is missing of a batch then is filled up with those that are there."""
COMPUTING_S = 4.0
"""Seconds that are spent on steps, one that does not count and one that does at least."""


class Remembered:
    """A reader that keeps the frames it has read, so that the next to ask has them at once, as from a raw copy.

    A dataset with such a reader is timed as it will be when the copies are there: each sample at its second reading.
    """

    def __init__(self, read: ReadFrames):
        self.read = read
        self.kept: dict[tuple[str, tuple[int, ...]], np.ndarray] = {}

    def __call__(self, video: Video, frames: Sequence[int]) -> np.ndarray:
        """The frames, as ``read`` gives them."""
        asked = (video.path, tuple(int(n) for n in frames))
        if asked not in self.kept:
            self.kept[asked] = self.read(video, frames)
        return self.kept[asked].copy()


@dataclass(frozen=True)
class Pace:
    """Seconds of a batch: to read it, in one process, and to compute a step of it.

    ``step_s`` is what a step takes when ``workers`` processes read; on a CPU they and the network share the cores.
    """

    reading_s: float
    computing_s: float
    workers: int
    cores: int
    shared: bool

    @property
    def step_s(self) -> float:
        """Seconds a step, with the reading that it waits for."""
        if self.workers == 0:
            return self.reading_s + self.computing_s
        step_s = max(self.computing_s, self.reading_s / min(self.workers, self.cores))
        return max(step_s, self.computing_s + self.reading_s / self.cores) if self.shared else step_s


def measure_pace(objective: Objective, dataset: ClipDataset, config: TrainingConfig, ranks: Ranks = Ranks()) -> Pace:
    """Read a batch and train a copy of ``objective`` on it for a few steps; nothing of the training is changed by it.

    The batch is the first one. Of several processes each may call it; nothing is sent between them.

    Raises:
        UserError: if no sample can be read.
    """
    devices = [ranks.device] if ranks.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        trained = copy.deepcopy(objective).to(ranks.device).train()
        dataset = ClipDataset(dataset.videos, trained, dataset.seed, dataset.read)
        trained.fit(samples_to_fit(dataset), np.random.default_rng([config.seed]))
        batch, reading_s = _batch(dataset, config, ranks)
        computing_s = _step_s(trained, batch, config, ranks)
    if devices:
        del trained
        torch.cuda.empty_cache()
    cores = max(1, len(os.sched_getaffinity(0)) // ranks.world_size)
    return Pace(reading_s, computing_s, config.workers, cores, shared=ranks.device.type == "cpu")


def _batch(dataset: ClipDataset, config: TrainingConfig, ranks: Ranks) -> tuple[dict[str, Any], float]:
    """The first batch, and the seconds that reading it takes."""
    videos, size = len(dataset.videos.videos), config.batch_size // ranks.world_size
    groups = grouping(dataset.videos, dataset.pretext)
    keys = next(iter(BatchKeys(videos, config.clips_per_video, size, seed=config.seed, ranks=ranks, groups=groups)))
    samples: list[dict[str, Any]] = []
    began, taken_s = time.perf_counter(), 0.0
    for key in keys:
        if isinstance(dataset.read, Remembered):
            dataset[key]
        since = time.perf_counter()
        samples.append(dataset[key])
        taken_s += time.perf_counter() - since
        if time.perf_counter() - began > READING_S:
            break
    one_s = taken_s / len(samples)
    whole: Sequence[dict[str, Any]] = [dict(samples[n % len(samples)]) for n in range(size)]
    return collate(list(whole)), one_s * size * config.optim.accumulate


def _step_s(trained: Objective, batch: dict[str, Any], config: TrainingConfig, ranks: Ranks) -> float:
    """Seconds of a step: the median, without the first, which warms up."""
    device = ranks.device
    channels_last(trained)
    fp32_where_bf16_is_wrong(trained)
    dtype = choose_precision(config.precision, device)
    optimizer = build_optimizer(config.optim, trained)
    taken: list[float] = []
    since = time.perf_counter()
    while len(taken) < 2 or (time.perf_counter() - since < COMPUTING_S and len(taken) < 8):
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        ctx = context_of(config.seed, Progress(0, 1), Ranks(device=device))  # alone: others do not take part
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            loss = trained(tensors(batch, device), ctx).loss
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken[1:])) * config.optim.accumulate
