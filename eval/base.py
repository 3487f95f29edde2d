"""The contract of every evaluation: one protocol, named presets, and a result that says how it came about."""

import json
import platform
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch

from ssl_video._version import __version__
from ssl_video.config import with_options
from ssl_video.datasets.base import FeatureShards, VideoSet
from ssl_video.encoders.base import Encoder
from ssl_video.errors import UserError, nearest
from ssl_video.files import write_text
from ssl_video.model import Model, digest
from ssl_video.registry import Registry
from ssl_video.video.info import Problem


@dataclass
class Result:
    """Numbers of one evaluation, and everything needed to say what they are."""

    protocol: str
    preset: str
    options: dict[str, Any]
    model: str
    data: str
    split: int
    metrics: dict[str, float]
    counts: dict[str, int]
    seed: int
    data_hash: str
    transductive: bool = False
    skipped: list[dict[str, str]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    parts: dict[str, dict[str, float]] = field(default_factory=dict)

    def table(self) -> str:
        """The metrics, one a line; before them, where there are parts, their metrics, a part a line."""
        width = max(map(len, self.metrics))
        lines = [f"  {name:<{width}}  {value:.4f}" for name, value in self.metrics.items()]
        if self.parts:
            names = list(dict.fromkeys(name for row in self.parts.values() for name in row))
            width = max(map(len, self.parts))
            rows = [f"  {'':<{width}}" + "".join(f"  {name:>8}" for name in names)]
            for part, row in self.parts.items():
                cells = [f"{row[name]:.4f}" if name in row else "" for name in names]
                rows.append(f"  {part:<{width}}" + "".join(f"  {cell:>8}" for cell in cells))
            lines = rows + lines
        return "\n".join(lines)


@dataclass(frozen=True)
class Task:
    """What an evaluation works on: the lists of one split, and how they are called."""

    data: str
    split: int
    train: VideoSet
    test: VideoSet | None
    workers: int = 2
    memory: dict[Any, Any] = field(default_factory=dict)
    """Features extracted so far, so that two protocols on one network extract them once."""
    folder: Path | None = None
    """Where a protocol keeps what takes long, weights that it trains or extracted features, to go on with it."""


@dataclass(frozen=True)
class FeatureTask:
    """As ``Task``, of a set that was published as features."""

    data: str
    split: int
    train: FeatureShards
    test: FeatureShards | None


@dataclass
class Outcome:
    """What a protocol found: metrics, counts, the problems of videos that had to be left out.

    ``confusion_KK`` counts test videos: row true class, column predicted. ``parts``: metrics of parts of the test list
    by the parts' names, such as each video.
    """

    metrics: dict[str, float]
    counts: dict[str, int]
    problems: Sequence[Problem] = ()
    confusion_KK: np.ndarray | None = None
    parts: dict[str, dict[str, float]] = field(default_factory=dict)


Takes = Literal["labelled videos", "labels", "videos", "phase sequences", "mask sequences", "feature sequences"]
"""Videos with one label each; with one or several; with or without; with phases of their frames beside them
(``datasets/phases``), or masks (``datasets/masks``); or features without videos (a ``FeatureTask``)"""


class Evaluation(ABC):
    """One protocol. Every subclass is final, its ``Config`` a frozen dataclass, its presets values of it."""

    Config: ClassVar[type]
    presets: ClassVar[Mapping[str, Any]]
    takes: ClassVar[Takes] = "labelled videos"
    takes_encoders: ClassVar[bool] = False
    """Whether ``run`` can do with an Encoder in the place of a Model."""
    needs_model: ClassVar[bool] = True
    """Whether ``run`` must be given a model; False: it can do without, by an option of its own."""
    trains: ClassVar[bool] = False
    """True if the protocol trains a network, and needs a folder for it."""

    @abstractmethod
    def run(self, model: Any, task: Any, config: Any, seed: int) -> Outcome:
        """Measure ``model`` on ``task``."""


EVALUATIONS: Registry[type[Evaluation]] = Registry("protocol", "ssl_video.eval")


def evaluate(
    protocol: str,
    model: Model | Encoder | None,
    task: Task | FeatureTask,
    *,
    preset: str = "default",
    options: Mapping[str, object] | None = None,
    seed: int = 0,
) -> Result:
    """Run a protocol's preset, with single options of it changed, on a model (None for features without videos).

    An encoder may name the preset that stands in for "default".

    Raises:
        UserError: for unknown names, or a model or data that the protocol cannot use.
    """
    cls = EVALUATIONS[protocol]
    if isinstance(model, Encoder):
        if not cls.takes_encoders:
            others = ", ".join(n for n in EVALUATIONS.names() if EVALUATIONS[n].takes_encoders)
            raise UserError(f"{protocol} measures networks, and {model.name} is an encoder; encoders go with {others}.")
        preset = model.presets.get(protocol, preset) if preset == "default" else preset
    if preset not in cls.presets:
        raise UserError(f"The protocol {protocol} has no preset {preset!r}; {nearest(preset, cls.presets)}")
    config = with_options(cls.presets[preset], dict(options or {}), f"protocol {protocol}")
    _check_data(protocol, cls, model, task)
    torch.manual_seed(seed)
    outcome = cls().run(cast(Model, model), task, config, seed)  # None was checked above
    test = task.test or task.train
    of_videos = [part for part in (task.train, task.test) if isinstance(part, VideoSet)]
    skipped = [p for part in of_videos for p in part.problems] + list(outcome.problems)
    tested = of_videos[-1].videos if of_videos else ()
    return Result(
        protocol=protocol,
        preset=preset,
        options=asdict(config),
        model=model.name if model else "",
        data=task.data,
        split=task.split,
        metrics=outcome.metrics,
        counts=outcome.counts,
        seed=seed,
        data_hash=f"{task.train.hash}-{test.hash}",
        transductive=isinstance(model, Model) and any(digest(v) in model.trained_on for v in tested),
        skipped=[asdict(p) for p in skipped],
        versions={
            "ssl-video": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        parts=outcome.parts,
        confusion=[] if outcome.confusion_KK is None else outcome.confusion_KK.tolist(),
    )


def _check_data(protocol: str, cls: type[Evaluation], model: Model | Encoder | None, task: Task | FeatureTask) -> None:
    takes, of_features = cls.takes, cls.takes == "feature sequences"
    if isinstance(task, FeatureTask) and not of_features:
        raise UserError(f"{task.data} holds features and no videos; use the protocol features.")
    if of_features and not isinstance(task, FeatureTask):
        raise UserError(f"{protocol} takes published features, such as youtube8m:ROOT, but {task.data} holds videos.")
    if of_features and model is not None:
        raise UserError(f"{protocol} takes no model, since the features are there already; leave {model.name} out.")
    if not of_features and model is None and cls.needs_model:
        raise UserError(f"{protocol} needs a model; name a run's folder, a .safetensors file or random:NAME.")
    if takes in ("videos", "phase sequences", "mask sequences"):
        return
    if task.test is None:
        raise UserError(f"{protocol} needs a training and a test list, but {task.data} has one list only.")
    if isinstance(task, FeatureTask):
        return
    for part in (task.train, task.test):
        if takes == "labelled videos" and part.multi_label:
            raise UserError(
                f"{protocol} needs one label a video, but {part.name} has videos with several; use the protocol linear."
            )
        if not part.labelled:
            raise UserError(f"{protocol} needs a label for every video, but {part.name} has videos without one.")


def write_results(path: Path, results: list[Result]) -> None:
    """Results as a JSON list."""
    write_text(path, json.dumps([asdict(r) for r in results], indent=1) + "\n")
