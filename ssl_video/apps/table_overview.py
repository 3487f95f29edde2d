"""The overview of a table of margins: for each data set, and section, a line a network and a column a protocol."""

from collections.abc import Sequence

from ssl_video.apps.table import Row, Table
from ssl_video.apps.table_found import Found
from ssl_video.apps.table_margins import Line, lines_of, mean_of, trained_rows

COLUMNS = {
    "pretext": "own task", "linear": "linear", "knn": "kNN", "retrieval": "retrieval", "finetune": "fine-tuned",
    "alignment": "alignment", "propagation": "propagation",
}  # fmt: skip
"""Protocols in the order of their columns; others follow."""
OVERVIEW_LEGEND = (
    "The trained network, in brackets the untrained one, and the margin between them ± the larger of its two standard "
    "errors; bold where it is more than two of them above zero. What is not measured with all seeds is left out."
)


def overview(table: Table, found: Sequence[Found]) -> list[str]:
    """Markdown of the overview, its lines; of data sets and rows of which nothing is measured there are none."""
    tables: dict[tuple[str, str], list[Line]] = {}
    for row in trained_rows(table):
        for line in lines_of(table, found, row) if row.model is not None else ():
            tables.setdefault((row.section, line.group.name), []).append(line)
    sections = list(dict.fromkeys(section for section, _ in tables))
    order = {
        key: (sections.index(key[0]), list(table.data).index(lines[0].group.data)) for key, lines in tables.items()
    }
    texts: list[str] = []
    for (section, name), lines in sorted(tables.items(), key=lambda item: order[item[0]]):
        if any(line.measured for line in lines):
            texts += [f"## {section and f'{section}: '}{name}", "", *_of_group(lines), ""]
    return [*texts, OVERVIEW_LEGEND, ""] if texts else []


def _of_group(lines: Sequence[Line]) -> list[str]:
    columns = sorted({(line.row.protocol, line.metric) for line in lines if line.measured}, key=_place)
    rows: dict[str, dict[tuple[str, str], Line]] = {}
    for line in lines:
        if line.measured:
            rows.setdefault(label_of(line.row), {})[line.row.protocol, line.metric] = line
    names = [f"{COLUMNS.get(protocol, protocol)}, {metric}" for protocol, metric in columns]
    texts = [f"| | {' | '.join(names)} |", "|" + "---|" * (len(names) + 1)]
    for label, of_row in rows.items():
        cells = [cell(of_row[column]) if column in of_row else "" for column in columns]
        texts.append(f"| {label} | {' | '.join(cells)} |")
    return texts


def _place(column: tuple[str, str]) -> tuple[int, str, str]:
    protocol, metric = column
    order = list(COLUMNS)
    return order.index(protocol) if protocol in order else len(order), protocol, metric


def label_of(row: Row) -> str:
    """What a row's name says before the colon, and behind the first comma after it: "NETWORK: PROTOCOL, CONTROL"."""
    network, _, protocol = row.name.partition(": ")
    _, _, more = protocol.partition(", ")
    return f"{network}, {more}" if more and not more.startswith("chance") else network


def cell(line: Line) -> str:
    """The numbers of a line in one cell."""
    margin = line.margin
    trained, untrained = (mean_of(found, line.metric) for found in (line.own, line.twins or line.own))
    if margin is None:
        return f"{trained:.2f}"
    error = max((e for e in (margin.over_seeds, margin.over_videos) if e is not None), default=None)
    gain = f"{margin.value:+.2f}" + ("" if error is None else f" ± {error:.2f}")
    gain = f"**{gain}**" if margin.beyond.startswith("yes") else gain
    return f"{trained:.2f} ({untrained:.2f}) {gain}"
