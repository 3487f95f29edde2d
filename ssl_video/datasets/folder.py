"""A folder of videos; its sub-folders say what is known of them.

* ``train/`` beside ``test/`` (else ``val/``): these are the two lists, and videos elsewhere in the folder are left
  out, with a warning. Capitals and endings make no difference (``listing.SPLIT``); of several folders the plainest
  name counts.
* If every video of a list lies exactly one folder deep, in two folders or more, these folders are the classes. If most
  do, they are so, too: videos above and deeper have no class then, with a warning.
* A folder that holds all the rest alone is passed over: ``UCF-101/CLASS/x.avi``, ``train/CLASS/x.avi``.
* Otherwise the videos have no labels. That is never an error, but said where a part of them lies as in folders of
  classes.
"""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ssl_video.datasets.base import Splits
from ssl_video.datasets.finding import videos_below
from ssl_video.datasets.listing import split_named
from ssl_video.datasets.manifest import Row, splits_of
from ssl_video.errors import UserError
from ssl_video.files import as_named, shown


def load_folder(root: Path) -> Splits:
    """The unscanned videos below ``root``, sorted by path. Raises UserError if there are none."""
    root = as_named(root)
    found = videos_below(root)
    if not found.paths:
        raise UserError(f"There is no video in {root}; {_hint(root)}{_first(found.problems)}.")
    refused = [Row(p.path, reason=p.reason) for p in found.problems]
    train_folder, test_folder = _split_folders(root, found.paths)
    if not (train_folder and test_folder):
        rows, said = _rows(root, found.paths)
        return dataclasses.replace(splits_of(rows + refused, root.name), warnings=found.warnings + said)

    train, said_of_train = _rows(root / train_folder, _below(root / train_folder, found.paths), "train")
    test, said_of_test = _rows(root / test_folder, _below(root / test_folder, found.paths), "test")
    elsewhere = len(found.paths) - len(train) - len(test)
    outside = (
        f"{elsewhere} videos in {root} lie outside {train_folder}/ and {test_folder}/ and are not used."
        if elsewhere
        else ""
    )
    warnings = (*found.warnings, *said_of_train, *said_of_test, *([outside] if outside else []))
    return dataclasses.replace(splits_of(train + test + refused, root.name), warnings=warnings)


def _hint(root: Path) -> str:
    lists = sorted(p.name for p in root.glob("*.csv"))
    return f"name its list {root / lists[0]} instead" if lists else "name a folder that holds videos"


def _first(problems: Sequence[object]) -> str:
    if not problems:
        return ""
    path, reason = (getattr(problems[0], name) for name in ("path", "reason"))
    return f" ({len(problems)} cannot be used, the first: {path}: {reason})"


def _split_folders(root: Path, paths: Sequence[str]) -> tuple[str, str]:
    """The folders of the training and of the test list, "" for one that is not there.

    An ending behind the word counts only where every folder is called so: ``train station`` may be a class.
    """
    folders = sorted({parts[0] for path in paths if len(parts := _parts(root, path)) > 1}, key=lambda n: (len(n), n))
    loose = all(map(split_named, folders))

    def first(split: str) -> str:
        named = [f for f in folders if split_named(f, plain=not loose) == split]
        return next((f for f in named if f == split), named[0] if named else "")

    return first("train"), first("test") or first("val")


def _below(folder: Path, paths: Iterable[str]) -> list[str]:
    return [p for p in paths if p.startswith(f"{folder}{os.sep}")]


def _parts(folder: Path, path: str) -> tuple[str, ...]:
    return Path(path[len(str(folder).rstrip(os.sep)) + 1 :]).parts


def _rows(folder: Path, paths: Sequence[str], split: str = "") -> tuple[list[Row], tuple[str, ...]]:
    """The rows of videos with the classes that folders say, and sentences about videos without one."""
    parts = [_parts(folder, path) for path in paths]
    if len({p[0] for p in parts}) == 1 and all(len(p) > 2 for p in parts):
        return _rows(folder / parts[0][0], paths, split)
    in_class = [len(p) == 2 for p in parts]
    classes = {p[0] for p, one_deep in zip(parts, in_class, strict=True) if one_deep}
    labelled = len(classes) > 1 and 2 * sum(in_class) > len(parts)
    rows = [
        Row(path, (p[0],) if labelled and one_deep else (), split=split)
        for path, p, one_deep in zip(paths, parts, in_class, strict=True)
    ]
    others = [path for path, one_deep in zip(paths, in_class, strict=True) if not one_deep]
    if not others or not classes or len({p[0] for p in parts if len(p) > 1}) < 2:
        return rows, ()
    some = ", ".join(map(shown, others[:3])) + (", ..." if len(others) > 3 else "")
    lie = "video lies" if len(others) == 1 else "videos lie"
    where = f"{len(others)} {lie} deeper than the folders of classes in {folder}, or above them"
    if labelled:
        return rows, (f"{where}, and {'has' if len(others) == 1 else 'have'} no class: {some}.",)
    return rows, (f"{where}, so that no video has a class: {some}.",)
