"""A tiny writer of TFRecord files and of the messages in them, written from the format alone."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np


def crc32c(data: bytes) -> int:
    """Bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def checksum(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32)


def framed(record: bytes) -> bytes:
    length = struct.pack("<Q", len(record))
    return length + checksum(length) + record + checksum(record)


def write(path: Path, records: Iterable[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(framed, records)))
    return path


def varint(number: int) -> bytes:
    number %= 2**64
    out = b""
    while number >= 128:
        out += bytes([number % 128 + 128])
        number //= 128
    return out + bytes([number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def of_bytes(*values: bytes) -> bytes:
    return field(1, b"".join(field(1, v) for v in values))


def of_floats(values: Sequence[float]) -> bytes:
    return field(2, field(1, struct.pack(f"<{len(values)}f", *values)))


def of_integers(values: Iterable[int], packed: bool = True) -> bytes:
    if packed:
        return field(3, field(1, b"".join(map(varint, values))))
    return field(3, b"".join(varint(1 << 3) + varint(v) for v in values))


def mapping(entries: Mapping[str, bytes]) -> bytes:
    return b"".join(field(1, field(1, name.encode()) + field(2, value)) for name, value in entries.items())


def example(features: Mapping[str, bytes]) -> bytes:
    return field(1, mapping(features))


def sequence_example(context: Mapping[str, bytes], lists: Mapping[str, Sequence[bytes]]) -> bytes:
    steps = {name: b"".join(field(1, step) for step in feature) for name, feature in lists.items()}
    return field(1, mapping(context)) + field(2, mapping(steps))


def seconds_of_features(
    labels: Iterable[int], rgb_TD: np.ndarray, audio_TD: np.ndarray, name: bytes = b"abcd"
) -> bytes:
    """A frame-level record of YouTube-8M: two rows of bytes a second."""
    lists = {"rgb": rgb_TD, "audio": audio_TD}
    rows = {kind: [of_bytes(row.tobytes()) for row in rows_TD] for kind, rows_TD in lists.items()}
    return sequence_example({"id": of_bytes(name), "labels": of_integers(labels)}, rows)
