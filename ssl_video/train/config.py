"""Options of a training that belong to no pretext and no backbone. Light to import, since flags are made of them."""

import math
from dataclasses import dataclass, field
from typing import Literal

from ssl_video.bounds import Bounded, Count, Fraction, LessThanOne, Natural, NotNegative, Positive, Seed, Share
from ssl_video.video.kinds import CacheKind

Precision = Literal["auto", "fp32", "bf16"]
STEPS = 10_000
"""Steps of a training of which neither steps, epochs nor minutes are given."""


@dataclass(frozen=True)
class OptimConfig(Bounded, flags="--optim."):
    """Optimiser, schedules, and what is done to gradients and weights around a step."""

    name: Literal["sgd", "adam", "adamw", "lars"] = "adamw"
    """Optimiser."""
    lr: Positive = 1e-3
    """Peak learning rate."""
    weight_decay: NotNegative = 1e-4
    """Weight decay; biases and the parameters of normalisation layers are left out."""
    weight_decay_end: NotNegative | None = None
    """Weight decay at the end, reached along a cosine; by default it stays as it is."""
    momentum: LessThanOne = 0.9
    """Momentum of sgd and lars; beta1 of adam and adamw."""
    beta2: LessThanOne = 0.999
    """beta2 of adam and adamw."""
    backbone_scale: NotNegative = 1.0
    """Learning rate of the backbone, relative to that of the heads."""
    decay_all: bool = False
    """Weight decay for biases and normalisation layers too."""
    schedule: Literal["cosine", "constant", "steps"] = "cosine"
    """Course of the learning rate after the warm-up; cosine falls to lr_end, steps multiply it by gamma."""
    lr_end: NotNegative = 0.0
    """Learning rate at the end of the cosine."""
    milestones: tuple[Fraction, ...] = ()
    """Fractions of all steps after which the learning rate is multiplied by gamma (schedule steps)."""
    gamma: NotNegative = 0.1
    """Factor of the learning rate at a milestone."""
    warmup: Fraction = 0.05
    """Fraction of all steps over which the learning rate rises linearly from near 0."""
    clip_norm: Positive | None = None
    """Largest norm of the gradient of all parameters together."""
    accumulate: Count = 1
    """Batches whose gradients are averaged for one step."""
    ema: LessThanOne | None = None
    """Decay of an exponential moving average of all weights; the averaged backbone is what the run exports."""


@dataclass(frozen=True)
class TrainingConfig(Bounded, flags="--"):
    """How anything is trained, for ``STEPS`` where neither steps, epochs nor minutes are given.

    Raises UserError for numbers that cannot be, and for two of these three.
    """

    either = (("steps", "epochs"), ("steps", "minutes"), ("epochs", "minutes"))

    steps: Count | None = None
    """Optimiser steps, instead of --epochs."""
    epochs: Positive | None = None
    """Passes over the videos, instead of --steps; at least one step."""
    minutes: Positive | None = None
    """As many steps as take so long on this machine, measured before the training, instead of --steps."""
    batch_size: Count = 32
    """Samples in a batch, over all processes together."""
    clips_per_video: Count = 1
    """Clips drawn from each video in an epoch."""
    views: Count = 1
    """Samples made of each clip that is decoded, with other crops and masks; a batch holds them side by side."""
    block: Natural = 0
    """Videos that lie side by side in the list, or in a shard, and are read one soon after the other; 0 shuffles all of
    an epoch."""
    window: Count = 16
    """With --block: blocks whose videos are mixed."""
    workers: Natural = 2
    """Loader processes of each training process; 0 loads in the training process."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Precision = "auto"
    """Arithmetic of the forward pass; auto takes bf16 where it is faster and right."""
    sync_bn: bool = False
    """Batch statistics over the GPUs of all processes instead of each one's own."""
    gradients: Literal["fp32", "bf16"] = "fp32"
    """Numbers in which the processes send each other gradients: bf16 is half as much, and rounded."""
    shard: bool = False
    """Divide weights, their average and the optimiser's state among the processes, for networks that do not fit."""
    checkpoint_activations: str = ""
    """Parts of the backbone, named by their taps as in layer2,layer3, or all, whose activations are computed again for
    the gradient instead of being kept."""
    compile: bool = False
    """Compile the parts of the network (torch.compile), which takes minutes at first."""
    seed: Seed = 0
    """Seed of weights, samples and augmentation."""
    log_every: Count = 50
    """Steps between lines of metrics.jsonl."""
    monitor_every: Count = 500
    """Steps between monitors: the pretext's accuracy on held-out videos and, with labels, the on-line probe."""
    checkpoint_every: Count = 500
    """Steps between checkpoints."""
    tensorboard: bool = False
    """Write TensorBoard event files into the run's folder (pip install tensorboard)."""
    wandb: bool = False
    """Log to Weights & Biases (pip install wandb)."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimiser and schedules."""

    def __post_init__(self):
        super().__post_init__()
        if (self.steps, self.epochs, self.minutes) == (None, None, None):
            object.__setattr__(self, "steps", STEPS)

    @property
    def draws(self) -> float:
        """Clips that the training draws, of how many videos ever; infinite where epochs are counted."""
        return math.inf if self.steps is None else self.steps * self.batch_size * self.optim.accumulate / self.views

    def steps_over(self, videos: int) -> int:
        """Optimiser steps of a training on so many videos: those given, or those of the epochs, one at least.

        Of ``minutes`` the steps are known once one was timed (``pretraining``); until then they are ``STEPS``.
        """
        if self.epochs is None:
            return STEPS if self.steps is None else self.steps
        per_epoch = videos * self.clips_per_video * self.views / self.batch_size / self.optim.accumulate
        return max(1, round(self.epochs * per_epoch))


@dataclass(frozen=True)
class DataConfig(Bounded, flags="--"):
    """Which videos are trained on, and from where they are read."""

    spec: str = "synthetic"
    """Training videos: a file, a folder, a csv, a manifest, or ucf101:ROOT, hmdb51:ROOT, kinetics:ROOT, synthetic."""
    split: int = 1
    """Split of a data set with official lists; only its training list is used."""
    held_out: Share = 0.1
    """Fraction of the training list kept from training, for the monitors, or how many videos; 0 turns them off."""
    cache: CacheKind = "none"
    """Train from copies of the videos, made once where they are worth it: small h264 files, or raw frames (the videos
    themselves are read at that size where not)."""
    cache_short_side: Natural = 128
    """Shorter side of the cached copies, in pixels; 0 keeps the size of the video."""
    reader: str = "pyav"
    """What decodes: pyav, torchcodec (pip install torchcodec), or torchcodec-cuda, on the GPU."""
