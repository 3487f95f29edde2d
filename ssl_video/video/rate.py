"""How many frames a second a video really has: what its header says, unless the times of its frames say otherwise."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from ssl_video.video.pictures import FPS
from ssl_video.video.reader import opened


def true_rate(times: Sequence[int | None], unit_s: Fraction | None, stated: Fraction | None) -> Fraction:
    """Frames a second on average, by the times of all frames, in units of ``unit_s``.

    The stated rate stays where the times agree with it to within three frames and a twentieth, or are not all known: a
    header knows more than times that are rounded to milliseconds, or shifted by frames that were put in order, as in
    AVI files with B-frames. 25 if nothing is known.
    """
    known = sorted({t for t in times if t is not None})
    if not unit_s or len(known) != len(times) or len(known) < 2:
        return stated or Fraction(FPS)
    lasts_s = (known[-1] - known[0]) * unit_s
    measured = (len(known) - 1) / lasts_s
    if stated and abs((len(known) - 1) / stated - lasts_s) <= max(lasts_s / 20, 3 / measured):
        return stated
    return measured


def rate_of_file(path: Path | str) -> Fraction:
    """The rate of a file, without decoding it: its packets are passed over. Raises VideoError if it cannot be read.

    Folders of pictures and arrays do not tell, and have 25.
    """
    if Path(path).is_dir() or str(path).endswith(".npy"):
        return Fraction(FPS)
    with opened(str(path)) as (container, stream):
        stated = stream.average_rate or stream.guessed_rate
        times = [packet.pts for packet in container.demux(stream) if packet.size]
        return true_rate(times, stream.time_base, Fraction(stated) if stated else None)
