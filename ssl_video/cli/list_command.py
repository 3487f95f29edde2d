"""``ssl-video list``: what there is."""

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

import tyro

from ssl_video.backbones.base import BACKBONES
from ssl_video.backbones.cost import cost_of
from ssl_video.cli.parsing import parse
from ssl_video.datasets.base import DATASETS
from ssl_video.encoders.base import ENCODERS
from ssl_video.errors import UserError, nearest
from ssl_video.eval.base import EVALUATIONS
from ssl_video.pretexts.base import PRETEXTS

Kind = Literal["pretexts", "backbones", "encoders", "datasets", "protocols", "recipes", "tables"]


@dataclass(frozen=True)
class ListConfig:
    """What to list."""

    what: tyro.conf.Positional[
        Literal["pretexts", "backbones", "encoders", "datasets", "protocols", "recipes", "tables"]
    ]
    """Which kind of thing."""
    containing: tyro.conf.Positional[str] = ""
    """Only names with this text in them."""
    flops: bool = False
    """Of backbones: parameters, multiply-adds, and the size and strides of the feature map."""
    input: str | None = None
    """With --flops: frames x height x width of the clip, such as 16x112x112, instead of each network's own."""


def run(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(ListConfig, argv, "list", "List what there is.")
    if (config.flops or config.input) and config.what != "backbones":
        raise UserError(f"--flops and --input are for backbones, not for {config.what}.")
    if config.input and not config.flops:
        raise UserError("--input is the clip that --flops counts for; give --flops too.")
    there = lines_of(config.what)
    chosen = [name for name in there if config.containing in name]
    if not chosen:
        raise UserError(
            f"No name of {config.what} has {config.containing!r} in it; {nearest(config.containing, there)}"
        )
    if config.flops:
        show_costs(chosen, None if config.input is None else size_of(config.input))
        return 0
    for name in chosen:
        print(f"{name:<22} {there[name]}")
    return 0


def lines_of(what: str) -> dict[str, str]:
    """Name -> one line about it."""
    if what in ("recipes", "tables"):
        folder = files("ssl_video.recipes") if what == "recipes" else files("ssl_video.recipes") / "tables"
        recipes = sorted(folder.iterdir(), key=lambda f: f.name)
        texts = {f.name: f.read_text(encoding="utf-8") for f in recipes if f.name.endswith(".yaml")}
        return {name.removesuffix(".yaml"): text.splitlines()[0].lstrip("# ") for name, text in texts.items()}
    registries: dict[str, Any] = {
        "pretexts": PRETEXTS,
        "backbones": BACKBONES,
        "encoders": ENCODERS,
        "datasets": DATASETS,
        "protocols": EVALUATIONS,
    }
    registry = registries[what]
    return {name: (inspect.getdoc(registry[name]) or "").partition("\n")[0] for name in registry.names()}


def size_of(text: str) -> tuple[int, int, int]:
    """(T, H, W) of text such as ``16x112x112``. Raises UserError."""
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})x(\d{1,4})", text)
    if match is None:
        raise UserError(f"--input must be frames x height x width, such as 16x112x112, not {text!r}.")
    frames, height, width = map(int, match.groups())
    return frames, height, width


def show_costs(names: Sequence[str], size: tuple[int, int, int] | None) -> None:
    """A row a backbone: its cost on that clip, or why it does not take it."""
    print(f"{'backbone':<14}{'parameters':>12}{'multiply-adds':>15}  {'clip':<14}{'feature map':<14}strides")
    for name in names:
        try:
            cost = cost_of(name, size)
        except UserError as error:
            print(f"{name:<14}  {error}", flush=True)
            continue
        clip, features, strides = ("x".join(map(str, axes)) for axes in (cost.clip, cost.features, cost.strides))
        numbers = f"{cost.parameters / 1e6:>10.2f} M{cost.multiply_adds / 1e9:>13.2f} G"
        print(f"{name:<14}{numbers}  {clip:<14}{features:<14}{strides}", flush=True)
