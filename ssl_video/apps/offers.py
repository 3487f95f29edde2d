"""Runs and indices that lie below a folder, for who does not remember their names."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ssl_video.readback import DAMAGE, parsed
from ssl_video.run import Run

DEPTH, AT_MOST = 4, 20_000
"""Folders below folders that are looked at, and how many folders at all."""


@dataclass(frozen=True)
class Offer:
    """A model, and an index that it made, if there is one."""

    model: str
    index: Path | None = None

    @property
    def words(self) -> list[str]:
        """How both are named to a command."""
        return ["--model", self.model, *([] if self.index is None else ["--index", str(self.index)])]


def offers_below(folder: Path) -> list[Offer]:
    """What can be opened, the newest run first: each index with its model, and the runs that have no index."""
    found = list(_folders(folder))
    runs = sorted((Run(p) for p in found if Run(p).finished), key=lambda run: -run.backbone_file.stat().st_mtime)
    names = {run.folder.resolve(): str(run) for run in runs}  # an index has the whole path of its model
    models = {p: model for p in found if (model := _model_of(p))}
    indexed = [
        Offer(names.get(Path(model).resolve(), model), p)
        for p, model in models.items()
        if model.startswith(("random:", "net:")) or Path(model).exists()
    ]
    alone = [Offer(name) for name in names.values() if name not in {offer.model for offer in indexed}]
    order = {name: place for place, name in enumerate(names.values())}
    return sorted([*indexed, *alone], key=lambda offer: order.get(offer.model, len(order)))


def _folders(top: Path) -> Iterator[Path]:
    """Folders below ``top`` and itself; neither hidden ones nor links."""
    for count, (folder, below, _) in enumerate(os.walk(top)):
        path = Path(folder)
        below[:] = [] if len(path.relative_to(top).parts) >= DEPTH else sorted(b for b in below if b[0] != ".")
        if count < AT_MOST:
            yield path
        else:
            return


def _model_of(folder: Path) -> str | None:
    """The model that made the index in a folder; None if it is no index."""
    try:
        header = parsed((folder / "header.json").read_text("utf-8"))
        return str(header["model"]) if {"weights", "index_type"} <= header.keys() else None
    except (OSError, *DAMAGE):
        return None
