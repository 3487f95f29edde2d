"""Files of tensors: safetensors with a header of ours, and states that torch pickled; and which are not finite.

What we write has a SHA-256 of its content in it, which is compared whenever it is read: altered bytes are no weights.
What versions before this one wrote has none, and is read without.
"""

import contextlib
import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ssl_video.digests import Digests, from_note, to_note
from ssl_video.errors import UserError
from ssl_video.files import running_sha256, written_aside
from ssl_video.readback import DAMAGE, in_short, parsed

KEY, DIGEST = "ssl_video", "sha256"
"""Under which the header stands in the metadata, and in it the digest of the rest of it and of all tensors.

It is the only entry there: of several, safetensors writes them in any order.
"""
UNREADABLE = (SafetensorError, OSError, RuntimeError, MemoryError, pickle.PickleError, zipfile.BadZipFile, *DAMAGE)
"""What the readers of files that are damaged raise."""
ALTERED = "it was altered since it was written: its content has another digest"
SIGNATURE = re.compile(rb"sha256:[0-9a-f]{64}")
END_OF_ZIP = b"PK\5\6"
"""What the last record of a zip file begins with, which is 22 bytes long, and then its comment."""
STATISTICS = ("running_mean", "running_var")
"""Ends of the names of what batch norms measure."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a header, aside, then renamed; of digests in it that are many, their own file beside it.

    (``digests.to_note``; safetensors takes no header of more than 100 MB.)
    """
    whole: dict[str, Tensor] = {}
    seen: set[int] = set()
    for key, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        whole[key] = plain.clone() if place in seen else plain  # the format has no tensors that share memory
        seen.add(place)
    plainly = {k: to_note(path.parent, v) if isinstance(v, Digests) else v for k, v in header.items()}
    said = {**plainly, DIGEST: content_digest(whole, plainly)}
    with written_aside(path) as aside:
        save_file(whole, aside, {KEY: json.dumps(said)})


def content_digest(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """SHA-256 of the header and of all names, types, shapes and bytes."""
    digest = hashlib.sha256(json.dumps(header).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file of ``save_tensors``. Raises UserError; nothing in the file is executed."""
    header = read_header(path)
    if header is None:
        raise UserError(
            f"{path} was not written by ssl-video: it does not say of which architecture it is; "
            f"name its network: net:NAME?weights={path}."
        )
    return read_tensors(path), header


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises UserError if it is no whole one, or not as we have written it."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
            header = _header_in(file)
        noted = header.pop(DIGEST, None) if isinstance(header, dict) else None
        if noted is not None and noted != content_digest(tensors, header):
            raise ValueError(ALTERED)
        return tensors
    except UNREADABLE as error:
        raise _damaged(path, error) from None


def read_header(path: Path) -> dict[str, Any] | None:
    """The header of a safetensors file, None if another program wrote it. Raises UserError if it is no whole one."""
    try:
        with safe_open(path, "pt") as file:
            header = _header_in(file)
        if not isinstance(header, dict):
            return None
        header.pop(DIGEST, None)
        return {k: from_note(path.parent, v) if k == "videos" else v for k, v in header.items()}
    except UNREADABLE as error:
        raise _damaged(path, error) from None


def _header_in(file: Any) -> Any:
    return parsed((file.metadata() or {}).get(KEY, "null"), numbers=False)


def _damaged(path: Path, error: BaseException) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"There is no file {path}.")
    return UserError(
        f"{path} is not a whole safetensors file ({in_short(error)}); take a whole copy of it, or make it again."
    )


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state that torch pickles, aside, then renamed; its digest is the comment of the zip file that it is."""
    with written_aside(path) as aside:
        torch.save(dict(state), aside)
        with aside.open("r+b") as file:
            size = file.seek(-22, 2) + 22
            if file.read(4) == END_OF_ZIP:
                signature = f"sha256:{running_sha256(aside, size - 2).hexdigest()}".encode()
                file.seek(size - 2)
                file.write(len(signature).to_bytes(2, "little") + signature)


def check_state(path: Path) -> None:
    """Compare a file that torch pickled with its digest, or with the checksums of its parts where it has none.

    Raises:
        ValueError: if it was altered; also the others of ``UNREADABLE``.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 200))
        tail = file.read()
    end = tail.rfind(END_OF_ZIP)
    comment = tail[end + 22 :]
    if end >= 0 and (comment or tail[end + 20 : end + 22] != b"\0\0"):
        signed = SIGNATURE.fullmatch(comment)
        if not signed or comment[7:].decode() != running_sha256(path, size - len(comment) - 2).hexdigest():
            raise ValueError(ALTERED)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as parts:
            wrong = [name for name in parts.namelist() if not _sums_up(parts, name)]
            if wrong and len(wrong) < len(parts.namelist()):  # torch can be told to write none at all
                raise ValueError(f"its part {wrong[0]} has another checksum")


def is_whole(path: Path) -> bool:
    """True if ``check_state`` finds nothing wrong."""
    try:
        check_state(path)
    except UNREADABLE:
        return False
    return True


def _sums_up(parts: zipfile.ZipFile, name: str) -> bool:
    with contextlib.suppress(zipfile.BadZipFile), parts.open(name) as part:
        while part.read(1 << 20):
            pass
        return True
    return False


def load_state(path: Path, mapped: bool = False, compared: bool = True) -> Any:
    """What torch pickled, ``compared`` first (``check_state``). Raises one of ``UNREADABLE``; nothing is executed.

    ``mapped``: numbers stay in the file until they are used, for a file that nobody changes meanwhile.
    """
    if compared:
        check_state(path)
    with warnings.catch_warnings():  # torch's remarks on strange files; the caller says what is wrong
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and zipfile.is_zipfile(path))


def outline_of_state(path: Path) -> Any:
    """What torch pickled, with tensors on the meta device: none of their numbers is read. Raises as ``load_state``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(path))


def outline_of_tensors(path: Path) -> dict[str, Tensor]:
    """Names and shapes of a safetensors file, as tensors on the meta device. Raises UserError if it is no whole one."""
    try:
        with safe_open(path, "pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118  (not a dict)
    except UNREADABLE as error:
        raise _damaged(path, error) from None
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def each_tensor(tree: Any, do: Callable[[Any], Any], kind: type | tuple[type, ...] = Tensor) -> Any:
    """Mappings, lists and tuples as they are, with what ``do`` makes of each tensor, or of what is of this ``kind``."""
    if isinstance(tree, kind):
        return do(tree)
    if isinstance(tree, Mapping):
        return {name: each_tensor(x, do, kind) for name, x in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(each_tensor(x, do, kind) for x in tree)
    return tree


def local(tensor: Tensor) -> Tensor:
    """The part of a sharded tensor that this process holds; any other as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor  # pyright: ignore[reportAttributeAccessIssue]


def not_finite(module: nn.Module, weights: Mapping[str, Tensor] | None = None) -> list[str]:
    """Names of the tensors of ``module``, or of ``weights`` for it, with a number that is NaN or infinite there.

    Numbers are taken in the type that the module has: one of 1e300 is infinite in single precision. Infinities count in
    parameters and in statistics of batch norms alone, since a mask, say, is a buffer that holds them. Of tensors that
    are sharded it looks at what this process holds.
    """
    own = module.state_dict()
    learned = {name for name, _ in module.named_parameters(remove_duplicate=False)}

    def good(name: str, tensor: Tensor) -> bool:
        tensor = local(tensor)
        if name in own and own[name].is_floating_point():
            tensor = tensor.to(own[name].dtype)
        strict = name in learned or name.endswith(STATISTICS)
        return bool((tensor.isfinite() if strict else ~tensor.isnan()).all())

    return [name for name, tensor in (own if weights is None else weights).items() if not good(name, tensor)]


def some_of(names: Sequence[str], of: int) -> str:
    """A phrase for some of ``of`` tensors: ``2 of 62 tensors (the first: conv.weight)``."""
    return f"{len(names)} of {of} tensors (the first: {names[0]})"
