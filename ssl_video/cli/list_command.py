"""``ssl-video list``: what there is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from ssl_video.apps.catalogue import Kind, lines_of
from ssl_video.cli.parsing import parse
from ssl_video.errors import UserError, nearest


@dataclass(frozen=True)
class ListConfig:
    """What to list."""

    what: tyro.conf.Positional[Kind]
    """Which kind of thing."""
    pattern: tyro.conf.Positional[str] = "*"
    """Only names that match, such as '*vit*', or that contain this text."""
    flops: bool = False
    """Of backbones: parameters, multiply-adds, and the size and strides of the feature map."""
    input: str | None = None
    """With --flops: frames x height x width of the clip, such as 16x112x112, instead of each network's own."""


def main(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(ListConfig, argv, "list", "List what there is.")
    if (config.flops or config.input is not None) and config.what != "backbones":
        raise UserError(f"--flops and --input are for backbones, not for {config.what}.")
    if config.input is not None and not config.flops:
        raise UserError("--input is the clip that --flops counts for; give --flops too.")
    chosen = lines_of(config.what, config.pattern)
    if not chosen:
        known = nearest(config.pattern, lines_of(config.what))
        raise UserError(f"No name of {config.what} matches {config.pattern!r}; {known}")
    if config.flops:
        show_costs(list(chosen), None if config.input is None else size_of(config.input))
        return 0
    width = max(22, *map(len, chosen))
    for name, line in chosen.items():
        print(f"{name:<{width}} {line}")
    return 0


def size_of(text: str) -> tuple[int, int, int]:
    """(T, H, W) of text such as ``16x112x112``. Raises UserError."""
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})x(\d{1,4})", text)
    if match is None:
        raise UserError(f"--input must be frames x height x width, such as 16x112x112, not {text!r}.")
    frames, height, width = map(int, match.groups())
    return frames, height, width


def show_costs(names: Sequence[str], size: tuple[int, int, int] | None) -> None:
    """A row a backbone: its cost on that clip, or why it does not take it."""
    from ssl_video.backbones.cost import cost_of

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
