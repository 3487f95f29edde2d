"""A table of models x data sets x splits x seeds: what its YAML says.

A table is YAML::

    title: Transfer to UT-Interaction
    seeds: 3                      # on a set's first split; one on the others
    data:
      ut: {spec: "ucf101:ROOT", splits: [1, 2, 3], cache: raw, cache_short_side: 72}
    rows:
      - {name: from scratch, model: "random:r2plus1d_4", protocol: finetune, options: {epochs: 60}}
      - {name: speediness, model: "recipe:speediness:small", protocol: linear, published: {ut: 0.5}}
      - {name: both, model: "row:from scratch", protocol: fusion, options: {partner: "row:speediness"}}

A model is a run's folder, a file, ``net:NAME?weights=W``, ``random:NAME``, ``recipe:NAME`` (pretrained on the training
list of every split with every seed, and kept), or ``row:NAME``, what the fine-tuning of another row left. Each row of a
trained model is followed by the same network with random weights. With ``layout: margins`` this stands beside it
(``table_margins``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args

from ssl_video.apps.table_rows import in_a_hurry, written_rows
from ssl_video.bounds import Bounded, Count, Natural
from ssl_video.config import convert, from_mapping
from ssl_video.errors import UserError, nearest
from ssl_video.eval.base import configured
from ssl_video.model import names_encoder, untrained_twin
from ssl_video.pretrain_config import PretrainConfig, changed
from ssl_video.recipes import load_recipe, table_file
from ssl_video.video.kinds import CacheKind
from ssl_video.yaml_files import load_yaml

Layout = Literal["plain", "margins"]


@dataclass(frozen=True)
class Data(Bounded):
    """One data set of a table."""

    spec: str | None = None
    """SPEC of the videos; None: to be named on the command line."""
    splits: tuple[Count, ...] = (1,)
    """Splits; the first is measured with every seed, the others with seed 0."""
    seed_by_split: bool = False
    """Every split has a seed of its own instead, 0, 1, ...: three splits are three seeds, of all test videos."""
    cache: CacheKind = "none"
    """Read from copies of the videos, made once."""
    cache_short_side: Natural = 128
    """Shorter side of the copies, in pixels."""

    @property
    def key(self) -> dict[str, Any]:
        """What an entry's number depends on, as earlier versions knew it."""
        return {name: value for name, value in asdict(self).items() if name != "seed_by_split"}

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
    """Options over the recipe, by the names of flags; ``pretrained:NAME`` is the network pretrained for another row."""
    pretrain_on: str | None = None
    """The data set whose first split a recipe is pretrained on; None: the one that is measured."""
    metric: str = "top1"
    """The metric to show, or several with ' / ' between them."""
    published: Mapping[str, float] = field(default_factory=dict)
    """Published numbers by data set, shown as such."""
    source: str = ""
    """Where they are published, in a few words (layout margins)."""
    twin: bool | None = None
    """Whether the network with random weights is measured too; None: that of a pretrained one is, but by ``pretext``
    only in the layout margins."""
    twin_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of that network over those of the row, such as ``calibrate``."""
    architecture: str = ""
    """Shown beside the name."""
    section: str = ""
    """The overview of a data set has a table of its own for the rows of each section, so called."""
    only: tuple[str, ...] = ()
    """The data sets that it is measured on; all, if none is named."""
    quick: bool = True
    """Whether it is measured in a quick table too (``table_rows.in_a_hurry``)."""
    quick_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of a quick table over those of the row."""


@dataclass(frozen=True)
class Table(Bounded):
    """Everything that a table is made of."""

    rows: tuple[Row, ...]
    data: Mapping[str, Data]
    title: str = "Benchmark"
    layout: Layout = "plain"
    """margins: a line a row and data set, the untrained network beside the trained one."""
    seeds: Count = 1
    recipes: Mapping[str, Any] = field(default_factory=dict)
    """What the recipes of the rows hold, by name: what was made by another version of a recipe is made anew."""


@dataclass(frozen=True)
class Entry:
    """One measurement."""

    row: Row
    data: str
    split: int
    seed: int


@dataclass(frozen=True)
class Group:
    """Entries of a data set that are averaged: those of a split, of a seed, or all (None, None); ``wanted`` of them."""

    data: str
    name: str
    wanted: int
    split: int | None
    seed: int | None

    def holds(self, entry: Entry) -> bool:
        """Whether the entry is one of them."""
        return entry.data == self.data and self.split in (None, entry.split) and self.seed in (None, entry.seed)


PRETRAINED = "pretrained:"
UNTRAINED = ": random weights"
"""What the name of a row's twin ends with."""
OF_A_TABLE = ("rows", "data", "title", "layout", "seeds")


def load_table(name: str, specs: Mapping[str, str], seeds: int | None = None, quick: bool = False) -> Table:
    """A table by its packaged name or its file, with the recipes that its rows name.

    ``specs`` say where its data sets are; ``seeds`` stands in for its own number; ``quick``: as ``in_a_hurry``. Raises
    UserError.
    """
    content = load_yaml(table_file(name))
    content = in_a_hurry(content) if quick else content
    if seeds is not None:
        content["seeds"] = seeds
    try:
        table = read_table(content, specs)
    except UserError as error:
        raise (UserError(f"{name}: {error}") if Path(name).is_file() else error) from None
    named = {recipe_of(row) for row in table.rows} - {""}
    table = replace(table, recipes={recipe: _to_train(recipe) for recipe in named})
    for row in table.rows:
        if recipe_of(row):
            given = {k: v for k, v in row.pretrain.items() if k != "backbone.weights"}
            PretrainConfig.from_mapping(changed(table.recipes[recipe_of(row)], given))
    return table


def read_table(content: Mapping[str, Any], specs: Mapping[str, str]) -> Table:
    """The table of a YAML file's content, its data sets' SPECs replaced by ``specs``. Raises UserError."""
    rows = [from_mapping(Row, r, f"row {n} of the table") for n, r in enumerate(written_rows(content), 1)]
    given = content.get("data")
    if not isinstance(given, Mapping) or not given:
        raise UserError("The table names no data; write 'data: {NAME: {spec: SPEC}}'.")
    for name in specs:
        if name not in given:
            raise UserError(f"The table has no data set {name!r}; {nearest(name, given)}")
    data = {}
    for name, value in given.items():
        own = {"spec": value} if isinstance(value, str) else value
        if not isinstance(own, Mapping):
            raise UserError(
                f"The data set {name} of the table is {own!r}; write its SPEC, or '{name}: {{spec: SPEC}}'."
            )
        data[name] = from_mapping(Data, {**own, **({"spec": specs[name]} if name in specs else {})}, f"data set {name}")
        if not data[name].splits:
            raise UserError(f"The data set {name} of the table has no splits; write 'splits: [1]'.")
    for other in set(content) - {*OF_A_TABLE}:
        raise UserError(f"The table has no entry {other!r}; {nearest(str(other), OF_A_TABLE)}")
    layout = content.get("layout", "plain")
    if layout not in get_args(Layout):
        raise UserError(f"The table has no layout {layout!r}; {nearest(str(layout), get_args(Layout))}")
    names = [r.name for r in rows]
    if len(set(names)) < len(names):
        raise UserError("Two rows of the table have the same name; rename one.")
    for row in rows:
        if row.model is not None:
            _check_protocol(row)
        for referred in referred_by(row):
            if referred not in names:
                raise UserError(f"Row {row.name!r} refers to a row {referred!r}; {nearest(referred, names)}")
        for other in {*row.only, *([] if row.pretrain_on is None else [row.pretrain_on])} - set(data):
            raise UserError(f"Row {row.name!r} names a data set {other!r}; {nearest(other, data)}")
        if wrong := [v for v in row.published.values() if isinstance(v, bool) or not isinstance(v, (int, float))]:
            raise UserError(
                f"Row {row.name!r} has {wrong[0]!r} as a published number; write a number for each data set."
            )
    _check_order(rows)
    whole = tuple(r for row in rows for r in (row, *_twin(row, layout)))
    seeds = convert(int, content.get("seeds", 1), "seeds of the table")
    return Table(whole, data, str(content.get("title", "Benchmark")), layout, seeds)


def _check_order(rows: Sequence[Row]) -> None:
    """Raise UserError for rows that stand on each other in a circle."""
    stands_on = {row.name: set(referred_by(row)) for row in rows}
    while free := [name for name, others in stands_on.items() if not others & stands_on.keys()]:
        for name in free:
            del stands_on[name]
    if stands_on:
        circle = ", ".join(map(repr, stands_on))
        raise UserError(f"Rows of the table refer to each other in a circle ({circle}); let one of them stand alone.")


def _check_protocol(row: Row) -> None:
    """Raise UserError now, and not when other rows were pretrained for hours, for a wrong protocol or option."""
    for options in (row.options, {**row.options, **row.twin_options}):
        configured(row.protocol, row.preset, {k: v for k, v in options.items() if k not in _referring(row)})


def _referring(row: Row) -> list[str]:
    return [name for name, value in row.options.items() if isinstance(value, str) and value.startswith("row:")]


def referred_by(row: Row) -> list[str]:
    """The names of the rows that a row stands on."""
    values = (row.model, *row.options.values(), *row.pretrain.values())
    return [v.partition(":")[2] for v in values if isinstance(v, str) and v.startswith(("row:", PRETRAINED))]


def _twin(row: Row, layout: Layout) -> Iterator[Row]:
    """The same network with random weights, for a row of a pretrained one."""
    if row.model is None or row.model.startswith(("random:", "row:")) or names_encoder(row.model):
        return
    if layout == "margins" or row.protocol != "pretext" if row.twin is None else row.twin:
        name, options = f"{row.name}{UNTRAINED}", {**row.options, **row.twin_options}
        yield replace(row, name=name, model=untrained_twin(row.model), options=options, published={}, source="")


def chosen_rows(table: Table, patterns: Sequence[str]) -> set[str]:
    """The names of the rows that one of the patterns (as of file names) matches, with their twins and all that these
    stand on; of all rows without a pattern. Raises UserError for a pattern that matches none.
    """
    names = [row.name for row in table.rows]
    if not patterns:
        return set(names)
    chosen: set[str] = set()
    for pattern in patterns:
        matched = {name for name in names if fnmatchcase(name.removesuffix(UNTRAINED), pattern)}
        if not matched:
            raise UserError(f"--rows {pattern!r} matches no row of the table; {nearest(pattern, names)}")
        chosen |= matched
    while more := {other for name in chosen for other in referred_by(named(table, name))} - chosen:
        chosen |= more
    return chosen


def entries_of(table: Table) -> Iterator[Entry]:
    """All entries that can be measured, a row after what it refers to, the first splits first."""
    done: list[Row] = []

    def ordered(row: Row) -> Iterator[Row]:
        for name in referred_by(row):
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
        for seed in ((number,) if data.seed_by_split else range(table.seeds) if number == 0 else (0,))
    ]
    for _, seed, name, split in sorted(places, key=lambda p: p[:2]):
        for row in rows:
            if not row.only or name in row.only:
                yield Entry(row, name, split, seed)


def groups_of(table: Table, name: str) -> list[Group]:
    """What is averaged of a data set: its first split with every seed, and all splits with seed 0."""
    data, seeds = table.data[name], f"{table.seeds} seeds" if table.seeds > 1 else "seed 0"
    count = len(data.splits)
    if data.seed_by_split:
        return [Group(name, f"{name}, {count} splits, a seed each", count, None, None)]
    first = Group(name, f"{name}, split {data.first}, {seeds}", table.seeds, data.first, None)
    return [first] if count == 1 else [first, Group(name, f"{name}, {count} splits, seed 0", count, None, 0)]


def _to_train(recipe: str) -> dict[str, Any]:
    """A recipe, without measuring the run: that is what the table is for."""
    return {name: value for name, value in load_recipe(recipe).items() if name != "probe"}


def recipe_of(row: Row) -> str:
    """The name of the recipe that a row is pretrained by, also if it shows the network with random weights; else ""."""
    model = (row.model or "").removeprefix("random:")
    return model.removeprefix("recipe:") if model.startswith("recipe:") else ""


def named(table: Table, name: str) -> Row:
    """The row of that name."""
    return next(r for r in table.rows if r.name == name)
