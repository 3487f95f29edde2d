"""The phases of an action, frame by frame, which lie in files beside its video.

* ``NAME_phases.csv`` beside ``NAME.mp4``, with the header ``frame,phase``: a row for each frame that has a phase.
  Frames are counted from 0, phases are names or whole numbers.
* ``annotations/NAME.npz`` with an array ``phase_T``, a number from 0 to 1 for each frame (NaN: none), as synthetic sets
  have it; it is cut into equal intervals.

The folder ``annotations`` is looked for beside the video and up to two folders above, and may hold the csv as well.
"""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ssl_video.datasets.annotations import reader_of
from ssl_video.datasets.base import Video
from ssl_video.datasets.listing import csv_lines, read_text
from ssl_video.errors import UserError
from ssl_video.files import write_text
from ssl_video.readback import DAMAGE

NONE = -1
"""The number of a frame without a phase."""


@dataclass(frozen=True)
class FramePhases:
    """The phase of each frame of a video by name, "" where it has none, and the labels of frames that it has not."""

    names_T: tuple[str, ...]
    beyond: int = 0


class PhaseReader(ABC):
    """Reads phases that do not lie beside the video in one of the ways above."""

    @abstractmethod
    def phases(self, video: Video) -> Mapping[int, str]:
        """Phase by frame of a scanned video. Raises UserError."""


def phases_of(video: Video, intervals: int = 5) -> FramePhases | None:
    """The phases of a scanned video, which its set names or which lie beside it; None if there are none.

    Labels of frames beyond the video's end are left out and counted. Phases from 0 to 1 are cut into so many equal
    ``intervals``.

    Raises:
        UserError: if the file is not as it should be.
    """
    reader, path = reader_of(video, PhaseReader), annotation_of(Path(video.source))
    if reader is not None:
        found = reader.phases(video)
    elif path is not None:
        found = read_csv(path) if path.suffix == ".csv" else _read_array(path, intervals)
    else:
        return None
    phases = of_frames(found, video.frames)
    return phases if any(phases.names_T) else None


def of_frames(phases: Mapping[int, str], count: int) -> FramePhases:
    """The phases, given by frame, of a video of ``count`` frames."""
    return FramePhases(tuple(phases.get(frame, "") for frame in range(count)), sum(f >= count for f in phases))


def annotation_of(video: Path) -> Path | None:
    """The file with the phases of a video, if there is one."""
    places = [video.with_name(f"{video.stem}_phases.csv")]
    for folder in list(video.parents)[:3]:
        places += [folder / "annotations" / f"{video.stem}{ending}" for ending in ("_phases.csv", ".npz")]
    return next((p for p in places if p.is_file()), None)


def read_csv(path: Path) -> dict[int, str]:
    """Phase by frame of a csv with the columns frame and phase. Raises UserError with the number of a wrong line."""
    lines = csv_lines(read_text(path), path)
    columns = [cell.strip().lower() for cell in lines[0][1]] if lines else []
    if not {"frame", "phase"} <= set(columns):
        raise UserError(f"{path} must begin with the header frame,phase.")
    frame_at, phase_at = columns.index("frame"), columns.index("phase")
    phases: dict[int, str] = {}
    for number, cells in lines[1:]:
        frame = cells[frame_at].strip() if len(cells) == len(columns) else ""
        if not frame.isdecimal() or len(frame) > 18:
            raise UserError(f"{path}, line {number}: write the number of a frame, from 0 on, and its phase.")
        phase = cells[phase_at].strip()
        if phases.setdefault(int(frame), phase) != phase:
            raise UserError(f"{path}, line {number}: frame {frame} has two phases; keep one.")
    return {frame: phase for frame, phase in phases.items() if phase}


def write_csv(path: Path, names_T: Sequence[str]) -> None:
    """Write phases so that ``read_csv`` reads them."""
    quoted = ['"' + name.replace('"', '""') + '"' if set(name) & set(',"\n') else name for name in names_T]
    write_text(path, "frame,phase\n" + "".join(f"{frame},{name}\n" for frame, name in enumerate(quoted) if name))


def _read_array(path: Path, intervals: int) -> dict[int, str]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            phase_T = arrays["phase_T"] if "phase_T" in arrays else np.empty(0, np.float32)
    except (OSError, BadZipFile, zlib.error, *DAMAGE) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    if phase_T.ndim != 1 or not np.issubdtype(phase_T.dtype, np.floating):
        raise UserError(f"phase_T of {path} must hold one number for each frame.")
    interval_T = np.clip(np.floor(np.nan_to_num(phase_T) * intervals), 0, intervals - 1).astype(int)
    return {frame: str(interval_T[frame]) for frame in np.flatnonzero(~np.isnan(phase_T)).tolist()}


def numbered(phases: Sequence[FramePhases]) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """The names of all phases in their order, and each video's phases as numbers_T, ``NONE`` for frames without.

    Whole numbers are in the order of their values; names in that of the mean relative time at which they occur.
    """
    times: dict[str, list[float]] = {}
    for one in phases:
        for frame, name in enumerate(one.names_T):
            times.setdefault(name, []).append(frame / len(one.names_T))
    times.pop("", None)
    by_value = all(name.isdecimal() and len(name) < 1000 for name in times)
    order = sorted(times, key=lambda name: (int(name) if by_value else float(np.mean(times[name])), name))
    number = {name: place for place, name in enumerate(order)} | {"": NONE}
    return tuple(order), [np.array([number[name] for name in one.names_T]) for one in phases]
