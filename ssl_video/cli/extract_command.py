"""``ssl-video extract``: the features of videos, as arrays on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from ssl_video.cli.parsing import parse
from ssl_video.datasets.cached import read_from
from ssl_video.datasets.spec import load_splits
from ssl_video.eval.shards import extract_to
from ssl_video.model import load_model
from ssl_video.train.distributed import choose_device, join, leave


@dataclass(frozen=True)
class ExtractConfig:
    """Options of an extraction."""

    model: str
    """A run's folder, a .safetensors file or random:NAME."""
    data: str
    """Videos: a folder, a csv, a manifest, ucf101:ROOT, ..."""
    out: Path
    """Folder of the features; what is there already is not extracted again."""
    split: int = 1
    """Split of a data set with official lists."""
    clips: int = 8
    """Clips of a video, evenly spaced; 0: windows that overlap by half."""
    crops: int = 1
    """Crops of a clip: 1, 3 or 10."""
    readout: str = "avg"
    """How a feature map becomes a vector: avg, max, rich or conv5."""
    cache: Literal["none", "raw", "h264"] = "none"
    """Read from copies of the videos, made once."""
    cache_short_side: int = 128
    """Shorter side of the copies, in pixels; 0 keeps the size of the video."""
    workers: int = 2
    """Reading processes."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    seed: int = 0
    """Seed of a random network's weights."""


def run(argv: Sequence[str]) -> int:
    """The command; under torchrun the processes share the work."""
    config = parse(ExtractConfig, argv, "extract", "Extract the features of videos into arrays on disk.")
    device = choose_device(config.device)
    ranks = join(device)
    try:
        torch.manual_seed(config.seed)
        model = load_model(config.model, device)
        splits = load_splits(config.data, config.split)
        parts = {"train": splits.train} if splits.test is None else {"train": splits.train, "test": splits.test}
        for name, part in parts.items():
            with ranks.first_then_others():
                videos = read_from(part, config.cache, config.cache_short_side, progress=ranks.first)
            found = extract_to(
                config.out / name,
                model,
                videos,
                clips=config.clips,
                crops=config.crops,
                readout=config.readout,
                workers=config.workers,
                ranks=ranks,
                progress=True,
            )
            if ranks.first:
                problems = [*videos.problems, *found.problems]
                for problem in problems:
                    print(f"left out: {problem.path}: {problem.reason}")
                print(f"{config.out / name}: {len(found.videos)} videos, {len(problems)} were left out.")
    finally:
        leave()
    return 0
