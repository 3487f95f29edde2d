"""What to search with: videos and ranges of them, by the words of a user."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_video.datasets.base import ListedVideo, Video
from ssl_video.datasets.spec import LIST_SUFFIXES, all_videos
from ssl_video.errors import UserError
from ssl_video.files import as_named, there
from ssl_video.members import member_of
from ssl_video.remote import is_remote
from ssl_video.video.info import Problem


@dataclass(frozen=True)
class ListedQuery:
    """A video to search with, or the range of it between two times in seconds; it was not scanned yet."""

    video: ListedVideo
    within_s: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """The video, and the range behind an @."""
        return self.video.source + ("" if self.within_s is None else "@{:g}-{:g}".format(*self.within_s))


@dataclass(frozen=True)
class Query(ListedQuery):
    """A query of a scanned video."""

    video: Video


def split_range(text: str) -> tuple[str, tuple[float, float] | None]:
    """``VIDEO@12.5-15`` as the video and the times; a file that is really called so is that file.

    Raises:
        UserError: if the range ends before it starts.
    """
    match = re.fullmatch(r"(.+)@(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", text)
    if match is None or Path(text).exists():
        return text, None
    start, end = float(match[2]), float(match[3])
    if not start < end:
        raise UserError(f"The range {match[2]}-{match[3]} of {match[1]} ends before it starts.")
    return match[1], (start, end)


def query_of(video: Path | str | Video | ListedQuery) -> ListedQuery:
    """The query of a video file, or of a range of one as text. Raises UserError if there is no such file."""
    if isinstance(video, ListedQuery):
        return video
    if isinstance(video, Video):
        return Query(video)
    path, within_s = split_range(str(video))
    if not there(path):
        raise UserError(f"There is no video file {path}.")
    member = member_of(path)
    elsewhere = member is not None and is_remote(member.shard)
    return ListedQuery(ListedVideo(path if elsewhere else str(as_named(path))), within_s)


def queries_of(words: Sequence[str]) -> tuple[list[ListedQuery], list[Problem]]:
    """The queries of videos, ranges of them, and folders and lists of videos; and what is listed but not there.

    Nothing is scanned yet.

    Raises:
        UserError: if one of the words names nothing, or there is none.
    """
    if not words:
        raise UserError("Name a video to search with: ssl-video query INDEX VIDEO.")
    queries: list[ListedQuery] = []
    problems: list[Problem] = []
    for word in words:
        if _names_many(word):
            videos = all_videos(word)
            queries += [ListedQuery(video) for video in videos.videos]
            problems += videos.problems
        else:
            queries.append(query_of(word))
    return queries, problems


def _names_many(word: str) -> bool:
    return Path(word).is_dir() or (Path(word).suffix.lower() in LIST_SUFFIXES and Path(word).is_file())
