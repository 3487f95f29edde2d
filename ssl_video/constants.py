"""Fixed numbers as tensors, made once for a device: a copy from the host in every step would make the device wait."""

from typing import Any

import torch
from torch import Tensor

_made: dict[Any, Tensor] = {}


def constant(values: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """``torch.tensor`` of a number or (nested) tuples of numbers, the same one each time: never change it in place."""
    key = values, device, dtype
    if key in _made and not torch.compiler.is_compiling():
        return _made[key]
    with torch.inference_mode(False):
        made = torch.tensor(values, device=device, dtype=dtype)
    if type(made) is Tensor and not torch.compiler.is_compiling():  # not one of a tracer's
        _made[key] = made
    return made
