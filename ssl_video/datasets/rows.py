"""Rows of columns as a sequence: each thing is made when it is asked for."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from ssl_video.datasets.columns import Column, Columns, ColumnsWriter, blocks, digests, open_columns
from ssl_video.errors import UserError
from ssl_video.readback import DAMAGE, in_short

T = TypeVar("T", covariant=True)
Self = TypeVar("Self", bound="Rows[Any]")


class Rows(Sequence[T]):
    """Some rows of columns, in an order of their own.

    To another process goes the name of the folder, with the places; the columns are mapped there at the first use.

    Args:
        columns: opened, or the folder that holds them and the number of its rows.
        places_N: which rows; None: all.
        constants: numbers that all rows have in the place of their column's.

    Raises UserError wherever a row is asked for, if the columns are damaged.
    """

    def __init__(
        self,
        columns: Columns | tuple[Path, int],
        places_N: np.ndarray | None = None,
        constants: Mapping[str, Any] | None = None,
    ):
        self._columns, self.places_N, self.constants = columns, places_N, dict(constants or {})
        self._rows = columns.rows if isinstance(columns, Columns) else columns[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ((self.folder, self._rows), self.places_N, self.constants)

    @property
    def folder(self) -> Path:
        """Where the columns lie."""
        return self._columns.folder if isinstance(self._columns, Columns) else self._columns[0]

    @property
    def columns(self) -> Columns:
        """The columns, opened."""
        if not isinstance(self._columns, Columns):
            try:
                self._columns = open_columns(self.folder)
            except (*DAMAGE, OSError) as error:
                raise self._damaged(error) from None
        return self._columns

    def _damaged(self, error: BaseException) -> UserError:
        return UserError(f"The list in {self.folder} is damaged, or cannot be seen from here ({in_short(error)}).")

    @abstractmethod
    def _made(self, places_N: np.ndarray) -> Iterable[T]:
        """The things of these rows of the columns."""

    def made(self, places_N: np.ndarray) -> list[T]:
        """The things of these rows of the columns, whichever of them are chosen."""
        try:
            return list(self._made(places_N))
        except (*DAMAGE, OSError) as error:
            raise self._damaged(error) from None

    def __len__(self) -> int:
        return self._rows if self.places_N is None else len(self.places_N)

    @overload
    def __getitem__(self, number: int) -> T: ...
    @overload
    def __getitem__(self: Self, number: slice) -> Self: ...
    def __getitem__(self, number: int | slice) -> Any:
        if isinstance(number, slice):
            return self.take(np.arange(*number.indices(len(self))))
        place = range(len(self))[number]
        return self.made(np.array([place if self.places_N is None else int(self.places_N[place])]))[0]

    def __iter__(self) -> Iterator[T]:
        for places_N in self.blocks():
            yield from self.made(places_N)

    def __eq__(self, other: object) -> bool:
        if self is other or (isinstance(other, Rows) and self.same_rows(other)):
            return True
        if not isinstance(other, Rows | tuple):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def same_rows(self, other: "Rows[Any]") -> bool:
        """True if they are the same rows of the same folder; others may be equal, too."""
        same_places = self.places_N is other.places_N or (
            self.places_N is not None and other.places_N is not None and np.array_equal(self.places_N, other.places_N)
        )
        return self.folder == other.folder and same_places and self.constants == other.constants

    def __add__(self, other: Iterable[Any]) -> tuple[Any, ...]:
        return (*self, *other)

    def __radd__(self, other: Iterable[Any]) -> tuple[Any, ...]:
        return (*other, *self)

    def take(self: Self, places_N: np.ndarray) -> Self:
        """Those at these places, of 32 bits where that is enough."""
        chosen_N = places_N if self.places_N is None else self.places_N[places_N]
        small = self._rows <= np.iinfo(np.uint32).max
        return type(self)(self._columns, chosen_N.astype(np.uint32 if small else np.int64), self.constants)

    def having(self: Self, **constants: float) -> Self:
        """The same rows with other numbers, the same for all."""
        return type(self)(self._columns, self.places_N, {**self.constants, **constants})

    def blocks(self) -> Iterator[np.ndarray]:
        """Places in the columns, some at a time."""
        return blocks(self.places_N, len(self))

    # whole columns

    def numbers(self, name: str) -> np.ndarray:
        """(N,) of a column of numbers."""
        if name in self.constants or name not in self.columns.arrays:
            return np.full(len(self), self.constants.get(name, 0))
        values = self.columns.arrays[name].values
        return values if self.places_N is None else values[self.places_N]

    def texts(self, name: str) -> Iterator[str]:
        """One after the other; paths are whole."""
        for places_N in self.blocks():
            yield from self.texts_at(name, places_N)

    def texts_at(self, name: str, places_N: np.ndarray) -> list[str]:
        """Texts of these rows of the columns."""
        return self.columns.texts(name, places_N)

    def has(self, name: str) -> bool:
        """False if a column is empty, or 0, in all rows, as far as can be told without looking at them."""
        return bool(self.constants[name]) if name in self.constants else name in self.columns.arrays

    def lengths(self, name: str) -> np.ndarray:
        """(N,) bytes of the texts, or how many numbers each row has."""
        return self._of_blocks(name, lambda column, places_N: column.bounds(places_N)[1], 0)

    def firsts(self, name: str) -> np.ndarray:
        """(N,) the first number of each row, -1 where there is none."""

        def first(column: Column, places_N: np.ndarray) -> np.ndarray:
            begins_N, lengths_N = column.bounds(places_N)
            within = np.minimum(begins_N, max(0, len(column.values) - 1))
            return np.where(lengths_N > 0, column.values[within], -1)

        return self._of_blocks(name, first, -1)

    def text_is(self, name: str, text: str) -> np.ndarray:
        """(N,) whether the text is this one."""
        wanted = np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)

        def same(column: Column, places_N: np.ndarray) -> np.ndarray:
            begins_N, lengths_N = column.bounds(places_N)
            found_N = lengths_N == len(wanted)
            at = begins_N[found_N, None] + np.arange(len(wanted))
            found_N[found_N] = (column.values[at] == wanted).all(1)
            return found_N

        return self._of_blocks(name, same, text == "").astype(bool)

    def digests(self, name: str) -> np.ndarray:
        """(N,) 64 bits of each text, or of the numbers of each row."""

        def one(column: Column, places_N: np.ndarray) -> np.ndarray:
            taken = column.take(places_N)
            assert taken.ends is not None
            raw, size, ends = taken.values.tobytes(), taken.values.itemsize, taken.ends.tolist()
            return digests((raw[a * size : b * size] for a, b in zip([0, *ends], ends, strict=False)), len(ends))

        return self._of_blocks(name, one, int(digests([b""], 1)[0]))

    def _of_blocks(self, name: str, function: Any, otherwise: Any) -> np.ndarray:
        column = self.columns.arrays.get(name)
        if column is None or len(self) == 0:
            return np.full(len(self), otherwise)
        try:
            return np.concatenate([function(column, places_N) for places_N in self.blocks()])
        except (*DAMAGE, OSError) as error:
            raise self._damaged(error) from None


def write_rows(folder: Path, rows: Rows[Any], about: Mapping[str, Any]) -> None:
    """Write rows into a new folder as columns of their own, with what else is to be noted. Raises OSError."""
    columns = rows.columns
    constants = {name: value for name, value in rows.constants.items() if value}
    with ColumnsWriter(folder) as writer:
        for places_N in rows.blocks():
            taken = {name: columns.take(name, places_N) for name in columns.arrays if name not in rows.constants}
            block = {name: column for name, column in taken.items() if column is not None}
            block |= {name: Column(np.full(len(places_N), value)) for name, value in constants.items()}
            writer.add(len(places_N), block)
        kept = {name: columns.about[name] for name in ("folder", "paths") if name in columns.about}
        writer.close({**kept, **about})
