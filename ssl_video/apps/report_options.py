"""What a page on a run shows. Light to import, since flags are made of it."""

from dataclasses import dataclass

from ssl_video.errors import UserError


@dataclass(frozen=True)
class ReportOptions:
    """What a page shows."""

    data: str | None = None
    """Videos to show, instead of those of the run: a folder, a csv, a manifest, ucf101:ROOT, ..."""
    split: int = 1
    """Split of these, if the set has official lists."""
    samples: int = 4
    """Samples of the pretext's inputs."""
    queries: int = 4
    """Videos whose neighbours are shown."""
    neighbours: int = 5
    """Neighbours of each."""
    workers: int = 2
    """Reading processes."""

    def __post_init__(self):
        if min(self.samples, self.queries, self.neighbours) < 1 or self.workers < 0:
            raise UserError("--samples, --queries and --neighbours must be 1 or more, and --workers 0 or more.")
