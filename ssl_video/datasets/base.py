"""Videos, sets of videos, and the SPEC strings that name them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ssl_video.registry import Registry
from ssl_video.video.info import Problem, VideoInfo


@dataclass(frozen=True)
class Video:
    """One video file: where it is, and what a list or a folder says of it.

    ``labels`` are indices into the set's ``classes``, empty when unknown. ``group`` names what must not be shared
    between train and test (the same actor, the same recording); "" when unknown. ``info`` is what the scan found.
    ``copy_of`` is the user's file, where ``path`` is a copy of it that reads fast. ``reversed_path`` is the flow of the
    video played backwards, where ``path`` is its flow and somebody asked for both. ``annotation`` is where
    that lies which people have drawn or noted of the frames, ``annotated`` the name of its form (``annotations``).
    """

    path: str
    labels: tuple[int, ...] = ()
    group: str = ""
    info: VideoInfo | None = None
    copy_of: str = ""
    reversed_path: str = ""
    annotation: str = ""
    annotated: str = ""

    @property
    def source(self) -> str:
        """The user's file: what messages name, and what tells one video from another."""
        return self.copy_of or self.path

    @property
    def backwards(self) -> "Video":
        """The flow of the video played backwards, of as many fields; it must have been asked for."""
        assert self.reversed_path, f"nobody asked for the reversed flow of {self.source}"
        return replace(self, path=self.reversed_path)

    @property
    def label(self) -> int:
        """The only label. Raises ValueError if there is none or are many."""
        (label,) = self.labels
        return label

    @property
    def frames(self) -> int:
        """Number of decodable frames; the set must have been scanned."""
        assert self.info is not None, f"{self.path} was not scanned"
        return self.info.frames


@dataclass(frozen=True)
class VideoSet:
    """One list of videos (a training list, a test list, a folder), and what was left out of it and why.

    A set that was published as features has no videos but ``shards``: files of feature sequences.
    """

    name: str
    videos: tuple[Video, ...]
    classes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    shards: tuple[str, ...] = ()

    @property
    def multi_label(self) -> bool:
        """True if a video has several labels."""
        return any(len(v.labels) > 1 for v in self.videos)

    @property
    def labelled(self) -> bool:
        """True if every video has a label."""
        return bool(self.videos) and all(v.labels for v in self.videos)

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that change with a file, a label or a frame count, but not when the set moves."""
        digest = hashlib.sha256("\n".join(self.classes).encode(errors="surrogateescape"))  # names may not be UTF-8
        for v in self.videos:
            tail = "/".join(Path(v.source).parts[-2:])
            digest.update(f"{tail}|{v.labels}|{v.info.frames if v.info else ''}\n".encode(errors="surrogateescape"))
        for shard in self.shards:
            digest.update(f"{Path(shard).name}|{Path(shard).stat().st_size}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Splits:
    """The training list and, where the data set has one, the test list of one split."""

    train: VideoSet
    test: VideoSet | None = None
    warnings: tuple[str, ...] = field(default=())


# name -> function (root: Path, split: int) -> Splits of videos that were not scanned yet
DATASETS: Registry[Callable[[Path, int], Splits]] = Registry("data set", "ssl_video.datasets")
