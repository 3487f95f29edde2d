"""What a search found, as one HTML file that needs nothing else: every video plays, small, from a data: URI."""

import base64
import html
import tempfile
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from ssl_video.apps.search import Found, Neighbour
from ssl_video.datasets.base import ListedVideo, Video, VideoList
from ssl_video.datasets.spec import scanned
from ssl_video.files import write_text
from ssl_video.video.augment import resize_short_side
from ssl_video.video.info import VideoInfo
from ssl_video.video.reader import VideoError, read_frames
from ssl_video.video.writer import Encoding, write_video

AT_MOST = 100
"""Queries of one report; a browser plays no more thumbnails than these have."""
FRAMES, FPS, SIDE = 24, 12, 120

# what a name smuggles in would not run: the page may load nothing but its own data: URIs, and has no script
POLICY = "default-src 'none'; media-src data:; style-src 'unsafe-inline'"
STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fafafa }
section { display: flex; flex-wrap: wrap; gap: 12px; padding: 1em 0; border-top: 1px solid #ccc }
figure { margin: 0; width: 200px } figure.query { padding-right: 12px; border-right: 3px solid #36c }
video, .none { width: 200px; height: 150px; object-fit: contain; background: #000; color: #aaa; display: block }
.none { line-height: 150px; text-align: center } figcaption { overflow-wrap: anywhere } small { color: #666 }
"""


def write_report(path: Path, title: str, results: Sequence[Found]) -> None:
    """Write the page: a row a query, its video at the left and what was found behind it, best first.

    A thumbnail plays two seconds around what was found, or the whole range of the query in as many seconds.
    """
    shown = results[:AT_MOST]
    infos = _infos([r.query.video for r in shown], [n.path for r in shown for n in r.neighbours])
    rows = []
    for query, neighbours in ((r.query, r.neighbours) for r in shown):
        start, end = query.within_s or (0.0, infos[query.video.source].duration_s)
        picture = _thumbnail(query.video.source, infos, start, end)
        rows.append(f"<section>{_figure(picture, 'query', '', query.name)}{_figures(neighbours, infos)}</section>\n")
    more = f"<p>The first {AT_MOST} of {len(results)} queries are shown.</p>" if len(results) > AT_MOST else ""
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{escaped(title)}</title><style>{STYLE}</style></head>\n<body><h1>{escaped(title)}</h1>\n"
        f"<p>Left: the query. Then its neighbours: rank, score (1 for a copy), the time that matches best.</p>"
        f"\n{more}{''.join(rows)}</body></html>\n"
    )
    write_text(path, page)


def figures(found: Sequence[Neighbour]) -> str:
    """HTML of what was found, as on the page, for another page."""
    return _figures(found, _infos((), [n.path for n in found]))


def _figures(found: Sequence[Neighbour], infos: dict[str, VideoInfo]) -> str:
    shown = []
    for rank, n in enumerate(found, 1):
        middle = (n.start_s + n.end_s) / 2
        picture = _thumbnail(n.path, infos, min(n.start_s, middle - 1), max(n.end_s, middle + 1))
        said = f"{rank}. {n.score:.3f}, {n.start_s:.2f}-{n.end_s:.2f} s" + (", identical" if n.identical else "")
        shown.append(_figure(picture, "found", said, n.path))
    return "".join(shown)


def escaped(text: str) -> str:
    """Text for HTML; bytes of a file name that are no UTF-8 are shown as \\\\xNN."""
    return html.escape(text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


def _figure(picture: str, kind: str, said: str, name: str) -> str:
    label = f"<b>{escaped(said)}</b><br>" if said else ""
    caption = f"{label}{escaped(Path(name).name)}<br><small>{escaped(str(Path(name).parent))}</small>"
    return f'<figure class="{kind}">{picture}<figcaption>{caption}</figcaption></figure>\n'


def _infos(queries: Iterable[Video], paths: Iterable[str]) -> dict[str, VideoInfo]:
    """What a scan says of each video; those found were scanned when they were indexed, and that is remembered."""
    known = {v.source: v for v in queries}
    others = tuple(ListedVideo(p) for p in dict.fromkeys(paths) if p not in known)
    videos = scanned(VideoList("found", (*known.values(), *others)), none_usable_is_an_error=False).videos
    return {v.source: v.info for v in videos}


def _thumbnail(path: str, infos: dict[str, VideoInfo], start_s: float, end_s: float) -> str:
    info = infos.get(path)
    if info is None:
        return '<div class="none">cannot be read</div>'
    fps = info.fps or 25.0
    last = info.frames - 1
    first, end = (min(max(0.0, frame), last) for frame in (start_s * fps, end_s * fps - 1))
    numbers = np.unique(np.linspace(first, end, FRAMES).round().astype(int))
    try:
        frames_THWC = resize_short_side(read_frames(path, numbers.tolist(), info), SIDE)
    except VideoError:
        return '<div class="none">cannot be read</div>'
    rate = Fraction(FPS) if len(numbers) == FRAMES else Fraction(max(1.0, len(numbers) / 2)).limit_denominator(100)
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "thumbnail.mp4"
        write_video(small, frames_THWC, rate, Encoding({"crf": "30", "preset": "veryfast"}))
        content = base64.b64encode(small.read_bytes()).decode()
    return f'<video src="data:video/mp4;base64,{content}" autoplay loop muted playsinline></video>'
