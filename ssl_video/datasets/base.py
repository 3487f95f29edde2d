"""Videos, sets of videos, and what else a data set may hold."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssl_video.datasets.columns import (
    Column,
    ColumnsWriter,
    number_column,
    numbers_column,
    owned,
    temporary_folder,
    text_column,
)
from ssl_video.datasets.rows import Rows
from ssl_video.registry import Registry
from ssl_video.video.info import Problem, VideoInfo


@dataclass(frozen=True)
class ListedVideo:
    """One video file as a list or a folder names it: it was not scanned yet.

    ``labels`` are indices into the set's ``classes``, empty when unknown. ``group`` names what must not be shared
    between train and test (the same actor, the same recording); "" when unknown. ``copy_of`` is the user's file, where
    ``path`` is a copy of it that reads fast. ``reversed_path`` is the flow of the video played backwards, where
    ``path`` is its flow and both are needed. ``annotation`` is where that lies which
    people have drawn or noted of the frames, ``annotated`` the name of its form (``annotations``). ``published`` is the
    published list that names the video, SET:LIST such as ``kinetics400:train``; "" for other lists.
    ``caption`` says in words what the video shows, None where nobody wrote one: it is supervision, as labels are.
    ``resized_to`` is the shorter side in pixels to which frames are resized as they are read, as in a copy that was not
    made; 0: as they are.
    """

    path: str
    labels: tuple[int, ...] = ()
    group: str = ""
    copy_of: str = ""
    reversed_path: str = ""
    annotation: str = ""
    annotated: str = ""
    published: str = ""
    resized_to: int = 0
    caption: str | None = None

    @property
    def source(self) -> str:
        """The user's file: what messages name, and what tells one video from another."""
        return self.copy_of or self.path

    @property
    def name(self) -> str:
        """The user's file without the folders that lie above its own: ``folder/name``."""
        return "/".join(Path(self.source).parts[-2:])

    @property
    def at_hand(self) -> str:
        """The user's file where it is still there, else the copy of it: what there is to read."""
        return self.copy_of if self.copy_of and Path(self.copy_of).exists() else self.path

    @property
    def label(self) -> int:
        """The only label. Raises ValueError if there is none or are many."""
        (label,) = self.labels
        return label

    def scanned(self, info: VideoInfo) -> "Video":
        """The same video, of which a scan found ``info``."""
        return Video(**{f.name: getattr(self, f.name) for f in fields(ListedVideo)}, info=info)


@dataclass(frozen=True)
class Video(ListedVideo):
    """A video that was scanned: ``info`` is what the scan found."""

    info: VideoInfo = field(kw_only=True)

    @property
    def frames(self) -> int:
        """Number of decodable frames."""
        return self.info.frames

    @property
    def key(self) -> str:
        """What identifies the video wherever it lies and however its list is ordered: ``CONTENT/folder/name``.

        The digest of its content comes first, where there is one, so that keys sort alike whatever files are called;
        folder and name, those of the user's file, tell exact copies apart.
        """
        return f"{self.info.content}/{self.name}" if self.info.content else self.name

    @property
    def number(self) -> int:
        """63 bits made of the content, or of the key where that is not known: a seed, an order that mixes classes."""
        known = self.info.content or self.key
        return int.from_bytes(hashlib.sha256(known.encode(errors="surrogateescape")).digest()[:8], "big") >> 1

    def with_content(self, content: str) -> "Video":
        """The same video, whose content has this digest."""
        return replace(self, info=replace(self.info, content=content))

    @property
    def listed(self) -> ListedVideo:
        """The user's file as a list names it, to be scanned again."""
        own = {name: getattr(self, name) for name in ("annotation", "annotated", "published", "caption")}
        return ListedVideo(self.source, self.labels, self.group, **own)

    @property
    def backwards(self) -> "Video":
        """The flow of the video played backwards, of as many fields; it must have been computed."""
        assert self.reversed_path, f"there is no reversed flow of {self.source}"
        return replace(self, path=self.reversed_path)


LISTED = {f.name: f for f in fields(ListedVideo)}
FACTS = {f.name: f for f in fields(VideoInfo)}
"""Fields of a video, and of what a scan finds: each is a column of a large list, called the same. A default is empty,
since columns that are empty are not written: 0, "", () or None."""
PATHS = ("path", "copy_of", "reversed_path", "annotation")
COLUMNS_FROM = 10_000
"""Videos of a list that is kept in columns; shorter ones are tuples."""


class VideoRows(Rows[ListedVideo]):
    """The videos of a large list, in columns; those that were scanned are ``Video``. ``scanned`` is 1 for these."""

    @classmethod
    def of(cls, videos: Sequence[ListedVideo]) -> "VideoRows":
        """Written to a temporary folder, for as long as anybody here needs them. Raises OSError."""
        return cls.written(videos[n : n + 1000] for n in range(0, len(videos), 1000))

    @classmethod
    def written(cls, parts: Iterable[Sequence[ListedVideo]]) -> "VideoRows":
        """As ``of``, of videos that come some at a time."""
        with temporary_folder() as folder:
            with ColumnsWriter(folder) as writer:
                for part in parts:
                    writer.add(len(part), columns_of(part))
                writer.close({})
            return cls(owned(folder))

    def _made(self, places_N: np.ndarray) -> Iterator[ListedVideo]:
        own = [self._values(f, places_N) for f in LISTED.values()]
        if "scanned" not in self.columns.arrays:
            yield from map(ListedVideo, *own)
            return
        scanned = self.columns.arrays["scanned"].values[places_N].tolist()
        facts = [self._values(f, places_N) for f in FACTS.values()]
        for is_scanned, values, found in zip(scanned, zip(*own, strict=True), zip(*facts, strict=True), strict=True):
            yield Video(*values, info=VideoInfo(*found)) if is_scanned else ListedVideo(*values)

    def _values(self, of: "Field[Any]", places_N: np.ndarray) -> Sequence[Any]:
        """What these rows have of a field; what is empty is its default."""
        name, default, kind = of.name, of.default, kind_of(of)
        if name in self.constants:
            return [self.constants[name]] * len(places_N)
        if name not in self.columns.arrays:
            empty = {"number": 0, "numbers": (), "text": ""}[kind]
            return [empty if default is MISSING else default] * len(places_N)
        if kind == "text":
            texts = self.texts_at(name, places_N)
            return [text or None for text in texts] if default is None else texts
        column = self.columns.take(name, places_N)
        assert column is not None
        return column.as_list()

    def known_lines(self) -> Iterator[str]:
        """What ``VideoList.hash`` is made of, a line a video."""
        if not (self.has("scanned") and all_true(self.lengths("content") > 0)):
            yield from (_line(v, v.info.content if isinstance(v, Video) else "") for v in self)
            return
        for places_N in self.blocks():
            contents = self.texts_at("content", places_N)
            fields_ = LISTED["labels"], FACTS["frames"], LISTED["caption"]
            yield from map(_known_line, contents, *(self._values(f, places_N) for f in fields_))


def kind_of(of: "Field[Any]") -> str:
    """Which kind of column holds a field: "number", "numbers" or "text"."""
    return "number" if of.type in (int, float) else "text" if of.type in (str, str | None) else "numbers"


def columns_of(videos: Sequence[ListedVideo]) -> dict[str, Column]:
    """Fields -> their columns, and ``scanned``."""
    infos = [v.info if isinstance(v, Video) else None for v in videos]
    own = {name: _column(f, [getattr(v, name) for v in videos]) for name, f in LISTED.items()}
    facts = {n: _column(f, [getattr(i, n) if i else None for i in infos]) for n, f in FACTS.items()}
    return {**own, **facts, "scanned": Column(np.array([i is not None for i in infos], np.uint8))}


def _column(of: "Field[Any]", values: list[Any]) -> Column:
    kind = kind_of(of)
    if kind == "numbers":
        return numbers_column(values)
    return (
        text_column([v or "" for v in values])
        if kind == "text"
        else number_column([v or 0 for v in values], of.type is int)
    )


def all_true(what_N: np.ndarray) -> bool:
    """True if all are, also of none."""
    return bool(what_N.all())


@dataclass(frozen=True)
class VideoList:
    """One list of videos (a training list, a test list, a folder), and what was left out of it and why.

    Its videos may have been scanned or not: a manifest describes some. They are a tuple, or rows of columns.
    """

    name: str
    videos: Sequence[ListedVideo]
    classes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def multi_label(self) -> bool:
        """True if a video has several labels."""
        if isinstance(self.videos, VideoRows):
            return bool((self.videos.lengths("labels") > 1).any())
        return any(len(v.labels) > 1 for v in self.videos)

    @property
    def labelled(self) -> bool:
        """True if every video has a label."""
        if isinstance(self.videos, VideoRows):
            return len(self.videos) > 0 and all_true(self.videos.lengths("labels") > 0)
        return bool(self.videos) and all(v.labels for v in self.videos)

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that change with a video's content, labels, caption or frame count, or with the order.

        They do not change when the set moves. A video whose content was not read counts by its folder and name, as all
        did in version 0.1.
        """
        if isinstance(self.videos, VideoRows):
            return _hash(self.classes, self.videos.known_lines())
        return _hash(self.classes, (_line(v, v.info.content if isinstance(v, Video) else "") for v in self.videos))

    def has_hash(self, noted: str) -> bool:
        """True if ``noted`` is the hash of these videos, by this version or by 0.1, which went by folders and names.

        Version 0.1 resolved a folder that is a link.
        """
        by_name = (_line(v) for v in self.videos)
        by_target = (_line(v, f"{Path(v.source).parent.resolve().name}/{Path(v.source).name}") for v in self.videos)
        return noted == self.hash or noted in (_hash(self.classes, by_name), _hash(self.classes, by_target))


@dataclass(frozen=True)
class VideoSet(VideoList):
    """A list of which all videos were scanned."""

    videos: Sequence[Video]


@dataclass(frozen=True)
class FeatureShards:
    """One list of a set that was published as features: files of feature sequences, and no videos."""

    name: str
    shards: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that change with a file's name or size or a class, but not when the set moves."""
        return _hash(self.classes, (f"{Path(shard).name}|{Path(shard).stat().st_size}" for shard in self.shards))


def _line(video: ListedVideo, known_as: str = "") -> str:
    frames = video.frames if isinstance(video, Video) else ""
    return _known_line(known_as or video.name, video.labels, frames, video.caption)


def _known_line(known_as: str, labels: tuple[int, ...], frames: int | str, caption: str | None) -> str:
    return f"{known_as}|{labels}|{frames}{'' if caption is None else f'|{caption!r}'}"


def _hash(classes: Iterable[str], lines: Iterable[str]) -> str:
    digest = hashlib.sha256("\n".join(classes).encode(errors="surrogateescape"))  # names may not be UTF-8
    for line in lines:
        digest.update(f"{line}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Splits:
    """The training list and, where the data set has one, the test list of one split."""

    train: VideoList
    test: VideoList | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class FeatureSplits:
    """As ``Splits``, of a set that was published as features."""

    train: FeatureShards
    test: FeatureShards | None = None
    warnings: tuple[str, ...] = ()


# name -> function (root: Path, split: int) -> Splits of videos that were not scanned yet, or of features
DATASETS: Registry[Callable[[Path, int], Splits | FeatureSplits]] = Registry("data set", "ssl_video.datasets")
