"""A csv of ``path[,label]``: with a header, or without one as SlowFast, VideoMAE and V-JEPA write it; or parquet.

Cells are separated by commas, semicolons, tabs or blanks; names with blanks need one of the first three, or quotes.
Paths are absolute or relative to the csv; a row may name a folder of pictures. Labels are whole numbers or names,
several with ``|`` between them. A first column that counts the rows and empty last columns are passed over. Beside a
``train.csv``, ``test.csv`` (else ``val.csv``) in the same folder is the test list.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ssl_video.datasets.base import Splits
from ssl_video.datasets.listing import csv_lines, lines_of, read_text
from ssl_video.datasets.manifest import (
    Row,
    check_named,
    column,
    header_rows,
    list_name,
    listed_row,
    separated,
    splits_of,
    whole_path,
)
from ssl_video.datasets.parquet import parquet_lines
from ssl_video.errors import UserError
from ssl_video.files import there
from ssl_video.video.kinds import is_video_name

Numbered = list[tuple[int, list[str]]]
SEPARATOR = re.compile(r"sep=(.)\r?\n")
"""As Excel notes it in a first line."""


def load_table(path: Path) -> Splits:
    """The unscanned videos of a csv or a manifest. Raises UserError with the number of a line that is wrong."""
    path = whole_path(path)
    rows = read_rows(path)
    test = test_beside(path)
    if test is None or any(row.split for row in rows):
        return splits_of(_whole_numbers(rows), list_name(path))
    both = [replace(r, split="train") for r in rows] + [replace(r, split="test") for r in read_rows(test)]
    return splits_of(_whole_numbers(both), path.parent.name)


def test_beside(path: Path) -> Path | None:
    """The test list that lies beside a list called ``train``."""
    beside = (path.with_name(f"{name}{path.suffix}") for name in ("test", "val"))
    return next((p for p in beside if p.is_file()), None) if path.stem == "train" else None


def _whole_numbers(rows: Sequence[Row]) -> list[Row]:
    """The rows with classes such as ``1.0``, which pandas makes of 1 beside an empty cell, as whole numbers.

    Only where all classes are whole numbers, and in no list that a scan has written.
    """
    labels = {label for row in rows for label in row.labels}
    if any(row.info for row in rows) or not are_whole_numbers(labels):
        return list(rows)
    return [replace(row, labels=tuple(label.partition(".")[0] for label in row.labels)) for row in rows]


def are_whole_numbers(labels: Iterable[str]) -> bool:
    """True for 1 and 1.0."""
    return all(re.fullmatch(r"[0-9]+(\.0+)?", label) for label in labels)


def read_rows(path: Path) -> list[Row]:
    """One row for each file that the csv lists. Raises UserError with the number of a line that is wrong."""
    if path.suffix.lower() == ".parquet":
        return header_rows(list(parquet_lines(path)), path)
    text = read_text(path)
    told = SEPARATOR.match(text)
    text = text[told.end() :] if told else text
    first = first_line(lines_of(text), path)
    lines = csv_lines(text, path, told[1] if told else delimiter_of(first, path))
    if is_header(lines[0][1]):
        return header_rows(lines, path)
    lines = _without_index(_without_ends(lines), path)
    check_first(path, *lines[0])
    rows = (plain_row(path, number, cells, columns=len(lines[0][1])) for number, cells in lines)
    return [listed_row(row, path) for row in rows]


def first_line(lines: Iterable[str], path: Path) -> str:
    """The first that is not blank. Raises UserError if all are."""
    first = next((line.strip(" ") for line in lines if line.strip()), "")
    if not first:
        raise UserError(f"{path} is empty; write a path, or a path and a label, on each line.")
    return first


def is_header(cells: Sequence[str]) -> bool:
    """True if these cells name columns, one of them the files."""
    return "path" in map(column, cells)


def names_video(cell: str, path: Path) -> bool:
    """True if a cell is the name of a video, or a file beside the list."""
    return is_video_name(cell.strip()) or bool(cell.strip() and there(path.parent / cell.strip()))


def delimiter_of(first_line: str, path: Path) -> str:
    """What separates the cells. A line that ends in a video's name is a path alone, so nothing does."""
    if is_video_name(first_line.strip().strip('"')):
        return "\t"
    possible = [d for d in "\t,; " if d in first_line]
    for delimiter in possible:
        cells = csv_lines(first_line, path, delimiter)[0][1]
        if is_header(cells) or any(names_video(cell, path) for cell in cells[:2]):
            return delimiter
    return possible[0] if possible else "\t"


def _without_ends(lines: Numbered) -> Numbered:
    """Without empty cells at the ends of lines that are longer than the others need."""
    ends = max(max((n for n, c in enumerate(cells, 1) if c.strip()), default=1) for _, cells in lines)
    return [(number, cells[:ends]) for number, cells in lines]


def _without_index(lines: Numbered, path: Path) -> Numbered:
    """Without a first column that counts the rows, where a video follows it in the first one."""
    if may_count(lines[0][1], path) and counts_up(cells[0] for _, cells in lines):
        return [(number, cells[1:]) for number, cells in lines]
    return lines


def counts_up(cells: Iterable[str]) -> bool:
    """True if the cells are 0, 1, 2 and so on, or 1, 2, 3."""
    counts = (cell.strip() for cell in cells)
    first = next(counts, "")
    return first in ("0", "1") and all(cell == str(n) for n, cell in enumerate(counts, int(first) + 1))


def may_count(first: Sequence[str], path: Path) -> bool:
    """True if the first cell of a first line may be the number of the row, since a video follows it."""
    return len(first) > 1 and names_video(first[1], path) and not there(path.parent / first[0].strip())


def check_first(path: Path, number: int, cells: Sequence[str]) -> None:
    """Raise UserError if the first line of a list without a header names no video."""
    if not names_video(cells[0], path):
        raise UserError(
            f"{path}, line {number}: {cells[0]!r} is neither a video nor the column 'path'; start each line with a "
            f"video, or write the header 'path,label'."
        )


def plain_row(path: Path, number: int, cells: list[str], columns: int) -> Row:
    """One line of a list without a header, as it is written. Raises UserError with its number."""
    if columns > 2 or len(cells) != columns:
        raise UserError(
            f"{path}, line {number}: {len(cells)} columns; write a path, or a path and a label, on every line "
            f"alike, and put a name that holds the separator in quotes."
        )
    label = cells[1].strip() if columns == 2 else ""
    if label.startswith("-") and label[1:].isdecimal():
        raise UserError(f"{path}, line {number}: the label {label} is negative; leave the column out if none is known.")
    row = Row(cells[0], separated(label))
    check_named(row, path, number)
    return row
