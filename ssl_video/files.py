"""Writing files so that a reader never sees half of one, and hashing them."""

import contextlib
import errno
import glob
import hashlib
import os
import re
import shlex
import shutil
import time
import unicodedata
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from ssl_video.errors import UserError
from ssl_video.members import member_of
from ssl_video.processes import LOCK, started, this_host
from ssl_video.remote import is_remote

LEFT_BEHIND = re.compile(
    r"\..*\.(?:(?P<host>[0-9a-f]{8})-(?P<started>\d+)-)?(?P<pid>\d+)-[0-9a-f]{8}\.tmp(?:\..*)?", re.DOTALL
)
"""Names of what is being written, or was when its process died; without host and start by versions before this one."""
DEAD_AFTER_S = 24 * 3600.0
"""What a process of another machine began to write is dead if nothing was written for so long."""


def aside_of(path: Path) -> Path:
    """A hidden name beside ``path`` that says which process writes there; it keeps the suffix, short and in bytes."""
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= 20 else ""
    stem = os.fsdecode(os.fsencode(path.stem)[:100])
    process = f"{this_host()}-{started(os.getpid())}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return path.with_name(f".{stem}.{process}.tmp{suffix}")


JOINERS = "\u200c\u200d"
"""Characters that cannot be seen but belong to words of some languages, and to emoji."""


@contextlib.contextmanager
def written_aside(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it to disk and rename it over ``path``.

    The old file stays whole until the new one is complete, also on a full disk or after SIGKILL. The temporary name
    keeps the suffix, because encoders choose a container by it.

    Raises:
        OSError: with its number also where the library that writes says of a full disk only that it could not write.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_of(path)
    try:
        aside.touch()
        mode = aside.stat().st_mode
        aside.unlink()  # so that a writer that wrote nothing is found out
        yield aside
        aside.chmod(mode)  # as the umask says: safetensors' are for their user alone
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    except Exception as error:
        if _no_room(error, path.parent):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        aside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can do that for folders."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _no_room(error: Exception, folder: Path) -> bool:
    """True for an error without a number (numpy's of a short write, torch's, faiss's) on a disk that is full."""
    if isinstance(error, UserError) or getattr(error, "errno", None) is not None:
        return False
    try:
        return shutil.disk_usage(folder).free < 1 << 16 or "No space left on device" in str(error)
    except OSError:
        return False


@contextlib.contextmanager
def folder_written_aside(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder; on success it becomes the folder ``path`` at once, else nothing is left behind.

    Raises:
        UserError: if ``path`` is not new or empty, now or by then.
    """
    path = Path(path).resolve()
    check_new(path)
    near = next(p for p in path.parents if p.is_dir())
    clear_dead(near, path.name)
    aside = aside_of(near / path.name)
    aside.mkdir()
    try:
        yield aside
        check_new(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.replace(path)
        except OSError:  # something is mounted there, or what the dead of another machine began lies there
            for file in aside.iterdir():
                file.replace(path / file.name)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def check_folder(folder: Path) -> None:
    """Raise UserError if ``folder`` is a file, or would lie in one."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise UserError(f"{nearest} is {'a file' if nearest.exists() else 'a broken link'}; --out must name a folder.")


def check_file(path: Path) -> None:
    """Raise UserError if a file cannot be written at ``path``: it is a folder, or would lie in a file."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; --out must name a file.")
    nearest = next(above for above in path.absolute().parents if os.path.lexists(above))
    if not nearest.is_dir():
        raise UserError(f"{nearest} is a file, so that nothing can be written in it; name another --out.")


def check_new(folder: Path) -> None:
    """Raise UserError unless ``folder`` is new or empty (``is_empty``)."""
    check_folder(folder)
    if not is_empty(folder):
        raise UserError(f"{folder} exists and is not empty; choose another --out.")


def is_empty(folder: Path) -> bool:
    """True if nothing lies in ``folder``, or there is none; what dead processes began to write there is removed.

    What cannot be told from work of the living, because another machine began it, is passed over, as is the lock of
    ``processes.held``.
    """
    if not folder.is_dir():
        return not folder.exists()
    clear_dead(folder)
    return all(entry.name == LOCK or _of(entry.name) in ("another", "dead") for entry in folder.iterdir())


def clear_dead(folder: Path, name: str = "") -> None:
    """Remove what processes that died began to write into ``folder``: all of it, or what was to be ``name`` there."""
    for entry in folder.glob(f".{glob.escape(name)}*"):
        process = _of(entry.name)
        try:
            dead = process == "dead" or (process == "another" and time.time() - entry.stat().st_mtime > DEAD_AFTER_S)
            if dead and entry.is_dir():
                shutil.rmtree(entry)
            elif dead:
                entry.unlink()
        except OSError:  # removed meanwhile, or not ours
            continue


def _of(name: str) -> Literal["another", "dead", "living", ""]:
    """Whose a file is: of another machine's writing, of a dead or a living process's of this one, or of none."""
    found = LEFT_BEHIND.fullmatch(name)
    if found is None:
        return ""
    if found["host"] is None:
        return "dead" if not started(int(found["pid"])) else "another"
    if found["host"] != this_host():
        return "another"
    return "living" if started(int(found["pid"])) == found["started"] else "dead"


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
    """True if something is there that can be seen; a name that no file can have is not there.

    A member of a shard is there with the shard.
    """
    member = member_of(path)
    if member is not None and is_remote(member.shard):
        return True  # as far as can be known without asking
    return os.path.exists(member.shard if member else path)  # noqa: PTH110  (Path.exists raises for names that are too long)


def readable(name: str) -> str:
    """The name of a file as text that is UTF-8: bytes of it that are not are written as ``\\xNN``."""
    return "".join(f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in name)


def legible(text: str) -> str:
    """The text as ``shown`` has it; the line ends of paragraphs are blanks."""
    return shown(re.sub(r"[ \t]*\n[ \t]*", " ", text))


def sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    return running_sha256(path).hexdigest()


def running_sha256(path: Path | str, size: int | None = None) -> Any:
    """The SHA-256 of a file's bytes, or of its first ``size``, to be continued."""
    digest, left = hashlib.sha256(), size  # hashlib.file_digest needs Python 3.11, and takes whole files
    with Path(path).open("rb") as file:
        while left != 0 and (block := file.read(1 << 20 if left is None else min(left, 1 << 20))):
            digest.update(block)
            left = None if left is None else left - len(block)
    return digest


def free_folder(name: str) -> Path:
    """``runs/NAME-1``, or with the next number that is free."""
    return next(p for n in range(1, 10**6) if not (p := Path("runs") / f"{name}-{n}").exists())


def new_folder(name: str) -> Path:
    """``free_folder``, made at once, so that no other process takes it too."""
    while True:
        folder = free_folder(name)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder


def cache_dir() -> Path:
    """``$SSL_VIDEO_CACHE``, else ``$XDG_CACHE_HOME/ssl-video``, else ``~/.cache/ssl-video``. Raises UserError."""
    if explicit := os.environ.get("SSL_VIDEO_CACHE"):
        return _at_home(explicit)
    return _at_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "ssl-video"


def copies_dir(kind: str) -> Path:
    """Where copies of videos lie that no command was told a place for: ``$SSL_VIDEO_CACHE/KIND``, else beside the runs.

    ``kind``: clips or flow. Beside the runs is ``runs/copies/KIND`` in the current folder.
    """
    explicit = os.environ.get("SSL_VIDEO_CACHE")
    return (_at_home(explicit) if explicit else Path("runs") / "copies").absolute() / kind


def _at_home(path: str) -> Path:
    """With ``~`` as the home folder of the user. Raises UserError if there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(
            "This user has no home folder (HOME is not set); name a folder for the cache by SSL_VIDEO_CACHE, as in "
            "SSL_VIDEO_CACHE=/tmp/ssl-video."
        ) from None
