"""``ssl-video export``: a trained network for use elsewhere."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ssl_video.apps.options import Format
from ssl_video.cli.parsing import Folder, ModelName, parse


@dataclass(frozen=True)
class ExportConfig:
    """Options of an export."""

    examples: ClassVar = (
        "ssl-video export --model runs/my_run --out exported",
        "ssl-video export --model runs/my_run --out exported --format onnx",
        "ssl-video export --model random:r2plus1d_4 --out exported --format torch-export",
    )
    placed: ClassVar = ("--model",)

    model: ModelName
    """A run's folder, a .safetensors file, net:NAME?weights=FILE or random:NAME."""
    out: Folder
    """The new folder."""
    format: Format = "safetensors"
    """safetensors alone, or with it model.onnx or model.pt2."""


def main(argv: Sequence[str]) -> int:
    """The command. 1: the exported network was not the original, and nothing was written."""
    config = parse(ExportConfig, argv, "export", "Export the backbone of a model, with a comparison of the two.")
    from ssl_video.apps.export import NotTheSame, export
    from ssl_video.model import load_model

    model = load_model(config.model)
    try:
        checks = export(model, config.out, config.format)
    except NotTheSame as error:
        print(f"ssl-video: {error}", file=sys.stderr)
        return 1
    for check in checks:
        print(check)
    if model.classifier is not None:
        print("The classifier is left out: what is exported gives features.")
    names = ", ".join(sorted(p.name for p in config.out.iterdir()))
    print(f"{config.out} holds {names}; ssl_video.load_model and --model take the folder.")
    return 0
