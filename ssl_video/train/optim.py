"""Optimisers and the schedule of the learning rate."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ssl_video.errors import UserError


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser, schedule, and what is done to gradients and weights around a step."""

    name: Literal["sgd", "adam", "adamw", "lars"] = "adamw"
    """Optimiser."""
    lr: float = 1e-3
    """Peak learning rate."""
    weight_decay: float = 1e-4
    """Weight decay; biases and the parameters of normalisation layers are left out."""
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
    """Parts of all steps after which the learning rate is multiplied by gamma (schedule steps)."""
    gamma: float = 0.1
    """Factor of the learning rate at a milestone."""
    warmup: float = 0.05
    """Part of all steps over which the learning rate rises linearly from near 0."""
    clip_norm: float | None = None
    """Largest norm of the gradient of all parameters together."""
    accumulate: int = 1
    """Batches whose gradients are averaged for one step."""
    ema: float | None = None
    """Decay of an exponential moving average of all weights; the averaged backbone is what the run exports."""


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """The learning rate of a step, a pure function, so that nothing about it has to be saved."""
    warmup = round(config.warmup * steps)
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "steps":
        return config.lr * config.gamma ** sum(step >= round(m * steps) for m in config.milestones)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def build_optimizer(config: OptimConfig, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over the parameters that take gradients. Raises UserError if there are none."""
    groups = []
    for of_backbone in (True, False):
        trained = [
            p for n, p in module.named_parameters() if p.requires_grad and n.startswith("backbone.") == of_backbone
        ]
        scale = config.backbone_scale if of_backbone else 1.0
        for decayed in (True, False):
            chosen = [p for p in trained if (p.ndim > 1 or config.decay_all) == decayed]
            if chosen:
                decay = config.weight_decay if decayed else 0.0
                groups.append({"params": chosen, "weight_decay": decay, "scale": scale})
    if not groups:
        raise UserError("No parameter takes a gradient; there is nothing to train.")
    if config.name == "sgd":
        return torch.optim.SGD(groups, config.lr, config.momentum)
    if config.name == "lars":
        return LARS(groups, config.lr, config.momentum)
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(groups, config.lr, (config.momentum, config.beta2), fused=True)


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose step is scaled, weight tensor by weight tensor, to the weights' own norm.

    Y. You, I. Gitman, B. Ginsburg: "Large Batch Training of Convolutional Networks", 2017, Algorithm 1. Groups without
    weight decay (biases, normalisation) are not scaled.
    """

    def __init__(self, params: Iterable, lr: float, momentum: float = 0.9, trust: float = 1e-3):
        super().__init__(params, {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group)

    def _update(self, p: Tensor, grad: Tensor, group: dict) -> None:
        decay = group["weight_decay"]
        rate = group["lr"]
        if decay:
            weight_norm, grad_norm = p.norm(), grad.norm()
            local = group["trust"] * weight_norm / (grad_norm + decay * weight_norm)
            rate = rate * torch.where((weight_norm > 0) & (grad_norm > 0), local, torch.ones_like(local))
            grad = grad + decay * p
        velocity = self.state[p].setdefault("velocity", torch.zeros_like(p))
        velocity.mul_(group["momentum"]).add_(grad * rate)
        p.sub_(velocity)
