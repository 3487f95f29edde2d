"""``ssl-video query``: the nearest neighbours of videos, or of ranges of them."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from ssl_video.apps.options import SearchOptions
from ssl_video.cli import tell
from ssl_video.cli.parsing import Device, IndexFolder, ModelName, parse
from ssl_video.errors import UserError
from ssl_video.progress import bar, left_out

if TYPE_CHECKING:
    from ssl_video.apps.search import Found


@dataclass(frozen=True)
class QueryConfig:
    """Options of a query."""

    usual: ClassVar = ("top-k", "moments", "json", "html", "device")
    examples: ClassVar = (
        "ssl-video query index clip.mp4",
        "ssl-video query index clip.mp4@12.5-15 --moments --top-k 10",
        "ssl-video query index videos --html neighbours.html",
    )

    index: tyro.conf.Positional[IndexFolder]
    """Folder that 'ssl-video index' made."""
    videos: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO")]
    """Videos to search with, ranges of them such as VIDEO@12.5-15 (seconds), or folders and lists of them."""
    also: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="INDEX")] = ()
    """Other indices to search as one with it: parts of a library, indexed --like one another."""
    options: Annotated[SearchOptions, tyro.conf.arg(name="")] = SearchOptions()
    json: bool = False
    """Print JSON lines, one a neighbour, and no table."""
    html: Path | None = None
    """Write a page with playing thumbnails, too."""
    model: ModelName | None = None
    """Where the model of the index is, if it has moved."""
    device: Device = "auto"


def main(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(QueryConfig, argv, "query", "Find the videos of an index that are nearest to a video.")
    from ssl_video.apps.queries import queries_of
    from ssl_video.apps.search import Found, Index
    from ssl_video.apps.search_report import write_report
    from ssl_video.train.distributed import choose_device

    queries, problems = queries_of(config.videos)
    index = Index([config.index, *config.also], config.model, choose_device(config.device))
    results: list[Found] = []
    answers = index.search_all(queries, config.options)
    if len(queries) > 1 and not sys.stdout.isatty():  # on a terminal the tables themselves show how far it is
        answers = bar(answers, "query", "video", total=len(queries))
    for found in answers:
        if isinstance(found, Found):
            _tell(found, config.json, named=len(queries) > 1)
            results.append(found)
        else:
            problems.append(found)
    for line in left_out(problems):
        tell(line, sys.stderr if config.json else sys.stdout)
    if not results:
        raise UserError(f"None of the {len(queries)} videos can be used as a query.")
    if config.html is not None:
        write_report(config.html, f"Neighbours in {config.index}", results)
        if not config.json:
            tell(f"The report is {config.html}.")
    return 0


def _tell(found: "Found", as_json: bool, named: bool) -> None:
    if as_json:
        for rank, neighbour in enumerate(found.neighbours, 1):
            print(json.dumps({"query": found.query.name, "rank": rank, **asdict(neighbour)}))
        return
    if named:
        print(found.query.name)
    print("rank   score  time (s)         video")
    for rank, n in enumerate(found.neighbours, 1):
        same = "  (identical)" if n.identical else ""
        print(f"{rank:>4}  {n.score:>6.3f}  {f'{n.start_s:.2f}-{n.end_s:.2f}':<15}  {n.path}{same}")
