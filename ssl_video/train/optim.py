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
    schedule: Literal["cosine", "constant"] = "cosine"
    """Course of the learning rate after the warm-up; cosine ends at 0."""
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
    warmup = max(1, round(config.warmup * steps))
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return config.lr
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def build_optimizer(config: OptimConfig, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over the parameters that take gradients. Raises UserError if there are none."""
    trained = [p for p in module.parameters() if p.requires_grad]
    if not trained:
        raise UserError("No parameter takes a gradient; there is nothing to train.")
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
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
