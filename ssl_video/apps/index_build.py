"""From features of videos to the vectors of an index: a new one, or segments behind those that are there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ssl_video.apps import index_segments, nearest
from ssl_video.apps.index_compact import closed, compact
from ssl_video.apps.index_folder import commit, next_number, open_index, trained_index, write_trained
from ssl_video.apps.index_rows import Entry, State
from ssl_video.apps.index_segments import Block, write_segments
from ssl_video.apps.index_stored import Described, Stored, Vectors
from ssl_video.apps.options import IndexOptions
from ssl_video.apps.picking import indexed_path, seconds
from ssl_video.errors import UserError
from ssl_video.eval.features import Features
from ssl_video.eval.knn import unit
from ssl_video.eval.shards import fingerprint
from ssl_video.model import Model, anywhere

DEAD_AT_MOST = 0.2
"""The fraction of vectors of removed videos up to which they stay in the files and are passed over."""
BLOCK = 8192
"""Clips that are standardised at a time."""


@dataclass(frozen=True)
class Extracted:
    """Features of videos, the network that they are of (None if there are none), their states and classes."""

    model: Model | None
    features: Features
    states: dict[str, State]
    classes: tuple[str, ...] = ()


def create(out: Path, extracted: Extracted, options: IndexOptions, like: Stored | None = None) -> nearest.Recall | None:
    """Write a new index; returns how well its first segment finds, if it is not exact.

    One that is there stays whole until the new one is complete, and is dropped then. ``like``: an index whose
    standardisation and training are taken over, so that both can be searched as one.
    """
    model, found = extracted.model, extracted.features
    assert model is not None and options.index_type is not None
    assert options.readout is not None and options.clips is not None
    mean, scale = standardisation(found.clips_KD) if like is None else standardised_as(like)
    about = Described(
        model=anywhere(model.name),
        weights=fingerprint(model) if like is None else like.header.weights,
        readout=options.readout,
        clips=options.clips,
        index_type=options.index_type,
        nprobe=0,
        dim=len(mean),
        mean=mean.tolist(),
        scale=scale.tolist(),
    )
    return write_index(out, about, _blocks(extracted, mean, scale), like)


def write_index(
    out: Path, about: Described, blocks: Iterable[Block], like: Stored | None = None
) -> nearest.Recall | None:
    """Write a new index of videos and their standardised vectors, which come some at a time; see ``create``.

    ``about`` says how they were made; its ``nprobe`` is measured here. The lock must be held.
    """
    writers = write_segments(out, next_number(out), blocks)
    whole = Vectors([writer.whole() for writer in writers])
    trained = trained_index(like) if like else nearest.train(whole, about.index_type, rows=index_segments.MOST)
    first = None if trained is None else nearest.filled(trained, whole.parts[0])
    recall = nearest.tune(whole.parts[0], first)
    nprobe = recall.nprobe if recall else nearest.count_lists(first)
    notes = [writers[0].close(first)]
    del first
    notes += [closed(writer, trained) for writer in writers[1:]]
    commit(out, replace(about, nprobe=nprobe), notes, np.zeros(0, bool), write_trained(out, trained))
    return recall


def standardised_as(like: Stored) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the scale of an index."""
    return np.array(like.header.mean, np.float32), np.array(like.header.scale, np.float32)


def change(stored: Stored, extracted: Extracted, gone: Set[int], renamed: Mapping[int, str]) -> None:
    """Add what was found in new segments, and pass over what is gone; when that is much, drop it from the files.

    Nothing that is there is read or written again, but for the bits of what is gone.

    Args:
        stored: the index, of this format.
        extracted: what is new.
        gone: numbers of the videos to be removed.
        renamed: numbers of videos, and the paths that they get: they are written again behind the others.
    """
    header, folder, found = stored.header, stored.folder, extracted.features
    removed_V = stored.removed_V.copy()
    removed_V[[*gone, *renamed]] = True
    blocks: Iterable[Block] = _moved(stored, renamed)
    if found.videos:
        blocks = (*blocks, *_blocks(extracted, *standardised_as(stored)))
    writers = write_segments(folder, next_number(folder), blocks)
    trained = trained_index(stored) if any(writer.rows >= nearest.FEW for writer in writers) else None
    notes = [*header.segments, *(closed(writer, trained, writer.rows < nearest.FEW) for writer in writers)]
    commit(folder, header, notes, removed_V, header.trained)
    rows = [end - first for first, end in map(stored.rows_of, np.flatnonzero(removed_V).tolist())]
    if sum(rows) > DEAD_AT_MOST * (header.rows + sum(writer.rows for writer in writers)):
        compact(open_index(folder), DEAD_AT_MOST)


def _moved(stored: Stored, renamed: Mapping[int, str]) -> list[Block]:
    moved = [replace(stored.entry(number), path=path) for number, path in sorted(renamed.items())]
    return [([entry], stored.vectors_RD[entry.first : entry.end]) for entry in moved]


def standardisation(parts_KD: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The (D,) mean of all rows, and the reciprocal of their standard deviation.

    Features that hardly vary get 0, since a video added later would differ in them beyond measure. If none varies (one
    clip, say), nothing is standardised.
    """
    count = sum(map(len, parts_KD))
    mean, variance = np.zeros((2, parts_KD[0].shape[1]))
    for part_KD in parts_KD:
        mean += part_KD.sum(0, dtype=np.float64) / count
    for part_KD in parts_KD:
        variance += ((part_KD - mean) ** 2).sum(0) / count
    std = np.sqrt(variance)
    if not std.max() > 1e-6:
        return np.zeros(len(mean), np.float32), np.ones(len(mean), np.float32)
    varies = std > 1e-3 * std.max()
    scale = np.divide(1, std, out=np.zeros_like(std), where=varies)
    return mean.astype(np.float32), scale.astype(np.float32)


def _blocks(extracted: Extracted, mean: np.ndarray, scale: np.ndarray) -> Iterator[Block]:
    """Videos and their standardised vectors of length 1, some at a time."""
    found, first = extracted.features, 0
    while first < len(found.videos):
        last, clips = first, 0
        while last < len(found.videos) and clips < BLOCK:
            clips, last = clips + len(found.clips_KD[last]), last + 1
        clips_KD = np.concatenate(found.clips_KD[first:last])
        if clips_KD.shape[1] != len(mean):
            raise UserError(
                f"The network gives {clips_KD.shape[1]} numbers a clip, and the index holds {len(mean)}; name the "
                "network and the --readout of the index."
            )
        yield _entries(extracted, first, last), unit((clips_KD - mean) * scale)
        first = last


def _entries(extracted: Extracted, first: int, last: int) -> list[Entry]:
    assert extracted.model is not None
    found = extracted.features
    entries = []
    for video, starts in zip(found.videos[first:last], found.starts[first:last], strict=True):
        span, path = extracted.model.view.span(video), indexed_path(video)
        times = tuple((seconds(video, s), seconds(video, s + span)) for s in starts.tolist())
        labels = tuple(extracted.classes[i] for i in video.labels) if extracted.classes else ()
        entries.append(Entry(path, *extracted.states[path], 0, times, video.info.content, labels))
    return entries
