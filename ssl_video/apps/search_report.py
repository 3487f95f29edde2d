"""What a search found, as one HTML file that needs nothing else: every video plays, small, from a data: URI."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from ssl_video.apps.inputs import jpeg
from ssl_video.apps.picking import Neighbour
from ssl_video.apps.rendering import data_uri, render, write_html
from ssl_video.apps.search import Found
from ssl_video.datasets.base import ListedVideo, Video, VideoList
from ssl_video.datasets.spec import scanned
from ssl_video.members import member_of
from ssl_video.video.augment import resize_frame
from ssl_video.video.info import VideoInfo
from ssl_video.video.reader import VideoError, read_frames
from ssl_video.video.writer import Encoding, write_video

AT_MOST = 100
"""Queries of one report; a browser plays no more thumbnails than these have."""
FRAMES, FPS, SIDE = 24, 12, 160
SCRIPTS = ("play.js",)


@dataclass(frozen=True)
class Clip:
    """A video on the page: how the user calls it, where its file opens, and a thumbnail; "" if it cannot be read.

    ``playing`` is a small video and ``still`` a frame of it. ``said`` stands above the name, ``badge`` marks it.
    """

    name: str
    folder: str
    link: str
    playing: str
    still: str
    said: Sequence[str] = ()
    badge: str = ""


def write_report(path: Path, title: str, results: Sequence[Found]) -> None:
    """Write the page: a row a query, its video at the left and what was found behind it, best first.

    A thumbnail plays two seconds around what was found, or the whole range of the query in as many seconds.
    """
    shown = results[:AT_MOST]
    infos = _infos([r.query.video for r in shown], [n.path for r in shown for n in r.neighbours])
    rows = []
    for query, neighbours in ((r.query, r.neighbours) for r in shown):
        range_s = query.within_s or (0.0, infos[query.video.source].duration_s)
        rows.append((_clip(query.video.source, query.name, range_s, infos), _clips(neighbours, infos)))
    left_out = len(results) - len(shown)
    write_html(path, "query.html", SCRIPTS, title=title, rows=rows, left_out=left_out)


def figures(found: Sequence[Neighbour]) -> str:
    """HTML of what was found, as on the page, for another page; buttons with ``data-number`` have its rank."""
    return render("found.html", clips=_clips(found, _infos((), [n.path for n in found])))


def _clips(found: Sequence[Neighbour], infos: dict[str, VideoInfo]) -> list[Clip]:
    shown = []
    for rank, n in enumerate(found, 1):
        middle = (n.start_s + n.end_s) / 2
        range_s = min(n.start_s, middle - 1), max(n.end_s, middle + 1)
        said = f"{rank}. {n.score:.3f}", f"{n.start_s:.2f}-{n.end_s:.2f} s"
        badge = "identical content" if n.identical else ""
        shown.append(_clip(n.path, n.path, range_s, infos, said, badge))
    return shown


def _clip(
    path: str,
    name: str,
    range_s: tuple[float, float],
    infos: dict[str, VideoInfo],
    said: Sequence[str] = (),
    badge: str = "",
) -> Clip:
    playing, still = _thumbnail(path, infos, *range_s)
    link = Path(path).absolute().as_uri() if playing and member_of(path) is None else ""
    return Clip(Path(name).name, str(Path(name).parent), link, playing, still, said, badge)


def _infos(queries: Iterable[Video], paths: Iterable[str]) -> dict[str, VideoInfo]:
    """What a scan says of each video; those found were scanned when they were indexed, and that is remembered."""
    known = {v.source: v for v in queries}
    others = tuple(ListedVideo(p) for p in dict.fromkeys(paths) if p not in known)
    videos = scanned(VideoList("found", (*known.values(), *others)), none_usable_is_an_error=False).videos
    return {v.source: v.info for v in videos}


def _thumbnail(path: str, infos: dict[str, VideoInfo], start_s: float, end_s: float) -> tuple[str, str]:
    """The range and its middle frame as data: URIs, "" if it cannot be read."""
    info = infos.get(path)
    if info is None:
        return "", ""
    fps = info.fps or 25.0
    last = info.frames - 1
    first, end = (min(max(0.0, frame), last) for frame in (start_s * fps, end_s * fps - 1))
    numbers = np.unique(np.linspace(first, end, FRAMES).round().astype(int))
    try:
        frames_THWC = read_frames(path, numbers.tolist(), info, partial(resize_frame, short_side=SIDE))
    except VideoError:
        return "", ""
    rate = Fraction(FPS) if len(numbers) == FRAMES else Fraction(max(1.0, len(numbers) / 2)).limit_denominator(100)
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "thumbnail.mp4"
        write_video(small, frames_THWC, rate, Encoding({"crf": "30", "preset": "veryfast"}))
        still = jpeg(frames_THWC[len(frames_THWC) // 2])
        return data_uri("video/mp4", small.read_bytes()), data_uri("image/jpeg", still)
