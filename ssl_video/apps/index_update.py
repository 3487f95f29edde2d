"""Making a search index and keeping it up to date: what is new is extracted, what changed replaced, the rest stays."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import compress
from pathlib import Path

import numpy as np
import torch

from ssl_video.apps import nearest
from ssl_video.apps.index_folder import Entry, Stored, Writer, locked, open_index
from ssl_video.apps.search import check_model, load_search_model, place_of, seconds
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.spec import scanned
from ssl_video.errors import UserError
from ssl_video.eval.features import Features
from ssl_video.eval.knn import unit
from ssl_video.eval.shards import extract_to, fingerprint
from ssl_video.model import Model
from ssl_video.train.distributed import Ranks
from ssl_video.video.info import Problem

DEAD_AT_MOST = 0.2
"""The share of vectors of removed videos up to which they stay in the files and are passed over."""
BLOCK = 8192
"""Clips that are standardised at a time."""


@dataclass(frozen=True)
class IndexOptions:
    """How an index is made; None: as the index that is there, or for a new one 8 clips, "rich" and "exact"."""

    clips: int | None = None
    """Clips of a video, evenly spaced; 0: windows that overlap by half."""
    readout: str | None = None
    """How a feature map becomes a vector, see ``ssl_video.model.pool``."""
    index_type: str | None = None
    """"exact", "ivfpq" or a factory string of faiss."""


@dataclass
class Changes:
    """What an update did: paths of videos, what could not be used, and how well a new faiss index finds."""

    added: list[str] = field(default_factory=list)
    refreshed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    videos: int = 0
    recall: nearest.Recall | None = None


def update_index(
    out: Path,
    model: Model | None,
    videos: VideoSet | None,
    options: IndexOptions = IndexOptions(),
    *,
    remove: Sequence[Path] = (),
    prune: bool = False,
    workers: int = 2,
    device: torch.device | str = "cpu",
    ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    progress: bool = False,
) -> Changes:
    """Make an index, or bring one up to date: add what is new, replace what changed, take out what is to go.

    A file counts as changed if its size or its time of change has; one that cannot be read any more is taken out.
    Extraction is kept in ``out`` until the update is done, so that a killed one goes on; ranks share it, and the first
    one writes the index. The standardisation and the training of faiss are those of the first build.

    Args:
        out: folder of the index.
        model: needed for a new index; otherwise the index's own is loaded when there is something to extract.
        videos: need not be scanned; None adds nothing.
        options: fixed once there is an index.
        remove: videos, or folders of them, to take out.
        prune: take out the videos whose files are gone.
        workers: reading processes.
        device: where a model that the index names is loaded.
        ranks: of torchrun.
        progress: show bars, on a terminal.

    Raises:
        UserError: if another process changes the index, it is of another model or other options, it is damaged, or
            nothing would be in it.
    """
    with locked(out) if ranks.first else contextlib.nullcontext():
        ranks.barrier()
        stored = open_index(out) if (out / "header.json").exists() else None
        if stored is None and (model is None or videos is None):
            raise UserError(f"There is no index in {out} yet; name --model and --data to make one.")
        options = _settled(options, stored)
        if model is not None:
            check_model(stored, model)
        changes = Changes(problems=list(videos.problems) if videos else [])
        gone = _to_remove(stored, remove, prune) if stored else set()
        states, todo = _todo(videos, stored, changes.problems)
        found = Features([], [], [], [])
        if videos is not None and todo:
            model = model or load_search_model(stored, device)
            check_model(stored, model)
            part = replace(videos, videos=todo, problems=())
            found = _extract(out / "extracted", model, part, states, options, workers, ranks, progress)
        if ranks.first:
            _finish(out, stored, model, found, states, {place_of(v) for v in todo}, gone, options, changes)
            if todo:
                shutil.rmtree(out / "extracted", ignore_errors=True)
        return changes


def _settled(options: IndexOptions, stored: Stored | None) -> IndexOptions:
    """With the index's own values, or the defaults, in place of None. Raises UserError if they contradict the index."""
    if stored is None:
        own = IndexOptions(8, "rich", nearest.EXACT)
    else:
        own = IndexOptions(stored.header.clips, stored.header.readout, stored.header.index_type)
    settled = IndexOptions(
        own.clips if options.clips is None else options.clips,
        options.readout or own.readout,
        options.index_type or own.index_type,
    )
    if stored is not None and settled != own:
        raise UserError(
            f"{stored.folder} was made with --clips {own.clips} --readout {own.readout} --index-type {own.index_type}; "
            "leave these options out, or make another index."
        )
    return settled


def _to_remove(stored: Stored, remove: Sequence[Path], prune: bool) -> set[str]:
    gone = {e.path for e in stored.entries if prune and not Path(e.path).exists()}
    for path in (p.resolve() for p in remove):
        these = {e.path for e in stored.entries if path in (Path(e.path), *Path(e.path).parents)}
        if not these:
            raise UserError(f"{stored.folder} holds no video {path} and none below it; nothing was removed.")
        gone |= these
    return gone


def _todo(
    videos: VideoSet | None, stored: Stored | None, problems: list[Problem]
) -> tuple[dict[str, tuple[int, int]], tuple[Video, ...]]:
    """Size and time of change of each file, and the videos that the index does not hold as they are now."""
    known = {e.path: (e.size, e.mtime_ns) for e in stored.entries} if stored else {}
    states: dict[str, tuple[int, int]] = {}
    todo = []
    for video in videos.videos if videos else ():
        path = place_of(video)
        if path in states:
            continue
        try:
            stat = Path(path).stat()
        except OSError as error:
            problems.append(Problem(video.source, f"cannot be read: {error.strerror}"))
            continue
        states[path] = stat.st_size, stat.st_mtime_ns
        if known.get(path) == states[path]:
            continue
        # what a manifest says of a file that has changed may be out of date; arrays (.npy) cannot be scanned
        again = path in known and video.path == video.source and not path.endswith(".npy")
        todo.append(replace(video, info=None) if again else video)
    return states, tuple(todo)


def _extract(
    folder: Path,
    model: Model,
    todo: VideoSet,
    states: dict[str, tuple[int, int]],
    options: IndexOptions,
    workers: int,
    ranks: Ranks,
    progress: bool,
) -> Features:
    """Features of what can be read, kept in a folder that says by its name of which videos, as they are now."""
    with ranks.first_then_others():
        whole = scanned(todo, progress=progress and ranks.first, none_usable_is_an_error=False)
    if not whole.videos:
        return Features([], [], [], list(whole.problems))
    assert options.clips is not None and options.readout is not None
    what = [[v.source, *states[place_of(v)]] for v in whole.videos], fingerprint(model), options.clips, options.readout
    kept = folder / hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    if ranks.first and folder.is_dir():
        for other in folder.iterdir():  # of other videos, or of files as they were before
            if other != kept:
                shutil.rmtree(other)
    found = extract_to(
        kept,
        model,
        whole,
        clips=options.clips,
        readout=options.readout,
        workers=workers,
        ranks=ranks,
        progress=progress,
        none_is_an_error=False,
    )
    return _finite(found, list(whole.problems))


def _finite(found: Features, problems: list[Problem]) -> Features:
    """Without the videos of which a network that diverged says nothing; ``problems`` go before those of ``found``."""
    good = [bool(np.isfinite(c).all()) for c in found.clips_KD]
    bad = [Problem(v.source, "its features are not finite") for v, g in zip(found.videos, good, strict=True) if not g]
    return Features(
        list(compress(found.videos, good)),
        list(compress(found.clips_KD, good)),
        list(compress(found.starts, good)),
        problems + found.problems + bad,
    )


def _finish(
    out: Path,
    stored: Stored | None,
    model: Model | None,
    found: Features,
    states: dict[str, tuple[int, int]],
    todo: set[str],
    gone: set[str],
    options: IndexOptions,
    changes: Changes,
) -> None:
    """Write the index, if anything changes, and note what did."""
    changes.problems += found.problems
    known = {e.path: e for e in stored.entries} if stored else {}
    readable = {place_of(v) for v in found.videos}
    changes.added = sorted(readable - known.keys())
    changes.refreshed = sorted(readable & known.keys())
    changes.removed = sorted((gone | (todo & known.keys())) - readable)
    kept = [e for e in known.values() if e.path not in gone | todo]
    changes.videos = len(kept) + len(readable)
    if not changes.videos:
        why = f"; the first that cannot be used: {changes.problems[0].reason}" if changes.problems else ""
        raise UserError(f"No video would be in the index {out}{why}.")
    if stored is None:
        assert model is not None
        changes.recall = _create(out, model, found, states, options)
    elif changes.added or changes.refreshed or changes.removed:
        _change(stored, model, kept, found, states)


def _create(
    out: Path, model: Model, found: Features, states: dict[str, tuple[int, int]], options: IndexOptions
) -> nearest.Recall | None:
    mean, scale = standardisation(found.clips_KD)
    writer = Writer(out, 1)
    writer.append(_vectors(found, mean, scale))
    vectors_RD = writer.vectors(len(mean))
    assert options.index_type is not None
    index = nearest.make(vectors_RD, options.index_type)
    recall = nearest.tune(vectors_RD, index)
    about = {
        "model": model.name if model.name.startswith(("random:", "net:")) else str(Path(model.name).resolve()),
        "weights": fingerprint(model),
        "readout": options.readout,
        "clips": options.clips,
        "index_type": options.index_type,
        "nprobe": recall.nprobe if recall else nearest.cells_of(index),
        "dim": len(mean),
        "mean": mean.tolist(),
        "scale": scale.tolist(),
    }
    writer.commit(_entries(model, found, states, 0), index, about)
    return recall


def _change(
    stored: Stored, model: Model | None, kept: list[Entry], found: Features, states: dict[str, tuple[int, int]]
) -> None:
    """Append what was found, and pass over what is gone; when that has become much, drop it from the files."""
    header, index = stored.header, stored.faiss_index
    mean, scale = np.array(header.mean, np.float32), np.array(header.scale, np.float32)
    alive = sum(len(e.times_s) for e in kept)
    if header.rows - alive > DEAD_AT_MOST * header.rows:
        writer = Writer(stored.folder, header.generation + 1)
        writer.append(stored.vectors_RD[e.first : e.first + len(e.times_s)] for e in kept)
        firsts = np.cumsum([0, *(len(e.times_s) for e in kept)]).tolist()
        kept = [replace(e, first=first) for e, first in zip(kept, firsts, strict=False)]
        if index is not None:
            index.reset()  # what was learned in training stays
            if kept:
                nearest.fill(index, writer.vectors(header.dim))
    else:
        writer = Writer(stored.folder, header.generation + 1, stored)
    behind = writer.rows
    entries = kept
    if found.videos:
        assert model is not None
        writer.append(_vectors(found, mean, scale))
        entries = kept + _entries(model, found, states, behind)
        if index is not None:
            nearest.fill(index, writer.vectors(header.dim)[behind:])
    about = asdict(header)
    for counted in ("format", "rows", "files", "sha256"):
        del about[counted]
    writer.commit(entries, index, about)


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
    for number, clips_KD in enumerate(found.clips_KD):
        waiting.append(clips_KD)
        if sum(map(len, waiting)) >= BLOCK or number == len(found.clips_KD) - 1:
            yield unit((np.concatenate(waiting) - mean) * scale)
            waiting.clear()


def _entries(model: Model, found: Features, states: dict[str, tuple[int, int]], first: int) -> list[Entry]:
    entries = []
    for video, starts in zip(found.videos, found.starts, strict=True):
        span = model.view.span(video)
        times = tuple((seconds(video, s), seconds(video, s + span)) for s in starts.tolist())
        entries.append(Entry(place_of(video), *states[place_of(video)], first, times))
        first += len(times)
    return entries
