"""What the training loop costs over a bare one, and how fast it trains from files.

    python benchmarks/training.py [--backbone r3d_10] [--frames 16] [--size 64] [--batch-size 32] [--rounds 7]

Both loops take the same pretext module, augmentation, optimiser and precision, and one batch that stays in memory; they
take turns over several rounds, and the median of the rounds' ratios counts. What the loop does besides at its default
intervals, the monitors, is timed by itself and spread over the steps between; records and checkpoints are
inside the rounds (one of each a round: more often than by default). The last row trains from files, with workers.
"""

import argparse
import contextlib
import dataclasses
import functools
import itertools
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from ssl_video.backbones.base import build_backbone
from ssl_video.datasets.cached import cached
from ssl_video.datasets.held_out import held_out
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.eval.online import monitors_for
from ssl_video.pretexts.base import Context, Pretext, Progress, build_pretext
from ssl_video.run import Run
from ssl_video.train.config import DataConfig, TrainingConfig
from ssl_video.train.data import ClipDataset, batches, tensors, usable
from ssl_video.train.distributed import Ranks, choose_device
from ssl_video.train.loop import train
from ssl_video.train.optim import build_optimizer
from ssl_video.train.precision import channels_last, choose_precision, fp32_where_bf16_is_wrong


@dataclasses.dataclass
class InMemory(ClipDataset):
    """One batch, read once, whatever is asked for."""

    @functools.cached_property
    def batch(self) -> dict[str, Any]:
        keys = [(0, n, 0) for n in range(len(self.videos.videos))]
        return next(iter(batches(self, [keys], 0)))

    def loaded(self, *_keys: object, **_how: object) -> Iterator[dict[str, Any]]:
        """In the place of the loop's ``batches``, whose processes read and collate beside a training."""
        return itertools.repeat(self.batch)


def bare(pretext: Pretext, dataset: InMemory, config: TrainingConfig, steps: int, device: torch.device) -> float:
    """Seconds of as many steps as short as they can be written."""
    optimizer = build_optimizer(config.optim, pretext)
    dtype = choose_precision(config.precision, device)
    batch = tensors(dataset.batch, device)
    ctx = Context(Progress(0, 1), torch.Generator().manual_seed(0))
    start = time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            loss = pretext(batch, ctx).loss
        loss.backward()
        optimizer.step()
    finish(device)
    return time.perf_counter() - start


def looped(pretext: Pretext, dataset: InMemory, config: TrainingConfig, steps: int, device: torch.device) -> float:
    """Seconds of as many steps of the training loop, checkpoint included."""
    with tempfile.TemporaryDirectory() as run, mock.patch("ssl_video.train.loop.batches", dataset.loaded):
        start = time.perf_counter()
        train(pretext, dataset, dataclasses.replace(config, steps=steps), Run(Path(run)), Ranks(device=device))
        finish(device)
        return time.perf_counter() - start


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="r3d_10")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=64, help="side of the clips, in pixels")
    parser.add_argument(
        "--batch-size", type=int, default=TrainingConfig.batch_size, help="videos; each gives two clips"
    )
    parser.add_argument("--steps", type=int, default=15, help="of a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", default="synthetic", help="videos of at least 3 x frames")
    parser.add_argument("--workers", type=int, default=2, help="of the row from files")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    arguments = parser.parse_args()

    device = choose_device(arguments.device)
    config = TrainingConfig(
        batch_size=arguments.batch_size, workers=0, precision=arguments.precision, monitor_every=10**9
    )
    torch.manual_seed(0)
    backbone = build_backbone(arguments.backbone).to(device)
    side = {"short_side": arguments.size, "crop": arguments.size, "min_size": arguments.size}
    options = {"frames": arguments.frames, "max_size": arguments.size, **side}
    pretext = build_pretext("speediness", backbone, options).to(device).train()
    channels_last(pretext)
    fp32_where_bf16_is_wrong(pretext)
    videos = cached(scanned(load_splits(arguments.data).train), "raw", arguments.size)
    videos, kept = held_out(usable(videos, pretext), DataConfig.held_out, seed=0)
    count = arguments.batch_size
    one_batch = dataclasses.replace(videos, videos=(videos.videos * count)[:count], problems=())
    memory, files = InMemory(one_batch, pretext, 0), ClipDataset(videos, pretext, 0)

    steps = arguments.steps
    for warm in (bare, looped):
        warm(pretext, memory, config, 3, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = [
        (bare(pretext, memory, config, steps, device) / steps, looped(pretext, memory, config, steps, device) / steps)
        for _ in range(arguments.rounds)
    ]
    start = time.perf_counter()
    pretext.eval()
    with torch.no_grad():
        monitored = dataclasses.replace(config, workers=arguments.workers, monitor_every=TrainingConfig.monitor_every)
        for monitor in monitors_for(videos, kept, Ranks(device=device), monitored):
            monitor(pretext, 0)
    pretext.train()
    monitors_s = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as run:
        from_files = dataclasses.replace(config, workers=arguments.workers, steps=2 * steps)
        train(pretext, files, from_files, Run(Path(run)), Ranks(device=device))
        last = Run(Path(run)).records()[-1]

    bare_s, loop_s = (statistics.median(t) for t in zip(*times, strict=True))
    spread_s = monitors_s / TrainingConfig.monitor_every
    ratio = statistics.median(looped_s / bare_s for bare_s, looped_s in times)
    clips, shape = 2 * count, f"{arguments.frames}x{arguments.size}x{arguments.size}"
    print(
        f"{arguments.backbone}, {count} videos (two clips of {shape} each) "
        f"a step, {choose_precision(config.precision, device) or torch.float32}, {device}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, Python {platform.python_version()}\n"
    )
    print("| | ms a step | clips/s | / bare |\n|---|---|---|---|")
    print(f"| bare loop, batch in memory | {1e3 * bare_s:.1f} | {clips / bare_s:.1f} | 1.000 |")
    print(f"| training loop, batch in memory | {1e3 * loop_s:.1f} | {clips / loop_s:.1f} | {ratio:.3f} |")
    print(
        f"| and its monitors ({monitors_s:.1f} s every {TrainingConfig.monitor_every} steps) | "
        f"{1e3 * (loop_s + spread_s):.1f} | {clips / (loop_s + spread_s):.1f} | {ratio + spread_s / bare_s:.3f} |"
    )
    print(
        f"| training loop, from files, {arguments.workers} workers | {1e3 * count / last['clips_per_s']:.1f} | "
        f"{2 * last['clips_per_s']:.1f} | waiting {100 * last['waiting']:.1f} % of the time |"
    )
    if device.type == "cuda":
        print(f"\npeak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
