"""Making a search index and keeping it up to date: what is new is extracted, what changed replaced, the rest stays."""

import contextlib
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from ssl_video.apps import nearest
from ssl_video.apps.index_build import Extracted, State, change, create
from ssl_video.apps.index_folder import Entry, Stored, locked, open_index
from ssl_video.apps.options import IndexOptions
from ssl_video.apps.search import Index, check_model, indexed_path, load_search_model, same_file
from ssl_video.bounds import Bounded, Count, Natural
from ssl_video.datasets.base import ListedVideo, Video, VideoList
from ssl_video.datasets.spec import all_videos, scanned
from ssl_video.errors import UserError
from ssl_video.eval.features import Extraction, Features
from ssl_video.eval.shards import FeatureFolder, extract_to, fingerprint
from ssl_video.files import as_named
from ssl_video.members import state_and_identity
from ssl_video.model import Model, default_model
from ssl_video.progress import announce
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
    """What an update did: paths of videos, what could not be used, and how well a new faiss index finds."""

    added: tuple[str, ...] = ()
    refreshed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    videos: int = 0
    recall: nearest.Recall | None = None


@dataclass(frozen=True)
class Todo:
    """Videos that the index does not hold as they are now, and the state of every file that was named.

    ``replaced`` are entries, by their paths, of files that are in ``videos`` under other names; ``renamed`` maps the
    paths of entries of version 0.1, which resolved links, to the names that users gave.
    """

    videos: tuple[ListedVideo, ...]
    states: dict[str, State]
    replaced: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> set[str]:
        """What the index calls them."""
        return {indexed_path(video) for video in self.videos}


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
            given, and the old one stays whole until the new one is complete.
        remove: videos, or folders of them, to take out.
        prune: take out the videos whose files are gone.
        work: see ``Work``.

    Raises:
        UserError: if there is nothing to do, another process changes the index, it is of another model or other
            options, it is damaged, the model's features are not finite, or nothing would be in it.
    """
    if videos is None and not remove and not prune and not options.rebuild:
        raise UserError(
            "There is nothing to do; name videos by --data, take some out by --remove or --prune, or --rebuild all."
        )
    ranks = work.ranks
    with contextlib.ExitStack() as until_the_end:
        ranks.first_does(lambda: until_the_end.enter_context(locked(out)))
        stored = _stored(out, videos, options)
        if stored is None and videos is None:
            raise UserError(f"There is no index in {out} yet; name --data to make one.")
        if stored is None and model is None:
            model = _default(out, work)
        options = _settled(options, stored)
        gone = _to_remove(stored, remove, prune) if stored else set()
        if options.rebuild and stored is not None:
            model = model or load_search_model(stored, work.device)
            videos, stored = _all_again(stored, videos, gone), None
        if model is not None:
            check_model(stored, model)
        problems = list(videos.problems) if videos else []
        todo = _todo(videos, stored, problems)
        found = Features([], [], [], [])
        if videos is not None and todo.videos:
            model = model or load_search_model(stored, work.device)
            check_model(stored, model)
            new = VideoList(videos.name, todo.videos, videos.classes)
            found = _extract(out / "extracted", model, new, todo, options, work)
        problems += found.problems
        if not ranks.first:
            return Changes(problems=tuple(problems))
        kept, changes = _compared(stored, found, todo, gone, problems)
        if not changes.videos:
            why = f"; the first that cannot be used: {problems[0].reason}" if problems else ""
            raise UserError(f"No video would be in the index {out}{why}.")
        extracted = Extracted(model, found, todo.states, videos.classes if videos else ())
        if stored is None:
            changes = replace(changes, recall=create(out, extracted, options))
        elif changes.added or changes.refreshed or changes.removed or todo.renamed:
            change(stored, extracted, kept)
        shutil.rmtree(out / "extracted", ignore_errors=True)  # also of an update that was killed once it was done
        return changes


def _stored(out: Path, videos: VideoList | None, options: IndexOptions) -> Stored | None:
    """The index that is there; one that is damaged need not be read to be made again of videos that are named."""
    if not (out / "header.json").exists():
        return None
    try:
        return open_index(out)
    except UserError:
        if options.rebuild and videos is not None:
            return None
        raise


def _default(out: Path, work: Work) -> Model:
    """The model of a new index for which none is named. Raises UserError where the old one, damaged, had another."""
    if (out / "header.json").exists():
        raise UserError(f"The index in {out} is damaged, so that its model is not known; name one by --model.")
    return default_model("clips", work.device, _say(work), "--model")


def _say(work: Work) -> Callable[[str], None]:
    """Tells a line once, of several ranks by the first."""
    return partial(announce, shown=work.progress) if work.ranks.first else lambda _: None


def _all_again(stored: Stored, more: VideoList | None, gone: set[str]) -> VideoList:
    """The videos of an index but for those that are ``gone``, and ``more``, which are taken as they are named there."""
    left = gone | {indexed_path(video) for video in more.videos} if more else gone
    again = tuple(ListedVideo(e.path) for e in stored.entries if e.path not in left)
    if more is None:
        return VideoList(str(stored.folder), again)
    return replace(more, videos=again + tuple(more.videos))


def _settled(options: IndexOptions, stored: Stored | None) -> IndexOptions:
    """With the index's own values, or the defaults, in place of None. Raises UserError if they contradict the index."""
    if stored is None:
        own = IndexOptions(8, "rich", nearest.EXACT)
    else:
        own = IndexOptions(stored.header.clips, stored.header.readout, stored.header.index_type)
    settled = IndexOptions(
        own.clips if options.clips is None else options.clips,
        own.readout if options.readout is None else options.readout,
        own.index_type if options.index_type is None else options.index_type,
        options.rebuild,
    )
    if stored is not None and not options.rebuild and settled != own:
        raise UserError(
            f"{stored.folder} was made with --clips {own.clips} --readout {own.readout} --index-type {own.index_type}; "
            "leave these options out, or make it again with --rebuild."
        )
    return settled


def _to_remove(stored: Stored, remove: Sequence[Path], prune: bool) -> set[str]:
    paths = [e.path for e in stored.entries]
    gone = {path for path in paths if prune and not Path(path).exists()}
    wanted = {named: {_name(as_named(named)), _name(named.resolve())} for named in remove}
    found = _below(paths, set().union(*wanted.values()))
    missed = {_name(named.resolve()): named for named, names in wanted.items() if not names & found.keys()}
    behind_links = _below(map(os.path.realpath, paths), missed.keys()) if missed else {}
    for name, named in missed.items():
        if name not in behind_links:
            raise UserError(f"{stored.folder} holds no video {as_named(named)} and none below it; nothing was removed.")
    return gone.union(*([paths[n] for n in numbers] for numbers in (*found.values(), *behind_links.values())))


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


def _todo(videos: VideoList | None, stored: Stored | None, problems: list[Problem]) -> Todo:
    """What is to be extracted; files that are not there join ``problems``."""
    known = Known(stored.entries if stored else ())
    states: dict[str, State] = {}
    todo: list[ListedVideo] = []
    files: set[tuple[int, ...]] = set()
    replaced: set[str] = set()
    renamed: dict[str, str] = {}
    for video in videos.videos if videos else ():
        path = indexed_path(video)
        if path in states:
            continue
        try:
            size, mtime_ns, file = state_and_identity(path)
        except OSError as error:
            problems.append(Problem(video.source, f"cannot be read: {error.strerror}"))
            continue
        state = size, mtime_ns
        entry = known.entry(path, state)
        if file in files and (entry is None or entry.path != path):
            continue  # another name of a file that was named already
        files.add(file)
        states[path] = state
        if entry is not None and (entry.size, entry.mtime_ns) == state:
            if entry.path != path and not entry.content:
                renamed[entry.path] = path
            continue
        if entry is not None and entry.path != path:
            replaced.add(entry.path)
        # what a manifest says of a file that has changed may be out of date; arrays (.npy) cannot be scanned
        again = entry is not None and video.path == video.source and not path.endswith(".npy")
        todo.append(video.listed if again and isinstance(video, Video) else video)
    return Todo(tuple(todo), states, frozenset(replaced), renamed)


class Known:
    """The entries of an index, to be found by a name of their file."""

    def __init__(self, entries: Sequence[Entry]):
        self._by_path = {e.path: e for e in entries}
        self._by_state: dict[State, list[Entry]] = {}
        for entry in entries:
            self._by_state.setdefault((entry.size, entry.mtime_ns), []).append(entry)

    def entry(self, path: str, state: State) -> Entry | None:
        """The entry of this name, or of the file that it links to, or of the same file under another name."""
        entry = self._by_path.get(path) or self._by_path.get(os.path.realpath(path))
        others = self._by_state.get(state, ())
        return entry or next((e for e in others if same_file(e.path, path)), None)


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
    stored: Stored | None, found: Features, todo: Todo, gone: set[str], problems: list[Problem]
) -> tuple[list[Entry], Changes]:
    """The entries that stay as they are, and what changes."""
    known = {e.path: e for e in stored.entries} if stored else {}
    extracted, readable = todo.paths, {indexed_path(v) for v in found.videos}
    taken = gone | extracted | todo.replaced
    kept = [replace(e, path=todo.renamed.get(e.path, e.path)) for e in known.values() if e.path not in taken]
    changes = Changes(
        added=tuple(sorted(readable - known.keys())),
        refreshed=tuple(sorted(readable & known.keys())),
        removed=tuple(sorted((gone | todo.replaced | (extracted & known.keys())) - readable)),
        problems=tuple(problems),
        videos=len(kept) + len(readable),
    )
    return kept, changes
