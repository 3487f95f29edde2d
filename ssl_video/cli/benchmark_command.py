"""``ssl-video benchmark``: a table of models, data sets, splits and seeds."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from ssl_video.apps.benchmark import Cell, read_table, recipe_of, run_table
from ssl_video.cli import pretrain_command
from ssl_video.cli.parsing import parse
from ssl_video.config import load_yaml
from ssl_video.datasets.cached import read_from
from ssl_video.datasets.spec import load_splits
from ssl_video.errors import UserError, nearest
from ssl_video.eval.base import Task, evaluate
from ssl_video.eval.results import Result
from ssl_video.model import load_model_or_encoder
from ssl_video.train.distributed import choose_device
from ssl_video.train.loop import Interrupted


@dataclass(frozen=True)
class BenchmarkConfig:
    """Options of a table."""

    table: tyro.conf.Positional[str]
    """A YAML file, or the name of a packaged table ('ssl-video list tables')."""
    out: Path = Path("runs/benchmark")
    """Folder of the table, its cells and what was pretrained; what is there is not done again."""
    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=SPEC: where a data set of the table is; may be given several times."""
    seeds: int | None = None
    """Seeds on the first split of each set, instead of the table's."""
    workers: int = 2
    """Reading processes."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def run(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(BenchmarkConfig, argv, "benchmark", "Measure a table of models, data sets, splits and seeds.")
    content = load_yaml(table_path(config.table))
    if config.seeds is not None:
        content["seeds"] = config.seeds
    specs = dict(_pair(text) for text in config.data)
    table = read_table(content, specs)
    recipes = {recipe_of(row) for row in table.rows} - {""}
    table = replace(table, recipes={name: pretrain_command.load_recipe(name) for name in recipes})
    device = choose_device(config.device)

    @lru_cache(maxsize=2)
    def task_of(name: str, split: int) -> Task:
        data = table.data[name]
        assert data.spec is not None
        splits = load_splits(data.spec, split)
        for warning in splits.warnings:
            print(f"warning: {warning}")
        copies = (data.cache, data.cache_short_side)
        test = None if splits.test is None else read_from(splits.test, *copies, progress=True)
        return Task(data.spec, split, read_from(splits.train, *copies, progress=True), test, config.workers)

    def measure(cell: Cell, model: str, options: Mapping[str, Any], folder: Path) -> Result:
        whole = task_of(cell.data, cell.split)
        task = Task(whole.data, whole.split, whole.train, whole.test, config.workers, folder=folder)
        torch.manual_seed(cell.seed)
        row = cell.row
        network = load_model_or_encoder(model, device)
        return evaluate(row.protocol, network, task, preset=row.preset, options=options, seed=cell.seed)

    def pretrain(recipe: str, options: Mapping[str, Any], cell: Cell, folder: Path) -> None:
        words = ["--out", folder, "--workers", config.workers, "--device", config.device]
        if (folder / "config.yaml").exists():
            words += ["--resume"]  # with its own configuration
        else:
            words += ["--config", recipe, "--data", table.data[cell.data].spec]
            words += ["--split", cell.split, "--seed", cell.seed]
            words += [w for name, value in options.items() for w in flag(name, value)]
        code = pretrain_command.run([*map(str, words)])
        if code:
            raise Interrupted(f"The pretraining in {folder} was stopped and its state is saved")

    try:
        run_table(table, config.out, measure, pretrain, print)
    except Interrupted as stop:
        print(f"ssl-video: {stop}: the same command goes on.", file=sys.stderr)
        return 130
    print()
    print((config.out / "table.md").read_text(encoding="utf-8"))
    print(f"{config.out / 'table.md'}, table.csv and table.json are written.")
    return 0


def flag(name: str, value: Any) -> list[Any]:
    """An option as the command line takes it; true and false are ``--a.b`` and ``--a.no-b``."""
    group, _, last = name.replace("_", "-").rpartition(".")
    if isinstance(value, bool):
        last, words = last if value else f"no-{last}", []
    else:
        words = [value]
    return [f"--{group}.{last}" if group else f"--{last}", *words]


def packaged_tables() -> dict[str, Path]:
    """Name -> file."""
    folder = files("ssl_video.recipes") / "tables"
    return {f.name.removesuffix(".yaml"): Path(str(f)) for f in folder.iterdir() if f.name.endswith(".yaml")}


def table_path(name: str) -> Path:
    """A table by its packaged name or by path. Raises UserError."""
    packaged = packaged_tables()
    if name in packaged:
        return packaged[name]
    if not Path(name).is_file():
        raise UserError(f"There is no table or file {name!r}; {nearest(name, packaged)}")
    return Path(name)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--data takes NAME=SPEC, not {text!r}.")
    return name, value
