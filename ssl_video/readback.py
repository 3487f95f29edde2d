"""Reading again what was written, checked like what a user gives: damage is one sentence that names the file."""

import contextlib
import json
import math
import struct
import tokenize
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ssl_video.errors import UserError

DAMAGE = (
    *(ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, EOFError, AssertionError),
    *(struct.error, zlib.error),
)
"""What comes of content that is not as it was written: wrong words, types, numbers and lengths, endless nesting."""
LARGEST = 2**63
"""Whole numbers in what we write are smaller."""


@contextlib.contextmanager
def reading(path: Path | str, advice: str) -> Iterator[None]:
    """What goes wrong inside is that the file is damaged: a UserError, which ends with ``advice``, what to do."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; {advice}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}); {advice}.") from None
    except DAMAGE as error:
        raise UserError(f"{path} is damaged ({in_short(error)}); {advice}.") from None


def in_short(error: BaseException) -> str:
    """What an error says, on one line, not too long."""
    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    said = f"lacks {said}" if isinstance(error, KeyError) else said
    return said if len(said) <= 120 else f"{said[:117]}..."


def parsed(text: str | bytes, numbers: bool = True) -> Any:
    """JSON as it is defined: NaN and Infinity are none (with ``numbers=False`` they are let through).

    Raises:
        ValueError: if it is none, or has a whole number beyond 64 bits; also RecursionError.
    """
    if not numbers:
        return json.loads(text, parse_int=_whole)
    return json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_whole)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _finite(word: str) -> float:
    return _no_number(word) if math.isinf(float(word)) else float(word)


def _whole(word: str) -> int:
    if len(word) > 20 or not -LARGEST <= int(word) < LARGEST:
        raise ValueError(f"the number {word[:20]} is too large")
    return int(word)


def of_type(value: Any, *kinds: type) -> Any:
    """The value, which has to be of one of these types; true and false are no numbers. Raises TypeError."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TypeError(f"{str(value)[:40]!r} where {' or '.join(kind.__name__ for kind in kinds)} is expected")
    return value


def texts(values: Any) -> list[str]:
    """The values, which have to be a list of texts. Raises TypeError."""
    return [of_type(value, str) for value in of_type(values, list, tuple)]


def numbered(values: Any) -> dict[str, float]:
    """The mapping, which has to be of names to numbers. Raises TypeError."""
    return {of_type(name, str): of_type(value, int, float) for name, value in of_type(values, Mapping).items()}


def read_array(path: Path | str | BinaryIO, dimensions: int | None, mapped: bool = True) -> np.ndarray:
    """An array of numbers (.npy), by default mapped from the disk; nothing in the file is executed.

    Raises:
        ValueError: if it is none, is cut off, or has another number of ``dimensions`` (None: any); also the others of
            ``DAMAGE``, and OSError.
    """
    try:
        array = np.load(path, "r" if mapped else None, allow_pickle=False)
    except (SyntaxError, tokenize.TokenError) as error:  # of the header, which is Python's text
        raise ValueError(in_short(error)) from None
    if not isinstance(array, np.ndarray) or dimensions not in (None, array.ndim) or array.dtype.kind not in "biuf":
        what = f"{array.ndim} dimensions of {array.dtype}" if isinstance(array, np.ndarray) else "an archive"
        raise ValueError(f"it holds {what}, not {dimensions or 'any'} of numbers")
    return array
