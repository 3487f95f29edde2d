"""Lists as tables of parquet, which pyarrow reads where it is installed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ssl_video.datasets.manifest import column, joined
from ssl_video.errors import needs
from ssl_video.readback import reading

AT_A_TIME = 4096
"""Rows that are read at a time."""


def pyarrow() -> Any:
    """The package pyarrow with its module parquet. Raises UserError if it is not installed."""
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
        import pyarrow.parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise needs("The parquet format", "pyarrow", "parquet") from None
    return pyarrow


def rows_in(path: Path) -> int:
    """How many rows a table has. Raises UserError without pyarrow, or if the file is damaged."""
    parquet = pyarrow().parquet
    with reading(path, "write it again"):
        return parquet.ParquetFile(path).metadata.num_rows


def parquet_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of the names of the columns and of every row, as of a csv: numbers and lists become text.

    Raises UserError without pyarrow, or if the file is damaged.
    """
    parquet = pyarrow().parquet
    with reading(path, "write it again"):
        table = parquet.ParquetFile(path)
        names = table.schema_arrow.names
        yield 1, names
        number = 1
        for batch in table.iter_batches(AT_A_TIME):
            cells = [
                [_cell(value, name) for value in values.to_pylist()]
                for name, values in zip(names, batch.columns, strict=True)
            ]
            for row in zip(*cells, strict=True):
                number += 1
                yield number, list(row)


def _cell(value: Any, name: str) -> str:
    """A whole number that pandas has made a fraction, since others are missing, is whole again."""
    if value is None or value != value:
        return ""
    if isinstance(value, list):
        return joined([str(one) for one in value])
    if isinstance(value, float) and value.is_integer() and column(name) not in ("fps", "duration_s", "pts_step"):
        return str(int(value))
    return str(value)
