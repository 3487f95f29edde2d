"""Options of a training that belong to no pretext and no backbone. Light to import, since flags are made of them."""

from dataclasses import dataclass, field
from typing import Literal

from ssl_video.errors import UserError
from ssl_video.video.kinds import CacheKind

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser, schedules, and what is done to gradients and weights around a step."""

    name: Literal["sgd", "adam", "adamw", "lars"] = "adamw"
    """Optimiser."""
    lr: float = 1e-3
    """Peak learning rate."""
    weight_decay: float = 1e-4
    """Weight decay; biases and the parameters of normalisation layers are left out."""
    weight_decay_end: float | None = None
    """Weight decay at the end, reached along a cosine; by default it stays as it is."""
    momentum: float = 0.9
    """Momentum of sgd and lars; beta1 of adam and adamw."""
    beta2: float = 0.999
    """beta2 of adam and adamw."""
    backbone_scale: float = 1.0
    """Learning rate of the backbone, relative to that of the heads."""
    decay_all: bool = False
    """Weight decay for biases and normalisation layers too."""
    schedule: Literal["cosine", "constant", "steps"] = "cosine"
    """Course of the learning rate after the warm-up; cosine ends at 0, steps multiplies it by gamma at milestones."""
    milestones: tuple[float, ...] = ()
    """Fractions of all steps after which the learning rate is multiplied by gamma (schedule steps)."""
    gamma: float = 0.1
    """Factor of the learning rate at a milestone."""
    warmup: float = 0.05
    """Fraction of all steps over which the learning rate rises linearly from near 0."""
    clip_norm: float | None = None
    """Largest norm of the gradient of all parameters together."""
    accumulate: int = 1
    """Batches whose gradients are averaged for one step."""
    ema: float | None = None
    """Decay of an exponential moving average of all weights; the averaged backbone is what the run exports."""

    def __post_init__(self):
        if not (0 < self.lr < float("inf") and self.weight_decay >= 0 and self.accumulate >= 1):
            raise UserError(
                "--optim.lr must be a number above 0, --optim.weight-decay 0 or more, and --optim.accumulate 1 or more."
            )
        if self.ema is not None and not 0 <= self.ema < 1:
            raise UserError(f"--optim.ema is a decay of 0 or more and less than 1, not {self.ema:g}.")


@dataclass(frozen=True)
class TrainingConfig:
    """How anything is trained. Raises UserError for numbers that cannot be."""

    steps: int | None = None
    """Optimiser steps; by default 10000, or those of --epochs."""
    epochs: float | None = None
    """Passes over the videos, instead of --steps."""
    batch_size: int = 32
    """Videos in a batch, over all processes together."""
    clips_per_video: int = 1
    """Samples drawn from each video in an epoch."""
    workers: int = 2
    """Loader processes of each training process; 0 loads in the training process."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Precision = "auto"
    """Arithmetic of the forward pass; auto takes bf16 where it is faster and right."""
    sync_bn: bool = False
    """Batch statistics over the GPUs of all processes instead of each one's own."""
    seed: int = 0
    """Seed of weights, samples and augmentation."""
    log_every: int = 50
    """Steps between lines of metrics.jsonl."""
    monitor_every: int = 500
    """Steps between monitors: the pretext's accuracy on held-out videos and, with labels, the on-line probe."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    tensorboard: bool = False
    """Write TensorBoard event files into the run's folder (pip install 'ssl-video[tensorboard]')."""
    wandb: bool = False
    """Log to Weights & Biases (pip install 'ssl-video[wandb]')."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimiser and schedules."""

    def __post_init__(self):
        for name, least in (("steps", 1), ("workers", 0), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name} must be {least} or more, not {value}.")
        if self.epochs is not None and not self.epochs > 0:
            raise UserError(f"--epochs must be more than 0, not {self.epochs:g}.")
        for name in ("batch_size", "clips_per_video", "log_every", "monitor_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} must be 1 or more, not {getattr(self, name)}.")

    def steps_over(self, videos: int) -> int:
        """Optimiser steps of a training on so many videos."""
        per_epoch = videos * self.clips_per_video / self.batch_size / self.optim.accumulate
        return self.steps or round((self.epochs or 0) * per_epoch) or 10_000


@dataclass(frozen=True)
class DataConfig:
    """Which videos are trained on, and from where they are read."""

    spec: str = "synthetic"
    """Training videos: a file, a folder, a csv, a manifest, or ucf101:ROOT, hmdb51:ROOT, kinetics:ROOT, synthetic."""
    split: int = 1
    """Split of a data set with official lists; only its training list is used."""
    held_out: float = 0.1
    """Fraction of the training list kept from training, for the monitors; 0 turns them off."""
    cache: CacheKind = "none"
    """Train from copies of the videos, made once: raw frames, or small h264 files."""
    cache_short_side: int = 128
    """Shorter side of the cached copies, in pixels; 0 keeps the size of the video."""
    reader: str = "pyav"
    """What decodes: pyav, or torchcodec (pip install 'ssl-video[torchcodec]')."""

    def __post_init__(self):
        if not 0 <= self.held_out < 1:
            raise UserError(f"--held-out is a fraction of 0 or more and less than 1, not {self.held_out:g}.")
        if self.cache_short_side < 0:
            raise UserError(f"--cache-short-side must be 0 or more, not {self.cache_short_side}.")
