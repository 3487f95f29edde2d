"""Which videos a network has seen, by their digests: ten million of them are 80 MB in memory and a file of that size.

Few are written as texts where they are noted. Of many the note names a file beside it, ``videos-DIGEST.npy``, whose
name has the first 16 digits of the SHA-256 of its numbers; these are in order, so that one is found by bisection.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import Any

import numpy as np

from ssl_video.files import written_aside
from ssl_video.readback import of_type, read_array, reading, texts

FEW = 100_000
"""As many digests are noted as texts, some 2 MB; the header of a file of weights may have 100 MB in all."""
CONTENT, NAME = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9a-f]{8}")
"""A digest of a video's content, and one of its folder and name (``model.seen``)."""
BESIDE = re.compile(r"videos-[0-9a-f]{16}\.npy")


class Digests(Set[str]):
    """A set of texts that never changes, digests as a rule, which it holds as numbers in order.

    ``file``, of numbers that are not given, is read when it is first needed: then UserError is raised where it is
    missing or damaged, or does not hold the digests that its name says.
    """

    def __init__(
        self,
        numbers: tuple[np.ndarray, np.ndarray] | None,
        others: Iterable[str] = (),
        file: tuple[Path, int] | None = None,
    ):
        self._numbers, self._file, self.others = numbers, file, frozenset(others)

    @classmethod
    def of(cls, names: Iterable[str]) -> "Digests":
        """Those of any texts, repeated or not."""
        if isinstance(names, Digests):
            return names
        short, content = bytearray(), bytearray()
        others = set()
        for name in names:
            if CONTENT.fullmatch(name):
                content += bytes.fromhex(name)
            elif NAME.fullmatch(name):
                short += bytes.fromhex(name)
            else:
                others.add(name)
        return cls((_in_order(short, ">u4"), _in_order(content, ">u8")), others)

    @property
    def numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """The digests of eight digits, and those of sixteen: two arrays of uint64, ascending."""
        if self._numbers is None:
            assert self._file is not None
            file, short = self._file
            with reading(file, f"bring {file.name} back: it lay beside these weights where they were written"):
                numbers_N = read_array(file, 1, mapped=False)
                if numbers_N.dtype != np.uint64 or file.name != _name_of(numbers_N):
                    raise ValueError("it was altered since it was written")
            self._numbers = numbers_N[:short], numbers_N[short:]
        return self._numbers

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        short_N, content_N = self.numbers
        if CONTENT.fullmatch(name):
            return _holds(content_N, int(name, 16))
        return _holds(short_N, int(name, 16)) if NAME.fullmatch(name) else name in self.others

    def __len__(self) -> int:
        return sum(map(len, self.numbers)) + len(self.others)

    def __iter__(self) -> Iterator[str]:
        short_N, content_N = self.numbers
        yield from self.others
        yield from (f"{number:08x}" for number in short_N.tolist())
        yield from (f"{number:016x}" for number in content_N.tolist())

    def __or__(self, other: Iterable[str]) -> "Digests":
        more = Digests.of(other)
        if not more or not self:
            return more or self
        short_N, content_N = map(np.union1d, self.numbers, more.numbers)
        return Digests((short_N, content_N), self.others | more.others)

    __ror__ = __or__

    @classmethod
    def _from_iterable(cls, it: Iterable[str]) -> "Digests":  # what comes of the other operators of sets
        return cls.of(it)

    def __deepcopy__(self, _memo: object) -> "Digests":
        return self

    def __repr__(self) -> str:
        return f"Digests(of {len(self)} videos)"


def _in_order(digests: bytearray, kind: str) -> np.ndarray:
    return np.unique(np.frombuffer(bytes(digests), kind).astype(np.uint64))


def _name_of(numbers_N: np.ndarray) -> str:
    return f"videos-{hashlib.sha256(numbers_N.data).hexdigest()[:16]}.npy"


def _holds(numbers_N: np.ndarray, number: int) -> bool:
    place = int(np.searchsorted(numbers_N, np.uint64(number)))
    return place < len(numbers_N) and int(numbers_N[place]) == number


def to_note(folder: Path, names: Iterable[str]) -> list[str] | dict[str, Any]:
    """What is noted of these texts, as JSON takes it, in a file of ``folder``; of many, their own file is written."""
    found = Digests.of(names)
    if len(found) <= FEW:
        return sorted(found)
    numbers_N = np.concatenate(found.numbers)
    with written_aside(folder / _name_of(numbers_N)) as aside:
        np.save(aside, numbers_N)
    return {"beside": _name_of(numbers_N), "short": len(found.numbers[0]), "others": sorted(found.others)}


def from_note(folder: Path, noted: Any) -> list[str] | Digests:
    """What ``to_note`` noted in a file of ``folder``. Raises one of ``readback.DAMAGE`` for anything else."""
    if not isinstance(noted, dict):
        return texts(noted)
    if not BESIDE.fullmatch(of_type(noted["beside"], str)) or of_type(noted["short"], int) < 0:
        raise ValueError("it names no file of digests")
    return Digests(None, texts(noted["others"]), (folder / noted["beside"], noted["short"]))
