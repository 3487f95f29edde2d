"""The files of extracted features, as ``shards`` writes them, and as they are read and checked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_video.datasets.noted import problem_from
from ssl_video.errors import UserError
from ssl_video.eval.parquet import read_vectors
from ssl_video.readback import DAMAGE, of_type, parsed, reading, texts
from ssl_video.video.info import Problem


@dataclass(frozen=True)
class FeatureFolder:
    """Where features are kept, and of which ``weights`` they are (``fingerprint``).

    With ``tables`` the vectors are not in ``folder`` but in that folder, in files of parquet.
    """

    folder: Path
    weights: str
    tables: Path | None = None

    def vectors(self, number: int) -> Path:
        """The file with the vectors of a shard."""
        if self.tables is None:
            return self.folder / f"{number:05d}.npy"
        return self.tables / f"{self.folder.name}-{number:05d}.parquet"

    def note(self, number: int) -> Path:
        """The file that says whose they are, and is written last."""
        return self.folder / f"{number:05d}.json"


def finished(note: Path) -> bool:
    """True if a shard is there, and no video is missing in it for a reason that was the machine's."""
    if not note.exists():
        return False
    try:
        return not any(p.get("passing") for p in parsed(note.read_text(encoding="utf-8"))["problems"])
    except DAMAGE:  # it is extracted again
        return False


def rows_of(note: Path, advice: str) -> tuple[list[dict[str, Any]], list[Problem]]:
    """What a shard's ``NUMBER.json`` says of its videos, and of those without features. Raises UserError."""
    with reading(note, advice):
        content = parsed(note.read_text(encoding="utf-8"))
        for row in of_type(content["rows"], list):
            texts([row["path"], *texts(row.get("classes", []))])
            if any(of_type(n, int) < 0 for n in (row.get("number", 0), *row["starts"], *row["labels"])):
                raise ValueError("it has a negative number")
            if not row["starts"]:
                raise ValueError(f"{row['path']} has no clips")
            for start, end in row.get("times_s", ()):
                _ = of_type(start, int, float), of_type(end, int, float)
        return content["rows"], [problem_from(p) for p in content.get("problems", ())]


def vectors_of(file: Path, rows: Sequence[dict[str, Any]], advice: str) -> np.ndarray:
    """(K, D) the vectors of the clips of these rows. Raises UserError."""
    with reading(file, advice):
        vectors_KD = read_vectors(file)
        if vectors_KD.ndim != 2 or vectors_KD.dtype.kind != "f":
            raise ValueError("it holds no vectors")
        if len(vectors_KD) != sum(len(row["starts"]) for row in rows):
            raise ValueError(f"it holds {len(vectors_KD)} vectors, and its videos have another number of clips")
        return without_file(vectors_KD) if isinstance(vectors_KD, np.memmap) else vectors_KD


def without_file(mapped: np.memmap) -> np.ndarray:
    """The same array, mapped by torch, which closes the file; numpy holds it open for as long as the array lives.

    A list of features has thousands of files, and a process may have 256 of them open, or 1024.
    """
    assert mapped.filename is not None
    file = Path(mapped.filename)
    try:
        bytes_N = torch.from_file(str(file), size=file.stat().st_size, dtype=torch.uint8).numpy()
    except UnicodeEncodeError:  # a name that is not UTF-8, which torch does not take
        return mapped
    bytes_N.flags.writeable = False
    return np.ndarray(mapped.shape, mapped.dtype, bytes_N, mapped.offset, mapped.strides)


def stored_shards(folder: Path) -> Iterator[tuple[list[dict[str, Any]], np.ndarray]]:
    """What ``NUMBER.json`` says of the videos of each shard, and the (K, D) vectors of all of their clips.

    Raises:
        UserError: if the folder holds no features, the extraction was not finished, or they are damaged.
    """
    advice = "run 'ssl-video extract' again, into another folder"
    about = _there(folder / "about.json")
    with reading(about, advice):
        content = parsed(about.read_text(encoding="utf-8"))
        tables = folder.parent / "parquet" if content.get("format") == "parquet" else None
        kept = FeatureFolder(folder, of_type(content["weights"], str), tables)
        videos, shard = of_type(content["videos"], int), of_type(content["shard"], int)
        if videos < 0 or shard < 1:
            raise ValueError("it counts videos that there cannot be")
    width = None
    for number in range(-(-videos // shard)):
        rows, _ = rows_of(_there(kept.note(number)), advice)
        if rows:
            vectors_KD = vectors_of(_there(kept.vectors(number)), rows, advice)
            if width not in (None, vectors_KD.shape[1]):
                raise UserError(f"{kept.vectors(number)} is damaged (vectors of another length); {advice}.")
            width = vectors_KD.shape[1]
            yield rows, vectors_KD


def _there(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path.parent} lacks {path.name}: it was not finished; run 'ssl-video extract' again.")
    return path
