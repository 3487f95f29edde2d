"""What a run tells while it trains: metrics.jsonl, a progress bar and collapse indicators."""

import json
import math
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssl_video.config import plain
from ssl_video.errors import UserError, needs
from ssl_video.progress import Bar
from ssl_video.run import Run
from ssl_video.tensors import not_finite, some_of
from ssl_video.train.config import TrainingConfig
from ssl_video.train.distributed import CPU
from ssl_video.train.objective import Output, Progress
from ssl_video.video.info import Problem

FEATURES_KEPT = 256
"""Latest features over which the collapse indicators are computed."""
COLLAPSE_LASTS = 3
"""Records in a row of a low rank that are a collapse: one alone may be of the first steps."""
LONGEST_SILENCE_S = 300.0
"""A step that is logged is a line where there is no bar; where these are further apart, there are lines between."""


def collapse_indicators(features_ND: Tensor) -> dict[str, float]:
    r"""Two numbers that fall when a network maps everything to one point, or to a few directions.

    ``feature_std``: mean over dimensions of the standard deviation of the L2-normalised features, times $\sqrt{D}$:
    about 1 for directions spread evenly, 0 for a constant. ``effective_rank``: $\exp(-\sum_i p_i \ln p_i)$, where the
    $p_i$ are the singular values of the centred features over their sum (Roy and Vetterli, EUSIPCO 2007), from 1 to
    min(N - 1, D).
    """
    x = features_ND.detach().float()
    unit = torch.nn.functional.normalize(x, dim=1)
    std = unit.std(0).mean() * x.shape[1] ** 0.5
    return {"feature_std": std.item(), "effective_rank": effective_rank(x).item()}


def effective_rank(x_ND: Tensor) -> Tensor:
    """A scalar, of the rows; see ``collapse_indicators``."""
    x_ND = x_ND.float()
    values = torch.linalg.svdvals(x_ND - x_ND.mean(0))
    p = values / values.sum().clamp_min(1e-12)
    return torch.exp(-(p * p.clamp_min(1e-12).log()).sum())


def diverged(what: str) -> UserError:
    """The end of a training of which ``what`` was seen."""
    return UserError(
        f"{what} and the run stopped; checkpoints, if there are any, are from before: train with a lower "
        f"--optim.lr, a longer --optim.warmup, or --optim.clip-norm (a fine-tuning: --option optim.lr=0.001)."
    )


def check_weights(modules: Iterable[nn.Module], step: int) -> None:
    """Raise UserError if a weight is not finite once ``step`` steps are done: nothing is written of such a training."""
    for module in modules:
        stop_at(step, not_finite(module), len(module.state_dict()))


def stop_at(step: int, wrong: Sequence[str], of: int) -> None:
    """Raise UserError if tensors, of so many, were found to be ``wrong`` once ``step`` steps were done."""
    if wrong:
        raise diverged(f"After {step} steps there were NaN or infinite numbers in {some_of(wrong, of)}")


class Meter:
    """Gathers the numbers of the steps since the last record.

    On a CPU it looks at the loss of each step; another ``device`` would be waited for, so that nothing is fetched
    before it is needed.
    """

    def __init__(self, clips_per_step: int, collapse_below: float | None = None, device: torch.device = CPU):
        self.clips_per_step, self.collapse_below = clips_per_step, collapse_below
        self.at_once = device.type == "cpu"
        self.low_ranks = 0
        self.features: list[Tensor] = []
        self.replaced: dict[str, str] = {}
        self.last_loss = float("nan")
        self._clear()
        self.restart()

    def _clear(self) -> None:
        self.steps: list[int] = []
        self.losses: list[Tensor] = []
        self.norms: list[tuple[int, Tensor]] = []
        self.metrics: dict[str, list[Tensor]] = {}

    def restart(self) -> None:
        """Start the clock anew."""
        self.since, self.wait_s = time.perf_counter(), 0.0

    def waited(self, seconds: float) -> None:
        """Time spent waiting for the loader."""
        self.wait_s += seconds

    def add(self, step: int, output: Output, problems: list[Problem]) -> None:
        """One forward pass."""
        self.steps.append(step)
        self.losses.append(output.loss.detach())
        for name, value in output.metrics.items():
            self.metrics.setdefault(name, []).append(value.detach())
        if output.features_ND is not None:
            self.features.append(output.features_ND)
        while self.features and sum(map(len, self.features)) - len(self.features[0]) >= FEATURES_KEPT:
            self.features.pop(0)
        self.replaced |= {p.path: p.reason for p in problems}
        if self.at_once:
            self.check(step)

    def clipped(self, step: int, norm: Tensor | None) -> None:
        """The norm of the gradient of a step, where it was clipped: one that is not finite leaves nothing of it."""
        if norm is None:
            return
        self.norms.append((step, norm.detach()))
        if self.at_once:
            self.check(step)

    def check(self, step: int) -> None:
        """Raise UserError if a loss, or the norm of a gradient, since the last record is not finite."""
        if not self.losses:
            return
        losses = torch.stack(self.losses).tolist()
        for at, loss in zip(self.steps, losses, strict=True):
            if not math.isfinite(loss):
                raise diverged(f"The loss became {loss} at step {at} (before: {self.last_loss:.4g})")
            self.last_loss = loss
        norms = torch.stack([norm for _, norm in self.norms]).tolist() if self.norms else []
        for (at, _), norm in zip(self.norms, norms, strict=True):
            if not math.isfinite(norm):
                raise diverged(f"The norm of the gradient became {norm} at step {at} (the loss: {self.last_loss:.4g})")

    def record(self, step: int) -> dict[str, Any]:
        """Means since the last record, speed, fraction of time spent waiting and collapse indicators."""
        self.check(step)
        elapsed = time.perf_counter() - self.since
        done = len(set(self.steps))
        record = {"loss": torch.stack(self.losses).mean().item()}
        record |= {name: torch.stack(values).mean().item() for name, values in self.metrics.items()}
        if self.features:
            record |= collapse_indicators(features_ND := torch.cat(self.features))
            if len(features_ND) >= FEATURES_KEPT:  # of fewer the rank is low anyway
                self._warn_of_collapse(step, record["effective_rank"], features_ND.shape[1])
        record["clips_per_s"] = done * self.clips_per_step / elapsed
        record["waiting"] = self.wait_s / elapsed
        record["replaced"] = len(self.replaced)
        self._clear()
        self.restart()
        return record

    def _warn_of_collapse(self, step: int, rank: float, channels: int) -> None:
        """Once, if it lasts, where the objective says what would be one (``Objective.collapse_below``)."""
        if self.collapse_below is None:
            return
        self.low_ranks = self.low_ranks + 1 if rank < self.collapse_below * channels else 0
        if self.low_ranks == COLLAPSE_LASTS:
            self.collapse_below = None
            warnings.warn(
                f"After {step} steps the features have an effective rank of {rank:.1f} of {channels} channels, and so "
                f"they had in the {COLLAPSE_LASTS - 1} records before: they collapse. Train with a lower --optim.lr, "
                f"or as the pretext's page says.",
                stacklevel=3,
            )


class Log:
    """metrics.jsonl always; a bar on a terminal; TensorBoard and Weights & Biases by option. First rank only."""

    def __init__(self, run: Run, start: Progress, config: TrainingConfig, first: bool, progress: bool = False):
        self.run, self.first = run, first
        self.writers: list[Any] = []
        if not first:
            return
        run.cut_records(start.step)
        self.file = run.open_records()
        self.bar = Bar("train", start.steps, "step", progress, done=start.step, every_s=LONGEST_SILENCE_S)
        if config.tensorboard:
            self.writers.append(_tensorboard(run))
        if config.wandb:
            self.writers.append(_wandb(run, config))

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.first:
            self.file.close()
            self.bar.close()

    def check_there(self) -> None:
        """Raise UserError if the folder of the run was removed or moved: nothing is written where it was."""
        if not self.run.records_file.exists():
            raise UserError(f"{self.run} was removed or moved while it trained, so that the training ended.")

    def tick(self, done: int) -> None:
        """Move the bar; its numbers are those of ``write``."""
        if self.first:
            self.bar.update(done - self.bar.done)

    def write(self, record: dict[str, Any], replaced: Mapping[str, str]) -> None:
        """One line, the bar's numbers, and videos of this rank that others had to replace, with the reason."""
        if not self.first:
            return
        self.check_there()
        self.run.note_replaced(replaced)
        self.tick(record["step"])
        record = {name: value for name, value in record.items() if math.isfinite(value)}  # what is defined, and JSON
        self.file.write(json.dumps(record) + "\n")
        shown = ("loss", "accuracy", "clips_per_s", "waiting")
        self.bar.tell({k: record[k] for k in shown if k in record})
        for writer in self.writers:
            writer({k: v for k, v in record.items() if k != "step"}, record["step"])


def _tensorboard(run: Run):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise needs("--tensorboard", "tensorboard", "tensorboard") from None
    writer = SummaryWriter(str(run.tensorboard))

    def write(numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return write


def _wandb(run: Run, config: TrainingConfig):
    try:
        import wandb  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise needs("--wandb", "wandb", "wandb") from None
    started = wandb.init(project="ssl-video", name=run.folder.name, dir=str(run), config=plain(config))
    return lambda numbers, step: started.log(numbers, step=step)
