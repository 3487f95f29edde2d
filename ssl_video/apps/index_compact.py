"""Merging the segments of an index: small ones become one, and what was removed leaves the files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssl_video.apps import index_segments, nearest
from ssl_video.apps.index_folder import commit, next_number, trained_index, write_trained
from ssl_video.apps.index_segments import Block, SegmentNote, SegmentWriter, write_segments
from ssl_video.apps.index_stored import Stored
from ssl_video.progress import announce

BLOCK = 1024
"""Videos that are copied at a time."""


@dataclass(frozen=True)
class Compacted:
    """How many segments there were and are, and how many videos left the files."""

    before: int
    after: int
    dropped: int


def compact(stored: Stored, dead_above: float | None = None) -> Compacted:
    """Merge neighbouring segments that are small or have removed videos, in their order. The lock must be held.

    The old index stays whole until the new segments are written. Every file that is read was compared with its
    SHA-256. An index of format 2 becomes segments.

    Args:
        stored: the index.
        dead_above: rewrite only the segments of which a larger fraction of vectors is of removed videos, each alone.

    Raises:
        UserError: if what is to be read was changed.
    """
    of_format2 = stored.header.format == 2
    runs = _each_alone(stored, dead_above) if dead_above is not None and not of_format2 else _runs(stored, of_format2)
    rewritten = [run for run in runs if run.again]
    if not rewritten:
        return Compacted(len(stored.segments), len(stored.segments), 0)
    trained = _trained(stored)
    notes: list[SegmentNote] = []
    removed: list[np.ndarray] = []
    for run in runs:
        if not run.again:
            notes += [stored.header.segments[number] for number in run.segments]
            removed += [_removed(stored, number) for number in run.segments]
            continue
        written = _rewritten(stored, run, trained)
        notes += written
        removed += [np.zeros(note.videos, bool) for note in written]
    name = write_trained(stored.folder, trained) if of_format2 else stored.header.trained
    commit(stored.folder, stored.header, notes, np.concatenate(removed), name)
    dropped = sum(int(_removed(stored, number).sum()) for run in rewritten for number in run.segments)
    return Compacted(len(stored.segments), len(notes), dropped)


@dataclass(frozen=True)
class Run:
    """Segments that follow one another, and whether they are written again, as one."""

    segments: tuple[int, ...]
    again: bool


def _removed(stored: Stored, number: int) -> np.ndarray:
    return stored.removed_V[stored.first_videos[number] : stored.first_videos[number + 1]]


def _runs(stored: Stored, everything: bool) -> list[Run]:
    """Segments that are half full or more and whole stay; runs of others are merged where that changes something."""
    stays = [
        not everything and segment.rows >= index_segments.MOST / 2 and not _removed(stored, number).any()
        for number, segment in enumerate(stored.segments)
    ]
    runs: list[list[int]] = []
    for number in range(len(stays)):
        if number and stays[number] == stays[number - 1]:
            runs[-1].append(number)
        else:
            runs.append([number])
    return [Run(tuple(run), not stays[run[0]] and (everything or _gains(stored, run))) for run in runs]


def _gains(stored: Stored, run: Sequence[int]) -> bool:
    rows = sum(stored.segments[number].rows for number in run)
    fewer = len(run) > -(-rows // index_segments.MOST)
    return fewer or any(_removed(stored, number).any() for number in run)


def _each_alone(stored: Stored, dead_above: float) -> list[Run]:
    runs = []
    for number, segment in enumerate(stored.segments):
        lengths_V = np.diff(segment.ends_V, prepend=0) // 2
        dead = int(lengths_V[_removed(stored, number)].sum())
        runs.append(Run((number,), dead > dead_above * segment.rows))
    return runs


def _trained(stored: Stored) -> Any:
    """What faiss learned: of format 2, its index without the vectors."""
    if stored.header.format != 2:
        return trained_index(stored)
    index = stored.segments[0].faiss_index
    if index is not None:
        index.reset()  # what was learned in training stays
    return index


def _rewritten(stored: Stored, run: Run, trained: Any) -> list[SegmentNote]:
    rows = sum(stored.segments[number].rows for number in run.segments)
    if rows >= nearest.LONG_BUILD:
        announce(f"index: merging {len(run.segments)} segments of {rows} vectors")
    for number in run.segments:
        stored.segments[number].check()
    had = any(stored.segments[number].faiss_bytes is not None for number in run.segments)
    writers = write_segments(stored.folder, next_number(stored.folder), _alive(stored, run.segments))
    return [closed(writer, trained, plain=not had and writer.rows < nearest.FEW) for writer in writers]


def closed(writer: SegmentWriter, trained: Any, plain: bool = False) -> SegmentNote:
    """A segment that is whole; one of few vectors may be ``plain``, to be compared exactly, without faiss."""
    return writer.close(None if plain or trained is None else nearest.filled(trained, writer.whole()))


def _alive(stored: Stored, numbers: Sequence[int]) -> Iterator[Block]:
    """The videos of these segments that were not removed, with their vectors, some at a time."""
    for number in numbers:
        segment = stored.segments[number]
        alive_N = np.flatnonzero(~_removed(stored, number))
        for start in range(0, len(alive_N), BLOCK):
            entries = segment.entries(alive_N[start : start + BLOCK])
            rows = np.concatenate([np.arange(e.first, e.end) for e in entries])
            yield entries, segment.vectors_RD[rows]
