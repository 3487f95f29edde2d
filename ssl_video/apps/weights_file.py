"""What a file of weights is: which published file, what of it would be loaded, and how it is used."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import torch

from ssl_video.backbones.base import unloaded_backbone
from ssl_video.backbones.weights import WEIGHTS, Entry
from ssl_video.backbones.weights.entries import fitting_entries
from ssl_video.backbones.weights.layouts import Layout, outline
from ssl_video.errors import UserError
from ssl_video.files import as_named, sha256
from ssl_video.tensors import read_header


@dataclass(frozen=True)
class Fit:
    """An entry that a file may be of.

    ``missing`` and ``unexpected`` name tensors, the latter also those of another shape; with any of them the file is
    refused. ``problem`` is why its network cannot be built, empty if it can. ``model`` names it for any command.
    """

    key: str
    entry: Entry
    options: Mapping[str, object]
    loaded: tuple[str, ...]
    left_out: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    problem: str
    model: str

    @property
    def usable(self) -> bool:
        """Whether it is loaded as it is."""
        return not (self.missing or self.unexpected or self.problem)

    @property
    def command(self) -> str:
        """A command that uses it."""
        return f"ssl-video evaluate knn --model {shlex.quote(self.model)} --data DATA"


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights: how many tensors it holds, and of which entries it may be.

    ``ours`` is the network of a file that ssl-video wrote, empty for others.
    """

    path: Path
    tensors: int
    ours: str
    fits: tuple[Fit, ...]


def identify(path: Path | str) -> WeightsFile:
    """What a file of weights is, from its names and shapes, and from its digest where entries have one.

    Raises:
        UserError: if it is no whole file of weights, or one that is known not to be usable.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise UserError(f"{path} is a folder; name the file of weights in it.")
    tensors = outline(path)
    header = read_header(path) if path.suffix == ".safetensors" else None
    if header is not None and "architecture" in header:
        return WeightsFile(path, len(tensors), str(header["architecture"]), ())
    entries = {key: WEIGHTS[key] for key in WEIGHTS.names()}
    fitting = fitting_entries(path, {key: entry for key, entry in entries.items() if entry.layout is not None})
    fits = [_fit(path, key, entry, entry.layout) for key, entry in fitting.items() if entry.layout is not None]
    digest = sha256(path)
    by_digest = {key: e for key, e in entries.items() if e.sha256 and digest.startswith(e.sha256)}
    fits += [_whole(key, entry, tuple(tensors)) for key, entry in by_digest.items()]
    return WeightsFile(path, len(tensors), "", tuple(fits))


def _whole(key: str, entry: Entry, names: tuple[str, ...]) -> Fit:
    """An entry whose file this is, byte for byte."""
    network, _, name = key.partition("/")
    return Fit(key, entry, entry.options, names, (), (), (), "", f"net:{network}?weights={quote(name, safe=':')}")


def _fit(path: Path, key: str, entry: Entry, layout: Layout) -> Fit:
    """What would become of a file as one of an entry, found without reading a number."""
    network, _, name = key.partition("/")
    source = f"{name}:{as_named(path)}"
    common = layout.common(outline(path), str(path))
    kept, left_out = layout.parted(common)
    options: dict[str, object] = {}
    model = f"net:{network}?weights={quote(source, safe='/:')}"
    try:
        options = {**entry.options, **layout.options(common, {})}
        with torch.device("meta"):
            backbone = unloaded_backbone(network, **options)
            adapted = layout.adapt(kept, backbone)
    except UserError as error:
        return Fit(key, entry, options, (), left_out, (), (), str(error), model)
    own = backbone.state_dict()
    wrong = tuple(n for n, tensor in adapted.items() if n not in own or own[n].shape != tensor.shape)
    loaded = tuple(n for n in adapted if n not in wrong)
    return Fit(key, entry, options, loaded, left_out, tuple(n for n in own if n not in adapted), wrong, "", model)
