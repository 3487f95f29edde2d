"""UCF101 (Soomro et al., 2012, CRCV-TR-12-01) and sets in its layout, with the official lists as published.

The lists lie in ``ucfTrainTestlist/`` or ``trainTestlist/``, the videos in ``UCF-101/`` or ``videos/``, either also in
the root itself. A video is ``Class/v_Class_gGG_cCC.avi``: clip CC of group GG of its class.
"""

import re
from dataclasses import replace
from pathlib import Path

from ssl_video.datasets.base import DATASETS, Splits
from ssl_video.datasets.listing import (
    Line,
    first_folder,
    index_by_path,
    lines_of,
    list_of_split,
    look_up,
    official,
    read_text,
    unofficial,
)
from ssl_video.datasets.spelling import alike, folded
from ssl_video.errors import UserError

OFFICIAL = {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)}
"""Training and test videos of each split of UCF101 itself, which has 101 classes."""


@DATASETS.register("ucf101")
def load_ucf101(root: Path, split: int) -> Splits:
    """Training and test list ``split``; listed files that are absent are problems. Raises UserError."""
    lists = first_folder(root, ("ucfTrainTestlist", "trainTestlist"))
    train_lists = {int(m[1]): p for p in lists.iterdir() if (m := re.fullmatch(r"trainlist(\d+)\.txt", p.name))}
    class_list = lists / "classInd.txt"
    if not train_lists or not class_list.is_file():
        raise UserError(f"There are no classInd.txt and trainlist01.txt in {root}/ucfTrainTestlist or trainTestlist.")
    train_list = list_of_split(train_lists, split, root)
    test_list = train_list.with_name(train_list.name.replace("train", "test"))
    classes = parse_classes(read_text(class_list), class_list)
    videos = first_folder(root, ("UCF-101", "UCF101", "videos"))
    index, name = index_by_path(videos), f"{root.resolve().name} split {split}"
    train, test = (parse_list(read_text(path), classes, path) for path in (train_list, test_list))
    found = Splits(
        look_up(f"{name} train", train, classes, index, videos),
        look_up(f"{name} test", test, classes, index, videos),
    )
    if len(classes) != 101 or split not in OFFICIAL:
        return found
    what = f"{train_list.name} and {test_list.name}"
    warnings = unofficial(what, f"UCF101's split {split}", (len(train), len(test)), OFFICIAL[split])
    return replace(found, warnings=warnings) if warnings else official(found, "ucf101", split)


def parse_classes(text: str, source: Path) -> tuple[str, ...]:
    """classInd.txt: ``<number> <class>`` a line, counted from 1. Raises UserError if the numbers are not 1 to n."""
    named: dict[int, str] = {}
    for number, line in enumerate(lines_of(text), 1):
        match = re.fullmatch(r"(\d+)\s+(.+)", line.strip())
        if match:
            named[int(match[1])] = match[2]
        elif line.strip():
            raise UserError(f"{source}, line {number}: {line.strip()!r} is not a number and a class.")
    if sorted(named) != list(range(1, len(named) + 1)):
        first = f"; they are numbered from {min(named)}" if named and min(named) != 1 else ""
        raise UserError(f"{source}: the classes are not numbered from 1 to {len(named)}{first}.")
    return tuple(named[i] for i in sorted(named))


def parse_list(text: str, classes: tuple[str, ...], source: Path) -> list[Line]:
    """A list: ``Class/name.avi [number of the class]`` a line. Test lists have no number; the folder is the class.

    Raises:
        UserError: if a class is unknown or is not the one that the number says, with the line's number.
    """
    listed = []
    for number, line in enumerate(lines_of(text), 1):
        match = re.fullmatch(r"(.+?)(?:\s+(\d+))?", line.strip())
        if match is None:
            continue  # a blank line
        class_name, _, name = match[1].rpartition("/")
        if class_name not in classes:
            other = alike(classes).get(folded(class_name))
            hint = f", which has {other[0]!r}" if other else ""
            raise UserError(f"{source}, line {number}: the class of {match[1]!r} is not in classInd.txt{hint}.")
        if match[2] and int(match[2]) != classes.index(class_name) + 1:
            raise UserError(
                f"{source}, line {number}: the class of {class_name} is {match[2]} here and "
                f"{classes.index(class_name) + 1} in classInd.txt; both must count from 1."
            )
        listed.append(Line((match[1],), (class_name,), group_of(class_name, name)))
    return listed


def group_of(class_name: str, name: str) -> str:
    """``Class/gGG``, "" if the name holds no group.

    The class is part of it because UCF101 numbers groups anew in every class: g01 of two classes are two recordings.
    In a set where gGG is the same actor in all classes, an actor who is in the training list with one class and in the
    test list with another is therefore not noticed.
    """
    match = re.search(r"_(g\d+)_c\d+", name)
    return f"{class_name}/{match[1]}" if match else ""
