"""How every figure looks: one style, and the one way to draw a figure, without pyplot: no display, no global state.

Names of files and classes come from others: a dollar or an underscore in one is a character and never a formula.
"""

import contextlib
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from ssl_video.errors import UserError
from ssl_video.files import legible, written_aside

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

PictureFormat = Literal["png", "pdf", "svg"]
"""What figures are written as; a figure's file says it by its suffix."""
FORMATS: tuple[PictureFormat, ...] = ("png", "pdf", "svg")
DPI = 200
LARGEST = 10_000
"""Pixels of the longer side of a picture at most: a larger figure gets fewer pixels an inch."""
MARGIN = 0.04
"""Inches around all that is drawn, as much as the layout keeps."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of Okabe and Ito: the colour-blind tell them apart."""
QUIET = "0.45"
"""The gray of what is there for comparison, such as the line of chance."""
STYLE: Mapping[str, Any] = {
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "font.size": 9,
    "figure.titlesize": 10,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.framealpha": 0.85,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "grid.alpha": 0.3,
    "lines.linewidth": 1.3,
    "image.cmap": "viridis",
    "savefig.dpi": DPI,
    "pdf.fonttype": 42,
    "svg.hashsalt": "ssl-video",
}
DATES = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
"""Left out, so that the same figure is the same bytes."""

_ALONE = threading.RLock()  # the style is matplotlib's own state while a figure is drawn


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """In this context figures have our style and nothing of a user's matplotlibrc; then all is as it was."""
    from matplotlib import style

    with _ALONE, warnings.catch_warnings(), style.context(["default", dict(STYLE)]):
        warnings.filterwarnings("ignore", "constrained_layout not applied", UserWarning)  # it grows (``figure_to``)
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # it is drawn as a box
        yield


@contextlib.contextmanager
def figure_to(out: Path | str | IO[bytes], width: float, height: float) -> Iterator["Figure"]:
    """An empty figure of a size in inches, written where the block ends: aside and renamed, or as PNG to a stream.

    Raises:
        UserError: if the name ends in none of ``FORMATS``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kind = "png" if not isinstance(out, str | Path) else format_of(out)
    with styled():
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        if figure.axes and (layout := figure.get_layout_engine()) is not None:
            layout.execute(figure)
        figure.set_layout_engine(None)  # it stays as it is measured here; with "none" it would be drawn twice
        whole = _with_overhang(figure.bbox_inches.extents, figure.get_tightbbox().extents)
        how: dict[str, Any] = {"format": kind, "metadata": DATES.get(kind), "bbox_inches": whole}
        how["dpi"] = min(DPI, LARGEST / max(whole.width, whole.height))
        if not isinstance(out, str | Path):
            figure.savefig(out, **how)
            return
        with written_aside(out) as aside:
            figure.savefig(aside, **how)


def _with_overhang(own: Sequence[float], drawn: Sequence[float]) -> "Bbox":
    """The figure, and with a margin what overhangs it, which layouts overlook; both as left, bottom, right and top."""
    from matplotlib.transforms import Bbox

    low = [at if at <= least else least - MARGIN for at, least in zip(own[:2], drawn[:2], strict=True)]
    high = [at if at >= most else most + MARGIN for at, most in zip(own[2:], drawn[2:], strict=True)]
    return Bbox([low, high])


def format_of(path: Path | str) -> str:
    """png, pdf or svg, by the end of a figure's name. Raises UserError for others."""
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise UserError(f"A figure is written as a file that ends in .png, .pdf or .svg, not as {path}.")
    return kind


def shortened(name: str, most: int = 60) -> str:
    """A name for a figure: at most so many characters, the middle left out, and none that no font has."""
    name = legible(name)
    if len(name) <= most:
        return name
    front = (most - 1) // 2
    return f"{name[:front]}\N{HORIZONTAL ELLIPSIS}{name[len(name) - (most - 1 - front) :]}"


def picture(axes: Any, picture_HWC: Any, title: str = "", **how: Any) -> Any:
    """A picture without axes, under its title; returns what ``imshow`` does."""
    shown = axes.imshow(picture_HWC, **how)
    axes.set_axis_off()
    axes.set_title(title)
    return shown


def chance_line(axes: Any, level: float, words: str = "chance") -> None:
    """A dotted line, named in the legend: what needs no learning."""
    axes.axhline(level, color=QUIET, linewidth=1, linestyle=":", label=f"{words} ({level:.3g})")


def named_ticks(axes: Any, names: Sequence[str], size: float) -> None:
    """Names at both axes of a square heat map, below it turned upright."""
    short = [shortened(name, 40) for name in names]
    axes.set_xticks(range(len(names)), short, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), short, fontsize=size)
