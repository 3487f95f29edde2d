"""Which processes live, what a process holds for itself alone, and children that end when their parent has."""

import contextlib
import errno
import fcntl
import functools
import hashlib
import multiprocessing
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from ssl_video.errors import UserError

LOCK = ".lock"
"""A file in a folder that one process alone may change, for as long as it does; it says which process that is."""
LOOK_S = 0.5
"""How often a child looks whether its parent lives, and a process whether another has ended."""
_held: dict[str, int | None] = {}
"""Folders that this process holds, with the open file of the lock; None where there are no locks."""
_one_thread = threading.Lock()


def cores() -> int:
    """Cores that this process may use: so many children or threads are at work at a time, unless told."""
    return len(os.sched_getaffinity(0))


@functools.cache
def this_host() -> str:
    """Eight hexadecimal digits of this machine since it was started, and of the container within it."""
    known = [socket.gethostname()]
    with contextlib.suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        known.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("|".join(known).encode(errors="surrogateescape")).hexdigest()[:8]


def started(pid: int) -> str:
    """When a process of this machine began, in its clock's ticks: a number is given to a second process later on.

    "" if there is no such process (or it is a dead one that its parent has not buried), "0" where the system does not
    say when it began.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    except (OSError, ValueError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "0"


@contextlib.contextmanager
def held(folder: Path, doing: str, *, wait: bool = False, made: bool = False) -> Iterator[None]:
    """Let nobody else change ``folder``, which is made if need be, until the end of this context or of this process.

    A lock of POSIX on a file in it: it ends with the process, however that ends, and loaders' workers, which are
    forked, do not inherit it (as they would one by ``flock``). On a file system without locks there is a warning.

    Args:
        folder: removed at the end if it was made here (or just before: ``made``) and nothing was written into it.
        doing: what is done, as a noun phrase, for those who are refused.
        wait: for the end of the other, instead of refusing.

    Raises:
        UserError: if another process, or another thread of this one, holds it.
    """
    made = made or not folder.exists()
    name = str(folder.resolve())
    while True:
        with _one_thread:
            other = _taken(folder, name)
        if other is None:
            break
        if not wait:
            raise UserError(f"{other} writes into {folder}; wait for its end, or choose another folder.")
        time.sleep(LOOK_S)
    file = _held[name]
    try:
        if file is not None:
            _sign(file, doing)
        yield
    finally:
        if file is not None:
            with contextlib.suppress(OSError):
                (folder / LOCK).unlink()  # while it is locked
        with _one_thread:  # what another thread opens and closes in between would end the lock of the next
            if file is not None:
                os.close(file)
            del _held[name]
        if made:
            with contextlib.suppress(OSError):  # something was written
                folder.rmdir()


def _taken(folder: Path, name: str) -> str | None:
    """Take the lock: None, or who has it."""
    if name in _held:  # a second lock of one process would be granted, and its end would end the first
        return "Another thread of this process"
    try:
        _held[name] = _locked(folder)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN) and error.filename is None:  # of the lock, not of the file
            return _signature(folder)
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
        _held[name] = None
        warnings.warn(
            f"{folder} lies on a file system without locks ({error.strerror}): see to it that no second process "
            "writes into it.",
            stacklevel=4,
        )
    return None


def _locked(folder: Path) -> int:
    """The open and locked file. Raises OSError."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)  # its holder may have removed it, where nothing came of it
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):  # its holder has removed it since it was opened
                if os.path.samestat(os.fstat(file), (folder / LOCK).stat()):
                    return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _sign(file: int, doing: str) -> None:
    with contextlib.suppress(OSError):  # a full disk: then it is held by somebody unnamed
        os.ftruncate(file, 0)
        os.write(file, f"{doing} (process {os.getpid()} on {socket.gethostname()})".encode(errors="replace"))


def _signature(folder: Path) -> str:
    try:
        said = (folder / LOCK).read_text(encoding="utf-8", errors="replace")[:200].strip()
    except OSError:
        said = ""
    return said if said.isprintable() and said else "Another process"


def end_with_parent() -> None:
    """End this process soon after its parent has ended, however, and whatever this one is doing.

    A thread that looks, since the kernel's own signal comes when the parent's thread ends that has started the child.
    A process that the parent has forked knows it by the number that it had then: it may be gone by now.
    """
    forked = multiprocessing.parent_process() if multiprocessing.get_start_method() != "forkserver" else None
    parent = os.getppid() if forked is None or forked.pid is None else forked.pid
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)
