"""A table as it is written: Markdown, csv and JSON, and printed again from what was stored (``table_found``)."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from ssl_video.apps.table import Row, Table, groups_of
from ssl_video.apps.table_found import Found, read_stored, write_stored
from ssl_video.apps.table_margins import LEGEND, margins
from ssl_video.apps.table_overview import overview
from ssl_video.eval.results import Result, between
from ssl_video.files import write_text

PLAIN_LEGEND = (
    "Mean ± standard deviation; of a single number, in brackets, the 95 % interval that the number of test videos "
    "leaves (Wilson). A seed is that of the weights, of the pretraining where there is one, and of what "
    "the protocol trains, all together; a split is one of the data set's. Published numbers are those of the "
    "papers, measured with their own pretraining."
)


def write_table(table: Table, found: Sequence[Found], out: Path) -> None:
    """Write table.md, table.csv, table.json and results.json, the small file from which the table is printed again."""
    header, rows = summary(table, found)
    write_text(out / "table.md", markdown(table, header, rows, videos(found), _overview(table, found)))
    write_stored(out / "results.json", table, found)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(out / "table.csv", text.getvalue())
    entries = [
        {"row": e.row.name, "data": e.data, "split": e.split, "seed": e.seed, "result": f.result.to_dict()}
        for f in found
        for e in (f.entry,)
    ]
    write_text(out / "table.json", json.dumps(entries, indent=1) + "\n")


def stored_table(table: Table, path: Path) -> str:
    """The Markdown of a table from its results.json, without data and runs at hand; it says so. Raises UserError."""
    found, others = read_stored(path, table)
    used = videos(found)
    if others:
        used += [f"* Of another configuration in the file, and not shown: {'; '.join(others)}."]
    header, rows = summary(table, found)
    notes = [f"Printed from {path.name}; nothing was measured now.", "", *_overview(table, found)]
    return markdown(table, header, rows, used, notes)


def summary(table: Table, found: Sequence[Found]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: for each data set the mean over splits, the mean over seeds on the first, the published.

    In the layout margins they are those of ``margins``.
    """
    if table.layout == "margins":
        return margins(table, found)
    header = ["model", "architecture", "protocol"]
    for name in table.data:
        header += [*(group.name for group in reversed(groups_of(table, name))), f"{name}, published"]
    rows = []
    for row in table.rows:
        how = "" if row.model is None else f"{row.protocol} {row.preset}, {row.metric}"
        line = [row.name, row.architecture, how]
        of_row = [f for f in found if f.entry.row == row]
        for name in table.data:
            for group in reversed(groups_of(table, name)):
                line.append(_spreads(row, [f.result for f in of_row if group.holds(f.entry)], group.wanted))
            line.append(f"{row.published[name]}" if name in row.published else "")
        rows.append(line)
    return header, rows


def _spreads(row: Row, results: Sequence[Result], wanted: int) -> str:
    metrics = row.metric.split(" / ")
    texts = [
        spread([r.metrics[m] for r in results], wanted, results[0].intervals.get(m) if results else None)
        for m in metrics
    ]
    return " / ".join(t for t in texts if t)


def spread(values: Sequence[float], wanted: int, interval: tuple[float, float] | None = None) -> str:
    """Mean and standard deviation, with the number of values where some are missing.

    Values that are all the same, of one seed or of seeds that nothing depends on, have no deviation to show but their
    ``interval``.
    """
    if not values:
        return ""
    text = f"{mean(values):.3f}"
    if max(values) > min(values):
        text += f" ± {stdev(values):.3f}"
    elif interval is not None:
        text += f" ({between(interval)})"
    return text if len(values) == wanted else f"{text} ({len(values)} of {wanted})"


def videos(found: Sequence[Found]) -> list[str]:
    """How many videos the rows used and left out on every data set and split; rows of the same counts together."""
    rows: dict[tuple[str, str], dict[str, None]] = {}
    for entry, result in ((f.entry, f.result) for f in found):
        counts = ", ".join(f"{number} {what}" for what, number in result.counts.items())
        skipped = f", {len(result.skipped)} left out" if result.skipped else ""
        seen = f", {len(result.seen) or 'some'} of the test seen in pretraining" if result.transductive else ""
        told = f", pretrained with {result.supervision}" if result.supervision else ""
        rows.setdefault((entry.data, f"split {entry.split}: {counts}{skipped}{seen}{told}"), {})[entry.row.name] = None
    return [f"* {data}, {what}: {'; '.join(names)}." for (data, what), names in rows.items()]


def _overview(table: Table, found: Sequence[Found]) -> list[str]:
    """Lines before the whole table, in the layout that has any."""
    return [*overview(table, found), "## All numbers", ""] if table.layout == "margins" else []


def markdown(
    table: Table,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    used: Sequence[str] = (),
    before: Sequence[str] = (),
) -> str:
    """The table with its title, lines ``before`` it, how to read it, and the videos that its rows used."""
    lines = [
        f"# {table.title}",
        "",
        *before,
        f"| {' | '.join(header)} |",
        "|" + "---|" * len(header),
    ]
    lines += [f"| {' | '.join(entry.replace('|', '/') for entry in row)} |" for row in rows]
    lines += [
        "",
        LEGEND if table.layout == "margins" else PLAIN_LEGEND,
        "",
        *used,
        *([""] if used else []),
    ]
    return "\n".join(lines)
