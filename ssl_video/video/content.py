"""Which video this is, whatever its file is called and wherever it lies: a digest of its bytes.

And whether a file is still as it was: its state, which costs no reading.
"""

import hashlib
from pathlib import Path

from ssl_video.members import member_of, read_part, shard_state
from ssl_video.video.pictures import picture_files

BLOCK = 1 << 16
"""Bytes that are read at the beginning and at the end of a file."""


def content_of(path: Path | str) -> str:
    """16 hexadecimal digits that tell one video from another: 64 bits of a SHA-256.

    Of a file, over its size, its first and its last 64 KiB; of a folder of pictures, over how many there are, the size
    of each, and the first 64 KiB of the first and of the last one; of a member of a shard, as of the file that it was.
    Raises OSError.
    """
    if (member := member_of(path)) is not None:
        ends = read_part(member, 0, BLOCK) + read_part(member, max(0, member.size - BLOCK), BLOCK)
        return hashlib.sha256(str(member.size).encode() + ends).hexdigest()[:16]
    path = Path(path)
    files = picture_files(path) if path.is_dir() else [path]
    digest = hashlib.sha256("|".join(str(file.stat().st_size) for file in files).encode())
    if len(files) == 1:
        digest.update(_bytes(files[0], at_end=False) + _bytes(files[0], at_end=True))
    elif files:
        digest.update(_bytes(files[0], at_end=False) + _bytes(files[-1], at_end=False))
    return digest.hexdigest()[:16]


def state_of(path: Path | str) -> str:
    """``SIZE|...``: bytes and time of change of a file, or shard; of a folder, of all its pictures. Raises OSError.

    What is kept of a file is kept with the state that it had before it was read, and only if it still has it
    afterwards. Rights, owner, links and the number of the file count for nothing: they change without a byte being
    another one, and on some network disks each time.
    """
    if (member := member_of(path)) is not None:
        return f"{member.size}|{shard_state(member)}"
    path = Path(path)
    stat = path.stat()
    if not path.is_dir():
        return f"{stat.st_size}|{stat.st_mtime_ns}"
    stats = [(file.name, file.stat()) for file in picture_files(path)]
    lines = "\n".join(f"{name}|{one.st_size}|{one.st_mtime_ns}" for name, one in stats)
    digest = hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()[:16]
    return f"{sum(one.st_size for _, one in stats)}|{digest}"


def _bytes(file: Path, at_end: bool) -> bytes:
    with file.open("rb") as opened:
        if at_end:
            opened.seek(max(0, file.stat().st_size - BLOCK))
        return opened.read(BLOCK)
