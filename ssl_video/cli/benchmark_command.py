"""``ssl-video benchmark``: a table of models, data sets, splits and seeds."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from ssl_video.bounds import Bounded, Count, Natural
from ssl_video.cli import tell
from ssl_video.cli.parsing import Device, Folder, Json, document, messages_aside, pair, parse
from ssl_video.errors import UserError


@dataclass(frozen=True)
class BenchmarkConfig(Bounded, flags="--"):
    """Options of a table."""

    usual: ClassVar = ("data", "out", "rows", "from_", "seeds", "json", "device")
    examples: ClassVar = (
        "ssl-video benchmark small --seeds 1 --out runs/small",
        "ssl-video benchmark my_table.yaml --data mine=videos --rows 'speediness*' --json > table.json",
        "ssl-video benchmark results --from runs/results/results.json",
    )

    table: tyro.conf.Positional[str]
    """A YAML file, or the name of a packaged table ('ssl-video list tables')."""
    out: Folder = Path("runs/benchmark")
    """Folder of the table, its entries and what was pretrained; what is there is not done again."""
    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=SPEC")] = ()
    """Where a data set of the table is; may be given several times."""
    rows: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="PATTERN")] = ()
    """Measure these rows only, such as 'speediness*'; what was measured of others is shown. May be given several
    times."""
    from_: Annotated[Path | None, tyro.conf.arg(name="from", metavar="FILE")] = None
    """Print the table from its results.json, without data and runs, and measure nothing."""
    measured: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="FILE")] = ()
    """A results.json of this table, of another folder or machine: what it holds is not measured again. May be given
    several times."""
    seeds: Count | None = None
    """Seeds on the first split of each set, instead of the table's."""
    quick: bool = False
    """One seed, trainings of two minutes in the place of longer ones, and no slow rows: a try, not a result."""
    workers: Natural = 2
    """Reading processes."""
    json: Json = False
    device: Device = "auto"


def main(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(BenchmarkConfig, argv, "benchmark", "Measure a table of models, data sets, splits and seeds.")
    from ssl_video.apps.benchmark import Bench
    from ssl_video.apps.table import load_table
    from ssl_video.apps.table_page import stored_table
    from ssl_video.train.loop import Interrupted

    data = dict(pair(text, "--data", "NAME=SPEC") for text in config.data)
    with messages_aside(config.json):
        table = load_table(config.table, data, config.seeds, config.quick)
        if config.from_ is not None:
            if config.rows or config.json:
                raise UserError(
                    "--from prints a table as Markdown; leave --rows and --json out (the file itself is JSON)."
                )
            print(stored_table(table, config.from_))
            return 0
        try:
            written = Bench(table, config.workers, config.device, tell, config.rows, config.measured).run(config.out)
        except Interrupted as stop:
            print(f"ssl-video: {stop}: the same command resumes the table.", file=sys.stderr)
            return 130
        print()
        print(written.read_text(encoding="utf-8"))
        tell(f"{written}, table.csv, table.json and results.json are written.")
    if config.json:
        document(json.loads(written.with_name("table.json").read_text(encoding="utf-8")))
    return 0
