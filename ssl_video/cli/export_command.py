"""``ssl-video export``: a trained network, or vectors of videos, for use elsewhere."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast, get_args

from ssl_video.apps.options import Format, VectorFormat
from ssl_video.cli import tell
from ssl_video.cli.parsing import Folder, ModelName, parse
from ssl_video.files import as_word
from ssl_video.progress import count


@dataclass(frozen=True)
class ExportConfig:
    """Options of an export."""

    examples: ClassVar = (
        "ssl-video export --model runs/my_run --out exported",
        "ssl-video export --model random:r2plus1d_4 --out exported --format onnx",
        "ssl-video export --model runs/my_run/index --out vectors --format projector",
    )
    placed: ClassVar = ("--model",)

    model: ModelName
    """A run's folder, a .safetensors file, net:NAME?weights=FILE or random:NAME; with projector and fiftyone, the
    folder of an index or of extracted features."""
    out: Folder
    """The new folder."""
    format: Format | VectorFormat = "safetensors"
    """Of a network: safetensors alone, or with it model.onnx or model.pt2. Of videos: the files of TensorBoard's
    projector, or a data set for FiftyOne."""


def main(argv: Sequence[str]) -> int:
    """The command. 1: the exported network was not the original, and nothing was written."""
    config = parse(ExportConfig, argv, "export", "Export the backbone of a model, or vectors of videos.")
    if config.format in get_args(VectorFormat):
        return _vectors(config.model, config.out, cast(VectorFormat, config.format))
    from ssl_video.apps.export import NotTheSame, export
    from ssl_video.model import load_model

    model = load_model(config.model)
    try:
        checks = export(model, config.out, cast(Format, config.format))
    except NotTheSame as error:
        print(f"ssl-video: {error}", file=sys.stderr)
        return 1
    for check in checks:
        print(check)
    if model.classifier is not None:
        tell("The classifier is left out: what is exported gives features.")
    names = ", ".join(sorted(p.name for p in config.out.iterdir()))
    tell(f"{config.out} holds {names}; ssl_video.load_model and --model take the folder.")
    return 0


def _vectors(folder: str, out: Path, form: VectorFormat) -> int:
    from ssl_video.apps.vectors import export_vectors, load_vectors

    vectors = load_vectors(Path(folder))
    names = ", ".join(export_vectors(vectors, out, form))
    tell(f"{out} holds {count(len(vectors.paths), 'video')}: {names}.")
    if form == "projector":
        tell(f"Next: tensorboard --logdir {as_word(out)}, and choose Projector in its menu.")
    else:
        words = f"--name videos --dataset-dir {as_word(out)} --type fiftyone.types.FiftyOneDataset"
        tell(f"Next: fiftyone datasets create {words}")
    return 0
