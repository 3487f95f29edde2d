"""A map of videos as a file: a page that works by itself, or a figure."""

import base64
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from ssl_video.apps.inputs import jpeg
from ssl_video.apps.options import MapOptions
from ssl_video.apps.rendering import render
from ssl_video.apps.search import Index
from ssl_video.apps.video_map import VideoMap, colours_of, map_videos, middle_frames, spread
from ssl_video.datasets.base import VideoList
from ssl_video.errors import UserError
from ssl_video.figures import FORMATS, figure_to, shortened
from ssl_video.files import legible, write_text
from ssl_video.members import member_of
from ssl_video.remote import is_remote

MOST_BYTES = 6_000_000
"""Of all thumbnails of a page together."""
PICTURES = 40
"""Thumbnails of a figure, at most."""
IN_LEGEND = 20


def write_map(index: Index, out: Path, options: MapOptions = MapOptions(), data: VideoList | None = None) -> VideoMap:
    """Write the map of an index as a page (.html) or as a figure (.png, .svg, .pdf); see ``map_videos``.

    It is written aside and renamed.

    Raises:
        UserError: for another suffix, or as ``map_videos`` does.
    """
    suffix = out.suffix.lower()
    if suffix.removeprefix(".") not in ("html", *FORMATS):
        raise UserError(f"--out must end in .html, .png, .svg or .pdf, not {out.name!r}.")
    found = map_videos(index, options, data)
    title = f"Map of {legible(index.stored.folder.resolve().name)}"
    if suffix == ".html":
        write_text(out, page_of(found, title, options.thumbnails))
    else:
        draw_map(out, found, title, min(PICTURES, options.thumbnails))
    return found


def page_of(found: VideoMap, title: str, thumbnails: int) -> str:
    """The page. Names are data of its script, which writes them as text."""
    colours = colours_of(found.labels)
    classes = list(colours)
    number = {name: n for n, name in enumerate(classes)}
    local = not any(map(is_remote, found.paths))
    above = os.path.commonpath([str(Path(p).parent) for p in found.paths]) if local else ""
    data: dict[str, Any] = {
        "places": [[round(x, 4), round(y, 4)] for x, y in found.places_N2.tolist()],
        "names": [legible(os.path.relpath(p, above) if local else p) for p in found.paths],
        "links": [Path(p).as_uri() if member_of(p) is None and not is_remote(p) else "" for p in found.paths],
        "labels": [number.get(label, -1) for label in found.labels],
        "classes": [legible(name) for name in classes],
        "colours": list(colours.values()),
        "neighbours": found.neighbours_NK.tolist(),
        "cosines": [[round(c, 3) for c in row] for row in found.cosines_NK.tolist()],
        "thumbnails": dict(_thumbnails(found, thumbnails)),
    }
    words = {"title": title, "said": found.said, "above": above}
    return render("map.html", ("map.js",), "file:", data=data, **words)


def _thumbnails(found: VideoMap, count: int) -> Iterable[tuple[int, str]]:
    """Number of a video, and a small JPEG of its middle frame as text; not more than ``MOST_BYTES`` of them."""
    size = 0
    frames = middle_frames({n: found.paths[n] for n in spread(found.places_N2, count)})
    for number, frame_HWC in frames.items():
        text = base64.b64encode(jpeg(frame_HWC)).decode()
        size += len(text)
        if size > MOST_BYTES:
            return
        yield number, text


def draw_map(out: Path | IO[bytes], found: VideoMap, title: str, thumbnails: int = PICTURES) -> None:
    """Write a figure of the map: points in the colours of their classes, some with pictures."""
    with figure_to(out, 8, 8) as figure:
        axes = figure.add_subplot()
        scatter(axes, found.places_N2, found.labels)
        axes.set_title(f"{title}: {len(found.paths)} videos")
        _add_pictures(axes, found, thumbnails)


def draw_maps(out: Path | IO[bytes], places: Mapping[str, np.ndarray], labels: tuple[str, ...]) -> None:
    """Write a figure of the same videos as several networks place them, side by side under the networks' names."""
    with figure_to(out, 5 * len(places), 5.2) as figure:
        for number, (name, places_N2) in enumerate(places.items(), 1):
            axes = figure.add_subplot(1, len(places), number)
            scatter(axes, places_N2, labels, legend=number == 1)
            axes.set_title(name)


def _add_pictures(axes: Any, found: VideoMap, thumbnails: int) -> None:
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    taken: list[np.ndarray] = []
    chosen = []
    for number in spread(found.places_N2, 4 * thumbnails):
        place = found.places_N2[number]
        if len(chosen) < thumbnails and all(np.abs(place - other).max() > 0.11 for other in taken):
            chosen.append(number)
            taken.append(place)
    for number, frame_HWC in middle_frames({n: found.paths[n] for n in chosen}).items():
        box = AnnotationBbox(
            OffsetImage(frame_HWC, zoom=38 / max(frame_HWC.shape[:2])),
            tuple(found.places_N2[number].tolist()),
            xybox=(0, 24),
            boxcoords="offset points",
            pad=0.1,
            frameon=True,
        )
        axes.add_artist(box)


def scatter(axes: Any, places_N2: np.ndarray, labels: tuple[str, ...], *, legend: bool = True) -> None:
    """Points on axes, in the colours of their classes, which a legend names if they are few."""
    size = 12 if len(places_N2) > 1000 else 30
    colours = colours_of(labels)
    without = np.array([label == "" for label in labels])
    if without.any():
        axes.scatter(*places_N2[without].T, s=size, color="#808080", label="no class" if colours else None)
    for name, colour in colours.items():
        of_class = np.array([label == name for label in labels])
        axes.scatter(*places_N2[of_class].T, s=size, color=colour, label=shortened(name))
    axes.set(xlim=(-0.06, 1.06), ylim=(-0.06, 1.1), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set(visible=True, color="0.8")  # a frame: places have no unit, and no origin
    if legend and colours and len(colours) <= IN_LEGEND:
        axes.legend(fontsize=8, markerscale=1.2, loc="upper left", ncols=-(-len(colours) // 10))
