"""Masks of objects, frame by frame, that lie beside videos: in folders of pictures, or in the arrays of drawn sets.

The kinds of pictures, told by the first one of a sequence:

* gray, nothing but 0 and 255 (DAVIS-2016): 255 is the object, number 1;
* anything else of one channel, or with a palette (DAVIS-2017, VIP): the numbers of objects, 0 the background, and 255
  void: not known, or not to be counted. The palette's colours say nothing.

``annotations/NAME.npz`` beside a drawn video, or up to two folders above it, has ``masks_THW``.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ssl_video.datasets.annotations import ANNOTATIONS, reader_of
from ssl_video.datasets.base import Video
from ssl_video.video.info import VideoError
from ssl_video.video.pictures import opened_picture, picture_files

VOID = 255
MOST = 254
"""Objects that a mask of 8 bits can number, beside the background and void."""


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
            return self._array_THW[frame] if frame < len(self._array_THW) else None
        file = self._files_T[frame]
        if file is None:
            return None
        mask_HW = _numbers(file)[0]
        return np.where(mask_HW == VOID, 1, mask_HW).astype(np.uint8) if self.binary else mask_HW

    @cached_property
    def _files_T(self) -> list[Path | None]:
        files = picture_files(self.path) if self.path.is_dir() else []
        if self.names_T is None:
            return [files[t] if t < len(files) else None for t in range(self.frames)]
        by_name = {p.stem: p for p in files}
        return [by_name.get(name) for name in self.names_T]

    @cached_property
    def binary(self) -> bool:
        """True if the sequence has gray masks of 0 and 255, which are one object. Raises VideoError."""
        if self.path.suffix == ".npz":
            return False
        first = next((file for file in self._files_T if file is not None), None)
        if first is None:
            return False
        mask_HW, gray = _numbers(first)
        return gray and not np.isin(mask_HW, (0, VOID), invert=True).any()

    @cached_property
    def _array_THW(self) -> np.ndarray:
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                masks_THW = arrays["masks_THW"]
        except (OSError, ValueError, EOFError, KeyError) as error:
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
    mask_HW, gray = _numbers(path)
    binary = gray and not np.isin(mask_HW, (0, VOID), invert=True).any()
    return np.where(mask_HW == VOID, 1, mask_HW).astype(np.uint8) if binary else mask_HW


def objects_in(mask_HW: np.ndarray) -> list[int]:
    """The numbers of the objects that are seen in a mask."""
    return [int(n) for n in np.unique(mask_HW) if n not in (0, VOID)]


def _numbers(path: Path | str) -> tuple[np.ndarray, bool]:
    """The values of a picture as they are stored, (H, W) uint8, and whether it is gray. Raises VideoError."""
    with opened_picture(path) as picture:
        if picture.mode in ("P", "L"):
            return np.array(picture), picture.mode == "L"
        if picture.mode == "1":
            return np.array(picture).astype(np.uint8) * VOID, True
        values = np.array(picture)
    name = Path(path).name
    if values.ndim == 2:  # 16 or 32 bits
        if values.max(initial=0) > VOID or values.min(initial=0) < 0:
            raise VideoError(f"{name} numbers objects up to {values.max()}; a mask may have {MOST}")
        return values.astype(np.uint8), True
    colours_HWC = values[..., :3] if values.shape[2] > 2 else values[..., :1]  # the last one of two or four is opacity
    if (colours_HWC != colours_HWC[..., :1]).any():
        raise VideoError(f"{name} is a picture in colour; a mask is gray or has a palette, and its values are numbers")
    return np.ascontiguousarray(colours_HWC[..., 0]), True
