"""From features of videos to the vectors of an index, a new one or behind those that are there."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ssl_video.apps import nearest
from ssl_video.apps.index_folder import Entry, Stored, Writer, next_generation
from ssl_video.apps.options import IndexOptions
from ssl_video.apps.search import indexed_path, seconds
from ssl_video.eval.features import Features
from ssl_video.eval.knn import unit
from ssl_video.eval.shards import fingerprint
from ssl_video.model import Model, anywhere

DEAD_AT_MOST = 0.2
"""The fraction of vectors of removed videos up to which they stay in the files and are passed over."""
BLOCK = 8192
"""Clips that are standardised at a time."""

State = tuple[int, int]
"""Size and time of change (ns) of a file."""


@dataclass(frozen=True)
class Extracted:
    """Features of videos, the network that they are of (None if there are none), their states and classes."""

    model: Model | None
    features: Features
    states: dict[str, State]
    classes: tuple[str, ...] = ()


def create(out: Path, extracted: Extracted, options: IndexOptions) -> nearest.Recall | None:
    """Write a new index; returns how well it finds, if it is not exact.

    One that is there stays whole until the new one is complete, and is dropped then.
    """
    model, found = extracted.model, extracted.features
    assert model is not None and options.index_type is not None
    mean, scale = standardisation(found.clips_KD)
    writer = Writer(out, next_generation(out))
    writer.append(_vectors(found, mean, scale))
    vectors_RD = writer.vectors(len(mean))
    index = nearest.make(vectors_RD, options.index_type)
    recall = nearest.tune(vectors_RD, index)
    about = {
        "model": anywhere(model.name),
        "weights": fingerprint(model),
        "readout": options.readout,
        "clips": options.clips,
        "index_type": options.index_type,
        "nprobe": recall.nprobe if recall else nearest.count_lists(index),
        "dim": len(mean),
        "mean": mean.tolist(),
        "scale": scale.tolist(),
    }
    writer.commit(_entries(extracted, 0), index, about)
    return recall


def change(stored: Stored, extracted: Extracted, kept: list[Entry]) -> None:
    """Append what was found, and pass over what is gone; when that has become much, drop it from the files."""
    header, index, found = stored.header, stored.faiss_index, extracted.features
    mean, scale = np.array(header.mean, np.float32), np.array(header.scale, np.float32)
    alive = sum(len(e.times_s) for e in kept)
    if header.rows - alive > DEAD_AT_MOST * header.rows:
        writer, kept = _without_dead(stored, kept)
    else:
        writer = Writer(stored.folder, header.generation + 1, stored)
    behind = writer.rows
    if found.videos:
        writer.append(_vectors(found, mean, scale))
        kept = kept + _entries(extracted, behind)
        if index is not None:
            nearest.fill(index, writer.vectors(header.dim)[behind:])
    about = asdict(header)
    for counted in ("format", "rows", "files", "sha256", "digest"):
        del about[counted]
    writer.commit(kept, index, about)


def _without_dead(stored: Stored, kept: list[Entry]) -> tuple[Writer, list[Entry]]:
    """A new file of the vectors that count, the entries with their new places, and faiss's index filled anew."""
    header, index = stored.header, stored.faiss_index
    writer = Writer(stored.folder, header.generation + 1)
    writer.append(stored.vectors_RD[e.first : e.first + len(e.times_s)] for e in kept)
    firsts = np.cumsum([0, *(len(e.times_s) for e in kept)]).tolist()
    if index is not None:
        index.reset()  # what was learned in training stays
        if kept:
            nearest.fill(index, writer.vectors(header.dim))
    return writer, [replace(e, first=first) for e, first in zip(kept, firsts, strict=False)]


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


def _vectors(found: Features, mean: np.ndarray, scale: np.ndarray) -> Iterator[np.ndarray]:
    """Standardised vectors of length 1, some videos at a time."""
    waiting: list[np.ndarray] = []
    clips = 0
    for number, clips_KD in enumerate(found.clips_KD):
        waiting.append(clips_KD)
        clips += len(clips_KD)
        if clips >= BLOCK or number == len(found.clips_KD) - 1:
            yield unit((np.concatenate(waiting) - mean) * scale)
            waiting, clips = [], 0


def _entries(extracted: Extracted, first: int) -> list[Entry]:
    assert extracted.model is not None
    entries = []
    for video, starts in zip(extracted.features.videos, extracted.features.starts, strict=True):
        span, path = extracted.model.view.span(video), indexed_path(video)
        times = tuple((seconds(video, s), seconds(video, s + span)) for s in starts.tolist())
        labels = tuple(extracted.classes[i] for i in video.labels) if extracted.classes else ()
        entries.append(Entry(path, *extracted.states[path], first, times, video.info.content, labels))
        first += len(times)
    return entries
