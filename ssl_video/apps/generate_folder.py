"""The folder of videos that are drawn: what was asked for and measured, a film each, a sheet of frames and x-t slices.

It is written film by film, so that what was killed goes on with the films that are missing.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from ssl_video.errors import UserError
from ssl_video.eval.generated import FILMS_NOTE
from ssl_video.figures import figure_to, picture, shortened
from ssl_video.files import check_new, clear_dead, write_text, written_aside
from ssl_video.readback import parsed, reading
from ssl_video.video.writer import TO_LOOK_AT, write_video

NOTE, SHEET, SLICES = FILMS_NOTE, "sheet.png", "xt.png"
ROWS, COLUMNS = 12, 8
"""Films, and frames of each, that the figures show at most."""


@dataclass(frozen=True)
class Film:
    """A video that was drawn: its file, its text, the number of its noise, and what was measured of it."""

    file: str
    prompt: str | None
    number: int
    measured: Mapping[str, float]


@dataclass
class FilmFolder:
    """A folder of ``count`` films, of which ``films`` are there, all from the first on.

    ``head`` is what was asked for and of whom (``asked``, by which a folder is known again, and more), plain types.
    """

    path: Path
    head: Mapping[str, Any]
    count: int
    fps: Fraction
    lossless: bool = False
    films: list[Film] = field(default_factory=list)
    finished: bool = False

    def open(self) -> None:
        """Find what is there already. Raises UserError if that is something else."""
        clear_dead(self.path)
        note = self.path / NOTE
        if not note.exists():
            check_new(self.path)
            return
        with reading(note, "remove the folder, or choose another --out"):
            content = parsed(note.read_text(encoding="utf-8"))
            before, films = dict(content["asked"]), [Film(**film) for film in content["videos"]]
            finished = content["finished"] is True
        now = json.loads(json.dumps(self.head["asked"]))
        if not films:
            return
        if others := [name for name in {**before, **now} if before.get(name) != now.get(name)]:
            raise UserError(
                f"{self.path} holds videos that were asked for otherwise ({', '.join(others)} differ); choose another "
                f"--out."
            )
        figures = all((self.path / name).exists() for name in (SHEET, SLICES))
        self.finished = finished and figures and all(self._is_there(film, self.lossless) for film in films)
        self.films = films if self.finished else list(takewhile(self._is_there, films))

    def _is_there(self, film: Film, exact: bool = True) -> bool:
        file = self.path / film.file
        return file.exists() and (not exact or file.with_suffix(".npy").exists())

    def add(self, frames_THWC: np.ndarray, prompt: str | None, number: int, measured: Mapping[str, float]) -> None:
        """Write the next film, and its frames as they are, until the figures are drawn."""
        if not self.films:
            self._note()  # so that the folder is known again from its first file on
        name = f"{len(self.films):0{max(3, len(str(self.count - 1)))}d}"
        with written_aside(self.path / f"{name}.npy") as aside, aside.open("wb") as file:
            np.save(file, frames_THWC)
        write_video(self.path / f"{name}.mp4", frames_THWC, self.fps, TO_LOOK_AT)
        self.films.append(Film(f"{name}.mp4", prompt, number, measured))
        self._note()

    def finish(self) -> None:
        """Draw the figures, and keep the frames as they are only where that was asked for."""
        exact = [(self.path / film.file).with_suffix(".npy") for film in self.films]
        if not self.finished:
            clips = [exact_frames(path) for path in exact[:ROWS]]
            titles = [f"{Path(film.file).stem} {film.prompt or ''}".strip() for film in self.films[:ROWS]]
            draw_sheet(self.path / SHEET, clips, titles)
            draw_slices(self.path / SLICES, clips, titles)
            self.finished = True
            self._note()
        if not self.lossless:
            for path in exact:
                path.unlink(missing_ok=True)

    def _note(self) -> None:
        content = {**self.head, "videos": [asdict(film) for film in self.films], "finished": self.finished}
        write_text(self.path / NOTE, json.dumps(content, indent=1, ensure_ascii=True) + "\n")


def exact_frames(path: Path) -> np.ndarray:
    """(T, H, W, 3) of a film. Raises UserError if the file is damaged."""
    with reading(path, "remove it, and call again with the same line"):
        return np.load(path, allow_pickle=False)


def draw_sheet(path: Path, clips: Sequence[np.ndarray], titles: Sequence[str]) -> None:
    """A figure: a row of frames (T, H, W, 3) a film, evenly spaced in time, with their numbers above.

    Films of a single frame stand side by side.
    """
    chosen = np.unique(np.linspace(0, len(clips[0]) - 1, COLUMNS).round().astype(int))
    if len(chosen) == 1:
        draw_frames(path, [clip_THWC[0] for clip_THWC in clips], titles)
        return
    with figure_to(path, 1.2 * len(chosen), 1.35 * len(clips) + 0.3) as figure:
        axes = figure.subplots(len(clips), len(chosen), squeeze=False)
        for row, (clip_THWC, title) in enumerate(zip(clips, titles, strict=True)):
            for column, number in enumerate(chosen.tolist()):
                picture(axes[row, column], clip_THWC[number], f"frame {number}" if row == 0 else "")
            first = axes[row, 0]
            words = first.text(0, -0.04, shortened(title), transform=first.transAxes, va="top", fontsize=7)
            words.set_in_layout(False)  # it may be longer than its picture is wide


def draw_frames(path: Path, frames: Sequence[np.ndarray], titles: Sequence[str]) -> None:
    """A figure: frames (H, W, 3) side by side, each with its title below."""
    with grid_to(path, len(frames), COLUMNS, (1.5, 1.9)) as axes:
        for axis, frame_HWC, title in zip(axes, frames, titles, strict=True):
            picture(axis, frame_HWC)
            below = textwrap.fill(shortened(title), 26)
            axis.text(0, -0.04, below, transform=axis.transAxes, va="top", fontsize=7)


def draw_slices(path: Path, clips: Sequence[np.ndarray], titles: Sequence[str]) -> None:
    """A figure: of each film one row of pixels over time, x to the right and t downwards; the row that changes most."""
    with grid_to(path, len(clips), 4, (2.4, 2.5)) as axes:
        for axis, clip_THWC, title in zip(axes, clips, titles, strict=True):
            row = liveliest_row(clip_THWC)
            picture(axis, clip_THWC[:, row], f"{shortened(title, 34)}\nx-t, row {row}", aspect="auto")


@contextmanager
def grid_to(path: Path, count: int, most: int, inches: tuple[float, float]) -> Iterator[Sequence[Any]]:
    """The axes of so many pictures of a figure, at most ``most`` a line, each of so many inches (width, height)."""
    columns = min(most, count)
    lines = -(-count // columns)
    with figure_to(path, inches[0] * columns, inches[1] * lines) as figure:
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for axis in axes[count:]:
            axis.set_axis_off()
        yield list(axes[:count])


def liveliest_row(clip_THWC: np.ndarray) -> int:
    """The row of pixels that changes most over time; of several the middle one."""
    variance_H = clip_THWC.astype(np.float64).var(0).mean((1, 2))
    most = np.flatnonzero(variance_H == variance_H.max())
    return int(most[len(most) // 2])
