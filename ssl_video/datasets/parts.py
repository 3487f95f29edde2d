"""A scan in parts, on several machines, and the manifest that is made of them: byte for byte that of one scan.

Part K of N of ``manifest.csv`` is ``manifest.part-K-of-N.csv`` beside it, so that nobody has to say which parts there
are, and none is lost or counted twice without a word.
"""

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssl_video.datasets.base import Splits, VideoList
from ssl_video.datasets.manifest import IN_SHARD, PATHS, write_manifest
from ssl_video.datasets.prepare import Prepared, lists_of, scan_splits
from ssl_video.datasets.spec import load_splits
from ssl_video.errors import UserError
from ssl_video.members import path_in
from ssl_video.remote import is_remote
from ssl_video.video.info import Problem
from ssl_video.video.scan import TIME_LIMIT_S

NAME = re.compile(r"(.*)\.part-(\d+)-of-(\d+)\.csv", re.DOTALL)


@dataclass(frozen=True)
class Part:
    """The part ``number`` (from 1 on) of so many."""

    number: int
    of: int

    @classmethod
    def parsed(cls, text: str) -> "Part":
        """Of K/N. Raises UserError."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise UserError(f"--part takes K/N with K from 1 to N, such as 1/4, not {text!r}.")
        return cls(int(found[1]), int(found[2]))

    def file(self, manifest: Path) -> Path:
        """Where this part of a manifest lies."""
        return manifest.with_name(f"{manifest.stem}.part-{self.number}-of-{self.of}.csv")

    def splits(self, splits: Splits) -> Splits:
        """This part of both lists; what cannot be used of all is in the first part."""
        test = None if splits.test is None else self.share(splits.test)
        return replace(splits, train=self.share(splits.train), test=test)

    def share(self, videos: VideoList) -> VideoList:
        """This part of a list; what cannot be used is in the first part."""
        first, last = (len(videos.videos) * n // self.of for n in (self.number - 1, self.number))
        problems = videos.problems if self.number == 1 else ()
        return replace(videos, videos=videos.videos[first:last], problems=problems)


def scan_part(
    data: str,
    out: Path,
    part: Part,
    time_limit_s: float = TIME_LIMIT_S,
    *,
    workers: int | None = None,
    progress: bool = False,
) -> Prepared:
    """Scan a part of the files of a SPEC, and write that part of the manifest ``out``. Raises UserError."""
    splits = part.splits(load_splits(data, through_manifest=False))
    return scan_splits(splits, part.file(out), time_limit_s, workers=workers, progress=progress)


def merge_parts(data: str, out: Path) -> Prepared:
    """Make the manifest ``out`` of its parts, which lie beside it and stay there.

    Raises UserError if one is missing, there are parts of several numbers, or they list other files than ``data``.
    """
    parts = _parts(out)
    splits = load_splits(data, through_manifest=False)
    counts = _Counts()
    write_manifest(out, _rows(parts, splits, counts))
    return Prepared(out, counts.videos, counts.frames, tuple(counts.problems), splits.warnings)


@dataclass
class _Counts:
    videos: int = 0
    frames: int = 0

    def __post_init__(self) -> None:
        self.problems: list[Problem] = []


def _parts(out: Path) -> list[Path]:
    """The files of all parts, in order."""
    found: dict[int, dict[int, Path]] = {}
    for path in sorted(out.parent.glob("*.part-*-of-*.csv")):
        if (named := NAME.fullmatch(path.name)) and named[1] == out.stem:
            found.setdefault(int(named[3]), {})[int(named[2])] = path
    if not found:
        raise UserError(f"There are no parts of {out}; make them by 'ssl-video data scan --part 1/4' and so on.")
    if len(found) > 1:
        which = " and ".join(map(str, sorted(found)))
        raise UserError(f"Beside {out} lie parts of {which}; remove those of the scan that does not count.")
    ((of, parts),) = found.items()
    missing = [number for number in range(1, of + 1) if number not in parts]
    if missing:
        some = ", ".join(f"{n}/{of}" for n in missing[:5]) + (", ..." if len(missing) > 5 else "")
        verb = "is" if len(missing) == 1 else "are"
        raise UserError(f"Of the {of} parts of {out} {verb} missing: {some}; scan them by --part.")
    return [parts[number] for number in range(1, of + 1)]


def _rows(parts: list[Path], splits: Splits, counts: _Counts) -> Iterator[dict[str, Any]]:
    """The rows of one scan: of each list the videos of all parts, then what cannot be used of all parts."""
    for split, videos in lists_of(splits):
        listed = len(videos.videos) + len(videos.problems)
        for usable in (True, False):
            for part in parts:
                for row in _read(part):
                    if row["split"] != split or bool(row["frames"]) != usable:
                        continue
                    listed -= 1
                    if usable:
                        counts.videos, counts.frames = counts.videos + 1, counts.frames + int(row["frames"])
                    else:
                        counts.problems.append(Problem(row["path"], row["reason"] or "it could not be read then"))
                    yield row
        if listed:
            how = "fewer" if listed > 0 else "more"
            raise UserError(f"The parts list {abs(listed)} files {how} than {videos.name} now; scan again by --part.")


def _read(part: Path) -> Iterator[dict[str, Any]]:
    """The rows of a part, with whole paths. Raises UserError if it is damaged."""
    with part.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        try:
            for row in csv.DictReader(file):
                row["path"] = path_in(row["path"], *(row.pop(name, "") for name in IN_SHARD))
                for name in PATHS:
                    if row[name] and not is_remote(row[name]):
                        row[name] = os.path.normpath(part.parent.absolute() / row[name])
                yield row
        except (csv.Error, KeyError, TypeError, ValueError, AttributeError):
            raise UserError(f"{part} is damaged; scan it again by --part.") from None
