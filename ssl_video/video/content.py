"""Which video this is, whatever its file is called and wherever it lies: a digest of its bytes."""

import hashlib
from pathlib import Path

from ssl_video.video.pictures import picture_files

BLOCK = 1 << 16
"""Bytes that are read at the beginning and at the end of a file."""


def content_of(path: Path | str) -> str:
    """16 hexadecimal digits that tell one video from another: 64 bits of a SHA-256.

    Of a file, over its size, its first and its last 64 KiB; of a folder of pictures, over how many there are, the size
    of each, and the first 64 KiB of the first and of the last one. Raises OSError.
    """
    path = Path(path)
    files = picture_files(path) if path.is_dir() else [path]
    digest = hashlib.sha256("|".join(str(file.stat().st_size) for file in files).encode())
    if len(files) == 1:
        digest.update(_bytes(files[0], at_end=False) + _bytes(files[0], at_end=True))
    elif files:
        digest.update(_bytes(files[0], at_end=False) + _bytes(files[-1], at_end=False))
    return digest.hexdigest()[:16]


def _bytes(file: Path, at_end: bool) -> bytes:
    with file.open("rb") as opened:
        if at_end:
            opened.seek(max(0, file.stat().st_size - BLOCK))
        return opened.read(BLOCK)
