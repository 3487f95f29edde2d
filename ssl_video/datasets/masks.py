"""Masks of objects, frame by frame, that lie beside videos: in folders of pictures, or in the arrays of drawn sets.

The kinds of pictures, told by the first one of a sequence:

* gray, nothing but 0 and 255 (DAVIS-2016): 255 is the object, number 1. Gray levels along its edges, as smoothing or a
  JPEG leave them, are cut at half, with a warning;
* anything else of one channel, or with a palette (DAVIS-2017, VIP): the numbers of objects, 0 the background, and 255
  void: not known, or not to be counted. The palette's colours say nothing. Values that are no such numbers are refused
  (``mask_pictures``).

``annotations/NAME.npz`` beside a drawn video, or up to two folders above it, has ``masks_THW``.
"""

import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ssl_video.datasets.annotations import ANNOTATIONS, reader_of
from ssl_video.datasets.base import Video
from ssl_video.datasets.mask_pictures import MOST, VOID, check_numbers, read_values
from ssl_video.readback import DAMAGE
from ssl_video.video.info import VideoError
from ssl_video.video.pictures import picture_files

__all__ = ["MOST", "VOID", "Masks", "masks_in", "masks_of", "objects_in", "read_mask"]


@dataclass(frozen=True)
class Masks:
    """The masks of a video: a folder with a picture for each frame, by the name of the frame's picture, or an array.

    ``names_T`` are the names of the video's frames without suffix, or None: then masks are counted as they are sorted.
    """

    path: Path
    frames: int
    names_T: tuple[str, ...] | None = None

    def __getitem__(self, frame: int) -> np.ndarray | None:
        """mask_HW of numbers of objects, uint8, or None for a frame without one. Raises VideoError."""
        if self.path.suffix == ".npz":
            within = frame < len(self._array_THW)
            return check_numbers(self._array_THW[frame], f"frame {frame} of {self.path.name}") if within else None
        file = self._files_T[frame]
        if file is None:
            return None
        mask_HW, kind = read_values(file, f"the masks in {self.path}")
        if kind == "smooth" and not self.binary:
            raise VideoError(f"{file.name} is black and white, but the first mask of its sequence numbers objects")
        return _as_one(mask_HW) if self.binary else mask_HW

    @cached_property
    def _files_T(self) -> list[Path | None]:
        files = picture_files(self.path) if self.path.is_dir() else []
        if self.names_T is None:
            return [files[t] if t < len(files) else None for t in range(self.frames)]
        by_name = {p.stem: p for p in files}
        return [by_name.get(name) for name in self.names_T]

    @cached_property
    def binary(self) -> bool:
        """True if the sequence has gray masks in black and white, which are one object. Raises VideoError."""
        if self.path.suffix == ".npz":
            return False
        first = next((file for file in self._files_T if file is not None), None)
        if first is None:
            return False
        return read_values(first, f"the masks in {self.path}")[1] != "numbers"

    @cached_property
    def _array_THW(self) -> np.ndarray:
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                masks_THW = arrays["masks_THW"]
        except (OSError, BadZipFile, zlib.error, *DAMAGE) as error:
            raise VideoError(f"its masks {self.path.name} cannot be read ({error})") from None
        if masks_THW.ndim != 3 or masks_THW.dtype != np.uint8:
            raise VideoError(f"masks_THW of {self.path.name} must hold a picture of 8 bits for each frame")
        return masks_THW


class MaskReader(ABC):
    """Reads masks."""

    @abstractmethod
    def masks(self, video: Video) -> Masks:
        """The masks of a scanned video, of which some or all may be absent."""


@ANNOTATIONS.register("mask_pictures")
class MaskPictures(MaskReader):
    """A folder with a picture for each frame."""

    def masks(self, video: Video) -> Masks:
        """Those in the folder that the video names."""
        return masks_in(Path(video.annotation), video)


def masks_of(video: Video) -> Masks | None:
    """The masks of a scanned video, which its set names or which lie beside it; None if there are none."""
    reader = reader_of(video, MaskReader)
    if reader is not None:
        return reader.masks(video)
    source = Path(video.source)
    places = (folder / "annotations" / f"{source.stem}.npz" for folder in list(source.parents)[:3])
    return next((Masks(p, video.frames) for p in places if p.is_file()), None)


def masks_in(folder: Path, video: Video) -> Masks:
    """The masks in a folder, as those of the frames of a scanned video."""
    source = Path(video.source)
    names = tuple(p.stem for p in picture_files(source)) if source.is_dir() else None
    return Masks(folder, video.frames, names)


def read_mask(path: Path | str) -> np.ndarray:
    """mask_HW of one picture by itself, uint8: numbers of objects, and ``VOID``. Raises VideoError."""
    mask_HW, kind = read_values(path, Path(path).name)
    return mask_HW if kind == "numbers" else _as_one(mask_HW)


def _as_one(mask_HW: np.ndarray) -> np.ndarray:
    return np.where(mask_HW == VOID, 1, mask_HW).astype(np.uint8)


def objects_in(mask_HW: np.ndarray) -> list[int]:
    """The numbers of the objects that are seen in a mask."""
    return [int(n) for n in np.unique(mask_HW) if n not in (0, VOID)]
