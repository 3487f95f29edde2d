"""What there is: names of pretexts, networks, data sets, protocols and recipes, and a line about each."""

import inspect
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, Literal

from ssl_video.recipes import recipes, tables
from ssl_video.registry import Registry

Kind = Literal["pretexts", "backbones", "encoders", "datasets", "protocols", "recipes", "tables", "weights"]

KINDS: dict[Kind, str] = {
    "pretexts": "what a network is trained by, without labels",
    "backbones": "networks",
    "encoders": "whole videos to vectors without a network",
    "datasets": "sets with official lists, named as NAME:ROOT; a folder, a csv or a video needs no name",
    "protocols": "how 'ssl-video evaluate' measures",
    "recipes": "packaged options of 'ssl-video pretrain', named by --config",
    "tables": "packaged tables of 'ssl-video benchmark'",
    "weights": "published weights, and those that come with ssl-video, named by --backbone.weights",
}
"""What can be listed, and what each is."""


def list_pretexts(pattern: str = "*") -> list[str]:
    """Names of pretexts that match: ``list_pretexts("*order*")``; see ``lines_of``."""
    return list(lines_of("pretexts", pattern))


def list_backbones(pattern: str = "*") -> list[str]:
    """Names of backbones that match: ``list_backbones("*vit*")``; see ``lines_of``."""
    return list(lines_of("backbones", pattern))


def list_encoders(pattern: str = "*") -> list[str]:
    """Names of encoders that match: ``list_encoders()``; see ``lines_of``."""
    return list(lines_of("encoders", pattern))


def list_datasets(pattern: str = "*") -> list[str]:
    """Names of data sets that match: ``list_datasets()``; see ``lines_of``."""
    return list(lines_of("datasets", pattern))


def list_protocols(pattern: str = "*") -> list[str]:
    """Names of protocols of evaluation that match: ``list_protocols()``; see ``lines_of``."""
    return list(lines_of("protocols", pattern))


def list_recipes(pattern: str = "*") -> list[str]:
    """Names of recipes of pretraining that match: ``list_recipes("*:small")``; see ``lines_of``."""
    return list(lines_of("recipes", pattern))


def list_tables(pattern: str = "*") -> list[str]:
    """Names of tables of benchmarks that match: ``list_tables()``; see ``lines_of``."""
    return list(lines_of("tables", pattern))


def list_weights(pattern: str = "*") -> list[str]:
    """Published weights, as NETWORK/NAME, that match: ``list_weights("resnet18/*")``; see ``lines_of``."""
    return list(lines_of("weights", pattern))


def lines_of(kind: Kind, pattern: str = "*") -> dict[str, str]:
    """Name -> one line about it, of all names that match, sorted.

    ``*`` stands for any text, ``?`` for one letter and ``[ab]`` for one of these; a text with none of them matches
    every name that contains it.
    """
    wanted = pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"
    lines = _recipes(kind) if kind in ("recipes", "tables") else _registered(kind)
    return {name: line for name, line in lines.items() if fnmatchcase(name, wanted)}


def _recipes(kind: str) -> dict[str, str]:
    return recipes() if kind == "recipes" else tables()


def _registered(kind: str) -> dict[str, str]:
    registry = _REGISTRIES[kind]()
    return {name: _line(registry[name], kind) for name in registry.names()}


def _line(member: Any, kind: str) -> str:
    """What a member is, in a line.

    A weights entry is a value, and says itself what it is; a data set of ours has a module of its own, whose docstring
    says what it is; of anything else, the first line of its docstring.
    """
    if hasattr(member, "trained_on"):
        return getattr(member, "about", "") or _about_weights(member)
    ours = kind == "datasets" and member.__module__.startswith("ssl_video.")
    about = inspect.getdoc(inspect.getmodule(member) if ours else member) or ""
    return re.sub(r" ?\bRaises \w+.*$", "", about.partition("\n")[0]).replace("``", "")


def _about_weights(entry: Any) -> str:
    """What a published file was trained on, its clips and pixels, its licence, and against what it was checked."""
    words = [f"trained on {entry.trained_on}"]
    if entry.frames is not None:
        words.append(f"{entry.frames} frames" + ("" if entry.stride is None else f", stride {entry.stride}"))
    if entry.mean is not None:
        words.append(f"mean {_numbers(entry.mean)}, std {_numbers(entry.std)}")
    words += [entry.licence, f"checked: {entry.checked}" if entry.checked else "unchecked"]
    return "; ".join([*words, *([] if entry.source else ["of a file that you have"])])


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.3g}" for value in values)


def _pretexts() -> Registry:
    from ssl_video.pretexts.base import PRETEXTS

    return PRETEXTS


def _backbones() -> Registry:
    from ssl_video.backbones.base import BACKBONES

    return BACKBONES


def _encoders() -> Registry:
    from ssl_video.encoders.base import ENCODERS

    return ENCODERS


def _datasets() -> Registry:
    from ssl_video.datasets.base import DATASETS

    return DATASETS


def _protocols() -> Registry:
    from ssl_video.eval.base import EVALUATIONS

    return EVALUATIONS


def _weights() -> Registry:
    from ssl_video.backbones.weights import WEIGHTS

    return WEIGHTS


_REGISTRIES: dict[str, Callable[[], Registry]] = {  # imported one by one: a list of data sets needs no torch
    "pretexts": _pretexts,
    "backbones": _backbones,
    "encoders": _encoders,
    "datasets": _datasets,
    "protocols": _protocols,
    "weights": _weights,
}
