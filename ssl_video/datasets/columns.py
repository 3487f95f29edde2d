"""Columns of a list: a folder with an array (.npy) for each, mapped into memory, so that all processes share one copy.

``about.json`` says how many rows and which columns there are, and what else was noted. A column of numbers is NAME.npy;
one of texts holds their bytes (UTF-8) one behind the other, one of several numbers a row these, and NAME.ends.npy says
where each row ends. A column that is empty or 0 in every row is not written.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ssl_video.files import aside_of, clear_dead, write_text
from ssl_video.readback import of_type, parsed, read_array, texts
from ssl_video.remote import is_remote

VERSION = 1
"""Raised when the same list makes other columns."""
BLOCK = 4096
"""Rows that are held at a time."""
ABOUT = "about.json"
TEMPORARY = "ssl-video-list"
KINDS = ("number", "numbers", "text")


@dataclass(frozen=True)
class Column:
    """One column, or some rows of one: a number a row, or with ``ends`` bytes of a text or several numbers."""

    values: np.ndarray
    ends: np.ndarray | None = None

    @property
    def kind(self) -> str:
        """One of ``KINDS``."""
        if self.ends is None:
            return "number"
        return "text" if self.values.dtype == np.uint8 else "numbers"

    def bounds(self, places_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the rows at these places begin in ``values``, and their lengths."""
        assert self.ends is not None
        begins_N = np.where(places_N > 0, self.ends[places_N - 1], 0)
        return begins_N, self.ends[places_N] - begins_N

    def take(self, places_N: np.ndarray) -> "Column":
        """The rows at these places. Raises ValueError if the column is damaged."""
        if self.ends is None:
            return Column(self.values[places_N])
        if len(places_N) == 1:  # of one sample: three times as fast
            place = int(places_N[0])
            begin, end = int(self.ends[place - 1]) if place else 0, int(self.ends[place])
            if not 0 <= begin <= end <= len(self.values):
                raise ValueError("a row ends before it begins, or behind the end")
            return Column(self.values[begin:end], np.array([end - begin]))
        begins_N, lengths_N = self.bounds(places_N)
        ends_N = np.cumsum(lengths_N)
        if len(places_N) and (lengths_N.min() < 0 or (begins_N + lengths_N).max() > len(self.values)):
            raise ValueError("a row ends before it begins, or behind the end")
        if len(places_N) and (places_N[1:] == places_N[:-1] + 1).all():  # neighbours, as they lie
            return Column(self.values[begins_N[0] : begins_N[0] + ends_N[-1]], ends_N)
        within = np.arange(ends_N[-1] if len(ends_N) else 0) - np.repeat(ends_N - lengths_N, lengths_N)
        return Column(self.values[np.repeat(begins_N, lengths_N) + within], ends_N)

    def as_list(self) -> list[Any]:
        """Numbers, tuples of numbers or texts."""
        if self.ends is None:
            return self.values.tolist()
        ends = self.ends.tolist()
        bounds = zip([0, *ends], ends, strict=False)
        if self.kind == "numbers":
            numbers = self.values.tolist()
            return [tuple(numbers[a:b]) for a, b in bounds]
        raw = self.values.tobytes()
        if raw.isascii():
            text = raw.decode("ascii")
            return [text[a:b] for a, b in bounds]
        return [raw[a:b].decode("utf-8", "surrogateescape") for a, b in bounds]


def text_column(values: Sequence[str]) -> Column:
    """Names that are not UTF-8 keep their bytes."""
    joined = "".join(values)
    if joined.isascii():
        return _ragged(np.frombuffer(joined.encode("ascii"), np.uint8), map(len, values), len(values))
    raw = [value.encode("utf-8", "surrogateescape") for value in values]
    return _ragged(np.frombuffer(b"".join(raw), np.uint8), map(len, raw), len(raw))


def numbers_column(values: Sequence[Sequence[int]]) -> Column:
    """Several whole numbers a row."""
    flat = np.fromiter(chain.from_iterable(values), np.int64)
    return _ragged(flat, map(len, values), len(values))


def number_column(values: Iterable[float], whole: bool) -> Column:
    """A number a row. Raises OverflowError for a whole one beyond 64 bits."""
    return Column(np.array(list(values), np.int64 if whole else np.float64))


def _ragged(values: np.ndarray, lengths: Iterable[int], rows: int) -> Column:
    return Column(values, np.cumsum(np.fromiter(lengths, np.int64, rows)))


@dataclass(eq=False)
class Columns:
    """A folder of columns as it was opened: the arrays are mapped, and nothing was read."""

    folder: Path
    rows: int
    about: Mapping[str, Any]
    arrays: Mapping[str, Column]

    def take(self, name: str, places_N: np.ndarray) -> Column | None:
        """The rows of a column, None for one that was not written."""
        column = self.arrays.get(name)
        return None if column is None else column.take(places_N)

    def texts(self, name: str, places_N: np.ndarray) -> list[str]:
        """Texts; paths that lie below the folder of their list are whole."""
        column = self.take(name, places_N)
        if column is None:
            return [""] * len(places_N)
        folder = self.about.get("folder", "")
        cells = column.as_list()
        if not folder or name not in self.about.get("paths", ()):
            return cells
        above = folder.rstrip("/")
        return [f"{above}/{cell}" if cell and cell[0] != "/" and not is_remote(cell) else cell for cell in cells]


def _held_open(path: Path) -> np.ndarray:
    return read_array(path, 1).view(np.ndarray)


def open_columns(folder: Path, mapped: Callable[[Path], np.ndarray] = _held_open) -> Columns:
    """The columns of a folder; ``mapped`` opens one file of numbers, and by default holds it open.

    Raises one of ``readback.DAMAGE``, or OSError, if they are not as they were written.
    """
    about = of_type(parsed((folder / ABOUT).read_text("utf-8", "surrogateescape")), dict)
    rows = of_type(about["rows"], int)
    if about["version"] != VERSION or rows < 0:
        raise ValueError(f"it is of version {about['version']}, of {rows} rows")
    texts([about.get("folder", ""), *texts(about.get("paths", []))])
    kinds = of_type(about["columns"], dict)
    arrays = {name: _opened(folder, name, kind, rows, mapped) for name, kind in kinds.items()}
    return Columns(folder, rows, about, arrays)


def _opened(folder: Path, name: str, kind: str, rows: int, mapped: Callable[[Path], np.ndarray]) -> Column:
    if kind not in KINDS or Path(name).name != name:
        raise ValueError(f"there are no columns {name!r} of {kind!r}")
    values = mapped(folder / f"{name}.npy")
    ends = None if kind == "number" else mapped(folder / f"{name}.ends.npy")
    last = rows if ends is None else (int(ends[-1]) if len(ends) else 0)
    if (ends is not None and (len(ends) != rows or ends.dtype != np.int64)) or last != len(values):
        raise ValueError(f"the column {name} has not the length that was noted")
    if (kind == "text") != (values.dtype == np.uint8) and kind != "number":
        raise ValueError(f"the column {name} holds {values.dtype}")
    return Column(values, ends)


class ColumnsWriter:
    """Writes the columns of a new folder block by block; ``close`` makes it whole."""

    def __init__(self, folder: Path):
        self.folder, self.rows = folder, 0
        self._files: dict[str, _File] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, rows: int, block: Mapping[str, Column]) -> None:
        """More rows; a column that is not in ``block`` is empty or 0 in them. Raises OSError."""
        for name, column in block.items():
            written = column.values.any() if column.ends is None else len(column.values)
            if name not in self._files and written:
                self._files[name] = _File(self.folder / name, column)
                self._files[name].skip(self.rows)
        for name, file in self._files.items():
            file.append(block[name]) if name in block else file.skip(rows)
        self.rows += rows

    def close(self, about: Mapping[str, Any]) -> None:
        """Write ``about`` as well. Raises OSError."""
        for file in self._files.values():
            file.close()
        noted = {"version": VERSION, "rows": self.rows, "columns": {n: f.kind for n, f in self._files.items()}}
        write_text(self.folder / ABOUT, json.dumps({**about, **noted}) + "\n")

    def __enter__(self) -> "ColumnsWriter":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.end()


class _File:
    """One column that grows, with its ends where it has such."""

    def __init__(self, path: Path, first: Column):
        self.kind, self.last = first.kind, 0
        self.values = _Array(path.with_name(f"{path.name}.npy"), first.values.dtype)
        self.ends = None if first.ends is None else _Array(path.with_name(f"{path.name}.ends.npy"), np.dtype(np.int64))

    def append(self, column: Column) -> None:
        self.values.append(column.values)
        if self.ends is not None:
            assert column.ends is not None
            self.ends.append(column.ends + self.last)
            self.last += len(column.values)

    def skip(self, rows: int) -> None:
        """Rows that are empty, or 0."""
        for first in range(0, rows, BLOCK):
            count = min(BLOCK, rows - first)
            if self.ends is None:
                self.values.append(np.zeros(count, self.values.dtype))
            else:
                self.ends.append(np.full(count, self.last, np.int64))

    def close(self) -> None:
        self.values.close()
        if self.ends is not None:
            self.ends.close()

    def end(self) -> None:
        self.values.file.close()
        if self.ends is not None:
            self.ends.file.close()


class _Array:
    """An .npy file that grows; its header has room for any length, and is written again at the end."""

    def __init__(self, path: Path, dtype: np.dtype):
        self.dtype, self.length = dtype, 0
        self.file: BinaryIO = path.open("wb")
        self._header()
        self.begin = self.file.tell()

    def _header(self) -> None:
        shape = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self.file, shape)

    def append(self, values: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(values, self.dtype).data)
        self.length += len(values)

    def close(self) -> None:
        self.file.seek(0)
        self._header()
        assert self.file.tell() == self.begin
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder among the system's temporary ones, which is removed if writing in it fails; see ``owned``.

    What processes that were killed have left there is removed, too. Raises OSError.
    """
    folder = aside_of(Path(tempfile.gettempdir()) / TEMPORARY)
    clear_dead(folder.parent, TEMPORARY)
    folder.mkdir()
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def owned(folder: Path) -> Columns:
    """Open columns in a temporary folder, or below it; they are removed when nobody in this process needs them."""
    columns = open_columns(folder)
    weakref.finalize(columns, _remove, folder, os.getpid())
    return columns


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() != owner:  # a worker that was forked from it
        return
    shutil.rmtree(folder, ignore_errors=True)
    above = folder.parent
    if above.name.startswith(f".{TEMPORARY}") and not any(path.is_dir() for path in above.iterdir()):
        shutil.rmtree(above, ignore_errors=True)


def digests(values: Iterable[bytes], count: int) -> np.ndarray:
    """(N,) 64 bits of each, the same in every process."""
    each = (int.from_bytes(hashlib.blake2b(value, digest_size=8).digest(), "little") for value in values)
    return np.fromiter(each, np.uint64, count)


def blocks(places_N: np.ndarray | None, rows: int) -> Iterator[np.ndarray]:
    """The places of ``rows`` rows, ``BLOCK`` at a time; None: all."""
    for first in range(0, rows, BLOCK):
        last = min(first + BLOCK, rows)
        yield np.arange(first, last) if places_N is None else places_N[first:last].astype(np.int64)
