"""The folder of a search index: what lies in it, and how it is read and changed without ever being half an index.

    header.json      the manifest: which model made the vectors and how, and the segments that count; renamed last
    segment-N/       some videos and their vectors (``index_segments``); never changed once header.json names it
    removed-N.npy    a bit a video, set where it was removed
    trained-N.faiss  what faiss learned by the first build, without vectors; an exact index has none
    .lock            held by the process that changes the index
    extracted/       what an unfinished 'ssl-video index' has extracted so far

A change writes new segments and, if videos go, a new bitmap aside; then header.json is renamed, and what it names no
more is removed. So a reader needs no lock, a killed change leaves the old index whole, and nothing old is read or
written to add something new. Everything is mapped when an index is opened, so that a reader keeps what it opened.
"""

import contextlib
import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterator, Sequence, Set
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssl_video.apps.index_segments import AGAIN, SegmentNote, changed, open_segment, parsed_index
from ssl_video.apps.index_stored import Described, Header, Stored
from ssl_video.errors import UserError
from ssl_video.files import is_empty, sha256, write_text, written_aside
from ssl_video.processes import held
from ssl_video.readback import DAMAGE, in_short, of_type, parsed, texts

FORMAT = 3
MANIFEST = "header.json"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the right to change the index; it is free again when the process ends, however it ends.

    Raises:
        UserError: if another process holds it, or the folder holds something that is no index.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; --out must name a folder.")
    foreign = [] if is_empty(folder) else [p.name for p in folder.iterdir() if not _ours(p.name)]
    if foreign and not (folder / MANIFEST).exists():
        _refuse_first_format(folder)
        raise UserError(f"{folder} exists and holds something that is no index ({foreign[0]}); choose another --out.")
    with held(folder, "An update of the index"):
        yield


def open_index(folder: Path) -> Stored:
    """Open an index, also one of the format before this; see ``index_segments`` for what is compared when.

    Raises:
        UserError: if there is no index, or it is damaged, or of another format.
    """
    from ssl_video.apps.index_format2 import open_format2

    for attempt in (1, 2):
        given = _read_manifest(folder)
        try:
            return open_format2(folder, given) if given["format"] == 2 else _opened(folder, _header_of(folder, given))
        except FileNotFoundError as error:  # an update may have replaced the files since the header was read
            if attempt == 2 or _read_manifest(folder) == given:
                lost = Path(error.filename)
                raise UserError(f"{folder} lacks its file {lost.relative_to(folder)}; {AGAIN}.") from None
    raise AssertionError("unreachable")


def _opened(folder: Path, header: Header) -> Stored:
    segments = tuple(open_segment(folder, note, header.dim) for note in header.segments)
    removed_V = np.zeros(sum(s.videos for s in segments), bool)
    if header.removed:
        bits_V = _removed(folder, header)[: len(removed_V)]
        removed_V[: len(bits_V)] = bits_V
    if header.videos != len(removed_V) - int(removed_V.sum()):
        raise changed(folder / MANIFEST)
    return Stored(folder, header, segments, removed_V)


def _removed(folder: Path, header: Header) -> np.ndarray:
    try:
        bits = np.load(io.BytesIO(_verified(folder, header, header.removed)), allow_pickle=False)
        return np.unpackbits(bits).astype(bool)
    except (*DAMAGE, SyntaxError):
        raise changed(folder / header.removed) from None


def trained_index(stored: Stored) -> Any:
    """An empty index of faiss that has learned, None for an exact index. Raises UserError if it was changed."""
    name = stored.header.trained
    if not name:
        return None
    content = np.frombuffer(_verified(stored.folder, stored.header, name), np.uint8)
    return parsed_index(content, stored.folder / name)


def _verified(folder: Path, header: Header, name: str) -> bytes:
    """The bytes that were hashed."""
    content = (folder / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != (header.sha256 or {}).get(name):
        raise changed(folder / name)
    return content


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        given = of_type(parsed(path.read_text(encoding="utf-8")), dict)
        if of_type(given["format"], int) > FORMAT:
            raise UserError(
                f"{folder} was written by a newer version of ssl-video (format {given['format']}, this one reads "
                f"{FORMAT}); update ssl-video, or {AGAIN}."
            )
        if given["format"] < 2:
            raise ValueError(f"there is no format {given['format']}")
    except (FileNotFoundError, NotADirectoryError):
        _refuse_first_format(folder)
        raise UserError(f"{folder} is no index (it holds no {MANIFEST}); make one with 'ssl-video index'.") from None
    except (OSError, *DAMAGE) as error:
        raise _damaged(path, error) from None
    return given


def _damaged(path: Path, error: BaseException) -> UserError:
    return UserError(f"{path} is damaged ({in_short(error)}); {AGAIN}.")


def _header_of(folder: Path, given: dict[str, Any]) -> Header:
    try:
        notes = tuple(SegmentNote(**note) for note in of_type(given["segments"], list))
        header = Header(**{**given, "segments": notes})
        check_described(header)
        _check(header)
    except DAMAGE as error:
        raise _damaged(folder / MANIFEST, error) from None
    return header


def check_described(header: Header) -> None:
    """Raise one of ``DAMAGE`` for what cannot be said of vectors."""
    texts([header.model, header.weights, header.readout, header.index_type, header.digest])
    least = {"clips": 0, "nprobe": 0, "rows": 1, "dim": 1}
    if not all(of_type(getattr(header, name), int) >= bound for name, bound in least.items()):
        raise ValueError("it contradicts itself")
    for numbers in (header.mean, header.scale):
        if len(numbers) != header.dim or not np.isfinite(np.array(numbers, np.float32)).all():
            raise ValueError("the mean or the scale of the features is not one number for each")


def _check(header: Header) -> None:
    """Raise one of ``DAMAGE`` for a header that contradicts itself, or was altered since it was written."""
    names = [note.name for note in header.segments]
    others = [name for name in (header.removed, header.trained) if name]
    good = all(_SEGMENT.fullmatch(name) for name in names) and all(_OTHER.fullmatch(name) for name in others)
    for note in header.segments:
        good &= of_type(note.videos, int) >= 1 and of_type(note.rows, int) >= note.videos
        texts([note.sha256])
    videos, rows = sum(note.videos for note in header.segments), sum(note.rows for note in header.segments)
    good &= len(set(names)) == len(names) and rows == header.rows and 1 <= of_type(header.videos, int) <= videos
    if not good or sorted(of_type(header.sha256, dict)) != sorted(others):
        raise ValueError("it contradicts itself")
    if header.digest and header.digest != _digest_of(header):
        raise ValueError("it was altered since it was written")


def _digest_of(header: Header) -> str:
    """SHA-256 of all other fields."""
    return hashlib.sha256(json.dumps(asdict(replace(header, digest="")), sort_keys=True).encode()).hexdigest()


def _refuse_first_format(folder: Path) -> None:
    if (folder / "index.json").exists():
        raise UserError(f"{folder} is an index of an older version of ssl-video; remove the folder and make it again.")


def commit(folder: Path, about: Described, notes: Sequence[SegmentNote], removed_V: np.ndarray, trained: str) -> Header:
    """Make segments that are written the index, and remove all that it does not name. The lock must be held.

    Args:
        folder: of the index.
        about: how the vectors were made.
        notes: the segments.
        removed_V: which of their videos are removed; those behind its end are not.
        trained: the file of what faiss learned, "" if there is none.
    """
    removed = ""
    if removed_V.any():
        removed = f"removed-{next_number(folder)}.npy"
        with written_aside(folder / removed) as aside:
            np.save(aside, np.packbits(removed_V), allow_pickle=False)
    header = Header(
        **{field.name: getattr(about, field.name) for field in fields(Described)},
        format=FORMAT,
        videos=sum(note.videos for note in notes) - int(removed_V.sum()),
        rows=sum(note.rows for note in notes),
        segments=tuple(notes),
        removed=removed,
        trained=trained,
        sha256={name: sha256(folder / name) for name in (removed, trained) if name},
    )
    header = replace(header, digest=_digest_of(header))
    write_text(folder / MANIFEST, json.dumps(asdict(header)) + "\n")
    drop_unnamed(folder, {removed, trained, *(note.name for note in notes)})
    return header


def write_trained(folder: Path, trained: Any) -> str:
    """Write what faiss has learned, without vectors; the name of the file, "" if there is nothing."""
    if trained is None:
        return ""
    import faiss

    name = f"trained-{next_number(folder)}.faiss"
    with written_aside(folder / name) as aside:
        faiss.write_index(trained, str(aside))
    return name


def drop_unnamed(folder: Path, named: Set[str]) -> None:
    """Remove what is numbered and does not count: what was replaced, or left behind by a change that was killed."""
    for path in folder.iterdir():
        if _numbered(path.name) and path.name not in named:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def next_number(folder: Path) -> int:
    """A number above those in the names of all files of an index, whole or damaged."""
    numbers = [int(path.name.partition("-")[2].partition(".")[0]) for path in folder.iterdir() if _numbered(path.name)]
    return max(numbers, default=0) + 1


_SEGMENT, _OTHER = re.compile(r"segment-\d+"), re.compile(r"(removed-\d+\.npy|trained-\d+\.faiss)")
_FORMAT2 = re.compile(r"(videos-\d+\.jsonl|vectors-\d+\.f32|index-\d+\.faiss)")


def _numbered(name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in (_SEGMENT, _OTHER, _FORMAT2))


def _ours(name: str) -> bool:
    return name in ("lock", "extracted", MANIFEST) or name.startswith(".") or _numbered(name)
