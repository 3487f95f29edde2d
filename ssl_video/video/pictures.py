"""Videos that come as folders of pictures, one a frame, as DAVIS and many others do."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ssl_video.video.info import VideoError, VideoInfo

PICTURE_SUFFIXES = frozenset([".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"])
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
LARGEST = 1 << 26
"""Pixels of the largest picture that is decoded, 8192 x 8192."""
FPS = 25.0
"""The rate that a folder is taken to have: its pictures do not tell."""


def picture_files(folder: Path | str) -> list[Path]:
    """The pictures of a folder in the order of the numbers in their names; hidden files are left out."""
    found = (p for p in Path(folder).iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith("."))
    return sorted(found, key=lambda p: ([int(n) for n in re.findall(r"\d+", p.stem)], p.name))


@contextlib.contextmanager
def opened_picture(path: Path | str) -> Iterator[Image.Image]:
    """A picture whose size has been checked and whose pixels are not read yet. Raises VideoError, inside as well."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > LARGEST:
                raise VideoError(f"{Path(path).name} of {picture.width}x{picture.height} pixels is too large")
            yield picture
    except FileNotFoundError:
        raise VideoError(f"there is no {Path(path).name}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoError(f"{Path(path).name} cannot be decoded ({' '.join(str(error).split())[:100]})") from None


def read_picture(path: Path | str) -> np.ndarray:
    """(H, W, 3) uint8 RGB. Raises VideoError."""
    with opened_picture(path) as picture:
        return np.array(picture.convert("RGB"))


def iterate_folder(folder: Path | str, numbers: Sequence[int] | None = None) -> Iterator[np.ndarray]:
    """Frames with these numbers, from 0 on, or all, (H, W, 3) uint8 RGB, all of the first one's size.

    Raises:
        VideoError: if a picture cannot be read, has another size, or is not there.
    """
    files = picture_files(folder)
    size = None
    for number in range(len(files)) if numbers is None else numbers:
        if not 0 <= number < len(files):
            raise VideoError(f"there is no frame {number}: the folder has {len(files)} pictures")
        frame_HWC = read_picture(files[number])
        size = size or frame_HWC.shape
        if frame_HWC.shape != size:
            (h, w), (h0, w0) = frame_HWC.shape[:2], size[:2]
            raise VideoError(f"{files[number].name} is {w}x{h} pixels large, the pictures before it {w0}x{h0}")
        yield frame_HWC


def scan_folder(folder: Path | str) -> VideoInfo:
    """Facts of a folder of pictures, all of which are decoded. Raises VideoError."""
    count, shape = 0, (0, 0)
    for frame_HWC in iterate_folder(folder):
        count, shape = count + 1, frame_HWC.shape
    if not count:
        raise VideoError("it is a folder without pictures")
    return VideoInfo(count, FPS, shape[1], shape[0], count / FPS, "pictures")
