"""A run's own pretext, trained some steps more on the one video that the network is about to be used on.

Test-time training, as the paper of the contrastive random walk proposes (Jabri et al., NeurIPS 2020); it uses no label.
"""

import copy
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ssl_video.datasets.base import Video, VideoSet
from ssl_video.errors import UserError
from ssl_video.model import Model
from ssl_video.pretexts.base import Pretext
from ssl_video.progress import bar
from ssl_video.tensors import not_finite
from ssl_video.train.data import BatchKeys, ClipDataset, batches, tensors, usable
from ssl_video.train.distributed import Ranks
from ssl_video.train.loop import context_of
from ssl_video.train.objective import Progress
from ssl_video.train.optim import OptimConfig, build_optimizer
from ssl_video.video.scan import scan_one

CLIPS = 4
"""Samples of the video in a step."""


@dataclass(frozen=True)
class Adapted:
    """A copy of a model that was trained on one video, the pretext's loss in each step, and how long that took."""

    model: Model
    losses: tuple[float, ...]
    seconds: float


def adapt(model: Model, video: Path, steps: int, lr: float, seed: int = 0, *, progress: bool = False) -> Adapted:
    """Train a copy of ``model`` on a video by its pretext: AdamW, ``CLIPS`` samples a step, a constant learning rate.

    What the pretext fitted to its training data stays as it is. The same seed gives the same weights.

    Raises:
        UserError: if the model has no pretext, the video cannot serve it, or the loss or a weight is not finite.
        VideoError: if the video cannot be decoded.
    """
    since = time.perf_counter()
    pretext = _copied(model)
    name = video.name or video.resolve().name
    one = usable(VideoSet(name, (Video(str(video), info=scan_one(str(video))),)), pretext, seed)
    keys = BatchKeys(1, CLIPS, CLIPS, seed=seed)
    loader = iter(batches(ClipDataset(one, pretext, seed), keys, workers=0))
    optimizer = build_optimizer(OptimConfig(lr=lr), pretext)
    losses = []
    pretext.train()
    for step in bar(range(steps), "adapt", "step", progress):
        optimizer.zero_grad(set_to_none=True)
        ctx = context_of(seed, Progress(step, steps), Ranks(device=model.device))
        loss = pretext(tensors(next(loader), model.device), ctx).loss
        if not torch.isfinite(loss):
            raise UserError(f"The loss is {loss.item()} at step {step} of the adaptation; use a lower --adapt-lr.")
        loss.backward()
        optimizer.step()
        pretext.after_step(Progress(step + 1, steps))
        losses.append(loss.item())
    pretext.eval()
    if not_finite(pretext):
        raise UserError(f"The weights are not finite after {steps} steps of adaptation; use a lower --adapt-lr.")
    return Adapted(
        replace(model, backbone=pretext.backbone, pretext=pretext), tuple(losses), time.perf_counter() - since
    )


def _copied(model: Model) -> Pretext:
    """A copy of the model's pretext, with its backbone. Raises UserError if it has none that one video can train."""
    if model.pretext is None:
        raise UserError(
            f"{model.name} has no pretext to adapt by; --adapt-steps needs the folder of a run, with its "
            f"pretext.safetensors."
        )
    if model.pretext.needs.grouping != "none":
        raise UserError(
            f"The pretext of {model.name} compares several videos, and one alone cannot train it; "
            "leave --adapt-steps out."
        )
    return copy.deepcopy(model.pretext)
