"""``ssl-video index``: make a search index of videos."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_video.apps.search import build_index
from ssl_video.cli.parsing import parse
from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.flow import for_modality
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.model import load_model
from ssl_video.train.distributed import choose_device


@dataclass(frozen=True)
class IndexConfig:
    """Options of indexing."""

    model: str
    """A run's folder, a .safetensors file or random:NAME."""
    data: str
    """Videos: a folder, a csv, a manifest, ucf101:ROOT, ...; all lists of the set are indexed."""
    out: Path
    """Folder of the index."""
    clips: int = 8
    """Clips of a video, evenly spaced."""
    workers: int = 2
    """Reading processes."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def run(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(IndexConfig, argv, "index", "Make a search index of videos.")
    model = load_model(config.model, choose_device(config.device))
    splits = load_splits(config.data)
    parts = [splits.train] if splits.test is None else [splits.train, splits.test]
    videos = tuple(dict.fromkeys(v for part in parts for v in part.videos))
    problems = tuple(p for part in parts for p in part.problems)
    whole = scanned(VideoSet(config.data, videos, splits.train.classes, problems), progress=True)
    whole = for_modality(whole, model.backbone.clip.modality, progress=True)
    count = build_index(model, whole, config.out, clips=config.clips, workers=config.workers)
    for problem in whole.problems:
        print(f"left out: {problem.path}: {problem.reason}")
    print(f"{count} videos are in {config.out}, {len(whole.problems)} were left out.")
    print(f"Next: ssl-video query {config.out} VIDEO")
    return 0
