"""A table as it is written: Markdown, csv and JSON."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from ssl_video.apps.table import Entry, Row, Table
from ssl_video.eval.results import Result, between
from ssl_video.files import write_text

Found = Sequence[tuple[Entry, Result]]


def write_table(table: Table, found: Found, out: Path) -> None:
    """Write table.md, table.csv and table.json."""
    header, rows = summary(table, found)
    write_text(out / "table.md", markdown(table, header, rows, videos(found)))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(out / "table.csv", text.getvalue())
    entries = [
        {"row": c.row.name, "data": c.data, "split": c.split, "seed": c.seed, "result": r.to_dict()} for c, r in found
    ]
    write_text(out / "table.json", json.dumps(entries, indent=1) + "\n")


def summary(table: Table, found: Found) -> tuple[list[str], list[list[str]]]:
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


def videos(found: Found) -> list[str]:
    """How many videos the rows used and left out on every data set and split; rows of the same counts together."""
    rows: dict[tuple[str, str], dict[str, None]] = {}
    for entry, result in found:
        counts = ", ".join(f"{number} {what}" for what, number in result.counts.items())
        skipped = f", {len(result.skipped)} left out" if result.skipped else ""
        seen = f", {len(result.seen) or 'some'} of the test seen in pretraining" if result.transductive else ""
        rows.setdefault((entry.data, f"split {entry.split}: {counts}{skipped}{seen}"), {})[entry.row.name] = None
    return [f"* {data}, {what}: {'; '.join(names)}." for (data, what), names in rows.items()]


def markdown(table: Table, header: Sequence[str], rows: Sequence[Sequence[str]], used: Sequence[str] = ()) -> str:
    """The table with its title, how to read it, and the videos that its rows used."""
    lines = [f"# {table.title}", "", f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    lines += [f"| {' | '.join(entry.replace('|', '/') for entry in row)} |" for row in rows]
    lines += [
        "",
        "Mean ± standard deviation; of a single number, in brackets, the 95 % interval that the number of test videos "
        "leaves (Wilson). A seed is that of the weights, of the pretraining where there is one, and of what "
        "the protocol trains, all together; a split is one of the data set's. Published numbers are those of the "
        "papers, measured with their own pretraining.",
        "",
        *used,
        *([""] if used else []),
    ]
    return "\n".join(lines)
