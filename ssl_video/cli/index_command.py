"""``ssl-video index``: make a search index of videos, or bring one up to date."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from ssl_video.apps.options import IndexOptions
from ssl_video.bounds import Bounded, Count, Natural
from ssl_video.cli import tell
from ssl_video.cli.parsing import Device, IndexFolder, ModelName, Spec, parse
from ssl_video.errors import UserError
from ssl_video.files import as_word
from ssl_video.progress import are, count, few, left_out

if TYPE_CHECKING:
    from ssl_video.apps.index_update import Changes
    from ssl_video.datasets.base import VideoList

MANY = 32
"""Segments from which on merging them is worth a line."""


@dataclass(frozen=True)
class IndexConfig(Bounded, flags="--"):
    """Options of indexing."""

    usual: ClassVar = ("data", "model", "out", "rebuild", "remove")
    examples: ClassVar = (
        "ssl-video index --data videos --out index",
        "ssl-video index --data new_videos --out index",
        "ssl-video index --model runs/better --rebuild --out index",
    )

    out: IndexFolder
    """Folder of the index; one that is there is brought up to date."""
    model: ModelName | None = None
    """A run's folder, a .safetensors file, net:NAME?weights=FILE or random:NAME; an index that is there knows its own,
    and a new one takes net:clips, which comes with ssl-video."""
    data: Spec | None = None
    """Videos to add, or changed ones to replace: a folder, a csv, a manifest, ucf101:ROOT, ...; all lists of it."""
    part: str | None = None
    """K/N: only the K-th of N parts of --data, as one of several machines; every part but the first --like that one."""
    remove: tuple[Path, ...] = ()
    """Videos, or folders of them, to take out of the index."""
    prune: bool = False
    """Take out the videos whose files are gone."""
    options: Annotated[IndexOptions, tyro.conf.arg(name="")] = IndexOptions()
    batch_size: Count = 32
    """Clips in one forward pass."""
    workers: Natural = 2
    """Reading processes."""
    device: Device = "auto"


def main(argv: Sequence[str]) -> int:
    """The command; under torchrun the processes share the extraction."""
    config = parse(IndexConfig, argv, "index", "Make a search index of videos, or bring one up to date.")
    from ssl_video.apps.index_update import Work, update_index
    from ssl_video.apps.search import load_search_model
    from ssl_video.train.distributed import choose_device, joined

    device = choose_device(config.device)
    with joined(device) as ranks:
        changes = update_index(
            config.out,
            load_search_model(None, device, config.model) if config.model is not None else None,
            _videos(config.data, config.part),
            config.options,
            remove=config.remove,
            prune=config.prune,
            work=Work(config.workers, device, ranks, progress=True, batch=config.batch_size),
        )
        if ranks.first:
            _tell(config.out, config.data, changes)
    return 0


def _videos(data: str | None, part: str | None) -> "VideoList | None":
    from ssl_video.datasets.parts import Part
    from ssl_video.datasets.spec import all_videos

    if data is None:
        if part is not None:
            raise UserError("--part takes a part of what --data lists; name that, too.")
        return None
    videos = all_videos(data)
    return videos if part is None else Part.parsed(part).share(videos)


def _tell(out: Path, data: str | None, changes: "Changes") -> None:
    if data is not None and (Path(data) / "manifest.csv").is_file():
        tell(f"{data}/manifest.csv was read; files that it does not list are not seen ('ssl-video data scan').")
    for line in (*left_out(changes.problems), *few([f"removed: {path}" for path in changes.removed], "removed")):
        tell(line)
    if changes.recall is not None:
        print(changes.recall.sentence())
    if changes.compacted is not None:
        merged = changes.compacted
        tell(
            f"{count(merged.before, 'segment')} became {merged.after}; {are(merged.dropped, 'removed video')} out of "
            "the files."
        )
    counts = f"{len(changes.added)} added, {len(changes.refreshed)} refreshed, {len(changes.removed)} removed"
    tell(f"{are(changes.videos, 'video')} in {out} ({counts}), {len(changes.problems)} were left out.")
    if changes.segments > MANY:
        tell(f"It has {changes.segments} segments; merge them: ssl-video index --out {as_word(out)} --compact")
    tell(f"Next: ssl-video query {as_word(out)} VIDEO")
