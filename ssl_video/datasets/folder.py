"""A folder of videos; its sub-folders say what is known of them.

* ``train/`` beside ``test/`` (else ``val/``, ``validation/``, ``valid/``: the first of these that holds videos): these
  are the two lists, and videos elsewhere in the folder are left out, with a warning.
* If every video of a list lies exactly one folder deep, in two folders or more, these folders are the classes.
* Otherwise the videos have no labels. That is never an error.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from ssl_video.datasets.base import Splits
from ssl_video.datasets.listing import videos_below
from ssl_video.datasets.manifest import Row, splits_of
from ssl_video.errors import UserError
from ssl_video.files import as_named

TEST_FOLDERS = ("test", "val", "validation", "valid")


def load_folder(root: Path) -> Splits:
    """The unscanned videos below ``root``, sorted by path. Raises UserError if there are none."""
    root = as_named(root)
    paths, problems = videos_below(root)
    if not paths:
        lists = sorted(p.name for p in root.glob("*.csv"))
        hint = f"name its list {root / lists[0]} instead" if lists else "name a folder that holds videos"
        raise UserError(f"There is no video in {root}; {hint}.")
    refused = [Row(p.path, reason=p.reason) for p in problems]
    train, test = _below(root / "train", paths), []
    for test_folder in TEST_FOLDERS:
        if test := _below(root / test_folder, paths):
            break
    if not (train and test):
        return splits_of(_rows(root, paths) + refused, root.name)

    rows = _rows(root / "train", train, "train") + _rows(root / test_folder, test, "test")
    elsewhere = len(paths) - len(rows)
    warning = f"{elsewhere} videos in {root} lie outside train/ and {test_folder}/ and are not used."
    return dataclasses.replace(splits_of(rows + refused, root.name), warnings=(warning,) if elsewhere else ())


def _below(folder: Path, paths: Sequence[str]) -> list[str]:
    return [p for p in paths if p.startswith(f"{folder}{os.sep}")]


def _rows(folder: Path, paths: Sequence[str], split: str = "") -> list[Row]:
    parts = [Path(p.removeprefix(f"{folder}{os.sep}")).parts for p in paths]
    in_class_folders = all(len(p) == 2 for p in parts) and len({p[0] for p in parts}) > 1
    return [Row(path, (p[0],) if in_class_folders else (), split=split) for path, p in zip(paths, parts, strict=True)]
