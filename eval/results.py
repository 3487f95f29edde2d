"""What an evaluation found, and everything needed to say what it is."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssl_video.config import plain
from ssl_video.datasets.base import Video
from ssl_video.datasets.manifest import joined, separated
from ssl_video.errors import UserError
from ssl_video.files import write_text
from ssl_video.readback import numbered, of_type, parsed, reading, texts

BEST = 5
"""Classes that a prediction ranks."""
NUMBERS = {word: float(word) for word in ("inf", "-inf", "nan")}
"""Numbers that JSON does not have, by the words that stand for them in results."""
Z = 1.959964
"""Standard deviations on either side of the mean within which 95 % of a normal distribution lie."""
OF_VIDEOS = r"top[15](_model|_partner)?|recall@\d+|hit@\d+"
"""Metrics that are the fraction of the test videos of which something is true."""
SOME = 3
"""Videos that a sentence names."""


@dataclass(frozen=True)
class Prediction:
    """What a protocol says of one test video, classes by their names.

    ``label`` is its true class; of several, as a manifest writes them. ``predicted`` has the highest
    ``score``, in the protocol's own unit: a vote, a logit, a cosine. ``ranked`` are the five best classes, or the
    classes of the nearest videos, the best first.
    """

    path: str
    label: str
    predicted: str
    score: float
    ranked: tuple[str, ...] = ()


def predictions_of(videos: Sequence[Video], classes: Sequence[str], scores_NK: np.ndarray) -> list[Prediction]:
    """The predictions that scores of classes make, a row a video. Raises UserError if a score is NaN."""
    if wrong := int(np.isnan(scores_NK).any(1).sum()):
        raise UserError(
            f"The scores of {wrong} of {len(videos)} videos are NaN, which is no result; check the options."
        )
    order_Nk = np.argsort(-scores_NK, axis=1, kind="stable")[:, :BEST]

    def said(video: Video, scores_K: np.ndarray, order_k: list[int]) -> Prediction:
        ranked = tuple(classes[k] for k in order_k if scores_K[k] > -np.inf) or (classes[order_k[0]],)
        return Prediction(video.source, names_of(video, classes), ranked[0], float(scores_K[order_k[0]]), ranked)

    return [said(*row) for row in zip(videos, scores_NK, order_Nk.tolist(), strict=True)]


def names_of(video: Video, classes: Sequence[str]) -> str:
    """The class of a video by its name; of several, as a manifest writes them."""
    names = [classes[label] for label in video.labels]
    return names[0] if len(names) == 1 else joined(names)


@dataclass(frozen=True)
class Result:
    """Numbers of one evaluation, and everything needed to say what they are.

    ``confusion`` counts test videos: row true class, column predicted; ``classes`` are its names.
    ``per_video``: metrics of test videos by their names. ``seen``: paths of the test videos that the model was
    pretrained on, and by what that is known (``ssl_video.model.seen``): ``content``, ``list SET:LIST``, or ``name``, as
    version 0.1 noted it; ``transductive`` is true if there are any (also in results of 0.1, which named none).
    ``supervision``: what people made that the model learned from beside its videos, captions say; "" for nothing.
    """

    protocol: str
    metrics: dict[str, float]
    preset: str = "default"
    options: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    data: str = ""
    split: int = 1
    counts: dict[str, int] = field(default_factory=dict)
    seed: int = 0
    data_hash: str = ""
    transductive: bool = False
    seen: dict[str, str] = field(default_factory=dict, repr=False)
    supervision: str = ""
    skipped: list[dict[str, str]] = field(default_factory=list, repr=False)
    versions: dict[str, str] = field(default_factory=dict, repr=False)
    classes: list[str] = field(default_factory=list, repr=False)
    confusion: list[list[int]] = field(default_factory=list, repr=False)
    per_video: dict[str, dict[str, float]] = field(default_factory=dict, repr=False)
    predictions: list[Prediction] = field(default_factory=list, repr=False)

    @property
    def of_each(self) -> bool:
        """True if ``per_video`` has all metrics of each video, and not a share of one of them in hundreds of videos."""
        return all(self.metrics.keys() <= row.keys() for row in self.per_video.values())

    def to_dict(self, predictions: bool = False) -> dict[str, Any]:
        """Everything in the types of JSON; what is said of each test video only with ``predictions`` or if ``of_each``.

        JSON has no infinite numbers: an option that is one (no limit, say) is written as text, ``inf``.
        """
        short = replace(self, predictions=[], per_video=self.per_video if self.of_each else {})
        return _in_json(plain(self if predictions else short))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Result":
        """What ``to_dict`` made a dict of, by this version or another: fields that it has not get their defaults.

        Raises one of ``readback.DAMAGE`` if it is not as it was written.
        """
        if "parts" in content:  # as version 0.1 calls the metrics of each video
            content = {"per_video": content["parts"], **content}
        known = {f.name: content[f.name] for f in fields(cls) if f.name in content}
        for name in ("metrics", "options"):
            known[name] = {k: NUMBERS.get(v, v) if isinstance(v, str) else v for k, v in known.get(name, {}).items()}
        known["predictions"] = [_prediction(p) for p in known.get("predictions", ())]
        return _checked(cls(**{"protocol": "", "metrics": {}, **known}))

    def row(self) -> dict[str, Any]:
        """One row of a table: ``pandas.DataFrame([r.row() for r in results])``.

        Metrics by their names; counts and options as ``counts.train`` and ``options.clips``.
        """
        names = ("model", "protocol", "preset", "data", "split", "seed")
        return {
            **{name: getattr(self, name) for name in names},
            **self.metrics,
            **dict(flat(self.counts, "counts")),
            "left_out": len(self.skipped),
            "transductive": self.transductive,
            "seen": len(self.seen),
            "supervision": self.supervision,
            **dict(flat(self.options, "options")),
        }

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Metric -> its 95 % interval (``wilson``), of metrics that are a fraction of the test videos.

        Accuracies of clips have none, since clips of one video are not independent; nor have means over classes.
        """
        test = self.counts.get("test", self.counts.get("queries", 0))
        fractions = {name: value for name, value in self.metrics.items() if re.fullmatch(OF_VIDEOS, name)}
        return {name: wilson(value, test) for name, value in fractions.items() if test and 0 <= value <= 1}

    @property
    def seen_in_words(self) -> str:
        """How many test videos the model was pretrained on, how that is known, and a few of them; "" if none."""
        if not self.seen:
            return "test videos were among the pretraining videos" if self.transductive else ""
        how = {"content": "by content", "name": "by folder and name, as version 0.1 noted them, which may be chance"}
        counted = Counter(how.get(evidence, f"by the {evidence}") for evidence in self.seen.values())
        known = ", ".join(f"{count} {words}" for words, count in counted.items())
        some = ", ".join(list(self.seen)[:SOME]) + (", ..." if len(self.seen) > SOME else "")
        return f"{len(self.seen)} of the test videos were among the pretraining videos ({known}): {some}"

    def table(self) -> str:
        """The metrics, one a line; before them, where there are all of each video, those, a video a line."""
        width = max(map(len, self.metrics))
        within = {name: f"  (95 %: {between(pair)})" for name, pair in self.intervals.items()}
        lines = [f"  {name:<{width}}  {value:.4f}{within.get(name, '')}" for name, value in self.metrics.items()]
        if self.per_video and self.of_each:
            names = list(dict.fromkeys(name for row in self.per_video.values() for name in row))
            width = max(map(len, self.per_video))
            rows = [f"  {'':<{width}}" + "".join(f"  {name:>8}" for name in names)]
            for video, row in self.per_video.items():
                entries = [f"{row[name]:.4f}" if name in row else "" for name in names]
                rows.append(f"  {video:<{width}}" + "".join(f"  {entry:>8}" for entry in entries))
            lines = rows + lines
        return "\n".join(lines)

    def of_videos(self, metric: str) -> dict[str, float]:
        """What each test video has of a metric, by its path or name; empty if the protocol does not say.

        Of top-k and hit@k, and of recall@k of at most ``BEST`` neighbours: 1 where it is right, else 0.
        """
        if any(metric in row for row in self.per_video.values()):
            return {video: row[metric] for video, row in self.per_video.items() if metric in row}
        among = re.fullmatch(r"(?:top|hit@|recall@)(\d+)", metric)
        if among is None or int(among[1]) > BEST:
            return {}
        first = int(among[1])
        return {p.path: float(bool({*p.ranked[:first]} & {p.label, *separated(p.label)})) for p in self.predictions}


def wilson(fraction: float, count: int) -> tuple[float, float]:
    """The 95 % interval of Wilson (1927) for a fraction of ``count`` independent cases."""
    middle = (fraction + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(fraction * (1 - fraction) / count + Z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def between(pair: tuple[float, float]) -> str:
    """An interval, as tables show it."""
    return f"{pair[0]:.3f} to {pair[1]:.3f}"


def _in_json(content: Any) -> Any:
    """With the words of ``NUMBERS`` in the place of numbers that JSON does not have."""
    if isinstance(content, dict):
        return {k: _in_json(v) for k, v in content.items()}
    if isinstance(content, list):
        return [_in_json(v) for v in content]
    return str(content) if isinstance(content, float) and not math.isfinite(content) else content


def _checked(result: Result) -> Result:
    """The result, whose fields have to be of the types that they say. Raises one of ``DAMAGE``."""
    texts(
        [
            result.protocol,
            result.preset,
            result.model,
            result.data,
            result.data_hash,
            result.supervision,
            *texts(result.classes),
        ]
    )
    _ = of_type(result.split, int), of_type(result.seed, int), of_type(result.transductive, bool)
    numbered(result.metrics)
    if any(of_type(count, int) < 0 for count in result.counts.values()):
        raise ValueError("a count is negative")
    for row in result.per_video.values():
        numbered(row)
    for said in (result.seen, result.versions, *result.skipped):
        texts(list(said.values()))
    if not all(len(row) == len(result.confusion) for row in result.confusion):
        raise ValueError("the confusion is no square")
    _ = [of_type(count, int) for row in result.confusion for count in row], of_type(result.options, dict)
    return result


def _prediction(content: Prediction | Mapping[str, Any]) -> Prediction:
    if isinstance(content, Prediction):
        return content
    made = Prediction(**{**content, "ranked": tuple(texts(content["ranked"]))})
    texts([made.path, made.label, made.predicted])
    of_type(made.score, int, float)
    return made


def flat(content: Mapping[str, Any], group: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of nested mappings: ``a.b`` is the value of b in a, in the group ``group``."""
    for name, value in content.items():
        whole = f"{group}.{name}" if group else name
        if isinstance(value, Mapping):
            yield from flat(value, whole)
        else:
            yield whole, value


def write_results(path: Path, results: Sequence[Result], predictions: bool = False) -> None:
    """Results as a JSON list, see ``Result.to_dict``."""
    write_text(path, json.dumps([r.to_dict(predictions) for r in results], indent=1) + "\n")


def read_results(path: Path) -> list[Result]:
    """What ``write_results`` wrote. Raises UserError if the file is not there or damaged."""
    with reading(path, "evaluate again"):
        return [Result.from_dict(content) for content in of_type(parsed(path.read_text("utf-8")), list)]


def read_result(path: Path) -> Result:
    """A file of one result. Raises UserError if it is not there or damaged."""
    with reading(path, "remove it, and it is measured again"):
        return Result.from_dict(parsed(path.read_text("utf-8")))


def side_by_side(results: Sequence[Result], names: Mapping[str, str]) -> str:
    """A row a metric, a column a model, under the names that models are given; then chance and how many videos."""
    by = {(r.protocol, r.model): r for r in results}
    model = results[0].model
    rows = [(f"{p} {metric}", p, metric) for p in dict.fromkeys(p for p, _ in by) for metric in by[p, model].metrics]
    head = f"on {results[0].data}"
    width = max(len(head), *(len(row) for row, *_ in rows)) + 2
    lines = [f"{head:<{width}}" + "".join(f"{name:>22}" for name in names.values())]
    for row, protocol, metric in rows:
        shown = "".join(f"{_with_interval(by[protocol, model], metric):>22}" for model in names)
        lines.append(f"{row:<{width}}{shown}")
    classes = max(r.counts.get("classes", 0) for r in results)
    by_class = f"chance among the {classes} classes: {1 / classes:.3f}; " if classes else ""
    return "\n".join([*lines, f"{by_class}{_tested(results)}; in brackets: 95 % intervals"])


def _tested(results: Sequence[Result]) -> str:
    """On how many videos: all of a list, of which a pretext may take fewer."""
    count = max(r.counts.get(name, 0) for r in results for name in ("test", "queries", "videos"))
    return f"{count} test video{'s' * (count != 1)}"


def _with_interval(result: Result, metric: str) -> str:
    pair = result.intervals.get(metric)
    return f"{result.metrics[metric]:.3f}" + (f" ({pair[0]:.3f}, {pair[1]:.3f})" if pair else "")
