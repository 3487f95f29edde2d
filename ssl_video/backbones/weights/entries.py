"""Published files of weights, one entry each: what it takes to use them, and what is known of them."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from ssl_video.backbones.weights.files import (
    LoadReport,
    check_numbers,
    current_names,
    load_into,
    read_state_dict,
    videos_seen,
    without_shared_prefix,
)
from ssl_video.backbones.weights.names import Published
from ssl_video.errors import UserError, nearest
from ssl_video.files import sha256
from ssl_video.registry import Registry
from ssl_video.tensors import UNREADABLE


def unchanged(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Weights whose names are those of the published network."""
    return weights


@dataclass(frozen=True)
class Entry:
    """A published file of weights, registered as NETWORK/NAME.

    Args:
        source: its address, from which it is fetched once into torch's cache, or its path.
        options: those of the network that the weights are for.
        rename: its tensors -> the same under the names of the network, the published ones where it has such.
        mean: of the pixels that it was trained on, scaled to [0, 1]; None: those of the network's clips, as for the
            next three.
        std: of these pixels.
        frames: of its clips.
        stride: between these frames.
        sha256: first digits of the file's digest, compared whenever it is read; empty if none is published.
        licence: under which it is published.
        trained_on: data sets, in words.
        lists: the published lists that it was trained on, SET:LIST such as ``kinetics400:train``, as data sets name
            theirs (``ListedVideo.published``), so that test videos that it has seen are recognised.
        checked: the independent implementation whose features these weights give here; empty if there was none.
    """

    source: str
    options: Mapping[str, object] = field(default_factory=dict)
    rename: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = unchanged
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    frames: int | None = None
    stride: int | None = None
    sha256: str = ""
    licence: str = ""
    trained_on: str = ""
    lists: tuple[str, ...] = ()
    checked: str = ""
    mend: ClassVar[str] = "since its entry was written; take a whole copy of it"
    """Since when a file at a path is the one that is meant, and what to do if it is another one."""


WEIGHTS: Registry[Entry] = Registry("weights entry", "ssl_video.backbones.weights")


def own_entry(source: str, name: str) -> Entry | None:
    """The entry that ``source`` names among those of the backbone called ``name``; None if it names none."""
    key = f"{name}/{source}"
    return WEIGHTS[key] if key in WEIGHTS.names() else None


def _entry_of(source: str, name: str, published: Published | None) -> Entry | None:
    """The entry that ``source`` names, of the backbone called ``name`` or of the network that it is made of."""
    entry = own_entry(source, name)
    if entry is None and published is not None and published.torchvision is not None:
        entry = own_entry(source, published.torchvision)
    return entry


def seen_by(source: str, name: str, published: Published | None) -> frozenset[str]:
    """What initial weights say that they were trained on: digests of videos, and names of lists. See ``start_from``."""
    entry = _entry_of(source, name, published)
    return videos_seen(source) if entry is None else frozenset(entry.lists) | videos_seen(entry.source)


def start_from(source: str, backbone: nn.Module, name: str, published: Published | None) -> LoadReport:
    """Load initial weights into the ``backbone`` called ``name``.

    ``source`` is an entry, of this network or of the one that it is made of, or a file, either with the backbone's own
    names, such as the backbone.safetensors of a run, or as published.

    Raises:
        UserError: if there are no such weights, or they do not fit.
    """
    entry = _entry_of(source, name, published)
    if entry is not None:
        weights = entry.rename(fetched(entry))
    elif _is_file(source):
        weights = read_state_dict(source)
    else:
        raise UserError(_no_entry(source, name, published))
    own = backbone.state_dict()
    theirs = {} if published is None else published.network.state_dict()
    weights = without_shared_prefix(weights, theirs | own)
    if published is None or any(key in own for key in current_names(weights, own)):
        return load_into(backbone, weights, source)
    check_numbers(published.network, {k: v for k, v in weights.items() if not k.startswith(published.heads)}, source)
    return load_into(published.network, published.adapt(weights, published.network), source, published.heads)


def cached_file(entry: Entry) -> Path:
    """Where the file of an address is kept: under its name in torch's cache, if that says which file it is."""
    name = Path(urlsplit(entry.source).path).name
    if not entry.sha256 or entry.sha256[:8] not in name:  # another file may be called so
        name = f"{hashlib.sha256(entry.source.encode()).hexdigest()[:8]}-{name}"
    return Path(torch.hub.get_dir(), "checkpoints", name)


def fetched(entry: Entry) -> dict[str, Tensor]:
    """The tensors of an entry's file, which is fetched first if it has to be.

    Raises:
        UserError: if it cannot be fetched or read.
    """
    if "://" not in entry.source:
        check_digest(Path(entry.source).expanduser(), entry.sha256, entry.mend)
        return read_state_dict(entry.source)
    path = cached_file(entry)
    check_digest(path, entry.sha256, "since it was fetched; remove it, and it is fetched again")
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(entry.source, str(path), entry.sha256 or None, progress=False)
        return read_state_dict(path)
    except (*UNREADABLE, UserError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{entry.source} could not be loaded ({reason}); fetch it and give the file as weights."
        ) from None


def check_digest(path: Path, digest: str, mend: str) -> None:
    """Raise UserError if a file that is there has not the digest that was published, if one was.

    ``mend`` says since when it is altered, and what to do.
    """
    if digest and path.is_file() and not sha256(path).startswith(digest):
        raise UserError(f"{path} was altered {mend}.")


def _is_file(source: str) -> bool:
    path = Path(source).expanduser()
    return path.exists() or path.suffix != "" or len(path.parts) > 1


def _no_entry(source: str, name: str, published: Published | None) -> str:
    of = (name,) if published is None or published.torchvision is None else (name, published.torchvision)
    known = [key.partition("/")[2] for key in WEIGHTS.names() if key.partition("/")[0] in of]
    others = [key.partition("/")[0] for key in WEIGHTS.names() if key.partition("/")[2] == source]
    if len(others) == 1 and source not in known:
        return f"{source} are weights of {others[0]}, not of {name}; give a file, or take that network."
    if not known:
        return f"No published weights of {name} are known, so {source!r} is none of them; give a file."
    return f"There are no weights {source!r} of {name}; {nearest(source, known)}"
