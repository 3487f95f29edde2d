"""What was measured for a table: in memory, and in a small file from which the table is printed again anywhere."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ssl_video.apps.table import Entry, Table, named, recipe_of, referred_by
from ssl_video.errors import UserError, nearest
from ssl_video.eval.results import Result
from ssl_video.files import write_text
from ssl_video.readback import numbered, of_type, parsed, reading, texts

DIGITS = 4
"""Of the numbers of single videos in the file; those of whole lists have two more."""
MISSING = "-"


@dataclass(frozen=True)
class Found:
    """The result of an entry, and what its network's training took; None for what no training of ours made.

    ``of_videos``: by the metrics that the row shows, what each test video has of them.
    """

    entry: Entry
    result: Result
    minutes: float | None = None
    clips: int | None = None
    of_videos: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def digest_of(content: Any) -> str:
    """Eight letters and digits that are others if the content is another."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:8]


def key_of(entry: Entry, table: Table) -> str:
    """What the number of an entry depends on, wherever its data lie: a row of other options has another key."""
    row = entry.row
    what: list[Any] = [row.model, row.protocol, row.preset, dict(row.options), dict(row.pretrain), row.pretrain_on]
    for name in (entry.data, *([] if row.pretrain_on is None else [row.pretrain_on])):
        what.append({**table.data[name].key, "spec": None})
    what.append(table.recipes.get(recipe_of(row)))
    return digest_of([*what, *(key_of(replace(entry, row=named(table, n)), table) for n in referred_by(row))])


def write_stored(path: Path, table: Table, found: Sequence[Found]) -> None:
    """Write what ``read_stored`` reads: an entry a line, videos by their names below the folder of their set."""
    videos = _videos(found)
    lines = [json.dumps({"videos": {place: list(names.values()) for place, names in videos.items()}}, **_COMPACT)]
    for one in found:
        e, r = one.entry, one.result
        content: dict[str, Any] = {"row": e.row.name, "key": key_of(e, table)}
        content |= {"data": e.data, "split": e.split, "seed": e.seed}
        content["metrics"] = {name: round(value, DIGITS + 2) for name, value in r.metrics.items()}
        content |= {"counts": r.counts, "left_out": len(r.skipped), "seen": len(r.seen) or int(r.transductive)}
        content |= {"supervision": r.supervision} if r.supervision else {}
        content |= {"minutes": None if one.minutes is None else round(one.minutes, 2), "clips": one.clips}
        names = videos[_place(e)]
        content["of_videos"] = {metric: _packed(names, numbers) for metric, numbers in one.of_videos.items()}
        lines.append(json.dumps(content, **_COMPACT))
    write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")


_COMPACT: Mapping[str, Any] = {"separators": (",", ":"), "ensure_ascii": False}


def _place(entry: Entry) -> str:
    return f"{entry.data} split {entry.split}"


def _videos(found: Sequence[Found]) -> dict[str, dict[str, str]]:
    """For each data set and split the test videos, and what each is called in the file."""
    paths: dict[str, dict[str, None]] = {}
    for one in found:
        of_place = paths.setdefault(_place(one.entry), {})
        for numbers in one.of_videos.values():
            of_place |= dict.fromkeys(numbers)
    return {place: _names(sorted(of_place)) for place, of_place in paths.items()}


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Paths below the folder that all of them share; what is no whole path is a name already."""
    whole = {path: Path(path) for path in paths if Path(path).is_absolute()}
    root = os.path.commonpath([path.parent for path in whole.values()]) if whole else ""
    return {path: os.path.relpath(whole[path], root) if path in whole else path for path in paths}


def _packed(names: Mapping[str, str], numbers: Mapping[str, float]) -> str | list[float | None]:
    """The numbers in the order of the names; hits and misses as 1 and 0 in a word."""
    values = [numbers.get(path) for path in names]
    if all(value in (0, 1, None) for value in values):
        return "".join(MISSING if value is None else str(int(value)) for value in values)
    return [None if value is None else round(value, DIGITS) for value in values]


def _unpacked(names: Sequence[str], packed: str | list[float | None]) -> dict[str, float]:
    if isinstance(packed, str):
        values: Sequence[float | None] = [None if one == MISSING else float(one) for one in packed]
    else:
        values = of_type(packed, list)
    return numbered({name: v for name, v in zip(names, values, strict=True) if v is not None})


def read_stored(path: Path, table: Table) -> tuple[list[Found], list[str]]:
    """What the file holds of the table's rows, and the names of rows whose numbers are of another configuration.

    Raises UserError if it is not there, damaged, or of another table.
    """
    rows = {row.name: row for row in table.rows}
    found: list[Found] = []
    others: dict[str, None] = {}
    with reading(path, "name the results.json of a measured table by --from"):
        head, *entries = of_type(parsed(path.read_text("utf-8")), list)
        for one in entries:
            row = rows.get(of_type(one["row"], str))
            if row is None or one["data"] not in table.data:
                others[one["row"]] = None
                continue
            entry = Entry(row, one["data"], of_type(one["split"], int), of_type(one["seed"], int))
            if one["key"] != key_of(entry, table):
                others[one["row"]] = None
                continue
            names = texts(head["videos"][_place(entry)])
            found.append(_found(entry, one, names))
    if not found and others:
        raise UserError(
            f"{path} holds no row of this table as it is now; {nearest(next(iter(others)), rows)}, or measure it again."
        )
    return found, list(others)


def _found(entry: Entry, one: Mapping[str, Any], names: Sequence[str]) -> Found:
    left_out = [{"path": "", "reason": ""}] * of_type(one["left_out"], int)
    seen = {str(n): "" for n in range(of_type(one["seen"], int))}
    result = Result(
        entry.row.protocol,
        numbered(one["metrics"]),
        counts={name: of_type(count, int) for name, count in one["counts"].items()},
        split=entry.split,
        seed=entry.seed,
        skipped=left_out,
        seen=seen,
        transductive=bool(seen),
        supervision=of_type(one.get("supervision", ""), str),
    )
    budget = numbered({name: one[name] for name in ("minutes", "clips") if one[name] is not None})
    clips = budget.get("clips")
    of_videos = {metric: _unpacked(names, packed) for metric, packed in one["of_videos"].items()}
    return Found(entry, result, budget.get("minutes"), None if clips is None else int(clips), of_videos)
