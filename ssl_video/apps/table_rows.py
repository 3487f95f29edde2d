"""The rows of a table's file: one that is written once for several measures becomes a row for each."""

from collections.abc import Mapping
from typing import Any

from ssl_video.errors import UserError

QUICK_MINUTES = 2
"""Of a training, in a quick table."""


def written_rows(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of a file's content, of one with ``each`` a row for each entry of that list.

    It has what both say, the entry first, and is called ``ROW: ENTRY`` by their names. Raises UserError.
    """
    rows: list[Mapping[str, Any]] = []
    for row in _named(content.get("rows"), "The table needs 'rows'"):
        if "each" not in row:
            rows.append(row)
            continue
        shared = {key: value for key, value in row.items() if key != "each"}
        for measure in _named(row["each"], f"Row {row['name']!r} needs 'each'"):
            rows.append({**shared, **measure, "name": f"{row['name']}: {measure['name']}"})
    return rows


def _named(rows: object, needed: str) -> list[Mapping[str, Any]]:
    if not isinstance(rows, list) or not rows or not all(isinstance(r, Mapping) and "name" in r for r in rows):
        raise UserError(f"{needed}, a list of mappings with a name each.")
    return rows


def in_a_hurry(content: Mapping[str, Any]) -> dict[str, Any]:
    """A table's content with one seed and split, ``QUICK_MINUTES`` of training, and without the rows not ``quick``.

    Trainings of a stated number of steps stay as they are, and ``quick_options`` stand over a row's own. The title says
    so.
    """
    rows = []
    for row in written_rows(content):
        given = row.get("pretrain", {})
        hurried = {**given, "minutes": QUICK_MINUTES} if "minutes" in given else given
        own = row
        if isinstance(more := row.get("quick_options"), Mapping):
            own = {**row, "options": {**dict(row.get("options") or {}), **more}}
        rows += [{**own, "pretrain": hurried}] if row.get("quick", True) else []
    data = {name: _first_split(value) for name, value in dict(content.get("data", {})).items()}
    title = f"{content.get('title', 'Benchmark')} (quick: one seed, {QUICK_MINUTES} minutes, not a result)"
    return {**content, "rows": rows, "data": data, "seeds": 1, "title": title}


def _first_split(data: Any) -> Any:
    if not isinstance(data, Mapping) or not isinstance(data.get("splits"), list):
        return data
    return {**data, "splits": data["splits"][:1], "seed_by_split": False}
