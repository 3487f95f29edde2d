"""The options of a pretraining run that belong to no pretext and no backbone."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ssl_video.train.optim import OptimConfig


@dataclass(frozen=True)
class RunConfig:
    """Options of a pretraining run."""

    data: str = "synthetic"
    """Training videos: a file, a folder, a csv, a manifest, or ucf101:ROOT, hmdb51:ROOT, kinetics:ROOT, synthetic."""
    split: int = 1
    """Split of a data set with official lists; only its training list is used."""
    out: Path | None = None
    """Folder of the run; by default a new one under runs/."""
    steps: int | None = None
    """Optimiser steps; by default 10000, or what --epochs asks for."""
    epochs: float | None = None
    """Passes over the videos, instead of --steps."""
    batch_size: int = 32
    """Videos in a batch, over all processes together."""
    clips_per_video: int = 1
    """Samples drawn from each video in an epoch."""
    held_out: float = 0.1
    """Part of the training list kept from training, for the signs of learning; 0 turns them off."""
    cache: Literal["none", "raw", "h264"] = "none"
    """Train from copies of the videos, made once: raw frames, or small h264 files."""
    cache_short_side: int = 128
    """Shorter side of the cached copies, in pixels; 0 keeps the size of the video."""
    reader: str = "pyav"
    """What decodes: pyav, or torchcodec (pip install 'ssl-video[torchcodec]')."""
    workers: int = 2
    """Loader processes of each training process; 0 loads in the training process."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward pass; auto takes bf16 where it is faster and right."""
    sync_bn: bool = False
    """Batch statistics over the GPUs of all processes instead of each one's own."""
    seed: int = 0
    """Seed of weights, samples and augmentation."""
    log_every: int = 50
    """Steps between lines of metrics.jsonl."""
    monitor_every: int = 500
    """Steps between signs of learning: the held-out pretext accuracy and, with labels, the on-line probe."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    probe: bool = False
    """After training, run the linear probe and retrieval with the trained and with the random network."""
    tensorboard: bool = False
    """Write TensorBoard event files into the run's folder (pip install 'ssl-video[tensorboard]')."""
    wandb: bool = False
    """Log to Weights & Biases (pip install 'ssl-video[wandb]')."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimiser and schedule."""
