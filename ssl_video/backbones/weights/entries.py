"""Published files of weights, one entry each: what it takes to use them, and what is known of them."""

import hashlib
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
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
from ssl_video.backbones.weights.layouts import Layout, check_usable, outline
from ssl_video.backbones.weights.names import Published
from ssl_video.errors import UserError, nearest
from ssl_video.files import as_named, sha256, there
from ssl_video.registry import Registry
from ssl_video.tensors import UNREADABLE


def unchanged(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Weights whose names are those of the published network."""
    return weights


@dataclass(frozen=True)
class Entry:
    """A published file of weights, registered as NETWORK/NAME.

    Args:
        source: its address, from which it is fetched once into torch's cache, or its path; empty: the user has the
            file, and names it as ``NAME:FILE``, or as ``FILE`` where no other entry fits it.
        options: those of the network that the weights are for.
        layout: how the file looks, for an entry whose file the user has; it takes the place of ``rename``.
        rename: its tensors -> the same under the names of the network, the published ones where it has such.
        mean: of the pixels that it was trained on, scaled to [0, 1]; None: those of the network's clips, as for the
            next four.
        std: of these pixels.
        frames: of its clips.
        stride: between these frames.
        size: of these frames, in pixels a side.
        sha256: first digits of the file's digest, compared whenever it is read; empty if none is published.
        licence: under which it is published.
        trained_on: data sets, in words.
        lists: the published lists that it was trained on, SET:LIST such as ``kinetics400:train``, as data sets name
            theirs (``ListedVideo.published``), so that test videos that it has seen are recognised.
        checked: against what the features that these weights give here were compared; empty: against nothing, which is
            said wherever they are listed or loaded.
    """

    source: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    rename: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = unchanged
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    frames: int | None = None
    stride: int | None = None
    size: int | None = None
    sha256: str = ""
    licence: str = ""
    trained_on: str = ""
    lists: tuple[str, ...] = ()
    checked: str = ""
    layout: Layout | None = None
    mend: ClassVar[str] = "since its entry was written; take a whole copy of it"
    """Since when a file at a path is the one that is meant, and what to do if it is another one."""


WEIGHTS: Registry[Entry] = Registry("weights entry", "ssl_video.backbones.weights")


def own_entry(source: str, name: str) -> Entry | None:
    """The entry that ``source`` names among those of the backbone called ``name``; None if it names none."""
    key = f"{name}/{source}"
    return WEIGHTS[key] if key in WEIGHTS.names() else None


@dataclass(frozen=True)
class Found:
    """What ``source`` names: an entry, if one, and a file, if it is one at a path.

    ``brings`` are the options of the network that the weights are for.
    """

    source: str
    entry: Entry | None = None
    file: Path | None = None
    brings: Mapping[str, object] = field(default_factory=dict)


def found(source: str, name: str, given: Mapping[str, object] | None) -> Found:
    """What ``source`` names for the backbone called ``name``, of the options that are ``given``.

    None: the network is there, and nobody asks what a file brings.

    It is an entry's name, ``ENTRY:FILE`` for a file that the user has, or a file, whose entry is found by its layout.
    A file that is not there, as that of a resumed training may be, brings nothing.

    Raises:
        UserError: for a file that is not laid out as the entry named, one that several entries fit, and one that is
            known not to be usable.
    """
    entry = own_entry(source, name)
    if entry is not None and entry.layout is None:
        return Found(source, entry, brings=entry.options)
    if entry is not None:
        raise UserError(f"{name}/{source} is of a file that you have: write weights={source}:FILE.")
    word, colon, rest = source.partition(":")
    entry = own_entry(word, name) if colon else None
    file = Path(rest if entry is not None else source).expanduser()
    known = {key: WEIGHTS[key] for key in WEIGHTS.names() if key.partition("/")[0] == name and WEIGHTS[key].layout}
    if not known or not file.is_file():
        return Found(source, entry, file if entry is not None else None)
    fitting = fitting_entries(file, {f"{name}/{word}": entry} if entry is not None else known)
    if entry is not None and not fitting:
        raise UserError(f"{file} is not laid out as {name}/{word}; 'ssl-video weights {file}' says what it is.")
    if len(fitting) > 1:
        names = [key.partition("/")[2] for key in fitting]
        raise UserError(
            f"{file} may be {', '.join(names)}, which its tensors do not tell; write weights={names[0]}:{file}, say."
        )
    for entry in fitting.values():
        assert entry.layout is not None
        outlined = entry.layout.common(outline(file), str(file))
        brings = {} if given is None else {**entry.options, **entry.layout.options(outlined, given)}
        return Found(source, entry, file, brings)
    return Found(source, None, file)


def whole_source(source: str) -> str:
    """``source`` with the whole path of its file, if that is there, so that it is found from any folder."""
    word, colon, rest = source.partition(":")
    if there(source):
        return str(as_named(source))
    return f"{word}:{as_named(rest)}" if colon and rest and there(rest) else source


def fitting_entries(file: Path, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Those of the entries, all of which have a layout, that a file may be of; that of a run is of none.

    Raises UserError for a file that is known not to be usable.
    """
    tensors = outline(file)
    check_usable(tensors, str(file))

    def fits(layout: Layout | None) -> bool:
        assert layout is not None
        names = list(layout.names(tensors).values())
        return len(set(names)) == len(names) and layout.fits(layout.common(tensors, str(file)))

    return {key: entry for key, entry in entries.items() if fits(entry.layout)}


def _entry_of(source: str, name: str, published: Published | None) -> Entry | None:
    """The entry that ``source`` names, of the backbone called ``name`` or of the network that it is made of."""
    entry = found(source, name, None).entry
    if entry is None and published is not None and published.torchvision is not None:
        entry = own_entry(source, published.torchvision)
    return entry


def seen_by(source: str, name: str, published: Published | None) -> Set[str]:
    """What initial weights say that they were trained on: digests of videos, and names of lists. See ``start_from``."""
    entry = _entry_of(source, name, published)
    if entry is None:
        return videos_seen(source)
    return frozenset(entry.lists) | (videos_seen(entry.source) if entry.source else frozenset())


def start_from(source: str, backbone: nn.Module, name: str, published: Published | None) -> LoadReport:
    """Load initial weights into the ``backbone`` called ``name``.

    ``source`` is an entry, of this network or of the one that it is made of, or a file, either with the backbone's own
    names, such as the backbone.safetensors of a run, or as published.

    Raises:
        UserError: if there are no such weights, or they do not fit.
    """
    whole = found(source, name, None)
    if whole.entry is not None and whole.entry.layout is not None and whole.file is not None:
        return _laid_out(whole.entry, whole.entry.layout, whole.file, backbone)
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
        report = load_into(backbone, weights, source)
    else:
        used = {k: v for k, v in weights.items() if not k.startswith(published.heads)}
        check_numbers(published.network, used, source)
        report = load_into(published.network, published.adapt(weights, published.network), source, published.heads)
    return report if entry is None else replace(report, checked=entry.checked)


def _laid_out(entry: Entry, layout: Layout, file: Path, backbone: nn.Module) -> LoadReport:
    """Load a file that is laid out in the way of an entry. Raises UserError if a tensor is missing, or one too many."""
    kept, left_out = layout.parted(layout.common(read_state_dict(file), str(file)))
    report = load_into(backbone, layout.adapt(kept, backbone), str(file))
    return replace(report, left_out=left_out, checked=entry.checked)


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
