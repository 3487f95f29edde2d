"""``ssl-video weights``: what a file of weights is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from ssl_video.cli.parsing import Json, document, parse

if TYPE_CHECKING:
    from ssl_video.apps.weights_file import Fit


@dataclass(frozen=True)
class WeightsConfig:
    """Which file."""

    examples: ClassVar = (
        "ssl-video weights checkpoint.pth",
        "ssl-video weights model.safetensors",
        "ssl-video weights checkpoint.pth --json",
    )

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A file of weights that others published, .pth, .pt, .pyth or .safetensors. Nothing in it is executed."""
    json: Json = False


def main(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(WeightsConfig, argv, "weights", "Which published file a file of weights is, and how it is used.")
    from ssl_video.apps.weights_file import identify

    found = identify(config.file)
    if config.json:
        fits = [
            {
                "entry": fit.key,
                "options": dict(fit.options),
                "loaded": list(fit.loaded),
                "left_out": list(fit.left_out),
                "missing": list(fit.missing),
                "unexpected": list(fit.unexpected),
                "problem": fit.problem,
                "model": fit.model,
                "checked": fit.entry.checked,
            }
            for fit in found.fits
        ]
        document({"file": str(found.path), "tensors": found.tensors, "ours": found.ours, "fits": fits})
        return 0
    print(f"{found.path}: {found.tensors} tensors")
    if found.ours:
        print(f"of ssl-video: {found.ours}; it is a model as it is: --model {found.path}")
    elif not found.fits:
        print("no published file that is known here ('ssl-video list weights'); net:NAME?weights=FILE tries a network")
    for fit in found.fits:
        _show(fit)
    return 0


def _show(fit: "Fit") -> None:
    options = " ".join(f"{name}={value}" for name, value in fit.options.items())
    print(f"\n{fit.key}: trained on {fit.entry.trained_on}")
    print(f"  licence    {fit.entry.licence}")
    print(f"  checked    {fit.entry.checked or 'unchecked: no features were compared'}")
    print(f"  options    {options or 'none'}")
    print(f"  loaded     {len(fit.loaded)} tensors")
    for title, names in (("left out", fit.left_out), ("missing", fit.missing), ("unexpected", fit.unexpected)):
        some = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        print(f"  {title:<10} {some or 'none'}")
    if fit.usable:
        print(f"  use it     {fit.command}")
    else:
        print(f"  refused    {fit.problem or 'tensors are missing, unexpected or of another shape'}")
