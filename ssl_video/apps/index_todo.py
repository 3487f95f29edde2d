"""Which videos an index does not hold as they are now; it is asked for the names of files, and not gone through."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ssl_video.apps.index_rows import Entry, State
from ssl_video.apps.index_stored import Stored
from ssl_video.apps.picking import indexed_path, same_file
from ssl_video.datasets.base import ListedVideo, Video, VideoList
from ssl_video.members import state_and_identity
from ssl_video.video.info import Problem

BLOCK = 4096
"""Videos that are looked up at a time."""

ALIKE = 32
"""Videos of one size and one time of change, in a segment, that are looked at for one that is the same file."""

Known = tuple[int, Entry]
"""A video of the index, with its number."""


@dataclass(frozen=True)
class Todo:
    """Videos that the index does not hold as they are now, and the state of every file that was named.

    ``refreshed`` maps the paths of those among them that it holds as they were to their numbers. ``replaced`` maps
    numbers to the paths of others, of files that are in ``videos`` under other names; ``renamed`` the numbers of
    entries of version 0.1, which resolved links, to the names that users gave.
    """

    videos: tuple[ListedVideo, ...]
    states: dict[str, State]
    refreshed: Mapping[str, int] = field(default_factory=dict)
    replaced: Mapping[int, str] = field(default_factory=dict)
    renamed: Mapping[int, str] = field(default_factory=dict)

    @property
    def paths(self) -> set[str]:
        """What the index calls them."""
        return {indexed_path(video) for video in self.videos}


@dataclass(frozen=True)
class _File:
    video: ListedVideo
    path: str
    state: State
    file: tuple[int, ...]


def todo_of(videos: VideoList | None, stored: Stored | None, problems: list[Problem]) -> Todo:
    """What is to be extracted; files that are not there join ``problems``."""
    states: dict[str, State] = {}
    todo: list[ListedVideo] = []
    files: set[tuple[int, ...]] = set()
    refreshed: dict[str, int] = {}
    replaced: dict[int, str] = {}
    renamed: dict[int, str] = {}
    for one, known in _with_known(_files(videos, problems), stored):
        video, path, state = one.video, one.path, one.state
        if one.file in files and (known is None or known[1].path != path):
            continue  # another name of a file that was named already
        files.add(one.file)
        states[path] = state
        if known is not None:
            number, entry = known
            if (entry.size, entry.mtime_ns) == state:
                if entry.path != path and not entry.content:
                    renamed[number] = path
                continue
            if entry.path != path:
                replaced[number] = entry.path
            else:
                refreshed[path] = number
        # what a manifest says of a file that has changed may be out of date; arrays (.npy) cannot be scanned
        again = known is not None and video.path == video.source and not path.endswith(".npy")
        todo.append(video.listed if again and isinstance(video, Video) else video)
    return Todo(tuple(todo), states, refreshed, replaced, renamed)


def _files(videos: VideoList | None, problems: list[Problem]) -> Iterator[_File]:
    """The files that are there; a name that comes twice is looked at once."""
    seen: set[str] = set()
    for video in videos.videos if videos else ():
        path = indexed_path(video)
        if path in seen:
            continue
        try:
            size, mtime_ns, file = state_and_identity(path)
        except OSError as error:
            problems.append(Problem(video.source, f"cannot be read: {error.strerror}"))
            continue
        seen.add(path)
        yield _File(video, path, (size, mtime_ns), file)


def _with_known(files: Iterator[_File], stored: Stored | None) -> Iterator[tuple[_File, Known | None]]:
    block: list[_File] = []
    for one in files:
        block.append(one)
        if len(block) == BLOCK:
            yield from zip(block, _known(block, stored), strict=True)
            block = []
    yield from zip(block, _known(block, stored), strict=True)


def _known(files: Sequence[_File], stored: Stored | None) -> list[Known | None]:
    """The entry of each name, or of the file that it links to, or of the same file under another name."""
    if stored is None:
        return [None] * len(files)
    known = [found[0] if found else None for found in stored.having("path", [one.path for one in files])]
    left = [n for n, found in enumerate(known) if found is None]
    real = stored.having("path", [os.path.realpath(files[n].path) for n in left])
    alike = stored.having("state", [files[n].state for n in left], ALIKE)
    for n, linked, others in zip(left, real, alike, strict=True):
        same = (other for other in others if same_file(other[1].path, files[n].path))
        known[n] = linked[0] if linked else next(same, None)
    return known
