"""What a scan finds of the videos of a list, and what their files hold."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from ssl_video.datasets.base import Video, VideoList, VideoRows, VideoSet
from ssl_video.datasets.listing import MISSING
from ssl_video.datasets.manifest import spelled_path
from ssl_video.datasets.rows import Rows
from ssl_video.errors import UserError
from ssl_video.files import there
from ssl_video.progress import bar
from ssl_video.video.content import content_of
from ssl_video.video.info import Problem
from ssl_video.video.scan import scan


def contents_of(videos: Sequence[Video], *, progress: bool = False) -> dict[str, str]:
    """Path of what is at hand of each video -> ``content_of`` it as it is now, "" where it cannot be read."""

    def one(path: str) -> str:
        try:
            return content_of(path)
        except OSError:
            return ""

    paths = list(dict.fromkeys(v.at_hand for v in videos))
    with ThreadPoolExecutor() as pool:
        found = bar(pool.map(one, paths), "contents", "file", progress, len(paths))
        return dict(zip(paths, found, strict=True))


class _Paths(Rows[str]):
    """The paths of rows, each as it is spelled on the disk."""

    def _made(self, places_N: np.ndarray) -> Iterator[str]:
        return (spelled_path(Path("/"), path) for path in self.texts_at("path", places_N))


def scanned_rows(
    videos: VideoList, rows: VideoRows, time_limit_s: float, workers: int | None, progress: bool
) -> VideoSet:
    """As ``spec.scanned``, of a list in columns: block by block, so that a million videos are never held at once.

    Raises:
        UserError: if there is no room for the columns of what is found.
    """
    unknown_N = np.flatnonzero(rows.numbers("scanned") == 0)
    if len(unknown_N) == 0 and (rows.lengths("content") > 0).all():
        return VideoSet(videos.name, cast(Sequence[Video], rows), videos.classes, videos.problems)
    problems = list(videos.problems)
    paths = _Paths(rows.columns, rows.places_N).take(unknown_N)
    found = scan(paths, workers, time_limit_s, progress)

    def usable(places_N: np.ndarray) -> Iterator[Video]:
        made = rows.made(places_N)
        contents = contents_of([v for v in made if isinstance(v, Video) and not v.info.content])
        for video in made:
            if isinstance(video, Video):
                yield video if video.info.content else video.with_content(contents[video.at_hand])
                continue
            path, info = next(found)
            if isinstance(info, Problem):
                problems.append(info if there(path) else Problem(path, MISSING))
            else:
                yield replace(video, path=path).scanned(info)

    try:
        known = VideoRows.written(tuple(usable(places_N)) for places_N in rows.blocks())
    except OSError as error:
        raise UserError(
            f"What is known of the videos of {videos.name} cannot be written ({error.strerror or error}); name a "
            f"folder with room by TMPDIR."
        ) from None
    finally:
        found.close()
    return VideoSet(videos.name, cast(Sequence[Video], known), videos.classes, tuple(problems))
