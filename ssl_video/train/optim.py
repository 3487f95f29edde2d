"""Optimisers, and the schedules of learning rate and weight decay."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from ssl_video.errors import UserError
from ssl_video.train.config import OptimConfig
from ssl_video.train.objective import Objective, Progress


def learning_rate(config: OptimConfig, progress: Progress) -> float:
    r"""The learning rate of a step, a pure function, so that nothing about it has to be saved.

    After a linear warm-up of w of S steps ``cosine`` is $\frac{1}{2} (1 + \cos(\pi (s - w) / (S - w)))$ of what is
    between ``lr_end`` and the peak, in step s, ``steps`` is $\gamma^m$ of the peak behind m milestones, ``constant``
    all of it.
    """
    step, steps = progress.step, progress.steps
    warmup = round(config.warmup * steps)
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "steps":
        return config.lr * config.gamma ** sum(step >= round(m * steps) for m in config.milestones)
    share = 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    return config.lr_end + share * (config.lr - config.lr_end)


def weight_decay(config: OptimConfig, progress: Progress) -> float:
    r"""The weight decay of a step: constant, or along a half cosine to ``weight_decay_end``.

    Of the way there, $\frac{1}{2} (1 - \cos(\pi s / S))$ is gone in step s of S.
    """
    if config.weight_decay_end is None:
        return config.weight_decay
    share = 0.5 * (1 - math.cos(math.pi * progress.fraction))
    return config.weight_decay + share * (config.weight_decay_end - config.weight_decay)


def build_optimizer(config: OptimConfig, objective: Objective) -> torch.optim.Optimizer:
    """The optimiser over the objective's groups of parameters. Raises UserError if none takes a gradient.

    Each of torch's groups notes ``lr_scale`` and ``decay_scale``, by which ``set_schedules`` multiplies.
    """
    groups = []
    for group in objective.parameter_groups(config.backbone_scale):
        for decayed in (True, False):
            chosen = [p for p in group.parameters if (p.ndim > 1 or config.decay_all) == decayed]
            if chosen:
                decay_scale = group.decay_scale if decayed else 0.0
                groups.append({"params": chosen, "lr_scale": group.lr_scale, "decay_scale": decay_scale})
                groups[-1]["weight_decay"] = config.weight_decay * decay_scale
    if not groups:
        raise UserError("No parameter takes a gradient; there is nothing to train.")
    if config.name == "sgd":
        return torch.optim.SGD(groups, config.lr, config.momentum)
    if config.name == "lars":
        return LARS(groups, config.lr, config.momentum)
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(groups, config.lr, (config.momentum, config.beta2), fused=True)


def set_schedules(optimizer: torch.optim.Optimizer, config: OptimConfig, progress: Progress) -> float:
    """Set what the next step uses in every group; the learning rate before its scaling."""
    lr, decay = learning_rate(config, progress), weight_decay(config, progress)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
        group["weight_decay"] = decay * group["decay_scale"]
    return lr


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
