"""Do features of drawn videos say how they look or how they move? R^2 of ridge regressions, trained and untrained.

    OMP_NUM_THREADS=2 python benchmarks/what_features_say.py RUN... --data CLIPS [--clips 4]

CLIPS is a folder that ``ssl-video data synthesize --kind clips`` has written. From the features of a video, the mean
over its clips as the linear probe has it, a ridge regression (its penalty by leave-one-out on the training list) learns
what was drawn there. R^2 is printed on the test list: 1 is right everywhere, 0 as good as always saying the mean. The
network of each RUN stands above the same one with random weights. Looks:

* *colours*: the mean red, green and blue of the middle frame;
* *place*: where the centre of the shape is there, x and y.

And motion:

* *change*: the mean difference of a pixel in neighbouring frames;
* *path*: how far the centre of the shape goes from frame to frame, on average.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.kept import table
from ssl_video.datasets.base import Video
from ssl_video.datasets.masks import Masks, masks_of
from ssl_video.errors import UserError
from ssl_video.eval.base import Task
from ssl_video.eval.features import Extraction
from ssl_video.eval.harness import Reading, task_on
from ssl_video.eval.shards import train_and_test_features
from ssl_video.model import Model, load_model
from ssl_video.progress import showing
from ssl_video.video.reader import read_frames

TARGETS = {"colours": slice(0, 3), "place": slice(3, 5), "change": slice(5, 6), "path": slice(6, 7)}
PENALTIES = tuple(10.0**p for p in range(-1, 6))


def drawn_in(frames_THWC: np.ndarray, centres_T2: np.ndarray) -> np.ndarray:
    """(7,) what ``TARGETS`` names, of one video: colours, place, change and path."""
    middle, pixels = len(frames_THWC) // 2, frames_THWC.astype(np.float32)
    change = np.abs(np.diff(pixels, axis=0)).mean()
    path = np.linalg.norm(np.diff(centres_T2, axis=0), axis=1).mean()
    return np.array([*pixels[middle].mean((0, 1)), *centres_T2[middle], change, path])


def centre_of(masks: Masks | None, frame: int) -> np.ndarray:
    """(2,) x and y of the middle of what is drawn in a frame, in pixels. Raises UserError where nothing is known."""
    mask_HW = None if masks is None else masks[frame]
    if mask_HW is None or not mask_HW.any():
        raise UserError("A video has no masks of its shape; name a folder of data synthesize --kind clips.")
    return np.argwhere(mask_HW > 0).mean(0)[::-1]


@cache
def drawn_in_video(video: Video) -> np.ndarray:
    """(7,) as ``drawn_in``."""
    masks, every = masks_of(video), range(video.frames)
    return drawn_in(read_frames(video.path, every), np.stack([centre_of(masks, t) for t in every]))


def r2_of(model: Model, task: Task, clips: int) -> dict[str, float]:
    """R^2 on the test list, by the names of ``TARGETS``; of several numbers their mean."""
    train, test = train_and_test_features(model, task, Extraction(clips, "rich"), calibrate=True)
    y_NK, y_test_MK = (np.stack([drawn_in_video(video) for video in found.videos]) for found in (train, test))
    return r2(train.mean_ND, y_NK, test.mean_ND, y_test_MK)


def r2(x_ND: np.ndarray, y_NK: np.ndarray, x_test_MD: np.ndarray, y_test_MK: np.ndarray) -> dict[str, float]:
    """R^2 of the second list from a ridge regression of the first, by the names of ``TARGETS``."""
    ridge = make_pipeline(StandardScaler(), RidgeCV(PENALTIES, alpha_per_target=True))
    told_MK = ridge.fit(x_ND, y_NK).predict(x_test_MD)
    return {name: float(r2_score(y_test_MK[:, which], told_MK[:, which])) for name, which in TARGETS.items()}


def rows_of(runs: Sequence[str], task: Task, clips: int) -> list[tuple[object, ...]]:
    """The table's rows, a run's network above the untrained one."""
    rows = []
    for run in runs:
        for spec in (run, f"random:{run}"):
            torch.manual_seed(0)
            rows.append((spec, *r2_of(load_model(spec), task, clips).values()))
    return rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--data", required=True)
    parser.add_argument("--clips", type=int, default=4)
    given = parser.parse_args()
    with showing():
        task = task_on(given.data, "linear", Reading())
        assert isinstance(task, Task)
        rows = rows_of(given.runs, task, given.clips)
    print(table(("network", *TARGETS), rows))


if __name__ == "__main__":
    main()
