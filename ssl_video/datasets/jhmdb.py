"""JHMDB: short clips of 21 actions with the places of 15 joints in every frame.

``Rename_Images/CLASS/VIDEO/*.png`` (else ``ReCompress_Videos/CLASS/VIDEO.avi``),
``joint_positions/CLASS/VIDEO/joint_positions.mat`` and the lists ``splits/CLASS_test_split1.txt`` with lines
``VIDEO.avi 1`` (training) or ``2`` (test).

H. Jhuang et al.: "Towards Understanding Action Recognition", ICCV 2013.
"""

from pathlib import Path

import numpy as np

from ssl_video.datasets.annotations import ANNOTATIONS
from ssl_video.datasets.base import DATASETS, ListedVideo, Splits, Video, VideoList
from ssl_video.datasets.hmdb51 import TEST, TRAIN, lists_in, read_lists
from ssl_video.datasets.listing import MISSING, list_of_split, of_published
from ssl_video.datasets.points import PointReader
from ssl_video.errors import UserError
from ssl_video.files import as_named
from ssl_video.video.info import Problem, VideoError

JOINTS = 15
LARGEST = 1 << 24
"""Bytes of the largest file of joints that is read."""
MOST_FRAMES = 100_000


@DATASETS.register("jhmdb")
def load_jhmdb(root: Path, split: int) -> Splits:
    """Training and test list ``split``; listed videos that are absent are problems. Raises UserError."""
    root = as_named(root)
    by_split = lists_in(root / "splits")
    if not by_split:
        raise UserError(f"There are no lists splits/CLASS_test_split1.txt in {root}.")
    classes, lines = read_lists(list_of_split(by_split, split, root))

    def found(use: int, name: str) -> VideoList:
        listed = [v.names[0] for used, v in lines if used == use]
        return of_published(_set_of(root, f"{root.name} split {split} {name}", listed, classes), f"jhmdb:{name}{split}")

    train, test = found(TRAIN, "train"), found(TEST, "test")
    return Splits(train, test) if train.videos else Splits(test)


def _set_of(root: Path, title: str, listed: list[str], classes: tuple[str, ...]) -> VideoList:
    videos, problems = [], []
    for name in listed:  # CLASS/VIDEO.avi
        stem = name.rpartition(".")[0]
        places = (root / "Rename_Images" / stem, root / "ReCompress_Videos" / name)
        found = next((p for p in places if p.exists()), None)
        joints = root / "joint_positions" / stem / "joint_positions.mat"
        if found is None:
            problems.append(Problem(str(places[0]), MISSING))
        else:
            label = classes.index(stem.partition("/")[0])
            videos.append(ListedVideo(str(found), (label,), annotation=str(joints), annotated="jhmdb_joints"))
    return VideoList(title, tuple(videos), classes, tuple(problems))


@ANNOTATIONS.register("jhmdb_joints")
class JhmdbJoints(PointReader):
    """Frames of the file beyond the video's end are left out; the joints of frames that it has not are not known."""

    def points(self, video: Video) -> np.ndarray | None:
        """joints_TJ2, None without a file of them; see ``points.points_of``. Raises VideoError."""
        path = Path(video.annotation)
        if not path.is_file():
            return None
        joints_TJ2 = read_joints(path)
        out_TJ2 = np.full((video.frames, *joints_TJ2.shape[1:]), np.nan)
        out_TJ2[: len(joints_TJ2)] = joints_TJ2[: video.frames]
        return out_TJ2


def read_joints(path: Path) -> np.ndarray:
    """joints_TJ2 of ``joint_positions.mat``, whose ``pos_img`` (2, 15, T) counts pixels from 1. Raises VideoError."""
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        if path.stat().st_size > LARGEST:
            raise VideoError(f"{path.name} is larger than {LARGEST >> 20} MB")
        shape = {name: (shape, kind) for name, shape, kind in whosmat(str(path))}.get("pos_img", ((), ""))[0]
        if len(shape) != 3 or shape[:2] != (2, JOINTS) or not 0 < shape[2] <= MOST_FRAMES:
            raise VideoError(f"{path.name} has no pos_img of 2 x {JOINTS} x frames")
        positions = loadmat(str(path), variable_names=["pos_img"])["pos_img"]
        return np.asarray(positions, np.float64).transpose(2, 1, 0) - 1
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, MatReadError) as error:
        raise VideoError(f"{path.name} cannot be read ({' '.join(str(error).split())[:100]})") from None
