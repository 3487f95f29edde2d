"""Weights into networks: all keys fit, or they are refused and named. Files of other projects are read here too."""

import json
import pickle
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import get_model_weights

from ssl_video.errors import UserError, nearest

WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model")  # where checkpoints of others keep the weights


TORCHVISION = "torchvision:"
UNREADABLE = (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError)  # of files cut off or not there


@dataclass(frozen=True)
class LoadReport:
    """What was loaded; ``str`` makes a sentence of it.

    ``left_out`` are the keys of the file that belong to heads, ``missing`` the counters of batch norms that old files
    do not have.
    """

    source: str
    loaded: tuple[str, ...]
    left_out: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        some = ", ".join(self.left_out[:4]) + (f" and {len(self.left_out) - 4} more" if len(self.left_out) > 4 else "")
        return f"loaded {len(self.loaded)} tensors from {self.source}" + (f"; left out {some}" if some else "")


def as_they_are(weights: Mapping[str, Tensor], _network: nn.Module) -> Mapping[str, Tensor]:
    """Published weights that fit without a change."""
    return weights


@dataclass(frozen=True)
class Published:
    """How others name the weights of a network, so that their files can be loaded into it.

    Args:
        network: the network under its published names; a backbone's stages are made of its modules.
        heads: prefixes of the names that the backbone leaves out, such as ``"fc."``.
        torchvision: the name under which torchvision publishes weights, if it does.
        adapt: (published weights, ``network``) -> weights of the network's names and shapes.
    """

    network: nn.Module
    heads: tuple[str, ...] = ()
    torchvision: str | None = None
    adapt: Callable[[Mapping[str, Tensor], nn.Module], Mapping[str, Tensor]] = as_they_are

    def names_of(self, backbone: nn.Module) -> "Names":
        """How the tensors of ``backbone``, which is made of the modules of ``network``, are called there."""
        of_tensor = {id(v): k for k, v in self.network.state_dict(keep_vars=True).items()}
        own = backbone.state_dict(keep_vars=True)
        published = {k: of_tensor[id(v)] for k, v in own.items() if id(v) in of_tensor}
        return Names(published, self.heads, self.torchvision if self.adapt is as_they_are else None)


@dataclass(frozen=True)
class Names:
    """What is kept of ``Published`` once a network is built.

    ``published`` are others' names of its own keys. ``torchvision`` names torchvision's network of the same tensors.
    """

    published: Mapping[str, str]
    heads: tuple[str, ...]
    torchvision: str | None


def start_from(source: str, backbone: nn.Module, name: str, published: Published | None) -> LoadReport:
    """Load initial weights into the ``backbone`` called ``name``.

    ``source`` is a file, either with the backbone's own names, such as the backbone.safetensors of a run, or as
    published; or torchvision:NAME, which torchvision fetches into its cache.

    Raises:
        UserError: if there are no such weights, or they do not fit.
    """
    if source.startswith(TORCHVISION):
        if published is None or published.torchvision is None:
            raise UserError(f"torchvision publishes no weights of {name}; give a file.")
        weights = torchvision_weights(published.torchvision, source.removeprefix(TORCHVISION))
    else:
        weights = read_state_dict(source)
    if published is None or any(key.startswith("stages.") for key in weights):
        return load_into(backbone, weights, source)
    return load_into(published.network, published.adapt(weights, published.network), source, published.heads)


def videos_seen(source: str) -> frozenset[str]:
    """Digests of the videos that weights were trained on, where their file says so, as those of our runs do."""
    path = Path(source).expanduser()
    if path.suffix != ".safetensors":
        return frozenset()
    with safe_open(path, "pt") as file:
        header = json.loads((file.metadata() or {}).get("ssl_video", "null"))
    return frozenset(header.get("videos", ())) if isinstance(header, dict) else frozenset()


def torchvision_weights(network: str, choice: str) -> Mapping[str, Tensor]:
    """The state dict that torchvision publishes for ``network`` under the name ``choice``, such as ``DEFAULT``.

    Raises:
        UserError: if there is none of that name, or it is neither in torchvision's cache nor can be fetched.
    """
    published = get_model_weights(network)
    if choice not in published.__members__:
        raise UserError(f"torchvision has no weights {choice!r} of {network}; {nearest(choice, published.__members__)}")
    entry = published[choice]
    try:
        return entry.get_state_dict(check_hash=True, map_location="cpu", weights_only=True)
    except (*UNREADABLE, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{entry.url} could not be loaded ({reason}); fetch it and give the file as weights.") from None


def own_names(weights: Mapping[str, Tensor], names: Names | None) -> dict[str, Tensor]:
    """Weights of a backbone under its own names, whichever of its two kinds of names they have."""
    own = {} if names is None else {published: k for k, published in names.published.items()}
    return {own.get(k, k): v for k, v in weights.items()}


def load_weights(module: nn.Module, path: Path | str, heads: tuple[str, ...] = ()) -> LoadReport:
    """Load a state dict (safetensors, or torch.save read without executing anything) into ``module``.

    ``heads`` are prefixes of keys, such as ``"fc."``, that are left out, whatever they hold.

    Raises:
        UserError: if the file is missing, truncated, holds more than tensors, or is of another architecture: any key
            outside the heads that is missing, unexpected or of another shape. The module is unchanged then.
    """
    return load_into(module, read_state_dict(path), str(path), heads)


def load_into(module: nn.Module, weights: Mapping[str, Tensor], what: str, heads: tuple[str, ...] = ()) -> LoadReport:
    """As ``load_weights``, of tensors at hand; ``what`` names them in errors and in the report."""
    own = {k: v for k, v in module.state_dict().items() if not k.startswith(heads)}
    given = {k: v for k, v in weights.items() if not k.startswith(heads)}
    missing = tuple(k for k in own if k not in given)
    faults = (
        [f"unexpected {k}" for k in given if k not in own]
        + [f"missing {k}" for k in missing if not k.endswith("num_batches_tracked")]
        + [
            f"{k} is {tuple(given[k].shape)} and should be {tuple(own[k].shape)}"
            for k in own
            if k in given and given[k].shape != own[k].shape
        ]
    )
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UserError(f"{what} does not fit this architecture: {'; '.join(faults[:3])}{more}.")
    module.load_state_dict(given, strict=False)
    return LoadReport(what, tuple(given), tuple(k for k in weights if k not in given), missing)


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
    except UNREADABLE as error:
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
