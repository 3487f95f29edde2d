"""``ssl-video index``: make a search index of videos, or bring one up to date."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_video.apps.index_update import Changes, IndexOptions, update_index
from ssl_video.apps.search import load_search_model
from ssl_video.cli.parsing import parse
from ssl_video.datasets.base import VideoList
from ssl_video.datasets.spec import load_splits
from ssl_video.errors import UserError
from ssl_video.train.distributed import choose_device, join, leave


@dataclass(frozen=True)
class IndexConfig:
    """Options of indexing."""

    out: Path
    """Folder of the index; one that is there is brought up to date."""
    model: str | None = None
    """A run's folder, a .safetensors file or random:NAME; an index that is there knows its own."""
    data: str | None = None
    """Videos to add, or to look at again: a folder, a csv, a manifest, ucf101:ROOT, ...; all lists of the set."""
    remove: tuple[Path, ...] = ()
    """Videos, or folders of them, to take out of the index."""
    prune: bool = False
    """Take out the videos whose files are gone."""
    index_type: str | None = None
    """exact (default), ivfpq, or a factory string of faiss such as IVF1024,PQ32; for a new index."""
    clips: int | None = None
    """Clips of a video, evenly spaced, 8 by default; 0: windows that overlap by half. For a new index."""
    readout: str | None = None
    """How a feature map becomes a vector: rich (default), avg, max or conv5; for a new index."""
    workers: int = 2
    """Reading processes."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def run(argv: Sequence[str]) -> int:
    """The command; under torchrun the processes share the extraction."""
    config = parse(IndexConfig, argv, "index", "Make a search index of videos, or bring one up to date.")
    if config.data is None and not config.remove and not config.prune:
        raise UserError("There is nothing to do; name videos by --data, or take some out by --remove or --prune.")
    if config.clips is not None and config.clips < 0:
        raise UserError("--clips must be 0 or more.")
    device = choose_device(config.device)
    ranks = join(device)
    try:
        model = load_search_model(None, device, config.model) if config.model else None
        changes = update_index(
            config.out,
            model,
            _all_videos(config.data) if config.data else None,
            IndexOptions(config.clips, config.readout, config.index_type),
            remove=config.remove,
            prune=config.prune,
            workers=config.workers,
            device=device,
            ranks=ranks,
            progress=True,
        )
        if ranks.first:
            _tell(config.out, config.data, changes)
    finally:
        leave()
    return 0


def _all_videos(data: str) -> VideoList:
    """The videos of all lists."""
    splits = load_splits(data)
    parts = [splits.train] if splits.test is None else [splits.train, splits.test]
    problems = tuple(p for part in parts for p in part.problems)
    return VideoList(data, tuple(v for part in parts for v in part.videos), splits.train.classes, problems)


def _tell(out: Path, data: str | None, changes: Changes) -> None:
    if data and (Path(data) / "manifest.csv").is_file():
        print(f"{data}/manifest.csv was read; files that it does not list are not seen ('ssl-video data scan').")
    for problem in changes.problems:
        print(f"left out: {problem.path}: {problem.reason}")
    for path in changes.removed:
        print(f"removed: {path}")
    if changes.recall is not None:
        print(changes.recall.sentence())
    counts = f"{len(changes.added)} added, {len(changes.refreshed)} refreshed, {len(changes.removed)} removed"
    print(f"{changes.videos} videos are in {out} ({counts}), {len(changes.problems)} were left out.")
    print(f"Next: ssl-video query {out} VIDEO")
