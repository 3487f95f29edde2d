"""Members of tar files as paths: ``SHARD.tar@OFFSET+SIZE/NAME`` is the file NAME, whose bytes begin there in the shard.

Such a path goes wherever that of a file goes; the shard may lie elsewhere (``remote``), and is asked for nothing then
but the bytes of members. The 512 bytes before a member are its header, by which every reading
checks that the member is where the path says.
"""

import os
import posixpath
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

from ssl_video.remote import is_remote, read_range

HEADER = 512
"""Bytes of the header before a member, and what members are filled up to."""
PATH = re.compile(r"(.+?\.tar)@(\d{1,19})\+(\d{1,19})/(.+)", re.DOTALL | re.IGNORECASE)


class MemberError(OSError):
    """A shard is not as the path of a member says; the message is a phrase that says how."""

    def __init__(self, phrase: str):
        super().__init__(None, phrase)

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True)
class Member:
    """A file in a tar: ``size`` bytes from ``offset`` on."""

    shard: str
    offset: int
    size: int
    name: str

    @property
    def path(self) -> str:
        """Its path."""
        return f"{self.shard}@{self.offset}+{self.size}/{self.name}"


def member_of(path: Path | str) -> Member | None:
    """The member that a path names, None for the path of a file."""
    found = PATH.fullmatch(str(path)) if "@" in str(path) else None
    return None if found is None else Member(found[1], int(found[2]), int(found[3]), found[4])


def plain_name(name: str) -> str:
    """The name of a member as part of a path, without what would lead out of the shard."""
    return posixpath.normpath(f"/{name}").lstrip("/")


def path_in(path: str, shard: str, offset: str, size: str) -> str:
    """The path that these cells of a list name: of a file, or with a ``shard`` of its member. Raises ValueError."""
    if not shard.strip() or not path.strip():
        return path
    place, length = int(offset), int(size)
    if not 0 <= place < 2**63 or not 0 <= length < 2**63:
        raise ValueError("beyond what a file has")
    return Member(shard.strip(), place, length, plain_name(path.strip())).path


def shard_state(member: Member) -> str:
    """``BYTES|TIME``: how large the shard is and when it changed, "" for one that lies elsewhere.

    Raises MemberError if it ends too early, OSError.
    """
    if is_remote(member.shard):
        return ""
    stat = Path(member.shard).stat()
    if member.offset + member.size > stat.st_size:
        raise MemberError(f"its shard {member.shard} ends before it: is that cut off?")
    return f"{stat.st_size}|{stat.st_mtime_ns}"


def state_and_identity(path: str) -> tuple[int, int, tuple[int, ...]]:
    """Bytes and time of change (ns) of a file or member, and numbers that are the same under all names of it.

    Raises OSError.
    """
    member = member_of(path)
    if member is not None and is_remote(member.shard):
        return member.size, 0, (hash(path),)
    stat = Path(member.shard if member else path).stat()
    if member is None:
        return stat.st_size, stat.st_mtime_ns, (stat.st_dev, stat.st_ino)
    shard_state(member)
    return member.size, stat.st_mtime_ns, (stat.st_dev, stat.st_ino, member.offset)


def shortfall(path: str) -> str:
    """Why the shard of a path does not hold it, as a phrase; "" if it may, and for paths of files."""
    member = member_of(path)
    try:
        if member is not None:
            shard_state(member)
    except OSError as error:
        return error.strerror or "its shard cannot be read"
    return ""


def read_member(member: Member) -> bytes:
    """Its bytes, by one reading of the shard. Raises MemberError if it is not there, OSError."""
    if member.offset < HEADER:
        raise MemberError(_other(member))
    found = _bytes(member.shard, member.offset - HEADER, HEADER + member.size)
    if len(found) < HEADER + member.size:
        raise MemberError(f"its shard {member.shard} ends before it: is that cut off?")
    _check(member, found[:HEADER])
    return found[HEADER:]


def read_part(member: Member, begin: int, count: int) -> bytes:
    """Some bytes of it, as far as there are so many. Raises OSError."""
    return _bytes(member.shard, member.offset + begin, max(0, min(count, member.size - begin)))


def check_member(member: Member) -> None:
    """Raise MemberError if it is not where its path says, OSError if that cannot be known."""
    shard_state(member)
    _check(member, _bytes(member.shard, max(0, member.offset - HEADER), HEADER))


def _check(member: Member, header: bytes) -> None:
    try:
        said = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.TarError:
        raise MemberError(_other(member)) from None
    whole_name = len(os.fsencode(said.name)) < 100  # a longer one stands in a header of its own
    if not said.isreg() or said.size != member.size or (whole_name and plain_name(said.name) != member.name):
        raise MemberError(_other(member))


def _other(member: Member) -> str:
    return f"its list and its shard disagree: {member.shard} does not hold it at byte {member.offset}"


def _bytes(shard: str, begin: int, count: int) -> bytes:
    """As many bytes of a file as there are."""
    if is_remote(shard):
        return read_range(shard, begin, begin + count)
    parts: list[bytes] = []
    file = os.open(shard, os.O_RDONLY)
    try:
        while count > 0 and (part := os.pread(file, count, begin)):  # one call gives 2 GB at most
            parts.append(part)
            begin, count = begin + len(part), count - len(part)
    finally:
        os.close(file)
    return parts[0] if len(parts) == 1 else b"".join(parts)
