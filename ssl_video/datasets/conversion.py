"""From a csv, or a table of parquet, to columns: read line by line, written block by block."""

import codecs
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from ssl_video.datasets.base import PATHS, Splits, VideoList, VideoRows
from ssl_video.datasets.cells import Block, blocks_below, without_facts
from ssl_video.datasets.columns import ABOUT, Column, ColumnsWriter, numbers_column, open_columns, owned
from ssl_video.datasets.listing import blank_before_quotes, class_names, csv_records, leaks, shortcomings
from ssl_video.datasets.manifest import Row, columns_named, list_name
from ssl_video.datasets.parquet import parquet_lines
from ssl_video.datasets.table import (
    SEPARATOR,
    are_whole_numbers,
    check_first,
    counts_up,
    delimiter_of,
    first_line,
    is_header,
    may_count,
    plain_row,
    test_beside,
)
from ssl_video.errors import UserError
from ssl_video.files import write_text
from ssl_video.readback import of_type, parsed, texts
from ssl_video.video.info import Problem

Lines = Iterator[tuple[int, list[str]]]
LISTS = ("train", "test")
UNUSABLE = "unusable"


def files_of(path: Path) -> list[Path]:
    """The list, and the test list that lies beside it."""
    test = test_beside(path)
    return [path] if test is None else [path, test]


def open_lists(folder: Path, ours: bool = False) -> Splits:
    """What ``convert`` wrote; ``ours``: in a temporary folder. Raises one of ``readback.DAMAGE``, or OSError."""
    about = of_type(parsed((folder / ABOUT).read_text("utf-8", "surrogateescape")), dict)
    classes, open_one = tuple(texts(about["classes"])), owned if ours else open_columns
    unusable = open_one(folder / UNUSABLE)
    every = np.arange(unusable.rows)
    problems = list(map(Problem, unusable.texts("path", every), unusable.texts("reason", every)))
    tested = unusable.take("test", every)
    tested_N = np.zeros(unusable.rows, bool) if tested is None else tested.values.astype(bool)

    def one(name: str, title: str) -> VideoList:
        own = tuple(problems[n] for n in np.flatnonzero(tested_N == (name == "test")))
        return VideoList(of_type(title, str), VideoRows(open_one(folder / name)), classes, own)

    lists = {name: one(name, title) for name, title in of_type(about["names"], dict).items()}
    return Splits(lists["train"], lists.get("test"), tuple(texts(about["warnings"])))


def convert(path: Path, folder: Path, facts: bool = True) -> None:
    """Write the lists of a table into ``folder``, a folder of columns each. Raises UserError, OSError.

    Without ``facts``, nothing that an earlier scan found.
    """
    lists, files = _Lists(), files_of(path)
    with ExitStack() as until_the_end:
        writers = {n: until_the_end.enter_context(ColumnsWriter(folder / n)) for n in (*LISTS, UNUSABLE)}

        def add(blocks: Iterable[Block]) -> None:
            for block in blocks:
                lists.add(block if facts else without_facts(block), writers)

        add(_blocks(path))
        beside = len(files) > 1 and not lists.named_splits
        if beside:
            add(replace(block, test_N=np.ones(len(block), bool)) for block in _blocks(files[1]))
        name = path.parent.name if beside else list_name(path)
        if {"val", "test"} <= lists.named_splits:
            raise UserError(
                f"{name} has rows for validation and others for testing; leave out those that are not to be tested on."
            )
        if not lists.rows["train"]:
            raise UserError(
                f"No line of {name} is for training; write 'train' in the column 'split' of those that are."
            )
        for writer in writers.values():
            writer.close({"folder": str(path.parent), "paths": PATHS})
    names = {"train": name}
    if lists.rows["test"]:
        names = {"train": f"{name} train", "test": f"{name} test"}
    about = {"names": names, "classes": _number_classes(folder, lists), "warnings": []}
    write_text(folder / ABOUT, json.dumps(about) + "\n")
    splits = open_lists(folder)
    write_text(folder / ABOUT, json.dumps({**about, "warnings": shortcomings(splits) + leaks(splits)}) + "\n")


class _Lists:
    """What is known of the rows so far: how many there are for each list, and the numbers of their labels."""

    def __init__(self) -> None:
        self.rows = dict.fromkeys(LISTS, 0)
        self.numbers: dict[str, int] = {}
        self.scanned = False
        self.named_splits: set[str] = set()
        self._known: dict[tuple[str, ...], tuple[int, ...]] = {(): ()}

    def add(self, block: Block, writers: dict[str, ColumnsWriter]) -> None:
        """Write the rows to the lists that they are for; labels are numbered as they come."""
        for labels in dict.fromkeys(block.labels):
            if labels not in self._known:
                self._known[labels] = tuple(self.numbers.setdefault(n, len(self.numbers)) for n in labels)
        columns = {n: c for n, c in block.columns.items() if n != "reason"}
        columns["labels"] = numbers_column([self._known[labels] for labels in block.labels])
        of_problems = {n: block.columns[n] for n in ("path", "reason")} | {
            "test": Column(block.test_N.astype(np.uint8))
        }
        for name, which_N, own in (
            ("train", ~block.test_N & ~block.problem_N, columns),
            ("test", block.test_N & ~block.problem_N, columns),
            (UNUSABLE, block.problem_N, of_problems),
        ):
            places_N = np.flatnonzero(which_N)
            if len(places_N):
                some = own if len(places_N) == len(block) else {n: c.take(places_N) for n, c in own.items()}
                writers[name].add(len(places_N), some)
        tested = int(block.test_N.sum())
        self.rows["train"] += len(block) - tested
        self.rows["test"] += tested
        self.scanned |= bool(block.columns["scanned"].values.any())
        self.named_splits |= block.named_splits


def _number_classes(folder: Path, lists: _Lists) -> tuple[str, ...]:
    """The classes in their order; the labels that were written get the numbers that they have in it."""
    said = {label: label for label in lists.numbers}
    if not lists.scanned and are_whole_numbers(said):
        said = {label: label.partition(".")[0] for label in said}
    classes = class_names(said.values())
    places = {name: place for place, name in enumerate(classes)}
    numbers = np.array([places[said[label]] for label in lists.numbers], np.int64)
    for name in LISTS:
        file = folder / name / "labels.npy"
        if file.is_file():
            labels = np.load(file, "r+")
            for first in range(0, len(labels), 1 << 20):
                labels[first : first + (1 << 20)] = numbers[labels[first : first + (1 << 20)]]
            labels.flush()
    if not lists.rows["test"]:
        shutil.rmtree(folder / "test")
    return classes


def _blocks(path: Path) -> Iterator[Block]:
    """The rows of one file. Raises UserError with the number of a line that is wrong."""
    if path.suffix.lower() == ".parquet":
        lines = parquet_lines(path)
        yield from blocks_below(lines, columns_named(next(lines)[1], str(path)), path)
        return
    written = _Csv(path)
    lines = written.lines()
    number, first = next(lines)
    if is_header(first):
        yield from blocks_below(lines, columns_named(first, f"{path}, line {number}"), path)
        return
    ends = max(max((n for n, c in enumerate(cells, 1) if c.strip()), default=1) for _, cells in written.lines())
    begin = int(may_count(first[:ends], path) and counts_up(cells[0] for _, cells in written.lines()))
    columns = len(first[begin:ends])
    check_first(path, number, first[begin:ends])

    def one(number: int, cells: list[str]) -> Row:
        return plain_row(path, number, cells, columns)

    cut = ((number, cells[begin:ends]) for number, cells in chain([(number, first)], lines))
    yield from blocks_below(cut, ("path", "label")[:columns] if columns <= 2 else (), path, one)


class _Csv:
    """How a csv is written, found by reading it once. Raises UserError."""

    def __init__(self, path: Path):
        self.path = path
        with path.open("rb") as file:
            utf_16 = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        self.encoding = "utf-16" if utf_16 else "utf-8-sig"
        self.told = SEPARATOR.match(next(self._text(), ""))
        first = first_line(self._rest(), path)
        self.delimiter = self.told[1] if self.told else delimiter_of(first, path)
        with path.open("rb") as file:
            quotes = any(b'"' in block for block in iter(lambda: file.read(1 << 20), b""))
        self.skip_blanks = quotes and any(blank_before_quotes(line, self.delimiter) for line in self._rest())

    def lines(self) -> Lines:
        """(number, cells) of every line that is not blank."""
        return csv_records(self._rest(), self.path, self.delimiter, self.skip_blanks)

    def _rest(self) -> Iterator[str]:
        lines = self._text()
        if self.told:
            next(lines, "")
        return lines

    def _text(self) -> Iterator[str]:
        errors = "strict" if self.encoding == "utf-16" else "surrogateescape"
        try:
            with self.path.open(encoding=self.encoding, errors=errors, newline="") as file:
                yield from file
        except UnicodeDecodeError:
            raise UserError(f"{self.path} is no text in UTF-16, as its beginning says; save it as UTF-8.") from None
