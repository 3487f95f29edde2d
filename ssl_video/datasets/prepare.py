"""Whole data sets made ready: scanned into a manifest, or with copies or the flow of their videos beside them."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_video.datasets.base import Splits, VideoList, VideoSet
from ssl_video.datasets.cached import cached
from ssl_video.datasets.flow import flow_of
from ssl_video.datasets.manifest import manifest_rows, write_manifest
from ssl_video.datasets.many import numbers
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.video.info import Problem
from ssl_video.video.kinds import CopyKind
from ssl_video.video.scan import TIME_LIMIT_S


@dataclass(frozen=True)
class Prepared:
    """A manifest that was written: how many videos and frames it lists, and what cannot be used and why."""

    manifest: Path
    videos: int
    frames: int
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...] = ()

    @property
    def reasons(self) -> Counter[str]:
        """How often each reason was met."""
        return Counter(problem.reason for problem in self.problems)


def scan_to_manifest(
    data: str, out: Path, time_limit_s: float = TIME_LIMIT_S, *, workers: int | None = None, progress: bool = False
) -> Prepared:
    """Scan every file of a SPEC and write the manifest ``out`` of what can be used, which may be nothing.

    A manifest that lies in the folder is not looked at, so that new files are seen. ``time_limit_s``: seconds that a
    file may take without getting on.
    """
    return scan_splits(load_splits(data, through_manifest=False), out, time_limit_s, workers=workers, progress=progress)


def scan_splits(
    splits: Splits, out: Path, time_limit_s: float = TIME_LIMIT_S, *, workers: int | None = None, progress: bool = False
) -> Prepared:
    """As ``scan_to_manifest``, of lists that were read."""

    def usable(videos: VideoList) -> VideoSet:
        limit = time_limit_s
        return scanned(videos, limit, workers=workers, progress=progress, none_usable_is_an_error=False)

    return _written(out, splits, usable)


def copy_videos(
    data: str,
    out: Path,
    kind: CopyKind = "h264",
    short_side: int = 128,
    *,
    workers: int | None = None,
    progress: bool = False,
) -> Prepared:
    """Make copies of a SPEC's videos that read fast, and ``out``/manifest.csv; see ``datasets.cached``.

    ``short_side`` is that of the copies in pixels; 0 keeps the size.
    """

    def copies(videos: VideoList) -> VideoSet:
        whole = scanned(videos, workers=workers, progress=progress)
        return cached(whole, kind, short_side or None, out=out, workers=workers, progress=progress)

    return _written(out / "manifest.csv", load_splits(data), copies, copies=True)


def flow_videos(
    data: str,
    out: Path,
    method: str = "farneback",
    short_side: int = 128,
    *,
    reversed: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> Prepared:
    """Compute the flow of a SPEC's videos, and write ``out``/manifest.csv; see ``datasets.flow``.

    ``short_side`` is that of the frames in pixels; 0 keeps the size. ``reversed``: of the videos played backwards.
    """

    def flows(videos: VideoList) -> VideoSet:
        whole, side = scanned(videos, workers=workers, progress=progress), short_side or None
        return flow_of(whole, method, side, reversed=reversed, out=out, workers=workers, progress=progress)

    return _written(out / "manifest.csv", load_splits(data), flows, copies=True)


def _written(
    manifest: Path, splits: Splits, prepare: Callable[[VideoList], VideoSet], copies: bool = False
) -> Prepared:
    """Of ``copies``, originals that could not be copied are problems, and no videos to be scanned later."""
    prepared = [(name, one, prepare(one)) for name, one in lists_of(splits)]

    def rows() -> Iterator[dict[str, Any]]:
        for name, one, done in prepared:
            bad = set() if copies else {problem.path for problem in done.problems}
            listed = {v.path: v for v in one.videos if v.path in bad} if bad else {}
            yield from manifest_rows(done, name, listed)

    write_manifest(manifest, rows())
    sets = [done for _, _, done in prepared]
    problems = tuple(problem for done in sets for problem in done.problems)
    frames = sum(int(numbers(done.videos, "frames").sum()) for done in sets)
    return Prepared(manifest, sum(len(done.videos) for done in sets), frames, problems, splits.warnings)


def lists_of(splits: Splits) -> Iterator[tuple[str, VideoList]]:
    """The lists with the names that a manifest has for them, none where there is one only."""
    if splits.test is None:
        yield "", splits.train
    else:
        yield from (("train", splits.train), ("test", splits.test))
