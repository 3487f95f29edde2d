"""Points that are marked in the frames of videos, such as the joints of a body."""

from abc import ABC, abstractmethod

import numpy as np

from ssl_video.datasets.annotations import reader_of
from ssl_video.datasets.base import Video


class PointReader(ABC):
    """Reads points."""

    @abstractmethod
    def points(self, video: Video) -> np.ndarray | None:
        """points_TJ2 of a scanned video, None if they are not there; see ``points_of``. Raises VideoError."""


def points_of(video: Video) -> np.ndarray | None:
    """points_TJ2 of every frame of a scanned video: (x, y) in pixels, the centre of the first pixel at (0, 0).

    NaN where a point is not known; None if the video has no points.

    Raises:
        VideoError: if their file is not as it should be.
    """
    reader = reader_of(video, PointReader)
    return None if reader is None else reader.points(video)
