"""From what a user has, models and data by their names, to results and features. Nothing here parses or prints."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ssl_video.bounds import Bounded, Count, Natural, Seed
from ssl_video.datasets.base import FeatureSplits, Splits, VideoList, VideoSet
from ssl_video.datasets.cached import read_from
from ssl_video.datasets.spec import load_features, load_splits
from ssl_video.encoders.base import Encoder
from ssl_video.errors import UserError
from ssl_video.eval.accuracy import draw_confusion
from ssl_video.eval.base import EVALUATIONS, FeatureTask, Task, check_model, configured, evaluate
from ssl_video.eval.features import Extraction, Features, check_some
from ssl_video.eval.parquet import pyarrow
from ssl_video.eval.results import Result, write_results
from ssl_video.eval.shards import FeatureFolder, extract_to, fingerprint
from ssl_video.figures import PictureFormat
from ssl_video.files import new_folder
from ssl_video.model import Model, load_model, load_model_or_encoder
from ssl_video.progress import left_out
from ssl_video.train.distributed import Ranks, choose_device, joined
from ssl_video.train.loop import Interrupted
from ssl_video.video.kinds import CacheKind

Say = Callable[[str], None]
"""Told, in a line, what a user should know."""


def silent(_line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Reading(Bounded, flags="--"):
    """From where and by whom videos are read."""

    split: int = 1
    """Split of a data set with official lists."""
    cache: CacheKind = "none"
    """Read from copies of the videos, made once: raw frames, or small h264 files."""
    cache_short_side: Natural = 128
    """Shorter side of the copies, in pixels; 0 keeps the size of the video."""
    workers: Natural = 2
    """Reading processes."""
    batch_size: Count = 32
    """Clips that a frozen network is shown at a time; fewer take less memory, and no number depends on it."""
    progress: bool = False
    """Show bars, on a terminal."""

    def usable(self, videos: VideoList, progress: bool | None = None) -> VideoSet:
        """The videos of a list that can be used, or their copies. Raises UserError if there are none."""
        shown = self.progress if progress is None else progress
        return read_from(videos, self.cache, self.cache_short_side, progress=shown)


@dataclass(frozen=True)
class EvaluationConfig(Bounded):
    """By which protocol, on what, and how something is measured. Raises UserError for names that are not there."""

    protocol: str
    data: str | Splits | FeatureSplits
    """SPEC of the videos, or their lists, which need not be scanned."""
    preset: str = "default"
    options: Mapping[str, object] = field(default_factory=dict)
    """Single options of the preset changed."""
    seeds: Sequence[Seed] = (0,)
    """Seeds of the protocol, and of the weights of a random network that is named."""
    folder: Path | None = None
    """Where a protocol keeps what takes long, to resume from it; one that trains makes a folder under runs/."""
    device: str = "auto"
    """Of a model that is named: auto, cpu, cuda or cuda:N."""
    reading: Reading = field(default_factory=Reading)

    def __post_init__(self):
        super().__post_init__()
        if not self.seeds:
            raise UserError("--seeds must be 1 or more.")
        configured(self.protocol, self.preset, self.options)


def evaluate_on(
    model: Model | Encoder | str | Path | None,
    config: EvaluationConfig,
    say: Say = silent,
    found: Callable[[Result], None] = lambda _result: None,
) -> list[Result]:
    """A result for each seed; ``found`` is given it as soon as it is there.

    Args:
        model: a model or an encoder, or the name of one (``load_model_or_encoder``); None: the protocol does without.
        config: what is measured and how.
        say: told of warnings about the data, and where a training is kept.
        found: given each result.

    Raises:
        UserError: for a model or data that the protocol cannot use.
        Interrupted: if a training was stopped by a signal; its state is saved.
    """
    if model is None:
        check_model(config.protocol, None)  # before hours are spent on reading
    device = choose_device(config.device)
    task = task_on(config.data, config.protocol, config.reading, say)
    folder = config.folder
    if folder is None and EVALUATIONS[config.protocol].trains:
        folder = new_folder(config.protocol)
        say(f"The training is kept in {folder}.")
    results = []
    for seed in config.seeds:
        torch.manual_seed(seed)  # of a random network's weights
        network = load_model_or_encoder(str(model), device) if isinstance(model, str | Path) else model
        if isinstance(network, Model) and network.backbone.provenance.weights_report and seed == config.seeds[0]:
            say(network.backbone.provenance.weights_report)
        own = folder if folder is None or len(config.seeds) == 1 else folder / f"seed{seed}"
        try:
            results.append(
                evaluate(
                    config.protocol,
                    network,
                    replace(task, folder=own) if isinstance(task, Task) else task,
                    preset=config.preset,
                    options=config.options,
                    seed=seed,
                )
            )
        except Interrupted as stop:
            raise Interrupted(f"{stop}, in {folder}") from None
        found(results[-1])
    return results


def task_on(
    data: str | Splits | FeatureSplits, protocol: str, reading: Reading, say: Say = silent
) -> Task | FeatureTask:
    """The lists that a SPEC names, videos scanned and copied as far as they are not. Raises UserError."""
    load = load_splits if EVALUATIONS[protocol].takes.of_files else load_features
    splits = load(data, reading.split) if isinstance(data, str) else data
    name = data if isinstance(data, str) else splits.train.name
    for warning in splits.warnings:
        say(f"warning: {warning}")
    if isinstance(splits, FeatureSplits):
        return FeatureTask(name, reading.split, splits.train, splits.test)
    test = None if splits.test is None else reading.usable(splits.test)
    return Task(name, reading.split, reading.usable(splits.train), test, reading.workers, batch=reading.batch_size)


def compare(models: Sequence[Model | Encoder], protocols: Sequence[str], task: Task, seed: int = 0) -> list[Result]:
    """The results of several models, such as a trained one and its untrained twin, protocol by protocol."""
    return [evaluate(protocol, model, task, seed=seed) for protocol in protocols for model in models]


def save_results(
    path: Path, results: Sequence[Result], predictions: bool = False, format: PictureFormat = "png"
) -> list[Path]:
    """Write results as JSON and, where they have such, the sum of their confusion matrices as a figure beside it.

    Returns the files that were written.
    """
    write_results(path, results, predictions)
    if not results[-1].confusion:
        return [path]
    picture = path.with_suffix(f".confusion.{format}")
    draw_confusion(np.sum([r.confusion for r in results], axis=0), results[-1].classes, picture)
    return [path, picture]


@dataclass(frozen=True)
class ExtractionConfig(Bounded):
    """Which features of which videos are written where."""

    data: str | Splits
    """SPEC of the videos, or their lists, which need not be scanned."""
    out: Path
    """A folder, of which ``train`` and ``test`` hold the features of the two lists; what is there is not done again."""
    what: Extraction = field(default_factory=Extraction)
    seed: Seed = 0
    """Of the weights of a random network that is named."""
    device: str = "auto"
    """Of a model that is named: auto, cpu, cuda or cuda:N."""
    reading: Reading = field(default_factory=Reading)
    format: Literal["npy", "parquet"] = "npy"
    """Arrays in those folders, or tables in the folder ``parquet`` beside them, which pyarrow writes: a row a clip."""


def extract_on(model: Model | str | Path, config: ExtractionConfig, say: Say = silent) -> dict[str, Features]:
    """The features of each list by its name, mapped from the files they are kept in; processes of torchrun share it.

    Of tables only the videos, the starts of clips and the problems are returned. Raises UserError if there is no such
    model, a list has no video that can be used, or pyarrow is missing.
    """
    if config.format == "parquet":
        pyarrow()  # missing, it is said before the work
    device = choose_device(config.device)
    with joined(device) as ranks:
        torch.manual_seed(config.seed)
        network = load_model(str(model), device) if isinstance(model, str | Path) else model
        splits = config.data if isinstance(config.data, Splits) else load_splits(config.data, config.reading.split)
        lists = {"train": splits.train} if splits.test is None else {"train": splits.train, "test": splits.test}
        return {name: _extracted(network, config, name, videos, ranks, say) for name, videos in lists.items()}


def _extracted(
    model: Model, config: ExtractionConfig, name: str, listed: VideoList, ranks: Ranks, say: Say
) -> Features:
    tables = config.out / "parquet" if config.format == "parquet" else None
    reading, kept = config.reading, FeatureFolder(config.out / name, fingerprint(model), tables)
    what = replace(config.what, batch=reading.batch_size)
    with ranks.first_then_others():
        videos = reading.usable(listed, reading.progress and ranks.first)
    found = extract_to(kept, model, videos, what, workers=reading.workers, ranks=ranks, progress=reading.progress)
    check_some(found, videos)
    if ranks.first:
        problems = [*videos.problems, *found.problems]
        for line in left_out(problems):
            say(line)
        where = kept.folder if tables is None else f"{tables}/{name}-*.parquet"
        say(f"{where}: {len(found.videos)} videos, {len(problems)} were left out.")
    return found
