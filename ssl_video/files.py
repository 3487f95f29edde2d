"""Writing files so that a reader never sees half of one, and hashing them."""

import contextlib
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from ssl_video.errors import UserError

JOINERS = "\u200c\u200d"
"""Characters that cannot be seen but belong to words of some languages, and to emoji."""
ASIDE = re.compile(r"\..*\.(?P<writer>\d+)-[0-9a-f]{8}\.tmp(\.[^.]*)?")
"""Names of what is written aside; the number is of the process that writes."""


@contextlib.contextmanager
def written_aside(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it to disk and rename it over ``path``.

    The old file stays whole until the new one is complete, also on a full disk or after SIGKILL. The temporary name
    keeps the suffix, because encoders choose a container by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_written_aside(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder; on success move what it holds into the folder ``path``, else leave nothing behind."""
    path = Path(path).resolve()
    near = next(p for p in path.parents if p.is_dir())
    aside = near / f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    aside.mkdir()
    try:
        yield aside
        path.mkdir(parents=True, exist_ok=True)
        for file in aside.iterdir():
            file.replace(path / file.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def is_new(folder: Path) -> bool:
    """True if nothing lies in a folder, or there is none; a file of that name is not.

    What a process of this machine was writing when it was killed is nothing, and is removed.
    """
    if not folder.is_dir():
        return not os.path.lexists(folder)
    for path in folder.glob(".*.tmp*"):
        named = ASIDE.fullmatch(path.name)
        if named and not _alive(int(named["writer"])):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return not any(folder.iterdir())


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or a number that this machine did not give
        pass
    return True


def as_named(path: Path | str) -> Path:
    """The whole path with the names that the user gave, links not resolved; ``..`` is gone where that is safe."""
    path = Path(path).absolute()
    short = Path(os.path.normpath(path))
    if ".." in path.parts and path.exists() and not (short.exists() and short.samefile(path)):
        return path.resolve()  # a link lies before the dots
    return short


def check_not_over(source: Path, *written: Path) -> None:
    """Raise UserError if what is to be written is what is to be read."""
    for path in written:
        if path.resolve() == source.resolve():
            raise UserError(f"{path} would be written over itself; name another --out.")


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 text file aside and rename it."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def readable(name: str) -> str:
    """The name of a file as text that is UTF-8: bytes of it that are not are written as ``\\xNN``."""
    return "".join(f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in name)


def legible(text: str) -> str:
    """The ``readable`` text on one line, to look at; what cannot be printed is U+FFFD."""
    line = " ".join(readable(text).split())
    return "".join(c if c.isprintable() or c in JOINERS else "\N{REPLACEMENT CHARACTER}" for c in line)


def sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()  # hashlib.file_digest needs Python 3.11
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def new_folder(name: str) -> Path:
    """``runs/NAME-1``, or with the next number that is free; it is not made yet."""
    return next(p for n in range(1, 10**6) if not (p := Path("runs") / f"{name}-{n}").exists())


def cache_dir() -> Path:
    """``$SSL_VIDEO_CACHE``, else ``$XDG_CACHE_HOME/ssl-video``, else ``~/.cache/ssl-video``."""
    if explicit := os.environ.get("SSL_VIDEO_CACHE"):
        return Path(explicit).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ssl-video"


def copies_dir(kind: str) -> Path:
    """Where copies of videos lie that no command was told a place for: ``$SSL_VIDEO_CACHE/KIND``, else beside the runs.

    ``kind``: clips or flow. Beside the runs is ``runs/copies/KIND`` in the current folder.
    """
    explicit = os.environ.get("SSL_VIDEO_CACHE")
    return (Path(explicit).expanduser() if explicit else Path("runs") / "copies").absolute() / kind
