"""Measuring a table, entry by entry; each is kept, so that an interrupted table is resumed where it was."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ssl_video.apps.table import (
    PRETRAINED,
    Entry,
    Table,
    chosen_rows,
    entries_of,
    named,
    recipe_of,
    referred_by,
)
from ssl_video.apps.table_found import Found, digest_of, read_stored
from ssl_video.apps.table_page import write_table
from ssl_video.bounds import Bounded, Natural
from ssl_video.errors import UserError, nearest
from ssl_video.eval.base import EVALUATIONS, FeatureTask, Task, evaluate
from ssl_video.eval.features import FeatureStore
from ssl_video.eval.harness import Reading, task_on
from ssl_video.eval.results import Result, read_result
from ssl_video.eval.shards import fingerprint
from ssl_video.files import clear_dead, write_text
from ssl_video.model import Model, load_model_or_encoder
from ssl_video.pretrain_config import PretrainConfig, changed, noted_by
from ssl_video.pretraining import Say, pretrain, silent
from ssl_video.processes import held
from ssl_video.progress import bar
from ssl_video.readback import numbered, parsed, reading
from ssl_video.run import Run
from ssl_video.train.distributed import choose_device
from ssl_video.train.report import minutes_of

Measure = Callable[[Entry, str, Mapping[str, Any], Path], Result]
"""An entry, its model as ``load_model`` takes it, the protocol's options and a folder to train in, to a result."""
Pretrain = Callable[[str, Mapping[str, Any], Entry, Path], None]
"""A recipe, options, the entry whose split and seed count, and the run's folder."""


@dataclass(frozen=True)
class Bench(Bounded):
    """How the entries of a table are pretrained and measured."""

    table: Table
    workers: Natural = 2
    device: str = "auto"
    say: Say = silent
    rows: Sequence[str] = ()
    """Patterns of the names of rows: only these are measured, and what is there of others is shown."""
    measured: Sequence[Path] = ()
    """Each a results.json of the same table, of another folder or machine: what it holds is not measured again."""

    def run(self, out: Path) -> Path:
        """Measure all that is not there yet; the path of table.md. Raises UserError and Interrupted."""
        with held(out, "A benchmark"):
            clear_dead(out)
            elsewhere = [one for file in self.measured for one in read_stored(file, self.table)[0]]
            run_table(self.table, out, self._measuring(out), self.pretrain, self.say, self.rows, elsewhere)
        return out / "table.md"

    def pretrain(self, recipe: str, options: Mapping[str, Any], entry: Entry, folder: Path) -> None:
        """A run by a recipe; one that was begun is resumed, with its own configuration."""
        run = Run(folder)
        here = {"workers": self.workers, "device": self.device}
        if run.started:
            content = noted_by(run)
        else:
            data = self.table.data[entry.data]
            own = {"data": data.spec, "split": entry.split, "seed": entry.seed, "fit_span": False}  # one span for all
            options = {**own, **options}
            content = changed(self.table.recipes[recipe], options)
        pretrain(PretrainConfig.from_mapping(changed(content, here)), folder, resume=True, say=self.say, progress=True)

    def _measuring(self, out: Path) -> Measure:
        device = choose_device(self.device)
        tasks: dict[tuple[str, int, bool], Task | FeatureTask] = {}

        def task_of(entry: Entry) -> Task | FeatureTask:
            data, protocol = self.table.data[entry.data], entry.row.protocol
            key = entry.data, entry.split, EVALUATIONS[protocol].takes.of_files
            if key not in tasks:
                assert data.spec is not None
                reading = Reading(entry.split, data.cache, data.cache_short_side, self.workers, progress=True)
                tasks[key] = task_on(data.spec, protocol, reading, self.say)
            return tasks[key]

        def measure(entry: Entry, model: str, options: Mapping[str, Any], folder: Path) -> Result:
            task, row = task_of(entry), entry.row
            torch.manual_seed(entry.seed)
            network = load_model_or_encoder(model, device)
            if isinstance(task, Task):
                if isinstance(network, Model) and not EVALUATIONS[row.protocol].trains:
                    folder = self._of_features(network, entry, out)
                task = replace(task, features=FeatureStore(), folder=folder)
            return evaluate(row.protocol, network, task, preset=row.preset, options=options, seed=entry.seed)

        return measure

    def _of_features(self, network: Model, entry: Entry, out: Path) -> Path:
        """Where protocols keep what they extract by one network of one split of a set: all entries share it."""
        what = digest_of([fingerprint(network), self.table.data[entry.data].key])
        return out / "features" / f"{entry.data}-split{entry.split}-{what}"


def run_table(
    table: Table,
    out: Path,
    measure: Measure,
    pretrain: Pretrain,
    say: Callable[[str], None],
    rows: Sequence[str] = (),
    elsewhere: Sequence[Found] = (),
) -> None:
    """Measure every entry that is not there yet, and write the table after each (``write_table``).

    With patterns of ``rows`` only entries of these are measured; what is there of others is shown, and so is what was
    measured ``elsewhere``.

    Raises:
        UserError: if no data set has a SPEC, or a protocol does not give the metric that a row shows.
    """
    found: list[Found] = []
    known = {_name(one.entry): one for one in elsewhere}
    chosen = chosen_rows(table, rows)
    entries = list(entries_of(table))
    if not entries:
        raise UserError("No data set of the table has a SPEC; name one with --data NAME=SPEC.")
    missing = [e for e in entries if not (_folder(e, table, out) / "result.json").exists()]
    needed = {_name(e) for e in below(table, [e for e in missing if _name(e) not in known and e.row.name in chosen])}
    for entry in bar(entries, "table", "entry"):
        folder = _folder(entry, table, out)
        kept = folder / "result.json"
        new = not kept.exists()
        if new and _name(entry) in known and _name(entry) not in needed:
            found.append(known[_name(entry)])
            continue
        if new and entry.row.name not in chosen and _name(entry) not in needed:
            continue
        clear_dead(folder)
        if new:
            say(f"{entry.row.name}: {entry.data}, split {entry.split}, seed {entry.seed}")
            model = _model(entry, table, out, pretrain)
            options = {k: _resolved(v, entry, table, out) for k, v in entry.row.options.items()}
            result = measure(entry, model, options, folder / "run")
            content = result.to_dict(predictions=True) | _budget(entry, table, out)
            write_text(kept, json.dumps(content, indent=1) + "\n")
        found.append(_kept(entry, kept))
        for metric in entry.row.metric.split(" / "):
            if metric not in found[-1].result.metrics:
                raise UserError(
                    f"{entry.row.protocol} gives no metric {metric!r}, which row {entry.row.name!r} shows; "
                    f"{nearest(metric, found[-1].result.metrics)}"
                )
        if new:
            write_table(table, found, out)
    write_table(table, found, out)


def below(table: Table, entries: Sequence[Entry]) -> list[Entry]:
    """Whose networks these entries start from (``row:NAME``), and whose these do: their folders have to be here."""
    found = []
    for entry in entries:
        for value in (entry.row.model, *entry.row.options.values()):
            if isinstance(value, str) and value.startswith("row:"):
                found.append(replace(entry, row=named(table, value.removeprefix("row:"))))
    return found + below(table, found) if found else found


def _name(entry: Entry) -> tuple[str, str, int, int]:
    return entry.row.name, entry.data, entry.split, entry.seed


def _kept(entry: Entry, kept: Path) -> Found:
    """What is in the file of an entry. Raises UserError if it is damaged."""
    result = read_result(kept)
    with reading(kept, "remove it, and it is measured again"):
        content = parsed(kept.read_text("utf-8"))
        budget = numbered({name: content[name] for name in BUDGET if content.get(name) is not None})
    of_videos = {metric: result.of_videos(metric) for metric in entry.row.metric.split(" / ")}
    clips = budget.get("clips")
    return Found(
        entry,
        result,
        budget.get("minutes"),
        None if clips is None else int(clips),
        {metric: numbers for metric, numbers in of_videos.items() if numbers},
    )


BUDGET = ("minutes", "clips")


def _budget(entry: Entry, table: Table, out: Path) -> dict[str, float]:
    """Minutes and clips of the pretraining of an entry's network, with those of what it started from, as noted."""
    model = entry.row.model or ""
    if model.startswith(("random:", "row:")):
        return {}
    if not model.startswith("recipe:"):
        return of_training(Run(Path(model)))
    entry = _pretrained_on(entry, table)
    total = of_training(_run(entry, table, out))
    for value in entry.row.pretrain.values():
        if isinstance(value, str) and value.startswith(PRETRAINED):
            before = _budget(replace(entry, row=named(table, value.removeprefix(PRETRAINED))), table, out)
            total = {name: total[name] + before[name] for name in total.keys() & before.keys()}
    return total


def of_training(run: Run) -> dict[str, float]:
    """``minutes`` and ``clips`` of a run, as far as they were noted. Raises UserError if its notes are damaged."""
    if not run.started or not run.finished:
        return {}
    training = PretrainConfig.from_mapping(noted_by(run), f"configuration {run.config_file}").training
    records = run.records()
    minutes = minutes_of(records, training.batch_size * training.optim.accumulate)
    spent = {"minutes": minutes, "clips": records[-1].get("clips") if records else None}
    return {name: value for name, value in spent.items() if value is not None}


def _folder(entry: Entry, table: Table, out: Path) -> Path:
    """Where a entry is kept; another configuration of the row, or of the data, is another folder."""
    r = entry.row
    what = [r.model, r.protocol, r.preset, dict(r.options), dict(r.pretrain), table.data[entry.data].key]
    what.append(table.recipes.get(recipe_of(r)))
    if r.pretrain_on is not None:
        what.append(table.data[r.pretrain_on].key)
    for name in referred_by(r):
        what.append(str(_folder(Entry(named(table, name), entry.data, entry.split, entry.seed), table, out)))
    place = Path(f"{_slug(r.name)}-{digest_of(what)}") / f"{entry.data}-split{entry.split}-seed{entry.seed}"
    before = out / "cells" / place  # where version 0.1 kept it
    return before if before.exists() else out / "entries" / place


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]


def _resolved(value: Any, entry: Entry, table: Table, out: Path) -> Any:
    """``row:NAME`` as the folder of that row's fine-tuning on the same data, split and seed."""
    if not (isinstance(value, str) and value.startswith("row:")):
        return value
    other = Entry(named(table, value.removeprefix("row:")), entry.data, entry.split, entry.seed)
    return str(_folder(other, table, out) / "run")


def _pretrained_on(entry: Entry, table: Table) -> Entry:
    """The same with the data set and split that its network is pretrained on. Raises UserError if it has no SPEC."""
    name = entry.row.pretrain_on
    if name is None:
        return entry
    if table.data[name].spec is None:
        raise UserError(f"Row {entry.row.name!r} is pretrained on {name}; name it: --data {name}=SPEC.")
    return replace(entry, data=name, split=table.data[name].first)


def _run(entry: Entry, table: Table, out: Path) -> Run:
    """Where the network of a recipe is pretrained, whether it was or not."""
    entry = _pretrained_on(entry, table)
    recipe, row = recipe_of(entry.row), entry.row
    content = [f"recipe:{recipe}", dict(row.pretrain), table.data[entry.data].key, table.recipes.get(recipe)]
    content += [table.recipes.get(recipe_of(named(table, other))) for other in referred_by(row)]
    place = Path(f"{_slug(recipe)}-{digest_of(content)}") / f"{entry.data}-split{entry.split}-seed{entry.seed}"
    return Run(out / "pretrained" / place)


def _model(entry: Entry, table: Table, out: Path, pretrain: Pretrain) -> str:
    model, recipe = entry.row.model, recipe_of(entry.row)
    assert model is not None
    if not recipe:
        return _resolved(model, entry, table, out)
    entry = _pretrained_on(entry, table)
    run, options = _run(entry, table, out), dict(entry.row.pretrain)
    if not run.finished:
        for option, value in options.items():
            if isinstance(value, str) and value.startswith(PRETRAINED):
                other = replace(entry, row=named(table, value.removeprefix(PRETRAINED)))
                options[option] = str(Run(Path(_model(other, table, out, pretrain))).backbone_file)
        pretrain(recipe, options, entry, run.folder)
    return f"random:{run}" if model.startswith("random:") else str(run)
