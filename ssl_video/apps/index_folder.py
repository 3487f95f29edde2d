"""The folder of a search index: what lies in it, and how it is read and changed without ever being half an index.

    header.json      which model made the vectors and how, and the names and SHA-256 of the files that count
    videos-N.jsonl   a line a video: path, size, time of change, first vector, times of its clips, content, labels
    vectors-N.f32    the vectors of all clips, rows of little-endian 32-bit floats
    index-N.faiss    what faiss searches; an exact index has none and reads the vectors
    .lock            held by the process that changes the index
    extracted/       what an unfinished 'ssl-video index' has extracted so far

Files are written aside and renamed, header.json last. What it names never changes afterwards, but for rows that are
appended to the vectors behind those that count. So a reader needs no lock, and a killed update leaves the old index.
A folder, and not one file, because the vectors are mapped into memory and grow in place.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssl_video.errors import UserError
from ssl_video.files import is_empty, running_sha256, sha256, write_text, written_aside
from ssl_video.processes import held
from ssl_video.readback import DAMAGE, in_short, of_type, parsed, texts

FORMAT = 2
KINDS = {"videos": ".jsonl", "vectors": ".f32", "faiss": ".faiss"}
AGAIN = "make the index again with 'ssl-video index --rebuild'"


@dataclass(frozen=True)
class Entry:
    """A video of the index: its file as it was, the row of its first clip, and where each clip lies, in seconds.

    ``path`` is the file as the user named it; version 0.1 resolved links. ``content`` is the digest of its bytes
    (``VideoInfo.content``), "" where version 0.1 wrote the entry. ``labels`` are names of classes, if it had any.
    """

    path: str
    size: int
    mtime_ns: int
    first: int
    times_s: tuple[tuple[float, float], ...]
    content: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Header:
    """What header.json says.

    ``weights`` is the fingerprint of the network, ``mean`` and ``scale`` standardise its features, ``rows`` counts
    vectors, those of removed videos among them, and ``nprobe`` is 0 where faiss has no lists. ``files`` maps the kinds
    of file to their names, ``sha256`` to their digests. ``digest`` is that of all else, "" where earlier versions wrote
    none.
    """

    format: int
    model: str
    weights: str
    readout: str
    clips: int
    index_type: str
    nprobe: int
    rows: int
    dim: int
    mean: list[float]
    scale: list[float]
    files: dict[str, str]
    sha256: dict[str, str]
    digest: str = ""

    @property
    def generation(self) -> int:
        """The highest number in the names of the files."""
        return max(int(name.rpartition("-")[2].partition(".")[0]) for name in self.files.values())


@dataclass
class Stored:
    """An index as it was read: the videos, all vectors (mapped from disk), and faiss's index, None if it is exact."""

    folder: Path
    header: Header
    entries: list[Entry]
    vectors_RD: np.ndarray
    faiss_index: Any

    @functools.cached_property
    def owner_R(self) -> np.ndarray:
        """(rows,) the number of the entry that each vector belongs to, -1 if it was removed."""
        owner_R = np.full(self.header.rows, -1)
        for number, entry in enumerate(self.entries):
            owner_R[entry.first : entry.first + len(entry.times_s)] = number
        return owner_R

    @functools.cached_property
    def by_content(self) -> dict[str, list[int]]:
        """The numbers of the entries of each content that is known."""
        numbers: dict[str, list[int]] = {}
        for number, entry in enumerate(self.entries):
            if entry.content:
                numbers.setdefault(entry.content, []).append(number)
        return numbers


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the right to change the index; it is free again when the process ends, however it ends.

    Raises:
        UserError: if another process holds it, or the folder holds something that is no index.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; --out must name a folder.")
    foreign = [] if is_empty(folder) else [p.name for p in folder.iterdir() if not _ours(p.name)]
    if foreign and not (folder / "header.json").exists():
        _refuse_old(folder)
        raise UserError(f"{folder} exists and holds something that is no index ({foreign[0]}); choose another --out.")
    with held(folder, "An update of the index"):
        yield


def open_index(folder: Path) -> Stored:
    """Read an index. Every byte that is parsed was compared with its SHA-256 before, faiss's file in particular.

    The vectors are hashed only where the index is exact, because then every search reads all of them. Otherwise their
    number is checked here, and the length of each that is compared.

    Raises:
        UserError: if there is no index, or it is damaged, or of another format.
    """
    for attempt in (1, 2):
        header = _read_header(folder)
        try:
            return _open(folder, header)
        except FileNotFoundError as error:  # an update may have replaced the files since the header was read
            if attempt == 2 or _read_header(folder) == header:
                raise UserError(f"{folder} lacks its file {Path(error.filename).name}; {AGAIN}.") from None
    raise AssertionError("unreachable")


def _open(folder: Path, header: Header) -> Stored:
    import faiss

    vectors = folder / header.files["vectors"]
    text = _verified(folder, header, "videos")
    if vectors.stat().st_size < 4 * header.rows * header.dim:
        raise _changed(folder, header.files["vectors"])
    index = None
    if "faiss" in header.files:
        whole = np.frombuffer(_verified(folder, header, "faiss"), np.uint8)  # what is parsed is what was hashed
        try:
            index = faiss.deserialize_index(whole)
        except RuntimeError:
            raise UserError(f"This faiss cannot read {folder / header.files['faiss']}; {AGAIN}.") from None
        if (index.ntotal, index.d) != (header.rows, header.dim):
            raise _changed(folder, header.files["faiss"])
    elif running_sha256(vectors, header.rows * header.dim * 4).hexdigest() != header.sha256["vectors"]:
        raise _changed(folder, header.files["vectors"])
    try:
        entries = _entries(text.decode("utf-8"), header.rows)
    except DAMAGE:
        raise _changed(folder, header.files["videos"]) from None
    mapped_RD = np.memmap(vectors, "<f4", "r", shape=(header.rows, header.dim))
    return Stored(folder, header, entries, mapped_RD, index)


def _entry(line: dict[str, Any], rows: int) -> Entry:
    entry = Entry(
        of_type(line["path"], str),
        of_type(line["size"], int),
        of_type(line["mtime_ns"], int),
        of_type(line["first"], int),
        tuple((float(a), float(b)) for a, b in line["times_s"]),
        of_type(line.get("content", ""), str),
        tuple(texts(line.get("labels", []))),
    )
    if not 0 <= entry.first <= entry.first + len(entry.times_s) <= rows:
        raise ValueError("a video has vectors that are not there")
    return entry


def _entries(text: str, rows: int) -> list[Entry]:
    """Raises one of ``DAMAGE``, also where two videos have one vector."""
    entries = [_entry(parsed(line), rows) for line in text.splitlines()]
    taken = sorted((e.first, e.first + len(e.times_s)) for e in entries)
    if any(end > start for (_, end), (start, _) in itertools.pairwise(taken)):
        raise ValueError("a vector belongs to two videos")
    return entries


def _read_header(folder: Path) -> Header:
    path = folder / "header.json"
    try:
        given = parsed(path.read_text(encoding="utf-8"))
        if of_type(given["format"], int) > FORMAT:
            raise UserError(
                f"{folder} was written by a newer version of ssl-video (format {given['format']}, this one reads "
                f"{FORMAT}); update ssl-video, or {AGAIN}."
            )
        header = Header(**given)
        _check(header)
    except (FileNotFoundError, NotADirectoryError):
        _refuse_old(folder)
        raise UserError(f"{folder} is no index (it holds no header.json); make one with 'ssl-video index'.") from None
    except (OSError, *DAMAGE) as error:
        raise UserError(f"{path} is damaged ({in_short(error)}); {AGAIN}.") from None
    return header


def _check(header: Header) -> None:
    """Raise one of ``DAMAGE`` for a header that contradicts itself, or was altered since it was written."""
    texts([header.model, header.weights, header.readout, header.index_type, header.digest])
    texts([*header.files.values(), *(header.sha256[kind] for kind in header.files)])
    named = all(re.fullmatch(rf"[a-z]+-\d{{1,15}}\{KINDS[kind]}", name) for kind, name in header.files.items())
    least = {"clips": 0, "nprobe": 0, "rows": 1, "dim": 1}
    counted = all(of_type(getattr(header, name), int) >= bound for name, bound in least.items())
    if not (named and counted and header.files.keys() >= {"videos", "vectors"} and header.format == FORMAT):
        raise ValueError("it contradicts itself")
    for numbers in (header.mean, header.scale):
        if len(numbers) != header.dim or not np.isfinite(np.array(numbers, np.float32)).all():
            raise ValueError("the mean or the scale of the features is not one number for each")
    if header.digest and header.digest != _digest_of(header):
        raise ValueError("it was altered since it was written")


def _digest_of(header: Header) -> str:
    """SHA-256 of all other fields."""
    return hashlib.sha256(json.dumps(asdict(replace(header, digest="")), sort_keys=True).encode()).hexdigest()


def _refuse_old(folder: Path) -> None:
    if (folder / "index.json").exists():
        raise UserError(f"{folder} is an index of an older version of ssl-video; remove the folder and make it again.")


def _verified(folder: Path, header: Header, kind: str) -> bytes:
    content = (folder / header.files[kind]).read_bytes()
    if hashlib.sha256(content).hexdigest() != header.sha256[kind]:
        raise _changed(folder, header.files[kind])
    return content


def _changed(folder: Path, name: str) -> UserError:
    return UserError(f"{folder / name} was cut off or changed since the index was made; {AGAIN}.")


class Writer:
    """Writes the next state of an index: first vectors, block by block, then ``commit``. The lock must be held.

    Vectors go behind those of ``before``, or without it into a new file.

    Raises:
        UserError: if the vectors that are there were changed.
    """

    def __init__(self, folder: Path, generation: int, before: Stored | None = None):
        self.folder, self.generation = folder, generation
        self.name = before.header.files["vectors"] if before else f"vectors-{generation}.f32"
        self.path, self.rows = folder / self.name, before.header.rows if before else 0
        self.digest = hashlib.sha256()
        if before:
            size = 4 * before.header.rows * before.header.dim
            self.digest = running_sha256(self.path, size)
            if self.digest.hexdigest() != before.header.sha256["vectors"]:
                raise _changed(folder, self.name)
            os.truncate(self.path, size)  # an update that was killed may have left rows that do not count
        else:
            self.path.write_bytes(b"")

    def append(self, blocks_RD: Iterable[np.ndarray]) -> None:
        """Add rows, and have them on the disk."""
        with self.path.open("ab") as file:
            for block_RD in blocks_RD:
                content = np.ascontiguousarray(block_RD, "<f4").tobytes()
                file.write(content)
                self.digest.update(content)
                self.rows += len(block_RD)
            file.flush()
            os.fsync(file.fileno())

    def vectors(self, dim: int) -> np.ndarray:
        """All rows, mapped."""
        return np.memmap(self.path, "<f4", "r", shape=(self.rows, dim))

    def commit(self, entries: Sequence[Entry], faiss_index: Any, about: dict[str, Any]) -> Header:
        """Write the other files and, last, the header, whose remaining fields are ``about``; drop what it replaces."""
        import faiss

        files = {"videos": f"videos-{self.generation}.jsonl", "vectors": self.name}
        write_text(self.folder / files["videos"], "".join(json.dumps(asdict(e)) + "\n" for e in entries))
        if faiss_index is not None:
            files["faiss"] = f"index-{self.generation}.faiss"
            with written_aside(self.folder / files["faiss"]) as aside:
                faiss.write_index(faiss_index, str(aside))
        digests = {kind: sha256(self.folder / name) for kind, name in files.items() if kind != "vectors"}
        digests["vectors"] = self.digest.hexdigest()
        header = Header(format=FORMAT, rows=self.rows, files=files, sha256=digests, **about)
        header = replace(header, digest=_digest_of(header))
        write_text(self.folder / "header.json", json.dumps(asdict(header)) + "\n")
        for path in self.folder.iterdir():
            if _numbered(path.name) and path.name not in files.values():
                path.unlink()
        return header


def next_generation(folder: Path) -> int:
    """A number above those in the names of all files of an index, whole or damaged."""
    numbers = [int(path.stem.rpartition("-")[2]) for path in folder.iterdir() if _numbered(path.name)]
    return max(numbers, default=0) + 1


def _numbered(name: str) -> bool:
    return re.fullmatch(r"(videos-\d+\.jsonl|vectors-\d+\.f32|index-\d+\.faiss)", name) is not None


def _ours(name: str) -> bool:
    return name in ("lock", "extracted", "header.json") or name.startswith(".") or _numbered(name)
