"""The span of an objective's samples, and how it fits videos that are too short for it."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.many import numbers
from ssl_video.errors import UserError
from ssl_video.train.objective import Objective

ENOUGH = 0.9
"""A span is not shortened for the last tenth of the videos that a shorter one could use: it costs the others more."""
FASTER = 1.25
"""Factor of a rate (frames a second) from one step to the next."""


@dataclass(frozen=True)
class Fit:
    """Options of an objective that let ``serving`` videos of a list be used; none where they stay as they are."""

    options: Mapping[str, Any]
    serving: int


def long_enough(videos: VideoSet, objective: Objective) -> np.ndarray | None:
    """(N,) whether the videos have the frames that a sample needs, by their length and rate; None if a draw decides."""
    least_N = objective.least_frames(numbers(videos.videos, "fps"))
    return None if least_N is None else numbers(videos.videos, "frames") >= least_N


def fit_span(videos: VideoSet, objective: Objective) -> Fit:
    """The longest span that nearly all videos have which any span of the objective's can use (``ENOUGH``).

    It depends on the lengths and rates of the listed videos alone.
    """
    own = long_enough(videos, objective)
    fits = [Fit({}, len(videos.videos) if own is None else int(own.sum()))]
    if own is not None and not own.all():
        for options, other in shorter_spans(objective):
            served_N = long_enough(videos, other)
            assert served_N is not None
            fits.append(Fit(options, int(served_N.sum())))
            if served_N.all():
                break
    most = max(fit.serving for fit in fits)
    return next(fit for fit in fits if fit.serving >= ENOUGH * most)


def remedy(videos: VideoSet, objective: Objective) -> str:
    """What to say where videos are too short: which options would let how many serve; "" if none would help."""
    fit = fit_span(videos, objective)
    if not fit.options:
        return ""
    return f"with {in_flags(fit.options)}, {fit.serving} of the {len(videos.videos)} would serve"


def in_flags(options: Mapping[str, Any]) -> str:
    """Options of a pretext as one writes them behind the command."""
    return " ".join(f"--pretext.{name.replace('_', '-')} {_words(value)}" for name, value in options.items())


def shorter_spans(objective: Objective) -> Iterator[tuple[dict[str, Any], Objective]]:
    """Options for spans that get shorter and shorter: one option after the other goes to its limit (``span_limits``).

    Numbers of frames go down by one, and so does the first of a pair, by a fifth if it is one of seconds; a rate goes
    up. With each the objective that has
    them, whose weights are not to be used. What its network cannot take is passed over.
    """
    options: dict[str, Any] = {}
    for name, limit in objective.span_limits:
        for value in _towards(getattr(objective.config, name), limit):
            options = {**options, name: value}
            with contextlib.suppress(UserError):
                yield options, _with(objective, options)


def _towards(value: Any, limit: float) -> Iterator[Any]:
    if isinstance(value, int):
        yield from range(value - 1, int(limit) - 1, -1)
    elif isinstance(value, tuple) and isinstance(value[0], float):
        low = value[0]
        while low > limit:
            low = max(limit, round(low / FASTER, 3))
            yield (low, *value[1:])
    elif isinstance(value, tuple):
        yield from ((low, *value[1:]) for low in range(value[0] - 1, int(limit) - 1, -1))
    elif value is not None:
        while value < limit:
            value = min(round(value * FASTER, 1), limit)
            yield value


def _with(objective: Objective, options: Mapping[str, Any]) -> Objective:
    config = dataclasses.replace(objective.config, **options)
    with torch.random.fork_rng([]):  # new heads are drawn, and thrown away
        other = type(objective)(config, objective.backbone)
    objective.backbone.check_clip(other.view.frames, other.view.size)
    return other.train(objective.training)


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"
