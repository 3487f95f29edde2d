"""A csv of ``path[,label]``: with a header, or without one as SlowFast, VideoMAE and V-JEPA write it.

Cells are separated by commas, semicolons, tabs or blanks; names with blanks need one of the first three, or quotes.
Paths are absolute or relative to the csv; a row may name a folder of pictures. Labels are whole numbers or names,
several with ``|`` between them. A first column that counts the rows and empty last columns are passed over. Beside a
``train.csv``, ``test.csv`` (else ``val.csv``) in the same folder is the test list.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ssl_video.datasets.base import Splits
from ssl_video.datasets.listing import csv_lines, lines_of, read_text
from ssl_video.datasets.manifest import (
    Row,
    column,
    header_rows,
    list_name,
    listed_row,
    separated,
    splits_of,
    whole_path,
)
from ssl_video.errors import UserError
from ssl_video.files import there
from ssl_video.video.kinds import is_video_name

Numbered = list[tuple[int, list[str]]]


def load_table(path: Path) -> Splits:
    """The unscanned videos of a csv or a manifest. Raises UserError with the number of a line that is wrong."""
    path = whole_path(path)
    rows = read_rows(path)
    beside = (path.with_name(f"{name}{path.suffix}") for name in ("test", "val"))
    test = next((p for p in beside if p.is_file()), None)
    if path.stem != "train" or test is None or any(row.split for row in rows):
        return splits_of(_whole_numbers(rows), list_name(path))
    both = [replace(r, split="train") for r in rows] + [replace(r, split="test") for r in read_rows(test)]
    return splits_of(_whole_numbers(both), path.parent.name)


def _whole_numbers(rows: Sequence[Row]) -> list[Row]:
    """The rows with classes such as ``1.0``, which pandas makes of 1 beside an empty cell, as whole numbers.

    Only where all classes are whole numbers, and in no list that a scan has written.
    """
    labels = {label for row in rows for label in row.labels}
    if any(row.info for row in rows) or not all(re.fullmatch(r"[0-9]+(\.0+)?", label) for label in labels):
        return list(rows)
    return [replace(row, labels=tuple(label.partition(".")[0] for label in row.labels)) for row in rows]


def read_rows(path: Path) -> list[Row]:
    """One row for each file that the csv lists. Raises UserError with the number of a line that is wrong."""
    text = read_text(path)
    told = re.match(r"sep=(.)\r?\n", text)  # as Excel notes it
    text = text[told.end() :] if told else text
    first = next((line.strip(" ") for line in lines_of(text) if line.strip()), "")
    if not first:
        raise UserError(f"{path} is empty; write a path, or a path and a label, on each line.")
    lines = csv_lines(text, path, told[1] if told else _delimiter(first, path))
    if _is_header(lines[0][1]):
        return header_rows(lines, path)
    lines = _without_index(_without_ends(lines), path)
    number, cells = lines[0]
    if not _names_video(cells[0], path):
        raise UserError(
            f"{path}, line {number}: {cells[0]!r} is neither a video nor the column 'path'; start each line with a "
            f"video, or write the header 'path,label'."
        )
    return [_row(path, number, cells, columns=len(lines[0][1])) for number, cells in lines]


def _is_header(cells: Sequence[str]) -> bool:
    return "path" in map(column, cells)


def _names_video(cell: str, path: Path) -> bool:
    return is_video_name(cell.strip()) or bool(cell.strip() and there(path.parent / cell.strip()))


def _delimiter(first_line: str, path: Path) -> str:
    """What separates the cells. A line that ends in a video's name is a path alone, so nothing does."""
    if is_video_name(first_line.strip().strip('"')):
        return "\t"
    possible = [d for d in "\t,; " if d in first_line]
    for delimiter in possible:
        cells = csv_lines(first_line, path, delimiter)[0][1]
        if _is_header(cells) or any(_names_video(cell, path) for cell in cells[:2]):
            return delimiter
    return possible[0] if possible else "\t"


def _without_ends(lines: Numbered) -> Numbered:
    """Without empty cells at the ends of lines that are longer than the others need."""
    ends = max(max((n for n, c in enumerate(cells, 1) if c.strip()), default=1) for _, cells in lines)
    return [(number, cells[:ends]) for number, cells in lines]


def _without_index(lines: Numbered, path: Path) -> Numbered:
    """Without a first column that counts the rows, where a video follows it in the first one."""
    counts = [cells[0].strip() for _, cells in lines]
    begin = int(counts[0]) if counts[0] in ("0", "1") else -1
    counted = begin >= 0 and counts == [str(n) for n in range(begin, begin + len(counts))]
    if counted and len(lines[0][1]) > 1 and _names_video(lines[0][1][1], path) and not there(path.parent / counts[0]):
        return [(number, cells[1:]) for number, cells in lines]
    return lines


def _row(path: Path, number: int, cells: list[str], columns: int) -> Row:
    if columns > 2 or len(cells) != columns:
        raise UserError(
            f"{path}, line {number}: {len(cells)} columns; write a path, or a path and a label, on every line "
            f"alike, and put a name that holds the separator in quotes."
        )
    label = cells[1].strip() if columns == 2 else ""
    if label.startswith("-") and label[1:].isdecimal():
        raise UserError(f"{path}, line {number}: the label {label} is negative; leave the column out if none is known.")
    return listed_row(Row(cells[0], separated(label)), path, number)
