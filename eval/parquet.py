"""Features as tables of parquet: one row a clip."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_video.datasets.parquet import pyarrow
from ssl_video.files import readable, written_aside
from ssl_video.readback import read_array


def write_table(path: Path, rows: Sequence[dict[str, Any]], split: str, vectors_KD: np.ndarray) -> None:
    """Write the clips of some videos; ``rows`` are those of ``NUMBER.json`` (``shards``), a video each."""
    pa = pyarrow()
    clips = [(row, time) for row in rows for time in row["times_s"]]
    columns = {
        "path": pa.array([readable(row["path"]) for row, _ in clips], pa.string()),
        "start_s": pa.array([start for _, (start, _) in clips], pa.float64()),
        "end_s": pa.array([end for _, (_, end) in clips], pa.float64()),
        "labels": pa.array([list(map(readable, row["classes"])) for row, _ in clips], pa.list_(pa.string())),
        "split": pa.array([split] * len(clips), pa.string()),
        "features": pa.FixedSizeListArray.from_arrays(pa.array(vectors_KD.ravel(), pa.float32()), vectors_KD.shape[1]),
    }
    with written_aside(path) as aside:
        pa.parquet.write_table(pa.table(columns), aside)


def read_vectors(path: Path) -> np.ndarray:
    """(K, D) vectors of a shard, float32: of parquet, or mapped from .npy. Raises UserError without pyarrow,
    and one of ``readback.DAMAGE``, or OSError, if it is damaged."""
    if path.suffix == ".npy":
        return read_array(path, 2)
    column = pyarrow().parquet.read_table(path, columns=["features"]).column(0).combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)
