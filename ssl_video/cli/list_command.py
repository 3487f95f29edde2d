"""``ssl-video list``: what there is."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

import tyro

from ssl_video.apps.catalogue import KINDS, Kind, lines_of
from ssl_video.cli.parsing import Json, document, parse
from ssl_video.errors import UserError, nearest


@dataclass(frozen=True)
class ListConfig:
    """What to list."""

    examples: ClassVar = (
        "ssl-video list",
        "ssl-video list backbones vit --flops",
        "ssl-video list protocols --json",
    )

    what: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="KIND", help=f"{', '.join(KINDS)}; by default all, counted.")
    ] = ""
    pattern: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATTERN")] = "*"
    """Only names that match, such as '*vit*', or that contain this text."""
    flops: bool = False
    """Of backbones: parameters, multiply-adds, and the size and strides of the feature map."""
    input: Annotated[str, tyro.conf.arg(metavar="TxHxW")] | None = None
    """With --flops: frames x height x width of the clip, such as 16x112x112, instead of each network's own."""
    json: Json = False


def main(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(ListConfig, argv, "list", "List what there is.")
    kinds: dict[str, Kind] = {str(kind): kind for kind in KINDS}
    kind = kinds.get(config.what)
    if not config.what:
        _overview(config.json)
        return 0
    if kind is None:
        raise UserError(f"There is no list of {config.what!r}; {nearest(config.what, KINDS)}")
    if (config.flops or config.input is not None) and config.what != "backbones":
        raise UserError("--flops and --input are for backbones: ssl-video list backbones --flops.")
    if config.input is not None and not config.flops:
        raise UserError("--input is the clip that --flops counts for; give --flops too.")
    chosen = lines_of(kind, config.pattern)
    if not chosen:
        known = nearest(config.pattern, lines_of(kind))
        raise UserError(f"No name of {config.what} matches {config.pattern!r}; {known}")
    if config.flops:
        show_costs(list(chosen), None if config.input is None else size_of(config.input), config.json)
    elif config.json:
        document([{"name": name, "about": line} for name, line in chosen.items()])
    else:
        width = max(22, *map(len, chosen))
        for name, line in chosen.items():
            print(f"{name:<{width}} {line}")
    return 0


def _overview(as_json: bool) -> None:
    """What can be listed, with counts."""
    counts = {kind: len(lines_of(kind)) for kind in KINDS}
    if as_json:
        document([{"kind": kind, "count": counts[kind], "about": about} for kind, about in KINDS.items()])
        return
    for kind, about in KINDS.items():
        print(f"{kind:<10} {counts[kind]:>4}  {about}")
    print("\n'ssl-video list KIND' lists one of them, 'ssl-video list KIND TEXT' the names that contain TEXT.")


def size_of(text: str) -> tuple[int, int, int]:
    """(T, H, W) of text such as ``16x112x112``. Raises UserError."""
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})x(\d{1,4})", text)
    if match is None:
        raise UserError(f"--input must be frames x height x width, such as 16x112x112, not {text!r}.")
    frames, height, width = map(int, match.groups())
    return frames, height, width


def show_costs(names: Sequence[str], size: tuple[int, int, int] | None, as_json: bool = False) -> None:
    """A row a backbone: its cost on that clip, or why it does not take it."""
    from ssl_video.backbones.cost import cost_of

    rows: list[dict[str, Any]] = []
    if not as_json:
        print(f"{'backbone':<14}{'parameters':>12}{'multiply-adds':>15}  {'clip':<14}{'feature map':<14}strides")
    for name in names:
        try:
            cost = cost_of(name, size)
        except UserError as error:
            rows.append({"name": name, "problem": str(error)})
            if not as_json:
                print(f"{name:<14}  {error}", flush=True)
            continue
        rows.append({"name": name, **asdict(cost)})
        clip, features, strides = ("x".join(map(str, axes)) for axes in (cost.clip, cost.features, cost.strides))
        numbers = f"{cost.parameters / 1e6:>10.2f} M{cost.multiply_adds / 1e9:>13.2f} G"
        if not as_json:
            print(f"{name:<14}{numbers}  {clip:<14}{features:<14}{strides}", flush=True)
    if as_json:
        document(rows)
