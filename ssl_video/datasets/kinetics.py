"""Kinetics 400, 600 and 700 (Kay et al., 2017, arXiv 1705.06950) from the published csv files.

A csv has the columns ``label,youtube_id,time_start,time_end,split`` and lies in the root or in ``annotations/``, under
any name. Videos lie in any folder below the root, as ``ID.mp4`` or ``ID_start_end.mp4``, with the times in seconds,
plain or in six digits. The validation list serves as the test list, since the labels of the test list were long held
back; where no validation list is there, a labelled test list does.
"""

from pathlib import Path

from ssl_video.datasets.base import DATASETS, Splits, VideoList
from ssl_video.datasets.listing import (
    Line,
    class_names,
    csv_lines,
    index_by_name,
    list_of_split,
    look_up,
    of_published,
    read_text,
    split_named,
)
from ssl_video.errors import UserError

EDITIONS = (400, 600, 700)
"""Classes of each; a list of others may be a part of any."""
COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")


@DATASETS.register("kinetics")
def load_kinetics(root: Path, split: int) -> Splits:
    """The list ``train``, and ``val`` for testing; listed files that are absent are problems. Raises UserError."""
    root = list_of_split({1: root}, split, root)
    lists: dict[str, list[Line]] = {}
    origin: dict[str, Path] = {}
    for path in sorted([*root.glob("*.csv"), *root.glob("annotations/*.csv")]):
        for name, listed in parse_csv(read_text(path), path).items():
            if name in lists:
                raise UserError(f"Both {origin[name]} and {path} list {name} videos; keep one of them in {root}.")
            lists[name], origin[name] = listed, path
    if not lists:
        raise UserError(f"There is no csv with the columns {','.join(COLUMNS)} in {root} or {root}/annotations.")
    classes = class_names(name for listed in lists.values() for line in listed for name in line.class_names)
    index = index_by_name(root)
    edition = f"kinetics{len(classes)}" if len(classes) in EDITIONS else "kinetics"

    def found(name: str) -> VideoList:
        videos = look_up(f"{root.resolve().name} {name}", lists.get(name, []), classes, index, root)
        return of_published(videos, f"{edition}:{name}")

    test_name = "val" if "val" in lists else "test"
    return Splits(found("train"), found(test_name) if test_name in lists else None)


def parse_csv(text: str, source: Path) -> dict[str, list[Line]]:
    """Its labelled lines under "train", "val" and "test"; {} if the columns are not those of Kinetics.

    Raises:
        UserError: if a line is wrong, with its number.
    """
    lines = csv_lines(text, source)
    header = [c.strip() for c in lines[0][1]] if lines else []
    if not set(COLUMNS) <= set(header):
        return {}
    lists: dict[str, list[Line]] = {}
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            raise UserError(f"{source}, line {number}: {len(cells)} columns, where the header has {len(header)}.")
        label, video_id, start, end, split = (dict(zip(header, cells, strict=True))[c].strip() for c in COLUMNS)
        if not label:
            continue  # a test list whose labels are held back
        try:
            names = _names(video_id, int(float(start)), int(float(end)))
            named = split_named(split, plain=True)
            if not named:
                raise ValueError(f"there is no split {split!r}")
            lists.setdefault(named, []).append(Line(names, (label,), group=video_id))
        except ValueError as error:
            raise UserError(f"{source}, line {number}: a time or the split is wrong ({error}).") from None
    return lists


def _names(video_id: str, start_s: int, end_s: int) -> tuple[str, ...]:
    return (f"{video_id}_{start_s:06d}_{end_s:06d}.mp4", f"{video_id}_{start_s}_{end_s}.mp4", f"{video_id}.mp4")
