"""Runs side by side: what differs in their configurations, what came out, and their curves on one sheet."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_video.errors import UserError
from ssl_video.figures import format_of
from ssl_video.pretrain_config import NO_OPTIONS
from ssl_video.run import Run
from ssl_video.train.report import draw_curves, last_values

Rows = dict[str, tuple[str, ...]]
"""What a row is of -> a text for each run."""
WIDEST = 40
"""Characters of a column."""


@dataclass(frozen=True)
class Comparison:
    """Some runs: options in which they differ, results, and sentences on what cannot be compared."""

    runs: tuple[Run, ...]
    options: Rows
    results: Rows
    notes: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        heads = tuple(map(_short, map(str, self.runs)))
        parts = ["The configurations are the same."]
        if self.options:
            parts = ["What differs in the configuration:", _table(heads, self.options)]
        parts += ["", "Results:", _table(heads, self.results), *(["", *self.notes] if self.notes else [])]
        return "\n".join(parts)


def compare_runs(runs: Sequence[Run | str | Path], out: str | Path | None = None) -> Comparison:
    """Runs of pretraining and of fine-tuning, side by side; with ``out`` their curves are drawn there.

    Raises UserError for fewer than two runs, a folder that is none, and a file that is no figure.
    """
    found = tuple(run if isinstance(run, Run) else Run(Path(run)) for run in runs)
    if len(found) < 2:
        raise UserError("Name two runs or more to compare.")
    for run in found:
        if not run.started:
            raise UserError(f"{run} is no run: it holds no {run.config_file.name}; name the folder of a training.")
    if len({run.folder.resolve() for run in found}) < len(found):
        raise UserError("One run is named twice; name different ones.")
    configs = [_flat({k: v for k, v in run.config().items() if k not in NO_OPTIONS}) for run in found]
    names = list(dict.fromkeys(name for config in configs for name in config))
    options = {name: tuple(_word(config.get(name, "")) for config in configs) for name in names}
    differing = {name: values for name, values in options.items() if len(set(values)) > 1}
    records = [run.records() for run in found]
    if out is not None:
        _draw(found, out)
    return Comparison(found, differing, _results(found), tuple(_notes(found, configs, records)))


def _results(runs: Sequence[Run]) -> Rows:
    """Steps, speed, the last value of every curve, and the results of --probe; "" where a run has none."""
    each: list[dict[str, str]] = []
    for run in runs:
        records = run.records()
        numbers = {"finished": "yes" if run.finished else "no"}
        if records:
            rates = sorted(r["clips_per_s"] for r in records if "clips_per_s" in r)
            numbers["steps"] = str(records[-1]["step"])
            if rates:
                numbers["median videos/s"] = f"{rates[len(rates) // 2]:.1f}"
            numbers |= dict(last_values(records))
        for result in run.probe():
            who = "random " if str(result["model"]).startswith("random:") else ""
            numbers |= {f"{who}{result['protocol']} {k}": f"{v:.4g}" for k, v in result["metrics"].items()}
        each.append(numbers)
    names = dict.fromkeys(name for numbers in each for name in numbers)
    return {name: tuple(numbers.get(name, "") for numbers in each) for name in names}


def _notes(runs: Sequence[Run], configs: Sequence[Mapping[str, Any]], records: Sequence[list]) -> list[str]:
    pretexts = [config.get("pretext.name", config.get("pretext")) for config in configs]
    notes = []
    if len(set(pretexts) - {None}) > 1:
        notes.append("They are of different pretexts: their losses and accuracies are of different tasks.")
    if None in pretexts and set(pretexts) != {None}:
        notes.append("Some are fine-tunings and some pretrainings: only what both have can be compared.")
    notes += [f"{run} is not finished." for run in runs if not run.finished]
    return notes + [f"{run} has no records yet." for run, own in zip(runs, records, strict=True) if not own]


def _draw(runs: Sequence[Run], out: str | Path) -> None:
    format_of(out)
    curves = {_short(str(run)): run.records() for run in runs}
    if not any(curves.values()):
        raise UserError("None of these runs has records yet, so there is no curve to draw; leave --out out.")
    draw_curves(Path(out), curves)


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in options.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _short(text: str) -> str:
    return text if len(text) <= WIDEST else f"...{text[3 - WIDEST :]}"


def _table(heads: Sequence[str], rows: Rows) -> str:
    lines = [("", *heads), *((name, *map(_short, values)) for name, values in rows.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip() for line in lines)
