"""HMDB51 (Kuehne et al., ICCV 2011) and sets in its layout, with the official lists as published.

The lists ``<class>_test_split<N>.txt`` lie in ``testTrainMulti_7030_splits/``, ``splits/`` or the root; the class
folders with the videos in ``videos/``, ``hmdb51_org/`` or the root.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ssl_video.datasets.base import DATASETS, Splits
from ssl_video.datasets.listing import (
    Line,
    class_names,
    first_folder,
    index_by_path,
    lines_of,
    list_of_split,
    look_up,
    official,
    read_text,
    unofficial,
)
from ssl_video.errors import UserError

UNUSED, TRAIN, TEST = 0, 1, 2
OFFICIAL = (3570, 1530)
"""Training and test videos of each of the three splits of HMDB51 itself, which has 51 classes."""


@DATASETS.register("hmdb51")
def load_hmdb51(root: Path, split: int) -> Splits:
    """Training and test list ``split``; listed files that are absent are problems. Raises UserError."""
    lists = first_folder(root, ("testTrainMulti_7030_splits", "splits"))
    by_split = lists_in(lists)
    if not by_split:
        raise UserError(f"There are no lists <class>_test_split1.txt in {root}/testTrainMulti_7030_splits.")
    classes, lines = read_lists(list_of_split(by_split, split, root))
    videos = first_folder(root, ("videos", "hmdb51_org"))
    index, name = index_by_path(videos), f"{root.resolve().name} split {split}"
    train, test = ([x for used, x in lines if used == use] for use in (TRAIN, TEST))
    found = Splits(
        look_up(f"{name} train", train, classes, index, videos),
        look_up(f"{name} test", test, classes, index, videos),
    )
    if len(classes) != 51 or split > 3:
        return found
    what = f"The lists *_test_split{split}.txt"
    warnings = unofficial(what, "each split of HMDB51", (len(train), len(test)), OFFICIAL)
    return replace(found, warnings=warnings) if warnings else official(found, "hmdb51", split)


def lists_in(folder: Path) -> dict[int, dict[str, Path]]:
    """Split -> class -> its list ``<class>_test_split<N>.txt``."""
    by_split: dict[int, dict[str, Path]] = {}
    for path in folder.glob("*.txt"):
        if match := re.fullmatch(r"(.+)_test_split(\d+)\.txt", path.name):
            by_split.setdefault(int(match[2]), {})[match[1]] = path
    return by_split


def read_lists(lists: Mapping[str, Path]) -> tuple[tuple[str, ...], list[tuple[int, Line]]]:
    """The classes of the lists of a split, and the lines of all, see ``parse_list``. Raises UserError."""
    classes = class_names(lists)
    return classes, [line for c in classes for line in parse_list(read_text(lists[c]), c, lists[c])]


def parse_list(text: str, class_name: str, source: Path) -> list[tuple[int, Line]]:
    """(UNUSED, TRAIN or TEST, video) of each line ``name.avi <0, 1 or 2>``. Raises UserError for any other line."""
    listed = []
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"(.+?)\s+([012])", line.strip())
        if match is None:
            raise UserError(f"{source}, line {number}: {line.strip()!r} is not a file's name and 0, 1 or 2.")
        name = match[1]
        listed.append((int(match[2]), Line((f"{class_name}/{name}",), (class_name,), group_of(class_name, name))))
    return listed


def group_of(class_name: str, name: str) -> str:
    """``class/source`` of ``source_class_<body>_<camera>_np<N>_<view>_<quality>_<clip>.avi``, "" for other names.

    The official lists keep a source apart within each class only: some 140 movies give clips of one class to the
    training list and of another class to the test list.
    """
    match = re.fullmatch(rf"(.+)_{re.escape(class_name)}_[a-z]+_[a-z]+_np\d+_[a-z]+_[a-z]+_\d+\.\w+", name)
    return f"{class_name}/{match[1]}" if match else ""
