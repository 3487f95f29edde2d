"""Writing files so that a reader never sees half of one, and hashing them."""

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import unicodedata
import uuid
from collections.abc import Iterator
from pathlib import Path

from ssl_video.errors import UserError

JOINERS = "\u200c\u200d"
"""Characters that cannot be seen but belong to words of some languages, and to emoji."""


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
    """Write a UTF-8 text file aside and rename it; names in it that are not UTF-8 keep their bytes."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8", errors="surrogateescape")


def shown(text: object) -> str:
    """Names and messages as terminals and pages show them: on one line, and only what can be seen.

    Bytes that are not UTF-8 become ``\\xNN``; control characters, escape sequences, line ends and characters that
    change the direction of a line become escapes, too. A backslash stays one: it is text to look at.
    """
    line = str(text)
    return line if line.isprintable() else "".join(map(_seen, line))


def shown_lines(text: str) -> str:
    """``shown``, of lines that stay lines, with their tabs."""
    return "".join(part if part in "\n\t" else shown(part) for part in re.split(r"([\n\t])", text))


def _seen(c: str) -> str:
    if c.isprintable() or c in JOINERS or unicodedata.category(c) == "Zs":
        return c
    if "\udc80" <= c <= "\udcff":
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("unicode_escape").decode()


def as_word(path: Path | str) -> str:
    """A name as a word for a shell that can be pasted: quoted where needed; one that begins with a dash gets ``./``."""
    word = f"./{path}" if str(path).startswith("-") else str(path)
    if word.isprintable():
        return shlex.quote(word)
    escaped = (chr(b) if 32 <= b < 127 and b not in b"'\\" else f"\\x{b:02x}" for b in os.fsencode(word))
    return f"$'{''.join(escaped)}'"


def cut(name: str, most: int) -> str:
    """The beginning of a name, at most ``most`` bytes in a file system and no part of a character."""
    while len(os.fsencode(name)) > most:
        name = name[:-1]
    return name


def there(path: Path | str) -> bool:
    """True if something is there that can be seen; a name that no file can have is not there."""
    return os.path.exists(path)  # noqa: PTH110  (Path.exists raises for names that are too long)


def readable(name: str) -> str:
    """The name of a file as text that is UTF-8: bytes of it that are not are written as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


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
