"""How many frames a second a video really has: what its header says, unless the times of its frames say otherwise."""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from ssl_video.video.pictures import FPS, of_pictures
from ssl_video.video.reader import opened

FASTEST = 1000
"""Frames a second: where nothing else is known, headers say so much and more, which are the units of their clocks."""
SHIFT = 3
"""Frames by which the first or the last may be shifted, as in AVI files with B-frames, whose times are out of order."""


def true_rate(times: Sequence[int | None], unit_s: Fraction | None, stated: Fraction | None) -> Fraction:
    """Frames a second on average, by the times of all frames, in units of ``unit_s``.

    The stated rate stays where the times are not all known, and where they agree with it: a header knows more than
    times that are rounded to milliseconds, or shifted by some frames. 25 if nothing is known.
    """
    if stated is not None and not 0 < stated < FASTEST:
        stated = None
    known = sorted({t for t in times if t is not None})
    if not unit_s or len(known) != len(times) or len(known) < 2:
        return stated or Fraction(FPS)
    lasts_s = (known[-1] - known[0]) * unit_s
    measured = (len(known) - 1) / lasts_s
    if measured > FASTEST:
        return stated or Fraction(FPS)
    gaps = [b - a for a, b in itertools.pairwise(known)]
    shift_s = 0 if max(gaps) - min(gaps) <= 2 else min(SHIFT / measured, lasts_s / 4)
    if stated and abs((len(known) - 1) / stated - lasts_s) <= max(2 * unit_s, shift_s):
        return stated
    return measured


def rate_of_file(path: Path | str) -> Fraction:
    """The rate of a file, without decoding it: its packets are passed over. Raises VideoError if it cannot be read.

    Pictures and arrays do not tell, and have 25.
    """
    if of_pictures(path) or str(path).endswith(".npy"):
        return Fraction(FPS)
    with opened(str(path)) as (container, stream):
        stated = stream.average_rate or stream.guessed_rate
        times = [packet.pts for packet in container.demux(stream) if packet.size]
        return true_rate(times, stream.time_base, Fraction(stated) if stated else None)
