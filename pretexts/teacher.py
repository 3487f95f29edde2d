"""A teacher: a copy of a network that follows it as an exponential moving average, without a gradient."""

import math
from copy import deepcopy
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from ssl_video.backbones.base import Backbone
from ssl_video.backbones.weights.files import load_weights
from ssl_video.errors import UserError
from ssl_video.run import Run
from ssl_video.train.objective import Progress

N = TypeVar("N", bound=nn.Module)


def teacher_of(network: N) -> N:
    """A copy whose parameters take no gradient. A part of the pretext, it is in checkpoints and in no optimiser."""
    copy = deepcopy(network)
    copy.requires_grad_(False)
    return copy


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Every parameter of the teacher becomes ``momentum`` of itself and the rest of the student's.

    Buffers stay its own: the statistics of a batch norm come from what the teacher sees.
    """
    for own, other in zip(teacher.parameters(), student.parameters(), strict=True):
        own.lerp_(other.detach().to(own.dtype), 1 - momentum)


def risen(start: float, progress: Progress) -> float:
    r"""A momentum that rises to 1 along a half cosine (BYOL): $1 - (1 - m_0)(\cos(\pi s / S) + 1) / 2$."""
    return 1 - (1 - start) * (math.cos(math.pi * progress.fraction) + 1) / 2


def load_teacher(teacher: Backbone, source: str) -> None:
    """Give a teacher that does not move the weights that a run exported (its folder, or its backbone.safetensors).

    Raises UserError if there are none, or they are of another network.
    """
    path = Path(source).expanduser()
    try:
        load_weights(teacher, Run(path).backbone_file if path.is_dir() else path)
    except UserError as error:
        raise UserError(f"The teacher frozen:{source} cannot be used with {teacher.architecture}: {error}") from None
