"""What protocols need of their data: one class a need, each with a check of its own."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssl_video.datasets.base import VideoSet
from ssl_video.errors import UserError

if TYPE_CHECKING:
    from ssl_video.eval.base import FeatureTask, Task


class Takes(ABC):
    """What a protocol needs of its data. Another need is another subclass, in the file of the protocol that has it."""

    of_files: bool = True
    """Whether its lists are of video files, which are scanned, and may be copied, before the check."""

    @abstractmethod
    def check(self, protocol: str, task: "Task | FeatureTask") -> None:
        """Raise UserError if the protocol called so cannot use the task's data."""


@dataclass(frozen=True)
class Videos(Takes):
    """Videos with or without labels, of one list or two. What lies beside them, a protocol looks for itself."""

    def check(self, protocol: str, task: "Task | FeatureTask") -> None:
        """Raise UserError for features without videos."""
        if not isinstance(task.train, VideoSet):
            raise UserError(f"{task.data} holds features and no videos; use the protocol features.")


@dataclass(frozen=True)
class LabelledVideos(Videos):
    """Two lists of videos with one label each, or with ``multi_label`` with one or several."""

    multi_label: bool = False

    def check(self, protocol: str, task: "Task | FeatureTask") -> None:
        """Raise UserError if there is one list only, or a video without the labels."""
        super().check(protocol, task)
        check_two_lists(protocol, task)
        for videos in (task.train, task.test):
            assert isinstance(videos, VideoSet)  # checked above
            if not self.multi_label and videos.multi_label:
                raise UserError(
                    f"{protocol} needs one label a video, but {videos.name} has videos with several; use the protocol "
                    f"linear."
                )
            if not videos.labelled:
                raise UserError(
                    f"{protocol} needs a label for every video, but {videos.name} has videos without one; "
                    "put the videos into a folder for each class, or a column label into its csv."
                )


def check_two_lists(protocol: str, task: "Task | FeatureTask") -> None:
    """Raise UserError if there is no test list."""
    if task.test is None:
        raise UserError(
            f"{protocol} needs a training and a test list, but {task.data} has one list only; "
            "put the videos into train/ and test/, or a column split into its csv."
        )
