"""A map of videos as a file: a page that works by itself, or a figure."""

import base64
import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from ssl_video.apps.inputs import jpeg
from ssl_video.apps.options import MapOptions
from ssl_video.apps.page import legible
from ssl_video.apps.search import Index
from ssl_video.apps.video_map import VideoMap, colours_of, map_videos, middle_frames, places_of, spread
from ssl_video.datasets.base import VideoList
from ssl_video.errors import UserError
from ssl_video.files import write_text, written_aside

FIGURES = (".png", ".svg", ".pdf")
POLICY = "default-src 'none'; img-src data:; media-src file:; style-src 'unsafe-inline'"
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
    if suffix != ".html" and suffix not in FIGURES:
        raise UserError(f"--out must end in .html, {', '.join(FIGURES[:-1])} or {FIGURES[-1]}, not {out.name!r}.")
    found = map_videos(index, options, data)
    title = f"Map of {legible(index.stored.folder.resolve().name)}"
    if suffix == ".html":
        write_text(out, page_of(found, title, options.thumbnails))
    else:
        with written_aside(out) as aside:
            draw_map(found, title, min(PICTURES, options.thumbnails)).savefig(aside, dpi=200)
    return found


def page_of(found: VideoMap, title: str, thumbnails: int) -> str:
    """The page. Names are data of its script, which writes them as text."""
    templates = Environment(loader=PackageLoader("ssl_video.apps", "templates"), autoescape=True)
    script = templates.get_template("map.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; media-src file:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    colours = colours_of(found.labels)
    classes = list(colours)
    number = {name: n for n, name in enumerate(classes)}
    above = os.path.commonpath([str(Path(p).parent) for p in found.paths])
    data: dict[str, Any] = {
        "places": [[round(x, 4), round(y, 4)] for x, y in found.places_N2.tolist()],
        "names": [legible(os.path.relpath(p, above)) for p in found.paths],
        "links": [Path(p).as_uri() for p in found.paths],
        "labels": [number.get(label, -1) for label in found.labels],
        "classes": [legible(name) for name in classes],
        "colours": list(colours.values()),
        "neighbours": found.neighbours_NK.tolist(),
        "cosines": [[round(c, 3) for c in row] for row in found.cosines_NK.tolist()],
        "thumbnails": dict(_thumbnails(found, thumbnails)),
    }
    return templates.get_template("map.html").render(
        title=title,
        said=found.said,
        above=legible(above),
        policy=policy,
        data=data,
        script=Markup(script),
    )


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


def draw_map(found: VideoMap, title: str, thumbnails: int = PICTURES) -> Any:
    """A figure of the map, as matplotlib has them: points in the colours of their classes, some with pictures."""
    from matplotlib.figure import Figure
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    figure = Figure(figsize=(8, 8), layout="constrained")
    axes = figure.add_subplot()
    scatter(axes, found.places_N2, found.labels)
    axes.set_title(f"{title}: {len(found.paths)} videos", parse_math=False)
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
    return figure


def maps_beside(features: Mapping[str, tuple[np.ndarray, tuple[str, ...]]]) -> bytes:
    """A PNG: the map of some videos by each network, side by side; by name (N, D) features and N classes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(features), 5.2), layout="constrained")
    for place, (name, (x_ND, labels)) in enumerate(features.items(), 1):
        axes = figure.add_subplot(1, len(features), place)
        scatter(axes, places_of(x_ND, "tsne"), labels, legend=place == 1)
        axes.set_title(name, parse_math=False)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, format="png")
    return picture.getvalue()


def scatter(axes: Any, places_N2: np.ndarray, labels: tuple[str, ...], *, legend: bool = True) -> None:
    """Points on axes, in the colours of their classes, which a legend names if they are few."""
    size = 12 if len(places_N2) > 1000 else 30
    colours = colours_of(labels)
    without = np.array([label == "" for label in labels])
    if without.any():
        axes.scatter(*places_N2[without].T, s=size, color="#808080", label="no class" if colours else None)
    for name, colour in colours.items():
        of_class = np.array([label == name for label in labels])
        axes.scatter(*places_N2[of_class].T, s=size, color=colour, label=legible(name).replace("$", r"\$"))
    axes.set(xlim=(-0.06, 1.06), ylim=(-0.06, 1.1), xticks=[], yticks=[], aspect="equal")
    if legend and colours and len(colours) <= IN_LEGEND:
        axes.legend(fontsize=8, markerscale=1.2, loc="upper left", ncols=-(-len(colours) // 10))
