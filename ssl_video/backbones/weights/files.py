"""Files of weights into networks: all keys fit, or they are refused and named. Those of other projects are read too."""

import pickle
import re
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_video.digests import Digests
from ssl_video.errors import UserError
from ssl_video.readback import in_short, texts
from ssl_video.tensors import (
    UNREADABLE,
    load_state,
    not_finite,
    outline_of_state,
    outline_of_tensors,
    read_header,
    read_tensors,
    some_of,
)

UNCHECKED = "unchecked: no features were compared"
V01 = re.compile(r"^(backbone\.)?stages\.")  # what names of a backbone's tensors began with in version 0.1
WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model", "target_encoder", "encoder")
"""Where checkpoints of others keep the weights; of V-JEPA's two networks the teacher is the one that they evaluate."""
NOT_OURS = (".npz", ".npy", ".msgpack", ".h5", ".index", ".tflite", ".onnx")
"""Ends of the names of files of other libraries: JAX, TensorFlow, ONNX."""
COMPILED = re.compile(r"(^|\.)_orig_mod\.")  # what torch.compile puts before the names of a module's tensors
PARALLEL, AVERAGED = "module.", "n_averaged"  # likewise DataParallel and AveragedModel, and the counter of the latter
OTHER_WEIGHTS = "take weights from before their training diverged, or train with a lower learning rate"


class Passed:
    """In the place of what checkpoints hold beside tensors, of which nothing is made."""

    def __init__(self, *_args: object):
        pass

    def __setstate__(self, _state: object) -> None:
        pass


BESIDE: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    (Passed, name)
    for name in (
        "argparse.Namespace",
        "numpy.dtype",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
    )
]
"""Options and single numbers, which many trainings save beside the weights."""


@dataclass(frozen=True)
class LoadReport:
    """What was loaded; ``str`` makes a sentence of it.

    ``left_out`` are the keys of the file that belong to heads, ``missing`` the counters of batch norms that old files
    do not have, and what begins anew. ``checked`` is against what an entry's features were compared, None for a file
    that is of no entry.
    """

    source: str
    loaded: tuple[str, ...]
    left_out: tuple[str, ...]
    missing: tuple[str, ...]
    checked: str | None = None

    def __str__(self) -> str:
        some = ", ".join(self.left_out[:4]) + (f" and {len(self.left_out) - 4} more" if len(self.left_out) > 4 else "")
        unchecked = f"; {UNCHECKED}" if self.checked == "" else ""
        return (
            f"loaded {len(self.loaded)} tensors from {self.source}" + (f"; left out {some}" if some else "") + unchecked
        )


def load_weights(module: nn.Module, path: Path | str, heads: tuple[str, ...] = ()) -> LoadReport:
    """Load a state dict (safetensors, or torch.save read without executing anything) into ``module``.

    ``heads`` are prefixes of keys, such as ``"fc."``, that are left out, whatever they hold.

    Raises:
        UserError: if the file is missing, truncated, holds more than tensors, is of another architecture (any key
            outside the heads that is missing, unexpected or of another shape), or is not usable (``check_numbers``).
            The module is unchanged then.
    """
    return load_into(module, read_state_dict(path), str(path), heads)


def load_into(module: nn.Module, weights: Mapping[str, Tensor], what: str, heads: tuple[str, ...] = ()) -> LoadReport:
    """As ``load_weights``, of tensors at hand; ``what`` names them in errors and in the report."""
    own = {k: v for k, v in module.state_dict().items() if not k.startswith(heads)}
    weights = current_names(weights, own)
    given = {k: v for k, v in weights.items() if not k.startswith(heads)}
    check_layout(own, given, what, begun_anew(module))
    check_numbers(module, given, what)
    module.load_state_dict(given, strict=False)
    return LoadReport(
        what, tuple(given), tuple(k for k in weights if k not in given), tuple(k for k in own if k not in given)
    )


def begun_anew(module: nn.Module) -> frozenset[str]:
    """Tensors of the state that weights may be without, all together: what networks in it say of theirs."""
    parts = ((f"{name}." if name else "", part) for name, part in module.named_modules())
    return frozenset(f"{prefix}{key}" for prefix, part in parts for key in getattr(part, "begun_anew", ()))


def check_layout(own: Mapping[str, Any], given: Mapping[str, Any], what: str, anew: Set[str] = frozenset()) -> None:
    """Raise UserError unless names and shapes are a module's ``own``.

    Counters of batch norms may be missing, and ``anew``, if all of it is.
    """
    missing = [k for k in own if k not in given and not k.endswith("num_batches_tracked")]
    missing = [k for k in missing if k not in anew] if anew.isdisjoint(given) else missing
    faults = (
        [f"unexpected {k}" for k in given if k not in own]
        + [f"missing {k}" for k in missing]
        + [
            f"{k} is {tuple(given[k].shape)} and should be {tuple(own[k].shape)}"
            for k in own
            if k in given and given[k].shape != own[k].shape
        ]
    )
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UserError(f"{what} does not fit this architecture: {'; '.join(faults[:3])}{more}.")


def check_numbers(module: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Raise UserError for integers where ``module`` has floats, and for numbers that are not finite (``not_finite``).

    ``what`` names the weights. Tensors that the module does not have are not looked at.
    """
    own = module.state_dict()
    shared = {k: weights[k] for k in own if k in weights}
    integers = [k for k, v in shared.items() if own[k].is_floating_point() and not v.is_floating_point()]
    if integers:
        raise UserError(
            f"{what} cannot be used: integers in {some_of(integers, len(shared))}, where the network has floats; save "
            f"its weights as floats."
        )
    if wrong := not_finite(module, shared):
        raise UserError(
            f"{what} cannot be used: NaN or infinite numbers in {some_of(wrong, len(shared))}; {OTHER_WEIGHTS}."
        )


def current_names(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a backbone, or of what holds one, that version 0.1 wrote, under the names that they have ``own``."""
    now = {k: V01.sub(r"\1network.", k) for k in weights}
    return {k if k in own or now[k] not in own else now[k]: v for k, v in weights.items()}


def read_state_dict(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a file, without the wrapping of common checkpoints. Raises UserError; nothing is executed."""
    path = _to_read(path)
    if path.suffix == ".safetensors":
        return own_tensors(unwrapped(read_tensors(path), str(path)))
    return own_tensors(unwrapped(_plain(path, lambda file: load_state(file, mapped=True)), str(path)))


def read_outline(path: Path | str) -> dict[str, Tensor]:
    """As ``read_state_dict``, but names and shapes alone, on torch's meta device: no number is read or compared."""
    path = _to_read(path)
    if path.suffix == ".safetensors":
        return own_tensors(unwrapped(outline_of_tensors(path), str(path)))
    return own_tensors(unwrapped(_plain(path, outline_of_state), str(path)))


def _to_read(path: Path | str) -> Path:
    path = Path(path).expanduser()
    if path.suffix in NOT_OURS:
        raise UserError(
            f"{path} is a file of JAX, TensorFlow or another library, which is not read; convert it to a state dict of "
            f"torch."
        )
    if not path.is_file():
        raise UserError(f"There is no file of weights {path}.")
    return path


def _plain(path: Path, load: Callable[[Path], Any]) -> Any:
    """What ``load`` finds in a file that torch pickled, of tensors and what trainings save beside them."""
    try:
        with torch.serialization.safe_globals(BESIDE):
            return load(path)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} is not a file of plain tensors, and loading more could execute its code; save a state_dict again."
        ) from None
    except UNREADABLE as error:
        raise UserError(f"{path} is not a whole file of weights ({in_short(error)}); fetch it again.") from None


def unwrapped(content: object, what: str) -> dict[str, Tensor]:
    """The state dict of a checkpoint: what it is, or what stands in it under a usual name, or as the only one.

    Raises UserError if there is none, or more than one; ``what`` names it.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"{what} does not hold a state dict, names with tensors.")
    if _is_state_dict(content):
        return {str(k): v for k, v in content.items()}
    inside = {str(k): v for k, v in content.items() if _is_state_dict(v)}
    names = [name for name in WRAPPERS if name in inside] or list(inside)
    if not names:
        raise UserError(f"{what} does not hold a state dict, names with tensors.")
    if names[0] not in WRAPPERS and len(names) > 1:
        raise UserError(f"{what} holds several networks ({', '.join(names)}); save the one that you mean by itself.")
    return {str(k): v for k, v in inside[names[0]].items()}


def _is_state_dict(content: object) -> bool:
    return isinstance(content, Mapping) and bool(content) and all(isinstance(v, Tensor) for v in content.values())


def own_tensors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights without what torch puts before their names: torch.compile, DataParallel, and the average of weights.

    The counter of such an average is left out.
    """
    weights = {COMPILED.sub(r"\1", k): v for k, v in weights.items()}
    rest = {k: v for k, v in weights.items() if k != AVERAGED}
    if rest and all(k.startswith(PARALLEL) for k in rest):
        return own_tensors({k.removeprefix(PARALLEL): v for k, v in rest.items()})
    return weights


def without_shared_prefix(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Weights without the words that all of their names begin with, such as ``encoder_q.``, if only so one is ``own``.

    They stay as they are if none is one then either.
    """
    shorter = weights
    while not own.keys() & current_names(shorter, own).keys():
        if len({k.partition(".")[0] for k in shorter}) != 1 or not all("." in k for k in shorter):
            return weights
        shorter = {k.partition(".")[2]: v for k, v in shorter.items()}
    return shorter


def videos_seen(source: str) -> Set[str]:
    """What weights were trained on, where their file says so, as those of our runs do; see ``seen_in``."""
    path = Path(source).expanduser()
    if path.suffix != ".safetensors" or not path.is_file():
        return frozenset()
    return seen_in(read_header(path) or {})


def seen_in(header: Mapping[str, Any]) -> Set[str]:
    """Digests of videos and names of published lists (SET:LIST) that weights with this header were trained on."""
    try:
        videos, lists = header.get("videos", []), frozenset(texts(header.get("lists", [])))
        return videos | lists if isinstance(videos, Digests) else frozenset(texts(videos)) | lists
    except TypeError as error:
        raise UserError(f"The header of the weights is damaged ({in_short(error)}); take a whole copy of it.") from None


def noted_as_seen(seen: Iterable[str]) -> dict[str, list[str] | Digests]:
    """The two entries of a header that ``seen_in`` reads, for ``save_tensors``."""
    found = Digests.of(seen)
    lists = sorted(name for name in found.others if ":" in name)
    return {"videos": Digests(found.numbers, found.others - set(lists)), "lists": lists}
