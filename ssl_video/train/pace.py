"""How long a training takes on this machine, measured on steps that are thrown away before it starts."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ssl_video import processes
from ssl_video.datasets.base import Video
from ssl_video.train.config import TrainingConfig
from ssl_video.train.data import BatchKeys, ClipDataset, ReadFrames, collate, grouping, samples_to_fit, tensors
from ssl_video.train.distributed import Ranks
from ssl_video.train.loop import context_of
from ssl_video.train.objective import Objective, Progress
from ssl_video.train.optim import build_optimizer
from ssl_video.train.precision import channels_last, choose_precision, fp32_where_bf16_is_wrong
from ssl_video.video.upright import Each

READING_S = 4.0
"""Seconds that are spent on reading samples; what is missing of a batch then is filled up with those that are there."""
COMPUTING_S = 4.0
"""Seconds that are spent on steps, one that does not count and one that does at least."""


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


@dataclass
class Decoder:
    """Reads frames, and counts the seconds that it takes."""

    read: ReadFrames
    seconds: float = 0.0

    def __call__(self, video: Video, frames: Sequence[int], *, each: Each | None = None) -> np.ndarray:
        """As ``read``."""
        since = time.perf_counter()
        try:
            return self.read(video, frames, each=each)
        finally:
            self.seconds += time.perf_counter() - since


def measure_pace(
    objective: Objective,
    dataset: ClipDataset,
    config: TrainingConfig,
    ranks: Ranks = Ranks(),
    *,
    decoding: bool = True,
) -> Pace:
    """Read a batch and train a copy of ``objective`` on it for a few steps; nothing of the training is changed by it.

    The batch is the first one. Of several processes each may call it; nothing is sent between them. Without
    ``decoding`` the seconds of decoding are not counted: copies of videos will be read, which takes next to none.

    Raises:
        UserError: if no sample can be read.
    """
    devices = [ranks.device] if ranks.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        trained = copy.deepcopy(objective).to(ranks.device).train()
        dataset = replace(dataset, pretext=trained)
        trained.fit(samples_to_fit(dataset), np.random.default_rng([config.seed]))
        decoder = Decoder(dataset.read)
        batch, reading_s = _batch(replace(dataset, read=decoder), decoder, config, ranks, decoding)
        computing_s = _step_s(trained, batch, config, ranks)
    if devices:
        del trained
        torch.cuda.empty_cache()
    cores = max(1, processes.cores() // ranks.world_size)
    return Pace(reading_s, computing_s, config.workers, cores, shared=ranks.device.type == "cpu")


def _batch(
    dataset: ClipDataset, decoder: Decoder, config: TrainingConfig, ranks: Ranks, decoding: bool
) -> tuple[dict[str, Any], float]:
    """The first batch, and the seconds that reading it takes, with or without those of its decoder."""
    videos, size = len(dataset.videos.videos), config.batch_size // ranks.world_size
    groups = grouping(dataset.videos, dataset.pretext)
    of_clips = BatchKeys(
        videos, config.clips_per_video, size // dataset.views, seed=config.seed, ranks=ranks, groups=groups
    )
    samples: list[dict[str, Any]] = []
    since = time.perf_counter()
    for key in next(iter(of_clips)):
        samples += dataset.__getitems__([key])
        if time.perf_counter() - since > READING_S:
            break
    spent_s = time.perf_counter() - since - (0.0 if decoding else decoder.seconds)
    one_s = max(0.0, spent_s) / len(samples)
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
