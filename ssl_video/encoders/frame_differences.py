"""Frame differences: what moves where, on a coarse grid. No weights, no training: the least that a network has to beat.

Frames are made gray and small; of frames a little apart the absolute differences are taken and averaged over parts of
the video of equal length. Their square roots are the features, since a large motion would count for little else.
"""

from typing import Annotated

import numpy as np

from ssl_video.bounds import Bounds, Count
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.encoders.base import ENCODERS, Encoded, Encoder
from ssl_video.progress import bar
from ssl_video.video.info import Problem, VideoError, problem_of
from ssl_video.video.reader import iterate_frames

GRAY = np.array([0.299, 0.587, 0.114])


@ENCODERS.register("frame-differences")
def frame_differences(
    *,
    width: Annotated[int, Bounds(least=2)] = 16,
    height: Annotated[int, Bounds(least=2)] = 12,
    parts: Count = 8,
    apart: Count = 4,
) -> Encoder:
    """Roots of the absolute differences of gray frames of 16x12 cells, averaged over time.

    Args:
        width: cells from left to right.
        height: cells from top to bottom.
        parts: equal parts of the video that are averaged by themselves, one behind the other.
        apart: frames from one to the one that it is compared with; in a shorter video, from its first to its last.
    """
    return FrameDifferences(width, height, parts, apart)


class FrameDifferences(Encoder):
    """(parts * height * width) numbers a video; nothing is fitted."""

    def __init__(self, width: int, height: int, parts: int, apart: int):
        self.width, self.height, self.parts, self.apart = width, height, parts, apart

    def fit(self, train: VideoSet, workers: int) -> None:
        """Nothing: there is nothing to fit."""

    def encode(self, videos: VideoSet, workers: int) -> Encoded:
        """A vector for each video that can be read and has two frames or more."""
        rows: list[np.ndarray] = []
        read: list[Video] = []
        problems: list[Problem] = []
        for video in bar(videos.videos, "frame differences", "video"):
            try:
                rows.append(self._of(video))
                read.append(video)
            except VideoError as error:
                problems.append(problem_of(video.source, error))
        return Encoded(np.stack(rows) if rows else np.zeros((0, 0)), read, problems)

    def _of(self, video: Video) -> np.ndarray:
        frames_THW = np.stack(list(iterate_frames(video.path, each=self._small)))
        if len(frames_THW) < 2:
            raise VideoError("it has one frame, and no difference")
        apart = min(self.apart, len(frames_THW) - 1)
        moved_SHW = np.abs(frames_THW[apart:] - frames_THW[:-apart])
        parts = np.array_split(moved_SHW, min(self.parts, len(moved_SHW)))
        means = [part_SHW.mean(0) for part_SHW in parts]
        return np.sqrt(np.stack(means + means[-1:] * (self.parts - len(means)))).ravel()

    def _small(self, frame_HWC: np.ndarray) -> np.ndarray:
        """(height, width) means of the gray values of the pixels of each cell."""
        gray_HW = frame_HWC @ GRAY
        for axis, cells in ((0, self.height), (1, self.width)):
            size = gray_HW.shape[axis]
            if size < cells:
                gray_HW = gray_HW.repeat(-(-cells // size), axis)
            edges = np.arange(cells) * gray_HW.shape[axis] // cells
            counts = np.diff([*edges, gray_HW.shape[axis]])
            shape = [-1 if a == axis else 1 for a in (0, 1)]
            gray_HW = np.add.reduceat(gray_HW, edges, axis=axis) / counts.reshape(shape)
        return gray_HW
