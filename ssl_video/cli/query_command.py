"""``ssl-video query``: the nearest neighbours of a video."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from ssl_video.apps.search import query
from ssl_video.cli.parsing import parse
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.errors import UserError


@dataclass(frozen=True)
class QueryConfig:
    """Options of a query."""

    index: tyro.conf.Positional[Path]
    """Folder that 'ssl-video index' made."""
    video: tyro.conf.Positional[Path]
    """Video to ask with."""
    top_k: int = 5
    """Neighbours to show."""


def run(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(QueryConfig, argv, "query", "Find the videos of an index that are nearest to a video.")
    if config.top_k < 1:
        raise UserError("--top-k must be 1 or more.")
    if not config.video.is_file():
        raise UserError(f"There is no video file {config.video}.")
    (video,) = scanned(load_splits(str(config.video)).train).videos
    print("rank   score  time (s)         video")
    for rank, n in enumerate(query(config.index, video, config.top_k), 1):
        print(f"{rank:>4}  {n.score:>6.3f}  {f'{n.start_s:.2f}-{n.end_s:.2f}':<15}  {n.path}")
    return 0
