"""The contract of every evaluation: one protocol, named presets, and a result that says how it came about."""

import math
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar, cast

import numpy as np
import torch

from ssl_video._version import __version__
from ssl_video.config import Options, plain, with_options
from ssl_video.datasets.base import FeatureShards, VideoSet
from ssl_video.datasets.many import in_fixed_order
from ssl_video.encoders.base import Encoder
from ssl_video.errors import UserError, nearest
from ssl_video.eval.features import FeatureStore
from ssl_video.eval.results import Prediction, Result
from ssl_video.eval.takes import LabelledVideos, Takes
from ssl_video.model import A_MODEL, Model, seen_among
from ssl_video.registry import Registry
from ssl_video.video.info import Problem

C = TypeVar("C")  # the options of a protocol
T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """What an evaluation works on: the lists of one split, and how they are called."""

    data: str
    split: int
    train: VideoSet
    test: VideoSet | None
    workers: int = 2
    features: FeatureStore = field(default_factory=FeatureStore)
    """Features extracted so far; tasks that hold one store extract them once."""
    folder: Path | None = None
    """Where a protocol keeps what takes long, weights that it trains or extracted features, to resume from it."""
    batch: int = 32
    """Clips that a frozen network is shown at a time: a question of memory, no result depends on it."""

    @property
    def in_fixed_order(self) -> "Task":
        """The same task, its lists in an order that does not depend on how the user's are ordered."""
        train, test = (v and replace(v, videos=in_fixed_order(v.videos)) for v in (self.train, self.test))
        assert train is not None
        return replace(self, train=train, test=test)


@dataclass(frozen=True)
class FeatureTask:
    """As ``Task``, of a set that was published as features."""

    data: str
    split: int
    train: FeatureShards
    test: FeatureShards | None

    @property
    def in_fixed_order(self) -> "FeatureTask":
        """As of ``Task``: shards by their names."""
        train, test = (f and replace(f, shards=tuple(sorted(f.shards, key=_name))) for f in (self.train, self.test))
        assert train is not None
        return replace(self, train=train, test=test)


def _name(path: str) -> str:
    return Path(path).name


@dataclass
class Outcome:
    """What a protocol found: metrics, counts, the problems of videos that had to be left out.

    ``confusion_KK`` counts test videos: row true class, column predicted. ``per_video``: metrics of
    test videos by their names. ``predictions``: of protocols that say something of every test video. ``trained_on``: as
    ``Model.trained_on``, of a further model that took part.
    """

    metrics: dict[str, float]
    counts: dict[str, int]
    problems: Sequence[Problem] = ()
    confusion_KK: np.ndarray | None = None
    per_video: dict[str, dict[str, float]] = field(default_factory=dict)
    predictions: Sequence[Prediction] = ()
    trained_on: Set[str] = frozenset()


class Evaluation(ABC, Generic[C]):
    """One protocol. Every subclass is final, its ``Config`` a frozen dataclass, its presets values of it."""

    Config: ClassVar[type]
    presets: ClassVar[Mapping[str, Any]]
    takes: ClassVar[Takes] = LabelledVideos()
    takes_model: ClassVar[Literal["always", "optional", "never"]] = "always"
    """Whether ``measure`` is given a model; optional: it can do without by an option of its own."""
    takes_encoders: ClassVar[bool] = False
    """Whether ``measure`` can do with an Encoder in the place of a Model."""
    trains: ClassVar[bool] = False
    """True if the protocol trains a network, and needs a folder for it."""

    @abstractmethod
    def measure(self, model: Any, task: Any, config: C, seed: int) -> Outcome:
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

    An encoder may name the preset that stands in for "default". The order of the task's lists changes no number: the
    protocol is given them in another one, which only depends on what the videos are.

    Raises:
        UserError: for unknown names, a model or data that the protocol cannot use, or a result that is not finite.
    """
    cls = EVALUATIONS[protocol]
    cls.takes.check(protocol, task)
    check_model(protocol, model)
    if isinstance(model, Encoder) and preset == "default":
        preset = model.presets.get(protocol, preset)
    config = configured(protocol, preset, options or {})
    torch.manual_seed(seed)
    listed, task = task, task.in_fixed_order
    outcome = cls().measure(cast(Model, model), task, config, seed)  # None was checked above
    _check_finite(protocol, outcome, model.name if model else task.data)
    test = task.test or task.train
    of_videos = [videos for videos in (task.train, task.test) if isinstance(videos, VideoSet)]
    skipped = [p for videos in of_videos for p in videos.problems] + list(outcome.problems)
    tested = of_videos[-1].videos if of_videos else ()
    trained_on = outcome.trained_on | (model.trained_on if isinstance(model, Model) else frozenset())
    seen = seen_among(tested, trained_on)
    return Result(
        protocol=protocol,
        preset=preset,
        options=plain(config),
        model=model.name if model else "",
        data=task.data,
        split=task.split,
        metrics=outcome.metrics,
        counts=outcome.counts,
        seed=seed,
        data_hash=f"{task.train.hash}-{test.hash}",
        transductive=bool(seen),
        seen=seen,
        supervision=str(model.run.get("supervision", "")) if isinstance(model, Model) else "",
        skipped=[{"path": p.path, "reason": p.reason} for p in skipped],
        versions={
            "ssl-video": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        classes=[] if outcome.confusion_KK is None else list(task.train.classes),
        confusion=[] if outcome.confusion_KK is None else outcome.confusion_KK.tolist(),
        per_video=dict(_as_listed(outcome.per_video.items(), listed, lambda item: item[0])),
        predictions=_as_listed(outcome.predictions, listed, lambda prediction: prediction.path),
    )


def _as_listed(things: Iterable[T], task: Task | FeatureTask, of: Callable[[T], str]) -> list[T]:
    """What was found of test videos, ``of`` which path, in the order of the user's list."""
    tested = task.test or task.train
    places = {v.source: n for n, v in enumerate(tested.videos)} if isinstance(tested, VideoSet) else {}
    return sorted(things, key=lambda thing: places.get(of(thing), len(places)))


def _check_finite(protocol: str, outcome: Outcome, name: str) -> None:
    """Raise UserError for a metric, or the score of a prediction, that is not finite. One not defined is left out."""
    numbers = dict(outcome.metrics)
    numbers |= {f"{metric} of {video}": x for video, row in outcome.per_video.items() for metric, x in row.items()}
    numbers |= {f"the score of {p.path}": p.score for p in outcome.predictions}
    if wrong := [metric for metric, x in numbers.items() if not math.isfinite(x)]:
        raise UserError(
            f"{protocol} gives no result for {name}: {len(wrong)} of {len(numbers)} numbers are not finite (the first: "
            f"{wrong[0]}, {numbers[wrong[0]]}); check its options and the annotations of {name}."
        )


def configured(protocol: str, preset: str, options: Mapping[str, object]) -> Options:
    """The options of a protocol's preset with some of them changed (``with_options``).

    Raises:
        UserError: for a name that is not there, or a value of another type.
    """
    cls = EVALUATIONS[protocol]
    if preset not in cls.presets:
        raise UserError(f"The protocol {protocol} has no preset {preset!r}; {nearest(preset, cls.presets)}")
    return with_options(cls.presets[preset], options, f"protocol {protocol}")


def check_model(protocol: str, model: Model | Encoder | None) -> None:
    """Raise UserError if the protocol cannot do with this model, or without one."""
    cls = EVALUATIONS[protocol]
    if model is None and cls.takes_model == "always":
        raise UserError(f"{protocol} needs a model (--model): {A_MODEL}.")
    if model is not None and cls.takes_model == "never":
        raise UserError(f"{protocol} takes no model; leave {model.name} out.")
    if isinstance(model, Encoder) and not cls.takes_encoders:
        others = ", ".join(n for n in EVALUATIONS.names() if EVALUATIONS[n].takes_encoders)
        raise UserError(f"{protocol} measures networks, and {model.name} is an encoder; encoders go with {others}.")
