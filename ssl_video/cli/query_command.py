"""``ssl-video query``: the nearest neighbours of videos, or of parts of them."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from ssl_video.apps import nearest
from ssl_video.apps.index_folder import open_index
from ssl_video.apps.search import Asking, Neighbour, Question, ask, load_search_model, split_range
from ssl_video.apps.search_report import write_report
from ssl_video.cli.parsing import parse
from ssl_video.datasets.base import ListedVideo, VideoList
from ssl_video.datasets.spec import LIST_SUFFIXES, load_splits, scanned
from ssl_video.errors import UserError
from ssl_video.train.distributed import choose_device
from ssl_video.video.info import Problem
from ssl_video.video.reader import VideoError


@dataclass(frozen=True)
class QueryConfig:
    """Options of a query."""

    index: tyro.conf.Positional[Path]
    """Folder that 'ssl-video index' made."""
    videos: tyro.conf.Positional[tuple[str, ...]]
    """Videos to ask with, parts of them such as VIDEO@12.5-15 (seconds), or folders and lists of them."""
    top_k: int = 5
    """Neighbours to show."""
    moments: bool = False
    """Show the nearest moments, several of one video among them, and not each video once."""
    json: bool = False
    """Print JSON lines, one a neighbour, and no table."""
    html: Path | None = None
    """Write a page with playing thumbnails, too."""
    rerank: int = nearest.RERANK
    """Candidates of a faiss index that are compared exactly; 0 goes by its codes alone."""
    nprobe: int = 0
    """Cells of a faiss index that are searched; 0: as many as were found to be enough when it was made."""
    model: str = ""
    """Where the model of the index is, if it has moved."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def run(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(QueryConfig, argv, "query", "Find the videos of an index that are nearest to a video.")
    if config.top_k < 1:
        raise UserError("--top-k must be 1 or more.")
    if config.rerank < 0 or config.nprobe < 0:
        raise UserError("--rerank and --nprobe must be 0 or more.")
    if not config.videos:
        raise UserError("Name a video to ask with: ssl-video query INDEX VIDEO.")
    named = [_named(word) for word in config.videos]
    wanted = [pair for pairs, _ in named for pair in pairs]
    stored = open_index(config.index)
    usable = scanned(VideoList("the question", tuple(dict.fromkeys(video for video, _ in wanted))))
    by_path = {v.path: v for v in usable.videos}
    questions = [Question(by_path[video.path], within_s) for video, within_s in wanted if video.path in by_path]
    model = load_search_model(stored, choose_device(config.device), config.model)
    asking = Asking(config.top_k, config.moments, config.rerank, config.nprobe)
    answers: list[tuple[Question, list[Neighbour]]] = []
    problems = [*(p for _, listed in named for p in listed), *usable.problems]
    for question in questions:
        try:
            found = ask(stored, model, question, asking)
        except VideoError as error:
            if len(wanted) == 1:
                raise UserError(f"{question.name} cannot be asked with: {error}.") from None
            problems.append(Problem(question.name, str(error)))
            continue
        _tell(question, found, config.json, named=len(wanted) > 1)
        answers.append((question, found))
    for problem in problems:
        print(f"left out: {problem.path}: {problem.reason}", file=sys.stderr if config.json else sys.stdout)
    if not answers:
        raise UserError(f"None of the {len(wanted)} videos can be asked with.")
    if config.html is not None:
        write_report(config.html, f"Neighbours in {config.index}", answers)
        if not config.json:
            print(f"The report is {config.html}.")
    return 0


def _named(word: str) -> tuple[list[tuple[ListedVideo, tuple[float, float] | None]], list[Problem]]:
    """The videos of one argument, not scanned, with the range that is asked for, and what is listed but not there."""
    spec, within_s = split_range(word)
    if within_s is None and (Path(spec).is_dir() or Path(spec).suffix.lower() in LIST_SUFFIXES):
        splits = load_splits(spec)
        parts = [splits.train] if splits.test is None else [splits.train, splits.test]
        return [(video, None) for part in parts for video in part.videos], [p for part in parts for p in part.problems]
    if not Path(spec).is_file():
        raise UserError(f"There is no video file {spec}.")
    return [(video, within_s) for video in load_splits(spec).train.videos], []


def _tell(question: Question, found: list[Neighbour], as_json: bool, named: bool) -> None:
    if as_json:
        for rank, neighbour in enumerate(found, 1):
            print(json.dumps({"question": question.name, "rank": rank, **asdict(neighbour)}))
        return
    if named:
        print(question.name)
    print("rank   score  time (s)         video")
    for rank, n in enumerate(found, 1):
        print(f"{rank:>4}  {n.score:>6.3f}  {f'{n.start_s:.2f}-{n.end_s:.2f}':<15}  {n.path}")
