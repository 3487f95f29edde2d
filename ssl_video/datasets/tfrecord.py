"""TFRecord files and the two kinds of message in them, read without TensorFlow.

A file is a row of records: length (8 bytes), its checksum (4), data, its checksum (4), numbers in little-endian order.
The checksums are CRC-32C, rotated by 15 bits and shifted by a constant. The data of interest here are protocol buffers
called Example (named features) and SequenceExample (named features, and named lists of one feature a step).

Files may be damaged or hostile: nothing is allocated that the file does not hold, and whatever is wrong is a
``TFRecordError`` with a phrase.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

RECORD_LIMIT = 1 << 24
"""Bytes of a record; more are refused. A frame-level record of YouTube-8M has about 350,000."""
POLYNOMIAL = 0x82F63B78
"""Castagnoli's, its bits reversed."""
ROW = 64
"""Bytes of which the checksum is looked up together."""

Feature = np.ndarray | tuple[bytes, ...]
"""Numbers (int64 or float32, one axis), or strings of bytes."""
Steps = np.ndarray | list[Feature]
"""The features of a list; where each is one string of bytes and all are equally long, these bytes, uint8 (T, D)."""


class TFRecordError(Exception):
    """Why a record cannot be read, as a phrase; ``fatal`` if the records after it cannot be found either."""

    def __init__(self, reason: str, fatal: bool = False):
        super().__init__(reason)
        self.fatal = fatal


def read_records(path: Path | str) -> Iterator[bytes | TFRecordError]:
    """The data of every record in turn, or why it cannot be read; the file is streamed.

    After damaged data the next record follows. Where a length is damaged or the file ends early, that is the last item.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            left = path.stat().st_size
            while left > 0:
                head = file.read(12)
                if len(head) < 12:
                    yield TFRecordError("the file ends within a record", fatal=True)
                    return
                length = int.from_bytes(head[:8], "little")
                if masked(crc32c(head[:8])) != int.from_bytes(head[8:], "little"):
                    yield TFRecordError("the checksum of a record's length is wrong", fatal=True)
                    return
                left -= 16 + length
                if length > RECORD_LIMIT:
                    yield TFRecordError(f"a record has {length} bytes, which is too many", fatal=True)
                    return
                data, tail = (file.read(length), file.read(4)) if left >= 0 else (b"", b"")
                if len(tail) < 4:
                    yield TFRecordError("the file ends within a record", fatal=True)
                    return
                right = masked(crc32c(data)) == int.from_bytes(tail, "little")
                yield data if right else TFRecordError("the checksum of a record's data is wrong")
    except OSError as error:
        yield TFRecordError(f"cannot be read: {error.strerror}", fatal=True)


def masked(crc: int) -> int:
    """A checksum as it is stored: rotated right by 15 bits, plus a constant."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C of ``data``.

    A checksum is linear over GF(2). So the contributions of the 64 bytes of a row are looked up by place and value and
    XORed, all rows at once; then neighbours are joined, again and again, the left one moved past the zeros that the
    right one stands for.
    """
    if len(data) < 2 * ROW:
        crc = 0xFFFFFFFF
        for byte in data:
            crc = crc >> 8 ^ _bytewise()[(crc ^ byte) & 0xFF]
        return crc ^ 0xFFFFFFFF
    front = -len(data) % ROW  # zeros before the data change nothing, once the initial value is folded into the data
    padded = np.zeros(front + len(data), np.uint8)
    padded[front:] = np.frombuffer(data, np.uint8)
    padded[front : front + 4] ^= 0xFF
    rows_NR = padded.reshape(-1, ROW)
    crcs = np.zeros(len(rows_NR), np.uint32)
    for place, table in enumerate(_by_place()):
        crcs ^= table[rows_NR[:, place]]
    level = 0
    while len(crcs) > 1:
        if len(crcs) % 2:
            crcs = np.concatenate([np.zeros(1, np.uint32), crcs])
        crcs = _past_zeros(level, crcs[0::2]) ^ crcs[1::2]
        level += 1
    return int(crcs[0]) ^ 0xFFFFFFFF


@functools.cache
def _bytewise() -> list[int]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return table


@functools.cache
def _by_place() -> np.ndarray:
    """(ROW, 256) checksum of a row whose byte at one place has one value, all others 0."""
    step = np.array(_bytewise(), np.uint32)
    tables = np.zeros((ROW, 256), np.uint32)
    tables[-1] = step
    for place in range(ROW - 2, -1, -1):
        tables[place] = tables[place + 1] >> 8 ^ step[tables[place + 1] & 0xFF]
    return tables


@functools.cache
def _zero_tables(level: int) -> np.ndarray:
    """(4, 256) where a checksum moves by ROW * 2**level zero bytes, by the place and value of each of its bytes."""
    values = np.arange(256, dtype=np.uint32)[None] << np.array([[0], [8], [16], [24]], np.uint32)
    if level:
        return _past_zeros(level - 1, _past_zeros(level - 1, values))
    step = np.array(_bytewise(), np.uint32)
    for _ in range(ROW):
        values = values >> 8 ^ step[values & 0xFF]
    return values


def _past_zeros(level: int, crcs: np.ndarray) -> np.ndarray:
    tables = _zero_tables(level)
    low = tables[0][crcs & 0xFF] ^ tables[1][crcs >> 8 & 0xFF]
    return low ^ tables[2][crcs >> 16 & 0xFF] ^ tables[3][crcs >> 24]


def parse_example(record: bytes) -> tuple[dict[str, Feature], dict[str, Steps]]:
    """The features of an Example, or the context and the lists of a SequenceExample: name -> feature, name -> list.

    The two have the same field number for their features; an Example has no lists. Raises TFRecordError.
    """
    features: dict[str, Feature] = {}
    lists: dict[str, Steps] = {}
    for number, value in _messages(memoryview(record)):
        if number == 1:
            for _, entry in _messages(value):
                name, message = _entry(entry)
                features[name] = _feature(message)
        elif number == 2:
            for _, entry in _messages(value):
                name, message = _entry(entry)
                lists[name] = _steps(message)
    return features, lists


def _steps(message: memoryview) -> Steps:
    """The usual case is recognised by its bytes: rows of one length that begin alike, and nothing between them."""
    head, row = _head_of_row(message)
    if row and len(message) % row == 0:
        bytes_TR = np.frombuffer(message, np.uint8).reshape(-1, row)
        if (bytes_TR[:, :head] == bytes_TR[0, :head]).all():
            return bytes_TR[:, head:]
    return [_feature(step) for number, step in _messages(message) if number == 1]


def _head_of_row(message: memoryview) -> tuple[int, int]:
    """Bytes before the string of the first step, and of the whole step; 0, 0 if it is no single string."""
    at, row = 0, 0
    for level in range(3):  # the feature, its list of strings, the string
        if at >= len(message) or message[at] != 0x0A:
            return 0, 0
        size, at = _varint(message, at + 1)
        row = row or at + size
        if at + size != row or row > len(message) or (level == 2 and size == 0):
            return 0, 0
    return at, row


def _feature(message: memoryview) -> Feature:
    feature: Feature = ()
    for kind, values in _messages(message):
        if kind == 1:
            feature = tuple(bytes(v) for _, v in _messages(values))
        elif kind == 2:
            feature = np.concatenate([np.zeros(0, np.float32), *(_floats(w, v) for _, w, v in _fields(values))])
        elif kind == 3:
            numbers = [n for _, w, v in _fields(values) for n in _integers(w, v)]
            feature = np.array(numbers, np.uint64).view(np.int64)
    return feature


def _floats(wire: int, value: memoryview | int) -> np.ndarray:
    if wire not in (2, 5) or isinstance(value, int) or len(value) % 4:
        raise TFRecordError("a list of numbers is damaged")
    return np.frombuffer(value, "<f4").astype(np.float32)


def _integers(wire: int, value: memoryview | int) -> Iterator[int]:
    if isinstance(value, int):
        yield value
        return
    if wire != 2:
        raise TFRecordError("a list of whole numbers is damaged")
    at = 0
    while at < len(value):
        number, at = _varint(value, at)
        yield number


def _entry(message: memoryview) -> tuple[str, memoryview]:
    """Key and value of an entry of a map."""
    key, value = "", memoryview(b"")
    for number, part in _messages(message):
        if number == 1:
            key = str(part, "utf-8", "replace")
        elif number == 2:
            value = part
    return key, value


def _messages(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of the fields that have a length: messages, strings and bytes."""
    for number, wire, value in _fields(message):
        if wire == 2 and not isinstance(value, int):
            yield number, value


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview | int]]:
    """Number, wire type and value of every field: a whole number (type 0) or the field's bytes (1, 2 and 5)."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield key >> 3, wire, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise TFRecordError(f"a message has a field of the unknown type {wire}")
        if size > end - at:
            raise TFRecordError("a message ends within a field")
        yield key >> 3, wire, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A whole number of at most 64 bits, seven a byte, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise TFRecordError("a message ends within a number")
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, at
    raise TFRecordError("a number has more than ten bytes")
