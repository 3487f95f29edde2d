"""The manifest: a csv with a header that says of every video what a list and a scan found, one row a file.

``path`` (relative to the manifest, or absolute), ``label`` (the name of the class, or of several with ``|`` between
them), ``group`` (what train and test must not share), ``split`` ("train", "test" or empty, which means train), the
fields of ``VideoInfo``, ``reason`` (why the file cannot be used), and further fields of ``ListedVideo``, such as
``caption`` (what it shows, in words; may be empty). Where videos lie in shards, ``shard``, ``offset`` and ``size`` say
in which tar, from which byte on and how many there are, and ``path`` is their name in it. What was found
of a file that has another ``state`` now is not used: the file is scanned anew. Only ``path`` is needed, so a list made
by hand with the header ``path,label`` is a manifest that was not scanned; those of version 0.1 have no column after
``reason``.
"""

import contextlib
import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ssl_video.datasets.base import ListedVideo, Splits, Video, VideoList
from ssl_video.datasets.listing import MISSING, class_names, csv_lines, read_text, split_named
from ssl_video.datasets.spelling import spellings
from ssl_video.errors import UserError, nearest
from ssl_video.files import as_named, there, written_aside
from ssl_video.members import member_of, path_in, shortfall
from ssl_video.remote import is_remote
from ssl_video.video.content import content_of, state_of
from ssl_video.video.info import Problem, VideoInfo

INFO_COLUMNS = {
    "frames": int,
    "fps": float,
    "width": int,
    "height": int,
    "duration_s": float,
    "codec": str,
    "pts_start": int,
    "pts_step": float,
}
OWN = ("copy_of", "annotation", "annotated", "published", "caption")
"""Columns that are fields of ``ListedVideo`` of the same name."""
PATHS = ("path", "copy_of", "annotation")
COLUMNS = ("path", "label", "group", "split", *INFO_COLUMNS, "reason", "content", *OWN, "state")
IN_SHARD = ("shard", "offset", "size")
"""Columns that are written only where videos lie in shards."""
COPY_CHANGED = "the copy has changed since it was made; make it again by 'ssl-video data cache' or 'data flow'"
OTHER_WORDS = {
    "path": ("video", "filename", "file", "file_name", "filepath", "file_path", "video_path", "clip"),
    "label": ("class", "class_name", "labels", "category", "action"),
    "split": ("subset", "set", "partition"),
    "caption": ("captions", "text", "sentence", "description", "prompt"),
}
"""What others call columns of ours."""
INDEX = re.compile(r"|unnamed: ?\d+|index", re.IGNORECASE)
"""Names of a first column that counts rows, as pandas writes it."""


@dataclass(frozen=True)
class Row:
    """One file of a list: ``labels`` name its classes, if known, and with a ``reason`` it is a problem, no video."""

    path: str
    labels: tuple[str, ...] = ()
    group: str = ""
    split: str = ""
    info: VideoInfo | None = None
    reason: str = ""
    copy_of: str = ""
    annotation: str = ""
    annotated: str = ""
    published: str = ""
    caption: str | None = None
    state: str = ""
    changed: bool = False


def read_manifest(path: Path | str) -> Splits:
    """Its training and test list; rows that were scanned are trusted, as long as the file is as it was.

    Raises:
        UserError: if the file or a row cannot be read, with the line's number.
    """
    path = whole_path(path)
    return splits_of(header_rows(csv_lines(read_text(path), path), path), list_name(path))


def list_name(path: Path) -> str:
    """What messages call the set of a list: its folder and its name, since many are called manifest.csv."""
    return "/".join(path.parts[-2:])


def whole_path(path: Path | str) -> Path:
    """The path as named, links not resolved: a list that is a link speaks of files beside the link."""
    return as_named(path)


def manifest_rows(
    videos: VideoList, split: str = "", listed: Mapping[str, ListedVideo] = {}
) -> Iterator[dict[str, Any]]:
    """Column -> value for every video of the set in its order, then for every problem; paths are absolute.

    ``listed``: what a list says of the files of the problems.
    """
    names = videos.classes
    of_videos = (
        {"path": v.path, "label": joined([names[n] for n in v.labels]), "group": v.group, "split": split}
        | {name: getattr(v, name) for name in OWN}
        | (asdict(v.info) if isinstance(v, Video) else {})
        for v in videos.videos
    )
    of_problems = (_problem_row(p, split, names, listed.get(p.path)) for p in videos.problems)
    for row in chain(of_videos, of_problems):
        yield row | {name: _whole(row[name]) for name in PATHS if row.get(name)}


def _whole(path: str) -> str:
    """A relative one would be taken as relative to the manifest; links keep their names."""
    return path if is_remote(path) else os.path.abspath(path)  # noqa: PTH100


def _problem_row(problem: Problem, split: str, names: Sequence[str], listed: ListedVideo | None) -> dict[str, Any]:
    """Without the reason where it is the machine's: who reads the manifest scans the file anew."""
    row = {"path": problem.path, "split": split, "reason": "" if listed and problem.passing else problem.reason}
    if listed is not None:
        row |= {"label": joined([names[n] for n in listed.labels]), "group": listed.group}
        row |= {name: getattr(listed, name) for name in OWN}
    if not (listed and problem.passing):
        with contextlib.suppress(OSError, ValueError):
            row["state"] = state_of(problem.path)
    return row


def write_manifest(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write ``rows`` (some of ``COLUMNS`` -> value) aside and rename.

    Paths below the manifest's folder are written relative to it, so that both can move together. Numbers are written so
    that reading gives back the same ones.
    """
    with written_aside(path) as aside, aside.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.writelines(manifest_lines(path, rows))


def manifest_lines(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What ``write_manifest`` writes, line by line."""
    folders = as_named(path).parent, Path(path).resolve().parent

    def relative(file: Path | str) -> str:
        if is_remote(file):
            return str(file)
        file = Path(file)
        below = (file.relative_to(folder).as_posix() for folder in folders if file.is_relative_to(folder))
        return next(below, str(file))

    # ends of lines decide what is quoted: also a carriage return in a name
    lines, rows = io.StringIO(newline=""), iter(rows)
    first = list(islice(rows, 1))
    columns = COLUMNS + IN_SHARD if any(member_of(row["path"]) for row in first) else COLUMNS
    writer = csv.DictWriter(lines, columns, restval="", lineterminator="\r\n")
    yield ",".join(columns) + "\n"
    for row in chain(first, rows):
        row = {**row, **{name: relative(row[name]) for name in PATHS if row.get(name)}}
        if columns != COLUMNS and (member := member_of(row["path"])) is not None:
            row |= {"path": member.name, "shard": member.shard, "offset": member.offset, "size": member.size}
        writer.writerow(row)
        yield lines.getvalue().removesuffix("\r\n") + "\n"
        lines.seek(0)
        lines.truncate()


def joined(labels: Sequence[str]) -> str:
    """The labels of a video as one cell, ``|`` between them; a name's own ``|`` and ``\\`` get a ``\\`` before them."""
    return "|".join(re.sub(r"[\\|]", r"\\\g<0>", label) for label in labels)


def separated(cell: str) -> tuple[str, ...]:
    """What ``joined`` made one cell of. A ``\\`` before any other character is one that stands for itself."""
    parts = re.findall(r"((?:\\[\\|]|[^|])*)(?:\||$)", cell)
    labels = (re.sub(r"\\([\\|])", r"\1", part.strip()) for part in parts)
    return tuple(dict.fromkeys(label for label in labels if label))


def splits_of(rows: Sequence[Row], name: str) -> Splits:
    """The sets that the rows describe; both have the classes of all rows. Raises UserError if none is for training."""
    classes = class_names(label for r in rows for label in r.labels)
    train = [r for r in rows if r.split not in ("test", "val")]
    test, val = ([r for r in rows if r.split == name] for name in ("test", "val"))
    test, val = (test, val) if test else (val, [])  # which serves where there is no other
    if not train:
        raise UserError(f"No line of {name} is for training; write 'train' in the column 'split' of those that are.")
    warnings: tuple[str, ...] = ()
    if val:
        warnings += (f"{len(val)} rows of {name} for validation are left out, since others are for testing.",)
    if changed := [r.path for r in rows if r.changed]:
        warnings += (
            f"{len(changed)} of the {len(rows)} files of {name} have changed since it was written (the first: "
            f"{changed[0]}): what it says of them is not used.",
        )
    if not test:
        return Splits(_set_of(train, name, classes), warnings=warnings)
    return Splits(_set_of(train, f"{name} train", classes), _set_of(test, f"{name} test", classes), warnings)


def _set_of(rows: Sequence[Row], name: str, classes: tuple[str, ...]) -> VideoList:
    number = {c: i for i, c in enumerate(classes)}
    videos = []
    for row in rows:
        if not row.reason:
            own = {name: getattr(row, name) for name in OWN}
            video = ListedVideo(row.path, tuple(number[label] for label in row.labels), row.group, **own)
            videos.append(video.scanned(row.info) if row.info else video)
    return VideoList(name, tuple(videos), classes, tuple(Problem(r.path, r.reason) for r in rows if r.reason))


def header_rows(lines: Sequence[tuple[int, list[str]]], source: Path) -> list[Row]:
    """The rows of a csv whose first line names its columns. Raises UserError with the number of a wrong line."""
    if len(lines) < 2:
        raise UserError(f"{source} lists no videos.")
    names = columns_named(lines[0][1], f"{source}, line {lines[0][0]}")
    rows = []
    for number, cells in lines[1:]:
        cells = fitting(cells, names, source, number)
        rows.append(listed_row(parsed_row(dict(zip(names, cells, strict=True)), source, number), source))
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_as_it_is_now, rows))


def fitting(cells: list[str], names: Sequence[str], source: Path, number: int) -> list[str]:
    """As many cells as there are columns; empty ones at the end are left out. Raises UserError."""
    while len(cells) > len(names) and not cells[-1].strip():
        cells = cells[:-1]
    if len(cells) != len(names):
        raise UserError(f"{source}, line {number}: {len(cells)} columns, where the header has {len(names)}.")
    return cells


def _as_it_is_now(row: Row) -> Row:
    """The row without what was found of its file, if that has changed since.

    A file of the same size and content is the same one at another place. A copy has the content of its original: only
    its size tells.
    """
    if not row.state or row.reason.startswith(MISSING):
        return row
    content = "" if row.copy_of else row.info.content if row.info else None
    if is_as_noted(row.path, row.state, content):
        return row
    return replace(row, info=None, reason=COPY_CHANGED if row.copy_of else "", changed=True)


def is_as_noted(path: str, state: str, content: str | None) -> bool:
    """True if a file has the state that was noted, or another one but its size and this content, if it is known.

    Of what cannot be read (None) the size alone says nothing: it may have been written to its end since.
    """
    try:
        now = state_of(path)
        same_size = now.partition("|")[0] == state.partition("|")[0]
        return now == state or (content is not None and same_size and content in ("", content_of(path)))
    except OSError:
        return False


def column(name: str) -> str:
    """Our name of a column that may be called otherwise."""
    name = name.strip().lower()
    return next((ours for ours, others in OTHER_WORDS.items() if name in others), name)


def columns_named(cells: Sequence[str], where: str) -> list[str]:
    """Our names of the columns of a header, "" for those to pass over. Raises UserError."""
    cells = list(cells)
    while len(cells) > 1 and not cells[-1].strip():
        cells.pop()
    names = [column(cell) for cell in cells]
    if len(names) > 1 and INDEX.fullmatch(names[0]):
        names[0] = ""
    known = COLUMNS + IN_SHARD
    for n, name in enumerate(names):
        if name and name not in known:
            raise UserError(f"{where}: there is no column {name!r}; {nearest(name, known)}")
        if name and name in names[:n]:
            first, other = cells[names.index(name)].strip(), cells[n].strip()
            raise UserError(f"{where}: the columns {first!r} and {other!r} both are the {name}; keep one of them.")
    if "path" not in names:
        raise UserError(f"{where}: the column 'path' is missing.")
    if len(missing := set(IN_SHARD) - set(names)) in (1, 2):
        raise UserError(f"{where}: the column {min(missing)!r} is missing, without which no video in a shard is found.")
    return names


def split_of(cell: str) -> str | None:
    """The list that a cell of the column ``split`` names (train, val or test), "" for none; None if it says else."""
    said = cell.strip()
    split = split_named(said, plain=True)
    return None if said and not split else split


def parsed_row(cells: dict[str, str], source: Path, number: int) -> Row:
    """One row as it is written. Raises UserError with the line's number."""
    said = cells.get("split", "").strip()
    split = split_of(said)
    if split is None:
        raise UserError(f"{source}, line {number}: the split {said!r} is unknown; write 'train' or 'test'.")
    info = None
    values = {name: cells.get(name, "") for name in INFO_COLUMNS}
    if all(values.values()):
        try:
            found = {name: parse(values[name]) for name, parse in INFO_COLUMNS.items()}
            info = VideoInfo(**found, content=cells.get("content", "").strip(), state=cells.get("state", ""))
        except ValueError as error:
            raise UserError(f"{source}, line {number}: {error}; run 'ssl-video data scan' again.") from None
    try:
        path = path_in(*(cells.get(name, "") for name in ("path", *IN_SHARD)))
    except ValueError:
        raise UserError(
            f"{source}, line {number}: the offset and the size of a video in a shard are whole numbers; pack again."
        ) from None
    labels, group = separated(cells.get("label", "")), cells.get("group", "").strip()
    own: dict[str, Any] = {name: cells.get(name, "") for name in OWN}
    own["caption"] = own["caption"].strip() or None
    row = Row(path, labels, group, split, info, cells.get("reason", ""), **own)
    check_named(row, source, number)
    return replace(row, state=cells.get("state", ""))


def check_named(row: Row, source: Path, number: int) -> None:
    """Raise UserError if the row names no file."""
    if not row.path.strip():
        raise UserError(f"{source}, line {number}: there is a label {joined(row.labels)!r} but no file.")


def listed_row(row: Row, source: Path) -> Row:
    """The row with a whole path, as a problem if its file is not there; ``source`` is the whole path of the list."""
    paths = {name: spelled_path(source.parent, getattr(row, name)) for name in PATHS if getattr(row, name).strip()}
    noted = "" if row.reason.startswith(MISSING) else row.reason  # it may have come back
    reason = noted or (shortfall(paths["path"]) if there(paths["path"]) else MISSING)
    return replace(row, **paths, info=None if reason else row.info, reason=reason)


def spelled_path(folder: Path, cell: str) -> str:
    """The whole path that a cell names: of its readings the first that is there, else the plainest."""
    if is_remote(cell):
        return cell.strip()
    paths = [os.path.normpath(folder / path) for path in dict.fromkeys(spellings(cell))]
    return next(filter(there, paths), os.path.normpath(folder / cell.strip()))
