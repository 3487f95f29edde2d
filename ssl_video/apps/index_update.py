"""Making a search index and keeping it up to date: what is new is extracted, what changed replaced, the rest stays."""

import contextlib
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ssl_video.apps import nearest
from ssl_video.apps.index_build import Extracted, change, create
from ssl_video.apps.index_compact import Compacted, compact
from ssl_video.apps.index_folder import MANIFEST, locked, open_index
from ssl_video.apps.index_stored import Stored
from ssl_video.apps.index_todo import Todo, todo_of
from ssl_video.apps.options import IndexOptions
from ssl_video.apps.picking import indexed_path
from ssl_video.apps.search import Index, check_model, load_search_model
from ssl_video.bounds import Bounded, Count, Natural
from ssl_video.datasets.base import ListedVideo, VideoList
from ssl_video.datasets.spec import all_videos, scanned
from ssl_video.errors import UserError
from ssl_video.eval.features import Extraction, Features
from ssl_video.eval.shards import FeatureFolder, extract_to, fingerprint
from ssl_video.files import as_named, as_word, there
from ssl_video.model import Model, default_model
from ssl_video.progress import announce
from ssl_video.remote import is_remote
from ssl_video.train.distributed import Ranks
from ssl_video.video.info import Problem


@dataclass(frozen=True)
class Work(Bounded):
    """How the work is done: reading processes, where a model is loaded, torchrun's ranks, bars on a terminal, clips in
    a forward pass."""

    workers: Natural = 2
    device: torch.device | str = "cpu"
    ranks: Ranks = Ranks()
    progress: bool = False
    batch: Count = 32


@dataclass(frozen=True)
class Changes:
    """What an update did: paths of videos, what could not be used, and how well a new faiss index finds.

    ``segments`` counts those that there are now, 0 where that is not known, and ``compacted`` says what was merged.
    """

    added: tuple[str, ...] = ()
    refreshed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    videos: int = 0
    recall: nearest.Recall | None = None
    segments: int = 0
    compacted: Compacted | None = None


def index_videos(
    videos: str | Path | Sequence[str | Path] | VideoList,
    model: Model | None,
    out: Path | str,
    options: IndexOptions = IndexOptions(),
    work: Work = Work(),
) -> Index:
    """Make the index ``out`` of videos, or add them to it, and open it; see ``update_index``."""
    update_index(Path(out), model, all_videos(videos), options, work=work)
    return Index(out, model)


def update_index(
    out: Path,
    model: Model | None,
    videos: VideoList | None,
    options: IndexOptions = IndexOptions(),
    *,
    remove: Sequence[Path] = (),
    prune: bool = False,
    work: Work = Work(),
) -> Changes:
    """Make an index, or bring one up to date: add what is new, replace what changed, take out what is to go.

    A file counts as changed if its size or its time of change has; one that cannot be read any more is taken out.
    Extraction is kept in ``out`` until the update is done, so that a killed one is resumed; ranks share it, and the
    first one writes the index. The standardisation and the training of faiss are those of the first build.

    Args:
        out: folder of the index.
        model: by default the index's own, which is loaded when there is something to extract; of a new index
            net:clips, which comes with the package.
        videos: need not be scanned; None adds nothing.
        options: fixed once there is an index; ``rebuild`` makes it again of all its videos, by ``model`` if one is
            given, and the old one stays whole until the new one is complete. ``compact`` merges segments at the end.
        remove: videos, or folders of them, to take out.
        prune: take out the videos whose files are gone.
        work: see ``Work``.

    Raises:
        UserError: if there is nothing to do, another process changes the index, it is of another model or other
            options, it is damaged, the model's features are not finite, or nothing would be in it.
    """
    if videos is None and not remove and not prune and not options.rebuild and not options.compact:
        raise UserError(
            "There is nothing to do; name videos by --data, take some out by --remove or --prune, --rebuild all or "
            "--compact the files."
        )
    ranks = work.ranks
    with contextlib.ExitStack() as until_the_end:
        ranks.first_does(lambda: _begin(until_the_end, out, options))
        stored = _stored(out, videos, options)
        if stored is None and videos is None:
            raise UserError(f"There is no index in {out} yet; name --data to make one.")
        like = _like(stored, options)
        if stored is None and model is None:
            model = _default(out, work) if like is None else load_search_model(like, work.device)
        options = _settled(options, stored, like)
        gone = _to_remove(stored, remove, prune) if stored else {}
        if options.rebuild and stored is not None:
            model = model or load_search_model(like or stored, work.device)
            videos, stored = _all_again(stored, videos, set(gone.values())), None
        if model is not None:
            check_model(stored or like, model)
        problems = list(videos.problems) if videos else []
        todo = todo_of(videos, stored, problems)
        found = Features([], [], [], [])
        if videos is not None and todo.videos:
            model = model or load_search_model(stored, work.device)
            check_model(stored, model)
            new = VideoList(videos.name, todo.videos, videos.classes)
            found = _extract(out / "extracted", model, new, todo, options, work)
        problems += found.problems
        if not ranks.first:
            return Changes(problems=tuple(problems))
        drop, changes = _compared(stored, found, todo, gone, problems)
        if not changes.videos:
            why = f"; the first that cannot be used: {problems[0].reason}" if problems else ""
            raise UserError(f"No video would be in the index {out}{why}.")
        extracted = Extracted(model, found, todo.states, videos.classes if videos else ())
        if stored is None:
            changes = replace(changes, recall=create(out, extracted, options, like))
        elif found.videos or drop or todo.renamed:
            change(stored, extracted, drop, {n: path for n, path in todo.renamed.items() if n not in drop})
        if options.compact:
            changes = replace(changes, compacted=compact(open_index(out)))
        shutil.rmtree(out / "extracted", ignore_errors=True)  # also of an update that was killed once it was done
        return replace(changes, segments=len(open_index(out).segments))


def _begin(until_the_end: contextlib.ExitStack, out: Path, options: IndexOptions) -> None:
    """Hold the index; one of format 2 becomes segments."""
    until_the_end.enter_context(locked(out))
    if (out / MANIFEST).exists() and not options.rebuild:
        stored = open_index(out)
        if stored.header.format == 2:
            compact(stored)


def _stored(out: Path, videos: VideoList | None, options: IndexOptions) -> Stored | None:
    """The index that is there; one that is damaged need not be read to be made again of videos that are named."""
    if not (out / MANIFEST).exists():
        return None
    try:
        return open_index(out)
    except UserError:
        if options.rebuild and videos is not None:
            return None
        raise


def _like(stored: Stored | None, options: IndexOptions) -> Stored | None:
    if options.like is None:
        return None
    if stored is not None and not options.rebuild:
        raise UserError(f"{stored.folder} has its own standardisation; --like is for a new index, or one --rebuild.")
    like = open_index(options.like)
    if like.header.format == 2:
        raise UserError(
            f"{like.folder} is of the format before this; 'ssl-video index --out {as_word(like.folder)} --compact' "
            "brings it up to date."
        )
    return like


def _default(out: Path, work: Work) -> Model:
    """The model of a new index for which none is named. Raises UserError where the old one, damaged, had another."""
    if (out / MANIFEST).exists():
        raise UserError(f"The index in {out} is damaged, so that its model is not known; name one by --model.")
    return default_model("clips", work.device, _say(work), "--model")


def _say(work: Work) -> Callable[[str], None]:
    """Tells a line once, of several ranks by the first."""
    return partial(announce, shown=work.progress) if work.ranks.first else lambda _: None


def _all_again(stored: Stored, more: VideoList | None, gone: set[str]) -> VideoList:
    """The videos of an index but for those that are ``gone``, and ``more``, which are taken as they are named there."""
    left = gone | {indexed_path(video) for video in more.videos} if more else gone
    entries = [entry for entry in stored.entries if entry.path not in left]
    classes = list(dict.fromkeys([*(more.classes if more else ()), *(name for e in entries for name in e.labels)]))
    number = {name: n for n, name in enumerate(classes)}
    again = tuple(ListedVideo(e.path, tuple(number[name] for name in e.labels)) for e in entries)
    if more is None:
        return VideoList(str(stored.folder), again, tuple(classes))
    return replace(more, videos=again + tuple(more.videos), classes=tuple(classes))


def _settled(options: IndexOptions, stored: Stored | None, like: Stored | None) -> IndexOptions:
    """With the index's own values, or the defaults, in place of None. Raises UserError if they contradict the index, or
    the one that the new one is to be like."""
    of = like or stored
    own = (8, "rich", nearest.EXACT) if of is None else (of.header.clips, of.header.readout, of.header.index_type)
    given = options.clips, options.readout, options.index_type
    settled = tuple(mine if value is None else value for value, mine in zip(given, own, strict=True))
    if of is not None and settled != own and (of is like or not options.rebuild):
        otherwise = "leave out --like" if of is like else "make it again with --rebuild"
        raise UserError(
            f"{of.folder} was made with --clips {own[0]} --readout {own[1]} --index-type {own[2]}; leave these options "
            f"out, or {otherwise}."
        )
    return replace(options, clips=settled[0], readout=settled[1], index_type=settled[2])


def _to_remove(stored: Stored, remove: Sequence[Path], prune: bool) -> dict[int, str]:
    """The numbers of the videos that are to go, and their paths."""
    if not remove and not prune:
        return {}
    paths = list(stored.paths())
    gone = {n for n, path in enumerate(paths) if prune and not (is_remote(path) or there(path))}
    wanted = {named: {_name(as_named(named)), _name(named.resolve())} for named in remove}
    found = _below(paths, set().union(*wanted.values()))
    missed = {_name(named.resolve()): named for named, names in wanted.items() if not names & found.keys()}
    behind_links = _below(map(os.path.realpath, paths), missed.keys()) if missed else {}
    for name, named in missed.items():
        if name not in behind_links:
            raise UserError(f"{stored.folder} holds no video {as_named(named)} and none below it; nothing was removed.")
    places = sorted(gone.union(*found.values(), *behind_links.values()))
    numbers = stored.numbers_at(np.array(places, int)).tolist()
    return {number: paths[place] for number, place in zip(numbers, places, strict=True)}


def _name(path: Path) -> str:
    return str(path).rstrip("/")


def _below(paths: Iterable[str], names: Set[str]) -> dict[str, list[int]]:
    """Of each of the names that are a path or a folder above one: the places of those paths."""
    found: dict[str, list[int]] = {}
    for number, path in enumerate(paths):
        parts = path.split("/")
        for above in itertools.accumulate(parts, lambda folder, name: f"{folder}/{name}"):
            if above in names:
                found.setdefault(above, []).append(number)
    return found


def _extract(folder: Path, model: Model, videos: VideoList, todo: Todo, options: IndexOptions, work: Work) -> Features:
    """Features of what can be read, kept in a folder that says by its name of which videos, as they are now."""
    ranks = work.ranks
    with ranks.first_then_others():
        whole = scanned(videos, progress=work.progress and ranks.first, none_usable_is_an_error=False)
    if not whole.videos:
        return Features([], [], [], list(whole.problems))
    assert options.clips is not None and options.readout is not None
    weights = fingerprint(model)
    files = [[v.source, *todo.states[indexed_path(v)]] for v in whole.videos]
    what = files, weights, options.clips, options.readout
    kept = folder / hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    if ranks.first and folder.is_dir():
        for other in folder.iterdir():  # of other videos, or of files as they were before
            if other != kept:
                shutil.rmtree(other)
    shown = Extraction(options.clips, options.readout, batch=work.batch)
    found = extract_to(
        FeatureFolder(kept, weights), model, whole, shown, workers=work.workers, ranks=ranks, progress=work.progress
    )
    found.problems[:0] = whole.problems
    return found


def _compared(
    stored: Stored | None, found: Features, todo: Todo, gone: Mapping[int, str], problems: list[Problem]
) -> tuple[set[int], Changes]:
    """The numbers of the videos that go, and what changes."""
    readable = {indexed_path(v) for v in found.videos}
    drop = {*gone, *todo.replaced, *todo.refreshed.values()}
    changes = Changes(
        added=tuple(sorted(readable - todo.refreshed.keys())),
        refreshed=tuple(sorted(readable & todo.refreshed.keys())),
        removed=tuple(sorted({*gone.values(), *todo.replaced.values(), *todo.refreshed} - readable)),
        problems=tuple(problems),
        videos=(len(stored.entries) if stored else 0) - len(drop) + len(readable),
    )
    return drop, changes
