"""Sports-1M (Karpathy et al., CVPR 2014): lists of YouTube addresses with one or several of 487 classes each.

``train_partition.txt`` and ``test_partition.txt`` lie in ``original/`` or in the root, ``labels.txt`` with the names of
the classes, one a line and counted from 0, in the root or beside the lists. Videos lie in any folder below the root, as
``ID.mp4`` or with any other suffix of a video. Many of the addresses lead nowhere by now: absent videos are counted.
"""

import re
from pathlib import Path

from ssl_video.datasets.base import DATASETS, Splits, VideoList
from ssl_video.datasets.listing import (
    Line,
    first_folder,
    index_by_name,
    lines_of,
    list_of_split,
    look_up,
    of_published,
    read_text,
)
from ssl_video.errors import UserError


@DATASETS.register("sports1m")
def load_sports1m(root: Path, split: int) -> Splits:
    """The lists of the two partitions; listed videos that are absent are problems. Raises UserError."""
    root = list_of_split({1: root}, split, root)
    lists = first_folder(root, ("original",))
    class_list = next((p for p in (root / "labels.txt", lists / "labels.txt") if p.is_file()), None)
    partitions = [lists / f"{name}_partition.txt" for name in ("train", "test")]
    if class_list is None or not all(p.is_file() for p in partitions):
        raise UserError(
            f"There are no labels.txt, train_partition.txt and test_partition.txt in {root} or its original/."
        )
    classes = tuple(line.strip() for line in lines_of(read_text(class_list)) if line.strip())
    if len(set(classes)) < len(classes):
        raise UserError(f"{class_list} names a class twice; take labels.txt as it was published.")
    index = index_by_name(root)

    def found(name: str, path: Path) -> VideoList:
        listed = parse_list(read_text(path), classes, path)
        return of_published(look_up(f"{root.resolve().name} {name}", listed, classes, index, root), f"sports1m:{name}")

    return Splits(found("train", partitions[0]), found("test", partitions[1]))


def parse_list(text: str, classes: tuple[str, ...], source: Path) -> list[Line]:
    """A list: ``ADDRESS class[,class...]`` a line, the classes as numbers from 0.

    Raises:
        UserError: if a line is anything else, with its number, or if the classes are counted from 1.
    """
    found: list[tuple[int, str, list[int]]] = []
    for number, line in enumerate(lines_of(text), 1):
        match = re.fullmatch(r"\S*(?:[?&]v=|youtu\.be/)([\w-]+)\S*\s+(\d+(?:,\d+)*)", line.strip(), re.ASCII)
        if match:
            found.append((number, match[1], [int(n) for n in match[2].split(",")]))
        elif line.strip():
            raise UserError(f"{source}, line {number}: {line.strip()!r} is not an address of YouTube and its classes.")
    from_one = found and min(min(numbers) for _, _, numbers in found) > 0
    listed = []
    for number, video, numbers in found:
        if max(numbers) >= len(classes):
            hint = "; the list seems to count from 1" if from_one and max(numbers) == len(classes) else ""
            raise UserError(
                f"{source}, line {number}: there is no class {max(numbers)}, since labels.txt names {len(classes)}, "
                f"counted from 0{hint}."
            )
        listed.append(Line((f"{video}.mp4",), tuple(classes[n] for n in dict.fromkeys(numbers))))
    return listed
