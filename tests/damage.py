"""What happens to bytes on disks and on the way, and to texts under hands."""

import re

import numpy as np

ODD = [
    "NaN", "Infinity", "-Infinity", ".nan", ".inf", "-1", "0", "1e999", "1e308", "9" * 30, "9" * 5000, "null", "~",
    "true", "[]", "{}", '""', "''", '"x"', "x", "[" * 100000, "{a: " * 2000, "&a [*a]", "*a", "!!python/name:os.system",
    "\\ud800", "2024-99-99", "0x", "1:2", "\0", "\r", "|", "../..",
]  # fmt: skip
"""What a number or a word of a text may be changed to."""


def damaged(content: bytes, rng: np.random.Generator, text: bool) -> bytes:
    """The bytes with one to three faults: flipped, cut off, zeroed, repeated, swapped, spliced; words changed."""
    ways = [_flipped, _cut_off, _zeroed, _repeated, _swapped, _spliced] + [_odd] * (6 if text else 0)
    for _ in range(int(rng.integers(1, 4))):
        if content:
            content = ways[rng.integers(len(ways))](content, rng)
    return content


def _span(content: bytes, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(len(content)))
    return start, start + int(2 ** rng.uniform(0, np.log2(len(content) - start + 1)))


def _flipped(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for place in rng.integers(0, len(content), int(rng.integers(1, 9))):
        changed[place] ^= 1 << int(rng.integers(8)) if rng.random() < 0.5 else int(rng.integers(1, 256))
    return bytes(changed)


def _cut_off(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content)))] if rng.random() < 0.5 else content[: -int(rng.integers(1, 64))]


def _zeroed(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(content, rng)
    return content[:start] + bytes(end - start) + content[end:]


def _repeated(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(content, rng)
    return content[:end] + content[start:]


def _swapped(content: bytes, rng: np.random.Generator) -> bytes:
    (a, b), size = sorted(rng.integers(0, len(content), 2).tolist()), int(rng.integers(1, 9))
    size = min(size, b - a, len(content) - b)
    return content[:a] + content[b : b + size] + content[a + size : b] + content[a : a + size] + content[b + size :]


def _spliced(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = _span(content, rng)
    return content[:start] + rng.bytes(min(end - start, 64)) + content[end:]


def _odd(content: bytes, rng: np.random.Generator) -> bytes:
    """With another value where a word or a number stands."""
    found = list(re.finditer(rb'"[^"\n]*"|-?\d[\d.e+-]*|[A-Za-z_]\w*', content))
    if not found:
        return content
    word = found[rng.integers(len(found))]
    odd = ODD[rng.integers(len(ODD))].encode()
    return content[: word.start()] + odd + content[word.end() :]
