"""Captions on their way to a network: as bytes in a batch, as words, and as the numbers of known words."""

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ssl_video.backbones.stunet_text import LETTERS, TOKENS
from ssl_video.capabilities import Text
from ssl_video.errors import UserError, nearest

LONGEST = 512
"""Bytes of the longest caption."""


def as_bytes(caption: str) -> np.ndarray:
    """(512,) uint8, zeros behind the text: arrays of one batch have one shape."""
    letters = caption.encode()[:LONGEST]
    return np.frombuffer(letters.ljust(LONGEST, b"\0"), np.uint8).copy()


def captions_of(bytes_BL: Tensor | np.ndarray) -> list[str]:
    """The captions of a batch, or of one sample (L,)."""
    rows = np.atleast_2d(bytes_BL.cpu().numpy() if isinstance(bytes_BL, Tensor) else bytes_BL)
    return [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in rows]


def words_of(text: str) -> list[str]:
    """Its words in small letters, without what stands between them."""
    return re.findall(r"[\w'-]+", text.lower())


def unreadable(caption: str) -> str:
    """Why a network that learns words cannot take a caption, "" if it can."""
    words = words_of(caption)
    if len(words) > TOKENS:
        return f"has a caption of more than {TOKENS} words"
    long = next((word for word in words if len(word.encode()) > LETTERS), None)
    return "" if long is None else f"has a caption with the word {long!r}, which is longer than {LETTERS} bytes"


def numbered(texts: Sequence[str], vocabulary: Sequence[str], device: torch.device, strict: bool = True) -> Text:
    """Texts as the numbers of their words.

    Raises UserError for a word that is not known, naming the nearest; without ``strict`` it is passed over.
    """
    number = {word: n for n, word in enumerate(vocabulary)}
    rows = [[word for word in words_of(text) if strict or word in number] for text in texts]
    for text, words in zip(texts, rows, strict=True):
        if unknown := [word for word in words if word not in number]:
            raise UserError(f"The word {unknown[0]!r} of {text!r} is not known; {nearest(unknown[0], vocabulary)}")
    length = max(1, *map(len, rows))
    words_BL = torch.full((len(rows), length), -1)
    for row_L, words in zip(words_BL, rows, strict=True):
        row_L[: len(words)] = torch.tensor([number[word] for word in words], dtype=torch.long)
    words_BL = words_BL.to(device)
    return Text(words_BL >= 0, words_BL)
