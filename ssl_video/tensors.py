"""Files of tensors (safetensors) with a header of ours as JSON in their metadata; and which tensors are not finite."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ssl_video.errors import UserError
from ssl_video.files import written_aside

KEY = "ssl_video"
"""Under which the header stands in the metadata."""
STATISTICS = ("running_mean", "running_var")
"""Ends of the names of what batch norms measure."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a header, aside, then renamed."""
    whole: dict[str, Tensor] = {}
    seen: set[int] = set()
    for key, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        whole[key] = plain.clone() if place in seen else plain  # the format has no tensors that share memory
        seen.add(place)
    with written_aside(path) as aside:
        save_file(whole, aside, {KEY: json.dumps(header)})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file of ``save_tensors``. Raises UserError; nothing in the file is executed."""
    header = read_header(path)
    if header is None:
        raise UserError(
            f"{path} was not written by ssl-video: it does not say of which architecture it is; "
            f"name its network: net:NAME?weights={path}."
        )
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, header  # noqa: SIM118  (not a dict)


def read_header(path: Path) -> dict[str, Any] | None:
    """The header of a safetensors file, None if another program wrote it. Raises UserError if it is no whole one."""
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get(KEY, "null"))
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a whole safetensors file ({' '.join(str(error).split())}).") from None
    return header if isinstance(header, dict) else None


def not_finite(module: nn.Module, weights: Mapping[str, Tensor] | None = None) -> list[str]:
    """Names of the tensors of ``module``, or of ``weights`` for it, with a number that is NaN or infinite there.

    Numbers are taken in the type that the module has: one of 1e300 is infinite in single precision. Infinities count in
    parameters and in statistics of batch norms alone, since a mask, say, is a buffer that holds them.
    """
    own = module.state_dict()
    learned = {name for name, _ in module.named_parameters(remove_duplicate=False)}

    def good(name: str, tensor: Tensor) -> bool:
        if name in own and own[name].is_floating_point():
            tensor = tensor.to(own[name].dtype)
        strict = name in learned or name.endswith(STATISTICS)
        return bool((tensor.isfinite() if strict else ~tensor.isnan()).all())

    return [name for name, tensor in (own if weights is None else weights).items() if not good(name, tensor)]


def some_of(names: Sequence[str], of: int) -> str:
    """A phrase for some of ``of`` tensors: ``2 of 62 tensors (the first: conv.weight)``."""
    return f"{len(names)} of {of} tensors (the first: {names[0]})"
