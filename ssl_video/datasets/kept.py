"""The copies of videos that commands made by the way: where they lie, who reads them now, and how they are cleared."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_video.files import cache_dir, copies_dir

KINDS = ("clips", "flow")
LOCK = ".in-use"
"""A file in each folder of copies, locked by every process that reads them for as long as it lives."""
_held: dict[Path, int] = {}


@dataclass(frozen=True)
class Kept:
    """A folder of copies: how many files, how many bytes, and whether a living process reads them."""

    folder: Path
    copies: int
    bytes: int
    in_use: bool


def hold(folder: Path) -> None:
    """The copies in ``folder`` are in use until this process ends: ``clear`` leaves them where they are."""
    folder = folder.resolve()
    if folder in _held:
        return
    with contextlib.suppress(OSError):  # a disk that cannot be written, or knows no locks
        while folder not in _held:
            folder.mkdir(parents=True, exist_ok=True)
            file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)  # for as long as we live: it is not closed
            fcntl.flock(file, fcntl.LOCK_SH)
            if _is_at(folder / LOCK, file):
                _held[folder] = file
            else:  # while we waited, the folder was cleared with the file that we have locked
                os.close(file)


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def hold_copies(paths: Iterable[str]) -> None:
    """``hold`` the folders of these copies, as far as they are of ours."""
    for folder in {Path(path).parent for path in paths}:
        if (folder / LOCK).exists():
            hold(folder)


def kept_copies() -> list[Kept]:
    """Every folder of copies below the current folder's runs, SSL_VIDEO_CACHE and the user's cache folder."""
    places = dict.fromkeys(place.resolve() for kind in KINDS for place in (copies_dir(kind), cache_dir() / kind))
    return [_look_at(folder) for place in places if place.is_dir() for folder in sorted(place.iterdir())]


def clear(kept: Sequence[Kept]) -> tuple[list[Kept], list[Kept]]:
    """Remove folders of copies; those that were removed, and those that a living process reads, which stay."""
    gone, stay = [], []
    for one in kept:
        with _locked(one.folder) as ours:
            if ours:
                shutil.rmtree(one.folder)
        (gone if ours else stay).append(one)
    return gone, stay


def _look_at(folder: Path) -> Kept:
    files = [entry for entry in os.scandir(folder) if entry.name != LOCK]
    copies = sum(not entry.name.endswith((".json", ".csv")) for entry in files)
    with _locked(folder) as ours:
        return Kept(folder, copies, sum(map(_size, files)), not ours)


def _size(entry: os.DirEntry[str]) -> int:
    """In bytes; none of a file that another process has renamed or removed meanwhile."""
    try:
        return entry.stat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """In this context nobody else starts to read the copies; False if somebody does already."""
    if not (folder / LOCK).exists():
        yield True
        return
    with (folder / LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
