"""From a SPEC, the string by which a command names its data, to sets of videos that can be used."""

import dataclasses
import os
import re
import uuid
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ssl_video.datasets.base import DATASETS, FeatureSplits, ListedVideo, Splits, Video, VideoList, VideoRows, VideoSet
from ssl_video.datasets.finding import videos_below
from ssl_video.datasets.folder import load_folder
from ssl_video.datasets.large import load_list
from ssl_video.datasets.listing import leaks, shortcomings, with_reasons
from ssl_video.datasets.many import compact
from ssl_video.datasets.packed import COMPRESSED, load_shards, load_tars, shards_in
from ssl_video.datasets.remote_lists import load_remote
from ssl_video.datasets.scans import contents_of, scanned_rows
from ssl_video.datasets.spelling import Spellings, why_absent
from ssl_video.datasets.synthetic import synthesize
from ssl_video.datasets.table import load_table
from ssl_video.errors import UserError
from ssl_video.files import as_named, cache_dir, there
from ssl_video.progress import count
from ssl_video.remote import is_remote
from ssl_video.video.info import Problem
from ssl_video.video.scan import TIME_LIMIT_S, scan

NAMED = re.compile(r"([\w-]{2,}):(.*)", re.DOTALL)
"""A data set by name; one letter is a drive of Windows."""
LIST_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")


def load_splits(spec: str, split: int = 1, *, through_manifest: bool = True) -> Splits:
    """The videos that ``spec`` names, not scanned yet, with a warning for whatever makes results less than they seem.

    Such are listed files that are absent, classes without videos, and test videos that leak into the training list.

    A list of ``COLUMNS_FROM`` rows or more is kept in columns, and its files are not looked for (``datasets.large``).

    ``spec`` is a video, a folder (read through its ``manifest.csv`` if it holds one, unless ``through_manifest`` is
    False, which a new scan needs to see new files), a csv, a manifest, or ``NAME:ROOT`` with the name of a registered
    data set, such as ``ucf101:ROOT``. ``split`` counts from 1.

    Raises:
        UserError: if nothing is there, none of the listed files is, or the set was published as features.
    """
    splits = _load(spec, split, through_manifest)
    if isinstance(splits, FeatureSplits):
        raise UserError(
            f"{spec} holds features and no videos, for which there is the command 'ssl-video evaluate features'."
        )
    large = isinstance(splits.train.videos, VideoRows)  # it was looked at when it became columns
    if not large:
        test = None if splits.test is None else with_reasons(splits.test)
        splits = dataclasses.replace(splits, train=with_reasons(splits.train), test=test)
    sets = [splits.train] + ([splits.test] if splits.test else [])
    problems = [p for s in sets for p in s.problems]
    if not any(s.videos for s in sets):
        first = f"the first: {problems[0].path}: {problems[0].reason}" if problems else "the lists are empty"
        raise UserError(f"None of the {len(problems)} videos of {spec} can be used; {first}.")
    return (
        splits
        if large
        else dataclasses.replace(splits, warnings=splits.warnings + shortcomings(splits) + leaks(splits))
    )


def load_features(spec: str, split: int = 1) -> FeatureSplits:
    """The published features that ``spec`` names. Raises UserError if nothing is there, or videos are."""
    splits = _load(spec, split, through_manifest=True)
    if isinstance(splits, Splits):
        raise UserError(f"{spec} holds videos and no published features; name a set such as youtube8m:ROOT.")
    return splits


def _load(spec: str, split: int, through_manifest: bool) -> Splits | FeatureSplits:
    if spec == "synthetic":  # the embedded set: made at the first use
        return _embedded(cache_dir() / "synthetic-clips")
    if is_remote(spec):
        return load_remote(spec, split)
    path = _at_home(spec)
    named = NAMED.fullmatch(spec)
    if named and not there(path):
        load = DATASETS[named[1]]
        root = _at_home(named[2])
        if not named[2] or not root.is_dir():
            hint = _instead(named[2]) or f"write {named[1]}:ROOT with the root folder of the set"
            raise UserError(f"There is no folder {named[2]!r}; {hint}.")
        return load(root, split)
    if not spec or not there(path):  # an empty name is no name of this folder
        names = ", ".join(DATASETS.names())
        hint = _instead(spec) or f"name one, or a data set as NAME:ROOT (NAME: {names})"
        raise UserError(f"There is no file or folder {spec!r}; {hint}.")
    if split != 1:
        raise UserError(f"{spec} has one split only, not {split}; leave --split out.")
    if path.is_dir():
        manifest = path / "manifest.csv"
        if through_manifest and manifest.is_file():
            return load_list(manifest)
        if not shards_in(path) or videos_below(path).paths:
            return load_folder(path)
        return load_shards(path, facts=through_manifest)
    if path.name.lower().endswith(COMPRESSED):
        raise UserError(f"{path} is compressed, so that no video in it can be read alone; unpack it.")
    if path.suffix.lower() == ".tar":
        return load_tars([path], path.name, facts=through_manifest)
    if path.suffix.lower() in LIST_SUFFIXES:
        return load_list(path, facts=through_manifest)
    return Splits(VideoList(path.name, (ListedVideo(str(as_named(path))),)))


def _embedded(folder: Path) -> Splits:
    """The embedded set, drawn again where it is damaged: it is ours, and nobody can name another place for it."""
    with suppress(UserError):  # said again below, if a new folder meets it too
        splits = load_table(synthesize(folder, wait=True))
        if not splits.warnings and not any(one.problems for one in (splits.train, splits.test) if one):
            return splits
    with suppress(OSError):
        aside = folder.with_name(f"{folder.name}.damaged-{uuid.uuid4().hex[:8]}")
        folder.rename(aside)
        warnings.warn(f"{folder} was damaged: it is {aside.name} now, and drawn again. Remove it.", stacklevel=2)
    return load_table(synthesize(folder, wait=True))


def anywhere(spec: str) -> str:
    """The SPEC with the whole path of what it names, so that it can be noted and read in any folder."""
    if spec in ("", "synthetic") or is_remote(spec):
        return spec
    named = NAMED.fullmatch(spec)
    if named and not there(_at_home(spec)):
        return f"{named[1]}:{as_named(_at_home(named[2]))}" if named[2] else spec
    return str(as_named(_at_home(spec)))


def _at_home(path: str) -> Path:
    """The path; a leading ``~`` is the home folder, unless something is called so."""
    return Path(path if there(path) else os.path.expanduser(path))  # noqa: PTH111  (it raises for unknown users)


def _instead(path: str) -> str:
    """What to name in the place of a path that is not there, "" if nothing is known."""
    if link := why_absent(path):
        return f"{link}; name what is there"
    other = Spellings().of(path) if path else None
    return f"there is {other!r}" if other else ""


def scanned(
    videos: VideoList,
    time_limit_s: float = TIME_LIMIT_S,
    *,
    workers: int | None = None,
    progress: bool = False,
    none_usable_is_an_error: bool = True,
) -> VideoSet:
    """The videos of a list with what a scan found; files that cannot be used join the problems.

    Videos that a manifest described already are not scanned again; only what says which videos they are is read, where
    it is one of version 0.1.

    Raises:
        UserError: if no video is left and ``none_usable_is_an_error``.
    """
    if isinstance(videos.videos, VideoRows):
        found = scanned_rows(videos, videos.videos, time_limit_s, workers, progress)
        return found if found.videos or not none_usable_is_an_error else _none_usable(found)
    unknown = list(dict.fromkeys(v.path for v in videos.videos if not isinstance(v, Video)))
    found = dict(scan(unknown, workers, time_limit_s, progress)) if unknown else {}
    contents = contents_of([v for v in videos.videos if isinstance(v, Video) and not v.info.content], progress=progress)
    usable: list[Video] = []
    problems = list(videos.problems)
    for video in videos.videos:
        if isinstance(video, Video):
            usable.append(video if video.info.content else video.with_content(contents[video.at_hand]))
        elif isinstance(info := found[video.path], Problem):
            problems.append(info)
        else:
            usable.append(video.scanned(info))
    whole = VideoSet(videos.name, compact(usable), videos.classes, tuple(problems))
    return whole if usable or not none_usable_is_an_error else _none_usable(whole)


def _none_usable(videos: VideoSet) -> VideoSet:
    problems = videos.problems
    first = f"the first: {problems[0].path}: {problems[0].reason}" if problems else "it lists none"
    raise UserError(f"None of the {len(problems)} videos in {videos.name} can be used; {first}.")


def all_videos(data: str | Path | Sequence[str | Path] | VideoList) -> VideoList:
    """The videos of all lists of a SPEC, or of several, not scanned; a set stays as it is. Raises UserError."""
    if isinstance(data, VideoList):
        return data
    specs = [str(data)] if isinstance(data, str | Path) else [str(spec) for spec in data]
    lists = [s for splits in map(load_splits, specs) for s in (splits.train, splits.test) if s is not None]
    classes = lists[0].classes if len(specs) == 1 else ()
    problems = tuple(p for one in lists for p in one.problems)
    videos = lists[0].videos if len(lists) == 1 else tuple(v for one in lists for v in one.videos)
    return VideoList(", ".join(specs), videos, classes, problems)


def one_video(path: Path) -> Video:
    """One scanned video file. Raises UserError if it is absent or cannot be used."""
    if not there(path):
        hint = _instead(str(path))
        raise UserError(f"There is no video file {path}{f'; {hint}' if hint else ''}.")
    info = dict(scan([str(path)], 1))[str(path)]
    if isinstance(info, Problem):
        raise UserError(f"{path} cannot be used: {info.reason}.")
    return Video(str(path), info=info)


def describe(splits: Splits) -> str:
    """A short paragraph: how many videos, classes and unusable files there are."""
    sets = [splits.train] + ([splits.test] if splits.test else [])
    problems = [p for s in sets for p in s.problems]
    words = [f"{count(len(s.videos), 'video')} in {s.name}" for s in sets]
    classes = count(len(splits.train.classes), "class") if splits.train.classes else "no labels"
    text = f"{' and '.join(words)}; {classes}."
    if problems:
        text += f" {len(problems)} more cannot be used, the first: {problems[0].path}: {problems[0].reason}."
    return text
