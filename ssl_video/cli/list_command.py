"""``ssl-video list``: what there is."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

import tyro

from ssl_video.backbones.base import BACKBONES
from ssl_video.cli.parsing import parse
from ssl_video.datasets.base import DATASETS
from ssl_video.encoders.base import ENCODERS
from ssl_video.eval.base import EVALUATIONS
from ssl_video.pretexts.base import PRETEXTS


@dataclass(frozen=True)
class ListConfig:
    """What to list."""

    what: tyro.conf.Positional[Literal["pretexts", "backbones", "encoders", "datasets", "protocols", "recipes"]]
    """Which kind of thing."""


def run(argv: Sequence[str]) -> int:
    """The command."""
    what = parse(ListConfig, argv, "list", "List what there is.").what
    if what == "recipes":
        for file in sorted(files("ssl_video.recipes").iterdir(), key=lambda f: f.name):
            if file.name.endswith(".yaml"):
                head = file.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
                print(f"{file.name.removesuffix('.yaml'):<22} {head}")
        return 0
    registries: dict[str, Any] = {
        "pretexts": PRETEXTS,
        "backbones": BACKBONES,
        "encoders": ENCODERS,
        "datasets": DATASETS,
        "protocols": EVALUATIONS,
    }
    for name in registries[what].names():
        lines = (inspect.getdoc(registries[what][name]) or "").splitlines()
        print(f"{name:<22} {lines[0] if lines else ''}")
    return 0
