"""Films that say what they show: above the pictures, never on them, their names, the time and a legend of colours."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ssl_video.figures import shortened

PAPER, INK = (245, 245, 245), (25, 25, 25)
SMALLEST, LARGEST = 11, 22
"""Pixels of the letters, in small and in large films."""
LONGEST_TIME = "0000.00 s"

Swatch = Sequence[int] | np.ndarray
"""A colour of 0 to 255, or a picture (h, w, 3) of several."""


@dataclass(frozen=True)
class Shot:
    """A frame of a film: pictures_HWC of one height side by side, the times of the first of them, and what lies below.

    Times are in seconds. ``below`` is as wide as the pictures together.
    """

    pictures: Sequence[np.ndarray]
    times_s: Sequence[float]
    below: np.ndarray | None = None


def film(
    shots: Iterable[Shot], names: Sequence[str], legend: Sequence[tuple[Swatch, str]] = (), title: str = ""
) -> Iterator[np.ndarray]:
    """The frames to write, (H, W, 3) uint8.

    Args:
        shots: all of the size of the first.
        names: of the pictures of a shot, above each.
        legend: what colours mean; it takes as many lines as it needs.
        title: above all, if there is more to say than the names.
    """
    head = None
    for shot in shots:
        head = head or Head([p.shape[1] for p in shot.pictures], names, legend, title)
        rows = [head.at(shot.times_s), np.concatenate(list(shot.pictures), axis=1)]
        yield np.concatenate(rows if shot.below is None else [*rows, shot.below])


class Head:
    """The lines above the pictures, drawn once, but for the times."""

    def __init__(
        self, widths: Sequence[int], names: Sequence[str], legend: Sequence[tuple[Swatch, str]], title: str = ""
    ):
        self.widths, self.width = widths, sum(widths)
        self.size = int(np.clip(self.width / 36, SMALLEST, LARGEST))
        self.font, self.line = font(self.size), 2 * round(0.75 * self.size)
        self.gap = self.size // 2
        entries = self._entries(legend)
        top = self.line * bool(title)
        height = top + self.line * (1 + (entries[-1][0] + 1 if entries else 0)) + 2
        self.paper = Image.new("RGB", (self.width, height), PAPER)
        self.top, pen = top, ImageDraw.Draw(self.paper)
        self._write(pen, self.gap, 0, self._fitted(title, self.width - 2 * self.gap))
        lefts = np.cumsum([0, *widths[:-1]]).tolist()
        room = self.gap * 3 + self._length(LONGEST_TIME)
        for left, width, name in zip(lefts, widths, names, strict=True):
            timed = left == 0 or len(names) == 1
            self._write(pen, left + self.gap, top, self._fitted(name, width - (room if timed else 2 * self.gap)))
        for row, x, swatch, words in entries:
            y = top + self.line * (1 + row)
            self.paper.paste(swatch, (x, y + (self.line - swatch.height) // 2))
            self._write(pen, x + swatch.width + self.gap // 2, y, words)

    def at(self, times_s: Sequence[float]) -> np.ndarray:
        """(h, W, 3) uint8: the lines, with a time at the right end of each of the first pictures."""
        paper = self.paper.copy()
        pen = ImageDraw.Draw(paper)
        for right, width, time_s in zip(np.cumsum(self.widths).tolist(), self.widths, times_s, strict=False):
            words = f"{time_s:.2f} s"
            x = right - self._length(words) - self.gap
            pen.rectangle((max(right - width, x - self.gap), self.top, right - 1, self.top + self.line - 1), PAPER)
            self._write(pen, x, self.top, words)
        return np.asarray(paper)

    def _write(self, pen: Any, x: int, y: int, words: str) -> None:
        pen.text((x, y + self.line / 2), words, INK, self.font, anchor="lm")

    def _length(self, words: str) -> int:
        return int(np.ceil(self.font.getlength(words)))

    def _fitted(self, words: str, room: int) -> str:
        """Words, as much of their front and end as there is room for."""
        most = len(words)
        words = shortened(words, max(1, most))
        while most > 1 and self._length(shortened(words, most)) > room:
            most -= 1
        return shortened(words, most) if self._length(shortened(words, max(1, most))) <= room else ""

    def _entries(self, legend: Sequence[tuple[Swatch, str]]) -> list[tuple[int, int, Image.Image, str]]:
        """(line, x, swatch, words) of each entry; one that does not fit on a line begins the next."""
        found, row, x = [], 0, self.gap
        for colours, words in legend:
            swatch = self._swatch(colours)
            words = self._fitted(words, self.width - 2 * self.gap - swatch.width - self.gap // 2)
            wide = swatch.width + self.gap // 2 + self._length(words)
            if x > self.gap and x + wide + self.gap > self.width:
                row, x = row + 1, self.gap
            found.append((row, x, swatch, words))
            x += wide + 2 * self.gap
        return found

    def _swatch(self, colours: Swatch) -> Image.Image:
        picture = np.asarray(colours, np.uint8)
        if picture.ndim == 1:
            return Image.new("RGB", (self.size, self.size), tuple(picture.tolist()))
        h, w = picture.shape[:2]
        side = self.line - 2
        return Image.fromarray(picture).resize((max(1, min(self.width // 4, round(side * w / h))), side))


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The letters of our figures, matplotlib's, without an import of it, which takes most of a second."""
    found = find_spec("matplotlib")
    assert found is not None and found.origin is not None  # it is required
    return ImageFont.truetype(str(Path(found.origin).with_name("mpl-data") / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def rgb(colour: str) -> tuple[int, int, int]:
    """#rrggbb as numbers of 0 to 255."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue
