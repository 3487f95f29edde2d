"""The rows of a list, block by block, as columns: what ``manifest`` makes of one row, made of many at once."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ssl_video.datasets.columns import Column, text_column
from ssl_video.datasets.listing import MISSING
from ssl_video.datasets.manifest import (
    IN_SHARD,
    INFO_COLUMNS,
    OWN,
    PATHS,
    Row,
    fitting,
    parsed_row,
    separated,
    spelled_path,
    split_of,
)
from ssl_video.members import path_in

Numbered = list[tuple[int, list[str]]]
ReadRow = Callable[[int, list[str]], Row]
ODD = ("\n~", "\\", "//", "/\n", "/./", "/../", "\n./", "\n../", "/.\n", "/..\n", "\n.\n", "\n..\n")
"""In paths, one a line: what may be spelled otherwise on the disk, or stand for another path."""


@dataclass(frozen=True)
class Block:
    """Some rows: their labels in words, the list that each is for, and everything else as columns.

    ``problem_N`` says which rows are files that cannot be used; why, the column ``reason`` says.
    """

    labels: Sequence[tuple[str, ...]]
    test_N: np.ndarray
    problem_N: np.ndarray
    columns: dict[str, Column]
    named_splits: Set[str]

    def __len__(self) -> int:
        return len(self.labels)


def blocks_below(
    lines: Iterable[tuple[int, list[str]]], names: Sequence[str], source: Path, one: ReadRow | None = None
) -> Iterator[Block]:
    """Blocks of rows that have columns with our ``names`` (``columns_named``). Raises UserError with a line's number.

    ``one`` reads a row where those of a block cannot be read at once; by default as below a header.
    """

    def below_header(number: int, cells: list[str]) -> Row:
        fit = fitting(cells, names, source, number)
        return parsed_row(dict(zip(names, fit, strict=True)), source, number)

    read = one or below_header
    for some in _in_parts(lines):
        try:
            block = _at_once([cells for _, cells in some], names, source)
            if one and any(label.startswith("-") for labels in set(block.labels) for label in labels):
                raise ValueError("a negative number, perhaps")
            yield block
        except (ValueError, OverflowError):  # something in it is wrong, or unusual: row by row it is found, or read
            yield block_of([read(number, cells) for number, cells in some], source)


def without_facts(block: Block) -> Block:
    """The same files, and of those that are no copies nothing that an earlier scan found."""
    columns = dict(block.columns)
    copies_N = np.array(list(map(bool, columns["copy_of"].as_list())), bool)
    for name, column in block.columns.items():
        if name in INFO_COLUMNS or name in ("content", "state", "scanned"):
            kept = np.where(copies_N, column.values, 0) if column.ends is None else None
            columns[name] = text_column(_where(copies_N, column.as_list())) if kept is None else Column(kept)
    return replace(block, problem_N=block.problem_N & copies_N, columns=columns)


def _in_parts(lines: Iterable[tuple[int, list[str]]], size: int = 4096) -> Iterator[Numbered]:
    part: Numbered = []
    for line in lines:
        part.append(line)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def block_of(rows: Sequence[Row], source: Path) -> Block:
    """A block of rows that were read one by one."""
    infos = [r.info if not r.reason or r.reason.startswith(MISSING) else None for r in rows]
    texts = {"path": [r.path for r in rows], "group": [r.group for r in rows], "reason": [r.reason for r in rows]}
    texts |= {name: [getattr(r, name) or "" for r in rows] for name in OWN}
    texts |= {name: [getattr(i, name) if i else "" for i in infos] for name in ("codec", "content", "state")}
    numbers = {
        name: np.array([getattr(i, name) if i else 0 for i in infos], _dtype(kind))
        for name, kind in INFO_COLUMNS.items()
        if kind is not str
    }
    scanned_N = np.array([i is not None for i in infos], bool)
    return _block([r.labels for r in rows], [r.split for r in rows], texts, {**numbers, "scanned": scanned_N}, source)


def _at_once(cells: list[list[str]], names: Sequence[str], source: Path) -> Block:
    """The same of rows that are as most are. Raises ValueError, or OverflowError, where one is not."""
    if set(map(len, cells)) != {len(names)}:
        raise ValueError("rows of other lengths")
    given = dict(zip(names, zip(*cells, strict=True), strict=True))
    none = ("",) * len(cells)
    labels, reasons = list(map(_labels, given.get("label", none))), _present(given.get("reason", none))
    known = {said: split_of(said) for said in set(given.get("split", none))}
    if "shard" in given:
        given["path"] = tuple(map(path_in, *(given[name] for name in ("path", *IN_SHARD))))
    if None in known.values() or not all(map(str.strip, given["path"])):
        raise ValueError("a split that is unknown, or no file")
    info = [given.get(name, none) for name in INFO_COLUMNS]
    if any("" in values for values in info) or any(reasons):
        rows = zip(*info, reasons, strict=True)
        scanned_N = np.array([all(row) and not reason for *row, reason in rows], bool)
    else:
        scanned_N = np.ones(len(cells), bool)
    numbers: dict[str, np.ndarray] = {}
    texts = {name: list(given.get(name, none)) for name in ("path", "reason", *OWN)}
    texts["group"], texts["caption"] = _stripped(given.get("group", none)), _stripped(texts["caption"])
    for (name, kind), values in zip(INFO_COLUMNS.items(), info, strict=True):
        if kind is str:
            texts[name] = _where(scanned_N, values)
        else:
            some = values if scanned_N.all() else [v or "0" for v in values]
            numbers[name] = np.where(scanned_N, np.array(list(map(kind, some)), _dtype(kind)), 0)
    texts["content"] = _where(scanned_N, _stripped(given.get("content", none)))
    texts["state"] = _where(scanned_N, given.get("state", none))
    _check_facts(numbers)
    splits = [known[said] or "" for said in given.get("split", none)]
    return _block(labels, splits, texts, {**numbers, "scanned": scanned_N}, source)


def _block(
    labels: Sequence[tuple[str, ...]],
    splits: Sequence[str],
    texts: dict[str, list[str]],
    numbers: dict[str, np.ndarray],
    source: Path,
) -> Block:
    reasons = texts["reason"] = _present(texts["reason"])
    for name in PATHS:
        if any(texts[name]):
            texts[name] = _paths(texts[name], source.parent)
    columns = {name: text_column(values) for name, values in texts.items()}
    columns |= {name: Column(values) for name, values in numbers.items() if name != "scanned"}
    columns["scanned"] = Column(numbers["scanned"].astype(np.uint8))
    test_N = np.array([split in ("test", "val") for split in splits], bool)
    return Block(labels, test_N, np.array(list(map(bool, reasons)), bool), columns, frozenset(filter(None, splits)))


def _paths(cells: list[str], folder: Path) -> list[str]:
    """Relative where they lie below ``folder``; one that may be spelled otherwise is looked for."""
    if _odd(cells):
        cells = [spelled_path(folder, c) if c.strip() and _odd([c]) else c.strip() for c in cells]
    above = f"{folder}/"
    return [cell[len(above) :] if cell.startswith(above) else cell for cell in cells]


def _odd(cells: list[str]) -> bool:
    lines = "\n".join(("", *cells, ""))
    return (
        any(part in lines for part in ODD)
        or lines.count("\n") != len(cells) + 1
        or list(map(str.strip, cells)) != cells
    )


def _check_facts(numbers: dict[str, np.ndarray]) -> None:
    """Raise ValueError for what no scan finds, as ``VideoInfo`` does."""
    for name, values in numbers.items():
        most = {"frames": 2**31, "width": 2**31, "height": 2**31, "pts_start": np.inf}.get(name, np.inf)
        if not (values < most).all() or (name != "pts_start" and not (values >= 0).all()):
            raise ValueError(f"{name} beyond what there is")


def _dtype(kind: type) -> type:
    return np.int64 if kind is int else np.float64


def _present(reasons: Sequence[str]) -> list[str]:
    """A file that was not there may have come back."""
    return ["" if reason.startswith(MISSING) else reason for reason in reasons]


def _stripped(values: Iterable[str]) -> list[str]:
    return list(map(str.strip, values))


def _where(which_N: np.ndarray, values: Sequence[str]) -> list[str]:
    if which_N.all():
        return list(values)
    return [value if wanted else "" for value, wanted in zip(values, which_N.tolist(), strict=True)]


@lru_cache(maxsize=100_000)
def _labels(cell: str) -> tuple[str, ...]:
    return separated(cell)
