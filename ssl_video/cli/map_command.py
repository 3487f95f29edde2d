"""``ssl-video map``: a picture of an index."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from ssl_video.apps.options import MapOptions
from ssl_video.cli import tell
from ssl_video.cli.parsing import IndexFolder, Spec, parse


@dataclass(frozen=True)
class MapConfig:
    """Options of a map."""

    usual: ClassVar = ("out", "data", "method", "thumbnails", "at-most")
    examples: ClassVar = (
        "ssl-video map index --out map.html",
        "ssl-video map index --out map.pdf --method pca",
        "ssl-video map index --out map.html --data ucf101:ROOT --thumbnails 100",
    )

    index: tyro.conf.Positional[IndexFolder]
    """Folder that 'ssl-video index' made."""
    out: Path
    """The page (.html) or figure (.png, .svg, .pdf) to write."""
    data: Spec | None = None
    """Where the classes of the videos are, instead of the index: a folder, a csv, a manifest, ucf101:ROOT, ..."""
    options: Annotated[MapOptions, tyro.conf.arg(name="")] = MapOptions()


def main(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(MapConfig, argv, "map", "Draw a map of an index: videos that look alike lie near each other.")
    from ssl_video.apps.map_page import write_map
    from ssl_video.apps.search import Index
    from ssl_video.datasets.spec import all_videos

    data = all_videos(config.data) if config.data is not None else None
    found = write_map(Index(config.index), config.out, config.options, data)
    tell(found.said)
    tell(f"The map is {config.out}.")
    return 0
