"""A table of models x data sets x splits x seeds, measured cell by cell and kept, so that it goes on where it was.

A table is YAML::

    title: Transfer to UT-Interaction
    seeds: 3                      # on a set's first split; one on the others
    data:
      ut: {spec: "ucf101:ROOT", splits: [1, 2, 3], cache: raw, cache_short_side: 72}
    rows:
      - {name: from scratch, model: "random:r2plus1d_4", protocol: finetune, options: {epochs: 60}}
      - {name: speediness, model: "recipe:small", protocol: finetune, options: {epochs: 60}, published: {ut: 0.5}}
      - {name: both, model: "row:from scratch", protocol: fusion, options: {partner: "row:speediness"}}

A model is a run's folder, a file, ``random:NAME``, ``recipe:NAME`` (pretrained on the training list of every split with
every seed, and kept), or ``row:NAME``, what the fine-tuning of another row left. Each row of a pretrained model is
followed by the same network with random weights.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

from ssl_video.config import from_mapping
from ssl_video.errors import UserError, nearest
from ssl_video.eval.results import Result
from ssl_video.files import write_text


@dataclass(frozen=True)
class Data:
    """One data set of a table."""

    spec: str | None = None
    """SPEC of the videos; None: to be named on the command line."""
    splits: tuple[int, ...] = (1,)
    """Splits; the first is measured with every seed."""
    cache: Literal["none", "raw", "h264"] = "none"
    """Read from copies of the videos, made once."""
    cache_short_side: int = 128
    """Shorter side of the copies, in pixels."""

    @property
    def first(self) -> int:
        """The split that is measured with every seed."""
        return next(iter(self.splits))


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    name: str
    """What the table calls it."""
    model: str | None = None
    """See the module; None: a row of published numbers only."""
    protocol: str = "linear"
    """How it is measured."""
    preset: str = "default"
    """The protocol's preset."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Single options of the preset changed."""
    pretrain: Mapping[str, Any] = field(default_factory=dict)
    """Options of 'ssl-video pretrain' for a recipe; ``pretrained:NAME`` is the network pretrained for another row."""
    pretrain_on: str | None = None
    """The data set whose first split a recipe is pretrained on; None: the one that is measured."""
    metric: str = "top1"
    """The metric to show, or several with ' / ' between them."""
    published: Mapping[str, float] = field(default_factory=dict)
    """Published numbers by data set, shown as such."""
    architecture: str = ""
    """Shown beside the name."""
    only: tuple[str, ...] = ()
    """The data sets that it is measured on; all, if none is named."""


@dataclass(frozen=True)
class Table:
    """Everything that a table is made of."""

    rows: tuple[Row, ...]
    data: Mapping[str, Data]
    title: str = "Benchmark"
    seeds: int = 1
    recipes: Mapping[str, Any] = field(default_factory=dict)
    """What the recipes of the rows hold, by name: what was made by another version of a recipe is made anew."""


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    row: Row
    data: str
    split: int
    seed: int


PRETRAINED = "pretrained:"

Measure = Callable[[Cell, str, Mapping[str, Any], Path], Result]
"""A cell, its model as ``load_model`` takes it, the protocol's options and a folder to train in, to a result."""
Pretrain = Callable[[str, Mapping[str, Any], Cell, Path], None]
"""A recipe, options, the cell whose split and seed count, and the run's folder."""


def read_table(content: Mapping[str, Any], specs: Mapping[str, str]) -> Table:
    """The table of a YAML file's content, its data sets' SPECs replaced by ``specs``. Raises UserError."""
    rows = [from_mapping(Row, r, f"row {n} of the table") for n, r in enumerate(_list(content, "rows"), 1)]
    given = content.get("data")
    if not isinstance(given, Mapping) or not given:
        raise UserError("The table names no data; write 'data: {NAME: {spec: SPEC}}'.")
    for name in specs:
        if name not in given:
            raise UserError(f"The table has no data set {name!r}; {nearest(name, given)}")
    data = {}
    for name, value in given.items():
        own = {"spec": value} if isinstance(value, str) else value
        data[name] = from_mapping(Data, own | ({"spec": specs[name]} if name in specs else {}), f"data set {name}")
        if not data[name].splits:
            raise UserError(f"The data set {name} of the table has no splits; write 'splits: [1]'.")
    for other in set(content) - {"rows", "data", "title", "seeds"}:
        raise UserError(f"The table has no entry {other!r}; {nearest(str(other), ('rows', 'data', 'title', 'seeds'))}")
    names = [r.name for r in rows]
    if len(set(names)) < len(names):
        raise UserError("Two rows of the table have the same name; rename one.")
    for row in rows:
        for referred in _referred(row):
            if referred not in names:
                raise UserError(f"Row {row.name!r} refers to a row {referred!r}; {nearest(referred, names)}")
        for other in {*row.only, *([row.pretrain_on] if row.pretrain_on else [])} - set(data):
            raise UserError(f"Row {row.name!r} names a data set {other!r}; {nearest(other, data)}")
    whole = tuple(r for row in rows for r in (row, *_baseline(row)))
    return Table(whole, data, str(content.get("title", "Benchmark")), int(content.get("seeds", 1)))


def _list(content: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    rows = content.get(key)
    if not isinstance(rows, list) or not rows or not all(isinstance(r, Mapping) and "name" in r for r in rows):
        raise UserError(f"The table needs {key!r}, a list of mappings with a name each.")
    return rows


def _referred(row: Row) -> list[str]:
    values = (row.model, *row.options.values(), *row.pretrain.values())
    return [v.partition(":")[2] for v in values if isinstance(v, str) and v.startswith(("row:", PRETRAINED))]


def _baseline(row: Row) -> Iterator[Row]:
    """The same network with random weights, for a row of a pretrained one."""
    if row.model is not None and not row.model.startswith(("random:", "row:")) and row.protocol != "pretext":
        content = {k: v for k, v in vars(row).items() if k not in ("published", "name", "model")}
        yield Row(name=f"{row.name}: random weights", model=f"random:{row.model}", **content)


def cells_of(table: Table) -> Iterator[Cell]:
    """All cells that can be measured, a row after what it refers to, the first splits first."""
    done: list[Row] = []

    def ordered(row: Row) -> Iterator[Row]:
        for name in _referred(row):
            yield from ordered(next(r for r in table.rows if r.name == name))
        if row not in done:
            done.append(row)
            yield row

    rows = [r for row in table.rows if row.model is not None for r in ordered(row)]
    places = [
        (number, seed, name, split)
        for name, data in table.data.items()
        if data.spec is not None
        for number, split in enumerate(data.splits)
        for seed in (range(table.seeds) if number == 0 else (0,))
    ]
    for _, seed, name, split in sorted(places, key=lambda p: p[:2]):
        for row in rows:
            if not row.only or name in row.only:
                yield Cell(row, name, split, seed)


def run_table(table: Table, out: Path, measure: Measure, pretrain: Pretrain, say: Callable[[str], None]) -> None:
    """Measure every cell that is not there yet, and write table.md, table.csv and table.json after each.

    Raises:
        UserError: if no data set has a SPEC, or a protocol does not give the metric that a row shows.
    """
    results: list[tuple[Cell, Result]] = []
    for cell in cells_of(table):
        folder = _folder(cell, table, out)
        kept = folder / "result.json"
        if kept.exists():
            result = Result.from_dict(json.loads(kept.read_text(encoding="utf-8")))
        else:
            say(f"{cell.row.name}: {cell.data}, split {cell.split}, seed {cell.seed}")
            model = _model(cell, table, out, pretrain)
            options = {k: _resolved(v, cell, table, out) for k, v in cell.row.options.items()}
            result = measure(cell, model, options, folder / "run")
            write_text(kept, json.dumps(result.to_dict(), indent=1) + "\n")
        for metric in cell.row.metric.split(" / "):
            if metric not in result.metrics:
                raise UserError(
                    f"{cell.row.protocol} gives no metric {metric!r}, which row {cell.row.name!r} shows; "
                    f"{nearest(metric, result.metrics)}"
                )
        results.append((cell, result))
        _write(table, results, out)
    if not results:
        raise UserError("No data set of the table has a SPEC; name one with --data NAME=SPEC.")


def recipe_of(row: Row) -> str:
    """The name of the recipe that a row is pretrained by, also if it shows the network with random weights; else ""."""
    model = (row.model or "").removeprefix("random:")
    return model.removeprefix("recipe:") if model.startswith("recipe:") else ""


def _folder(cell: Cell, table: Table, out: Path) -> Path:
    """Where a cell is kept; another configuration of the row, or of the data, is another folder."""
    r = cell.row
    what = [r.model, r.protocol, r.preset, dict(r.options), dict(r.pretrain), asdict(table.data[cell.data])]
    what.append(table.recipes.get(recipe_of(r)))
    if r.pretrain_on is not None:
        what.append(asdict(table.data[r.pretrain_on]))
    for name in _referred(r):
        what.append(str(_folder(Cell(_named(table, name), cell.data, cell.split, cell.seed), table, out)))
    key = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return out / "cells" / f"{_slug(r.name)}-{key}" / f"{cell.data}-split{cell.split}-seed{cell.seed}"


def _named(table: Table, name: str) -> Row:
    return next(r for r in table.rows if r.name == name)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]


def _resolved(value: Any, cell: Cell, table: Table, out: Path) -> Any:
    """``row:NAME`` as the folder of that row's fine-tuning on the same data, split and seed."""
    if not (isinstance(value, str) and value.startswith("row:")):
        return value
    other = Cell(_named(table, value.removeprefix("row:")), cell.data, cell.split, cell.seed)
    return str(_folder(other, table, out) / "run")


def _model(cell: Cell, table: Table, out: Path, pretrain: Pretrain) -> str:
    model = cell.row.model
    assert model is not None
    prefix = "random:" if model.startswith("random:") else ""
    name = model.removeprefix(prefix)
    if not name.startswith("recipe:"):
        return _resolved(model, cell, table, out)
    options = dict(cell.row.pretrain)
    if cell.row.pretrain_on is not None:
        name_of_data = cell.row.pretrain_on
        if table.data[name_of_data].spec is None:
            raise UserError(
                f"Row {cell.row.name!r} is pretrained on {name_of_data}; name it: --data {name_of_data}=SPEC."
            )
        cell = replace(cell, data=name_of_data, split=table.data[name_of_data].first)
    recipe = recipe_of(cell.row)
    content = [name, options, asdict(table.data[cell.data]), table.recipes.get(recipe)]
    content += [table.recipes.get(recipe_of(_named(table, other))) for other in _referred(cell.row)]
    key = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:8]
    run = out / "pretrained" / f"{_slug(recipe)}-{key}" / f"{cell.data}-split{cell.split}-seed{cell.seed}"
    if not (run / "backbone.safetensors").exists():
        for option, value in options.items():
            if isinstance(value, str) and value.startswith(PRETRAINED):
                other = replace(cell, row=_named(table, value.removeprefix(PRETRAINED)))
                options[option] = f"{_model(other, table, out, pretrain)}/backbone.safetensors"
        pretrain(recipe, options, cell, run)
    return f"{prefix}{run}"


def _write(table: Table, found: Sequence[tuple[Cell, Result]], out: Path) -> None:
    header, rows = summary(table, found)
    write_text(out / "table.md", markdown(table, header, rows, videos(found)))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(out / "table.csv", text.getvalue())
    cells = [
        {"row": c.row.name, "data": c.data, "split": c.split, "seed": c.seed, "result": r.to_dict()} for c, r in found
    ]
    write_text(out / "table.json", json.dumps(cells, indent=1) + "\n")


def summary(table: Table, found: Sequence[tuple[Cell, Result]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: for each data set the mean over splits, the mean over seeds on the first, the published."""
    header = ["model", "architecture", "protocol"]
    for name, data in table.data.items():
        if len(data.splits) > 1:
            header.append(f"{name}, {len(data.splits)} splits, seed 0")
        header.append(f"{name}, split {data.first}, {table.seeds} seed{'s' if table.seeds > 1 else ''}")
        header.append(f"{name}, published")
    rows = []
    for row in table.rows:
        how = "" if row.model is None else f"{row.protocol} {row.preset}, {row.metric}"
        line = [row.name, row.architecture, how]
        for name, data in table.data.items():
            of_row = [(c, r) for c, r in found if c.row == row and c.data == name]
            if len(data.splits) > 1:
                line.append(_spreads(row, [r for c, r in of_row if c.seed == 0], len(data.splits)))
            line.append(_spreads(row, [r for c, r in of_row if c.split == data.first], table.seeds))
            line.append(f"{row.published[name]}" if name in row.published else "")
        rows.append(line)
    return header, rows


def _spreads(row: Row, results: Sequence[Result], wanted: int) -> str:
    texts = [spread([r.metrics[metric] for r in results], wanted) for metric in row.metric.split(" / ")]
    return " / ".join(t for t in texts if t)


def spread(values: Sequence[float], wanted: int) -> str:
    """Mean and standard deviation, with the number of values where some are missing."""
    if not values:
        return ""
    text = f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")
    return text if len(values) == wanted else f"{text} ({len(values)} of {wanted})"


def videos(found: Sequence[tuple[Cell, Result]]) -> list[str]:
    """How many videos the rows used and left out on every data set and split; rows of the same counts together."""
    rows: dict[tuple[str, str], dict[str, None]] = {}
    for cell, result in found:
        counts = ", ".join(f"{number} {what}" for what, number in result.counts.items())
        skipped = f", {len(result.skipped)} left out" if result.skipped else ""
        rows.setdefault((cell.data, f"split {cell.split}: {counts}{skipped}"), {})[cell.row.name] = None
    return [f"* {data}, {what}: {'; '.join(names)}." for (data, what), names in rows.items()]


def markdown(table: Table, header: Sequence[str], rows: Sequence[Sequence[str]], used: Sequence[str] = ()) -> str:
    """The table with its title, how to read it, and the videos that its rows used."""
    lines = [f"# {table.title}", "", f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    lines += [
        "",
        "Mean ± standard deviation. A seed is that of the weights, of the pretraining where there is one, and of what "
        "the protocol trains, all together; a split is one of the data set's. Published numbers are those of the "
        "papers, measured with their own pretraining.",
        "",
        *used,
        *([""] if used else []),
    ]
    return "\n".join(lines)
