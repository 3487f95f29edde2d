"""A segment of an index: some videos and the vectors of their clips, in a folder that never changes once it is named.

    segment.json     how many videos and vectors, the bytes of every other file and its SHA-256; written last
    vectors.npy      (rows, D) little-endian 32-bit floats
    index.faiss      what faiss searches; a segment that is compared exactly has none
    about.json, *.npy   the videos, as ``index_rows`` has them

Arrays are mapped, and nothing but small files is read when a segment is opened. A file of more than ``SMALL`` bytes is
compared with its SHA-256 when it is first read whole: vectors by the first exact search, faiss's before it is parsed,
the rest when segments are merged. Of all others the length is compared.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssl_video.apps.index_rows import LOOKED_UP, Entry, Keys, columns_of, entries_at, in_order, keys_of, write_keys
from ssl_video.datasets.columns import Columns, ColumnsWriter, open_columns
from ssl_video.errors import UserError
from ssl_video.eval.shard_files import without_file
from ssl_video.files import sha256, sync_folder, write_text
from ssl_video.readback import DAMAGE, of_type, parsed, read_array

MOST = 1_000_000
"""Vectors of a segment, unless one video alone has more."""
SMALL = 1 << 16
"""Bytes of a file up to which it is compared with its SHA-256 when it is opened."""
AGAIN = "make the index again with 'ssl-video index --rebuild'"
VECTORS, FAISS, NOTE = "vectors.npy", "index.faiss", "segment.json"


@dataclass(frozen=True)
class SegmentNote:
    """What header.json says of a segment: its folder, its videos and vectors, and the SHA-256 of its segment.json."""

    name: str
    videos: int
    rows: int
    sha256: str


@dataclass(frozen=True, eq=False)
class Segment:
    """A segment as it was opened; ``digests`` are the SHA-256 of its files."""

    folder: Path
    columns: Columns
    keys: Keys
    vectors_RD: np.ndarray
    faiss_bytes: np.ndarray | None
    digests: Mapping[str, str]

    @property
    def rows(self) -> int:
        """Vectors, of removed videos too."""
        return len(self.vectors_RD)

    @property
    def videos(self) -> int:
        """Videos, removed ones too."""
        return self.columns.rows

    @property
    def ends_V(self) -> np.ndarray:
        """(V,) twice the row behind each video's last clip, mapped."""
        ends = self.columns.arrays["times"].ends
        assert ends is not None
        return ends

    @functools.cached_property
    def checked_RD(self) -> np.ndarray:
        """The vectors, all of which are to be read. Raises UserError if they were changed."""
        self._check(VECTORS, self.vectors_RD)
        return self.vectors_RD

    @functools.cached_property
    def faiss_index(self) -> Any:
        """What faiss searches, None if the segment has none. Raises UserError if the file was changed."""
        if self.faiss_bytes is None:
            return None
        whole = np.array(self.faiss_bytes)  # what is parsed is what was hashed
        self._check(FAISS, whole)
        index = parsed_index(whole, self.folder / FAISS)
        if (index.ntotal, index.d) != self.vectors_RD.shape:
            raise changed(self.folder / FAISS)
        return index

    def entries(self, places_N: np.ndarray, before: int = 0) -> list[Entry]:
        """Some of its videos; see ``index_rows.entries_at``. Raises UserError if they were changed."""
        try:
            return entries_at(self.columns, places_N, before)
        except DAMAGE:
            raise changed(self.folder / NOTE) from None

    def paths(self, places_N: np.ndarray) -> list[str]:
        """The paths of some of its videos. Raises UserError if they were changed."""
        try:
            return self.columns.texts("path", places_N)
        except DAMAGE:
            raise changed(self.folder / NOTE) from None

    def check(self) -> None:
        """Compare every file with its SHA-256. Raises UserError."""
        for name, digest in self.digests.items():
            if (self.folder / name).is_file() and sha256(self.folder / name) != digest:
                raise changed(self.folder / name)

    def _check(self, name: str, array: np.ndarray) -> None:
        if name in self.digests and _sha256_of(array, self.folder / name) != self.digests[name]:
            raise changed(self.folder / name)


def changed(path: Path) -> UserError:
    """That a file is not what was written."""
    return UserError(f"{path} was cut off or changed since the index was made; {AGAIN}.")


def parsed_index(content: np.ndarray, path: Path) -> Any:
    """Faiss's index from bytes that were compared with their digest. Raises UserError."""
    import faiss

    try:
        return faiss.deserialize_index(content)
    except RuntimeError:
        raise UserError(f"This faiss cannot read {path}; {AGAIN}.") from None


def _sha256_of(array: np.ndarray, path: Path) -> str:
    """Of the file that the array is mapped from, by what is mapped: it may have been renamed over."""
    digest = hashlib.sha256()
    if path.suffix == ".npy":
        digest.update(npy_header(array.shape))
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def npy_header(shape: Sequence[int]) -> bytes:
    """The header of an .npy file of 32-bit floats; it is as long whatever the number of rows."""
    import io

    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)})
    return file.getvalue()


def open_segment(index: Path, note: SegmentNote, dim: int) -> Segment:
    """Map the files of a segment.

    Raises:
        UserError: if one was changed or cut off, or is of another index.
        FileNotFoundError: if one is not there.
    """
    folder = index / note.name
    text = (folder / NOTE).read_bytes()
    if hashlib.sha256(text).hexdigest() != note.sha256:
        raise changed(folder / NOTE)
    try:
        files = {of_type(name, str): (of_type(size, int), of_type(digest, str))
                 for name, (size, digest) in of_type(parsed(text)["files"], dict).items()}  # fmt: skip
        if any(Path(name).name != name for name in files):
            raise ValueError("a file lies elsewhere")
    except DAMAGE:
        raise changed(folder / NOTE) from None
    for name, (size, digest) in files.items():
        path = folder / name
        there = path.stat().st_size == size
        lazily = size > SMALL or name in (VECTORS, FAISS)
        if not there or not (lazily or sha256(path) == digest):
            raise changed(path)
    digests = {name: digest for name, (_, digest) in files.items()}
    try:
        vectors_RD = _mapped(folder / VECTORS, 2)
        keys = {name: (_mapped(folder / f"{name}.keys.npy"), _mapped(folder / f"{name}.order.npy"))
                for name in LOOKED_UP}  # fmt: skip
        columns = open_columns(folder, _mapped)
    except DAMAGE:
        raise changed(folder / NOTE) from None
    faiss_bytes = _bytes_of(folder / FAISS) if FAISS in files else None
    segment = Segment(folder, columns, keys, vectors_RD, faiss_bytes, digests)
    right = (note.videos, (note.rows, dim), 2 * note.rows)
    if (segment.videos, vectors_RD.shape, int(segment.ends_V[-1]) if segment.videos else 0) != right:
        raise changed(folder / NOTE)
    return segment


def _mapped(path: Path, dimensions: int = 1) -> np.ndarray:
    array = read_array(path, dimensions)
    return without_file(array) if isinstance(array, np.memmap) else array


def _bytes_of(path: Path) -> np.ndarray:
    return without_file(np.memmap(path, np.uint8, "r"))


class SegmentWriter:
    """Writes a segment into a new folder: videos with their vectors, then ``close``. Raises OSError."""

    def __init__(self, folder: Path, dim: int):
        self.folder, self.dim = folder, dim
        self.rows = self.videos = 0
        self._columns = ColumnsWriter(folder)
        self._keys: list[dict[str, np.ndarray]] = []
        self._file = (folder / VECTORS).open("wb")
        self._file.write(npy_header((0, dim)))

    def add(self, entries: Sequence[Entry], vectors_RD: np.ndarray) -> None:
        """More videos, and the vectors of their clips one behind the other."""
        if len(vectors_RD) != sum(len(e.times_s) for e in entries) or not all(e.times_s for e in entries):
            raise ValueError("each video needs a vector for each clip, and one at least")
        self._columns.add(len(entries), columns_of(entries))
        self._keys.append(keys_of(entries))
        self._file.write(np.ascontiguousarray(vectors_RD, "<f4").data)
        self.rows, self.videos = self.rows + len(vectors_RD), self.videos + len(entries)

    def whole(self) -> np.ndarray:
        """All vectors, mapped; none can be added any more."""
        if not self._file.closed:
            with self._file, self._columns:
                self._file.seek(0)
                self._file.write(npy_header((self.rows, self.dim)))
                self._file.flush()
                os.fsync(self._file.fileno())
                self._columns.close({})
        return _mapped(self.folder / VECTORS, 2)

    def stop(self) -> None:
        """Write nothing more: the segment will not count."""
        self._file.close()
        with self._columns:
            pass

    def close(self, faiss_index: Any = None) -> SegmentNote:
        """Write the rest, and have it on the disk."""
        self.whole()
        keys = {name: np.concatenate([block[name] for block in self._keys]) for name in LOOKED_UP}
        written = write_keys(self.folder, in_order(keys))
        if faiss_index is not None:
            import faiss

            written.append(self.folder / FAISS)
            faiss.write_index(faiss_index, str(self.folder / FAISS))
        for path in written:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        files = {path.name: (path.stat().st_size, sha256(path)) for path in sorted(self.folder.iterdir())}
        text = json.dumps({"videos": self.videos, "rows": self.rows, "files": files}) + "\n"
        write_text(self.folder / NOTE, text)
        sync_folder(self.folder.parent)
        return SegmentNote(self.folder.name, self.videos, self.rows, hashlib.sha256(text.encode()).hexdigest())


Block = tuple[Sequence[Entry], np.ndarray]
"""Videos, and the (R, D) vectors of their clips."""


def write_segments(folder: Path, first: int, blocks: Iterable[Block]) -> list[SegmentWriter]:
    """New segments ``segment-FIRST`` and so on, of at most ``MOST`` vectors each; all but their notes is written."""
    writers: list[SegmentWriter] = []
    try:
        for entries, vectors_RD in _of_one_segment(blocks):
            if not writers or writers[-1].rows + len(vectors_RD) > MOST:
                for full in writers[-1:]:
                    full.whole()
                writers.append(SegmentWriter(folder / f"segment-{first + len(writers)}", vectors_RD.shape[1]))
            writers[-1].add(entries, vectors_RD)
        for last in writers[-1:]:
            last.whole()
    except BaseException:
        for writer in writers:
            writer.stop()
        raise
    return writers


def _of_one_segment(blocks: Iterable[Block]) -> Iterator[Block]:
    """The same videos in blocks that fit the room which segments before them leave."""
    room = MOST
    for entries, vectors_RD in blocks:
        ends_V = np.cumsum([len(e.times_s) for e in entries])
        first = row = 0
        while first < len(entries):
            if len(ends_V) and ends_V[first] - row > room:
                room = MOST
            last = max(first + 1, int(np.searchsorted(ends_V, row + room, side="right")))
            yield entries[first:last], vectors_RD[row : ends_V[last - 1]]
            room -= int(ends_V[last - 1]) - row
            first, row = last, int(ends_V[last - 1])
