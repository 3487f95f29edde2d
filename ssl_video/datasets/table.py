"""A csv of ``path[,label]``: with a header, or without one as SlowFast, VideoMAE and V-JEPA write it.

Cells are separated by commas, tabs or blanks; names with blanks need one of the other two, or quotes. Paths are
absolute or relative to the csv. Labels are whole numbers or names, several with ``|`` between them. Beside a
``train.csv``, ``test.csv`` (else ``val.csv``) in the same folder is the test list.
"""

from dataclasses import replace
from pathlib import Path

from ssl_video.datasets.base import Splits
from ssl_video.datasets.listing import csv_lines, is_video_name, read_text
from ssl_video.datasets.manifest import Row, header_rows, list_name, listed_row, separated, splits_of, whole_path
from ssl_video.errors import UserError


def load_table(path: Path) -> Splits:
    """The unscanned videos of a csv or a manifest. Raises UserError with the number of a line that is wrong."""
    path = whole_path(path)
    rows = read_rows(path)
    beside = (path.with_name(f"{name}{path.suffix}") for name in ("test", "val"))
    test = next((p for p in beside if p.is_file()), None)
    if path.stem != "train" or test is None or any(row.split for row in rows):
        return splits_of(rows, list_name(path))
    both = [replace(r, split="train") for r in rows] + [replace(r, split="test") for r in read_rows(test)]
    return splits_of(both, path.parent.name)


def read_rows(path: Path) -> list[Row]:
    """One row for each file that the csv lists. Raises UserError with the number of a line that is wrong."""
    text = read_text(path)
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if not first:
        raise UserError(f"{path} is empty; write a path, or a path and a label, on each line.")
    lines = csv_lines(text, path, _delimiter(first))
    if "path" in (c.strip().lower() for c in lines[0][1]):
        return header_rows(lines, path)
    number, cells = lines[0]
    if not (is_video_name(cells[0].strip()) or (path.parent / cells[0].strip()).is_file()):
        raise UserError(
            f"{path}, line {number}: {cells[0]!r} is neither a video nor the column 'path'; start each line with a "
            f"video, or write the header 'path,label'."
        )
    return [_row(path, number, cells, columns=len(lines[0][1])) for number, cells in lines]


def _delimiter(first_line: str) -> str:
    """What separates the cells. A line that ends in a video's name is a path alone, so nothing does."""
    if is_video_name(first_line.strip('"')):
        return "\t"
    return next((d for d in "\t, " if d in first_line), "\t")


def _row(path: Path, number: int, cells: list[str], columns: int) -> Row:
    if columns > 2 or len(cells) != columns:
        raise UserError(
            f"{path}, line {number}: {len(cells)} columns; write a path, or a path and a label, on every line "
            f"alike, and put a name that holds the separator in quotes."
        )
    video, label = cells[0].strip(), cells[1].strip() if columns == 2 else ""
    if label.startswith("-") and label[1:].isdecimal():
        raise UserError(f"{path}, line {number}: the label {label} is negative; leave the column out if none is known.")
    return listed_row(Row(video, separated(label)), path, number)
