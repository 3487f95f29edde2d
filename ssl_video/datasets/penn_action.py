"""Penn Action: videos of 15 actions as folders of pictures.

``frames/0001/000001.jpg``, and ``labels/0001.mat`` with the name of the action and whether the video is for training.
The phases of the TCC paper are not part of it; they go into ``annotations/0001_phases.csv`` (see ``phases``).

W. Zhang, M. Zhu, K. Derpanis: "From Actemes to Action: A Strongly-supervised Representation for Detailed Action
Understanding", ICCV 2013.
"""

from pathlib import Path

import numpy as np

from ssl_video.datasets.base import DATASETS, ListedVideo, Splits, VideoList
from ssl_video.datasets.listing import MISSING, class_names, list_of_split, of_published
from ssl_video.errors import UserError
from ssl_video.files import as_named
from ssl_video.video.info import Problem

LARGEST = 1 << 24
"""Bytes of the largest file of labels that is read."""


@DATASETS.register("penn_action")
def load_penn_action(root: Path, split: int) -> Splits:
    """Training and test list. Raises UserError if there are no frames or no labels, or for a split other than 1."""
    root = list_of_split({1: as_named(root)}, split, root)
    labels = sorted((root / "labels").glob("*.mat"))
    if not labels or not (root / "frames").is_dir():
        raise UserError(f"There are no labels/0001.mat and frames/0001 in {root}; name the folder of Penn Action.")
    found: list[tuple[Path, str, bool]] = []
    problems: list[Problem] = []
    for path in labels:
        folder = root / "frames" / path.stem
        if not folder.is_dir():
            problems.append(Problem(str(folder), MISSING))
            continue
        try:
            found.append((folder, *_read_labels(path)))
        except ValueError as error:
            problems.append(Problem(str(folder), str(error)))
    classes = class_names({action for _, action, _ in found})

    def part(train: bool) -> VideoList:
        videos = [ListedVideo(str(f), (classes.index(action),)) for f, action, of_train in found if of_train == train]
        name = "train" if train else "test"
        listed = VideoList(f"{root.name} {name}", tuple(videos), classes, tuple(problems) if train else ())
        return of_published(listed, f"penn_action:{name}")

    return Splits(part(True), part(False))


def _read_labels(path: Path) -> tuple[str, bool]:
    """The action, and whether the video is for training. Raises ValueError with what is wrong."""
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"its labels {path.name} are larger than {LARGEST >> 20} MB")
        shapes = {name: shape for name, shape, _ in whosmat(str(path))}
        if np.prod(shapes["action"]) != 1 or np.prod(shapes["train"]) != 1:
            raise ValueError(f"its labels {path.name} do not name one action and one list")
        content = loadmat(str(path), variable_names=["action", "train"], chars_as_strings=True)
        return str(content["action"].ravel()[0]), int(content["train"].ravel()[0]) == 1
    except (OSError, KeyError, TypeError, NotImplementedError, MatReadError) as error:
        raise ValueError(f"its labels {path.name} cannot be read ({' '.join(str(error).split())[:100]})") from None
