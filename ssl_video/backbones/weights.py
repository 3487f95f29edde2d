"""Weights into networks: all keys fit, or they are refused and named. Files of other projects are read here too."""

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ssl_video.errors import UserError

WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model")  # where checkpoints of others keep the weights


@dataclass(frozen=True)
class LoadReport:
    """What was loaded: keys that were loaded, and the heads' keys that the file lacks or that were left out.

    The counters of batch norms, which old files do not have, count as ``missing`` too.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def load_weights(module: nn.Module, path: Path | str, heads: tuple[str, ...] = ()) -> LoadReport:
    """Load a state dict (safetensors, or torch.save read without executing anything) into ``module``.

    ``heads`` are prefixes of keys, such as ``"fc."``, that a file may lack or have in another shape.

    Raises:
        UserError: if the file is missing, truncated, holds more than tensors, or is of another architecture: any key
            outside the heads that is missing, unexpected or of another shape. The module is unchanged then.
    """
    return load_into(module, read_state_dict(path), str(path), heads)


def load_into(module: nn.Module, weights: Mapping[str, Tensor], what: str, heads: tuple[str, ...] = ()) -> LoadReport:
    """As ``load_weights``, of tensors at hand; ``what`` names them in errors."""
    own = module.state_dict()
    loaded = tuple(k for k in own if k in weights and weights[k].shape == own[k].shape)
    missing = tuple(k for k in own if k not in loaded)
    unexpected = tuple(k for k in weights if k not in loaded)
    counters = "num_batches_tracked"
    faults = {
        **{k: f"unexpected {k}" for k in unexpected if not k.startswith(heads)},
        **{k: f"missing {k}" for k in missing if not k.startswith(heads) and not k.endswith(counters)},
        **{
            k: f"{k} is {tuple(weights[k].shape)} and should be {tuple(own[k].shape)}"
            for k in missing
            if k in weights and not k.startswith(heads)
        },
    }
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UserError(f"{what} does not fit this architecture: {'; '.join(list(faults.values())[:3])}{more}.")
    module.load_state_dict({k: weights[k] for k in loaded}, strict=False)
    return LoadReport(loaded, missing, unexpected)


def read_state_dict(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a file, without the wrapping of common checkpoints. Raises UserError; nothing is executed."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"There is no file of weights {path}.")
    try:
        if path.suffix == ".safetensors":
            content: object = load_file(path)
        else:
            with warnings.catch_warnings():  # torch's remarks on strange files; we answer below
                warnings.simplefilter("ignore")
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} is not a file of plain tensors, and loading more could execute its code; save a state_dict again."
        ) from None
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is not a whole file of weights ({reason}); fetch it again.") from None
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f"{path} does not hold a state dict, names with tensors.")
    wrapped = all(str(k).startswith("module.") for k in content)  # saved from DataParallel
    return {str(k).removeprefix("module.") if wrapped else str(k): v for k, v in content.items()}
