"""What there is: names of pretexts, networks, data sets, protocols and recipes, and a line about each."""

import inspect
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, Literal

from ssl_video.recipes import recipes, tables
from ssl_video.registry import Registry

Kind = Literal["pretexts", "backbones", "encoders", "datasets", "protocols", "recipes", "tables", "weights"]


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
    lines = _recipes(kind) if kind in ("recipes", "tables") else _registered(_REGISTRIES[kind]())
    return {name: line for name, line in lines.items() if fnmatchcase(name, wanted)}


def _recipes(kind: str) -> dict[str, str]:
    return recipes() if kind == "recipes" else tables()


def _registered(registry: Registry) -> dict[str, str]:
    return {name: _line(registry[name]) for name in registry.names()}


def _line(member: Any) -> str:
    """A weights entry is a value, and says itself what it is; of anything else, the first line of its docstring."""
    about = f"trained on {member.trained_on}" if hasattr(member, "trained_on") else inspect.getdoc(member) or ""
    return about.partition("\n")[0]


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
