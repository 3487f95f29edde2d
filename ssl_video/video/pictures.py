"""Videos that come as folders of pictures, one a frame, as DAVIS and many others do."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from ssl_video.video.alive import beat
from ssl_video.video.info import VideoError, VideoInfo
from ssl_video.video.upright import turned

PICTURE_SUFFIXES = frozenset([".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"])
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
LARGEST = 1 << 26
"""Pixels of the largest picture that is decoded, 8192 x 8192."""
FPS = 25.0
"""The rate that a folder is taken to have: its pictures do not tell."""
READING = 2
"""Raised when pictures are read as other colours or another way up, so that copies of folders are made anew."""
ORIENTATION = 0x0112
"""The tag of EXIF that says how a picture was held, 1 to 8."""


def of_pictures(path: Path | str) -> bool:
    """Whether this is read as pictures, a frame each: a folder, or the file of a picture that does not move."""
    path = Path(path)
    if path.is_dir():
        return True
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        return False
    try:
        with Image.open(path, formats=FORMATS) as picture:
            return picture.format == "TIFF" or getattr(picture, "n_frames", 1) == 1
    except Image.DecompressionBombError:
        return True
    except (OSError, ValueError, SyntaxError):
        return False


def picture_files(folder: Path | str) -> list[Path]:
    """The pictures of a folder in the order of the numbers in their names, without hidden files; or the one picture."""
    if Path(folder).is_file():
        return [Path(folder)]
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
    except FileNotFoundError as error:
        raise VideoError(f"there is no {Path(path).name}") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoError(f"{Path(path).name} cannot be decoded ({' '.join(str(error).split())[:100]})") from error


def read_picture(path: Path | str) -> np.ndarray:
    """(H, W, 3) uint8 RGB, the right way up (EXIF); what is transparent is laid on black.

    Gray of 16 and 32 bits is scaled by its depth, of floating point from 0 to 1.

    Raises:
        VideoError: if it cannot be decoded, or is of floating point outside of 0 to 1.
    """
    with opened_picture(path) as picture:
        return _upright(picture, _rgb(picture))


@dataclass(frozen=True)
class Stored:
    """A picture as it is stored, the right way up.

    ``values`` are (H, W) of one channel, of whatever type and depth, or (H, W, 3) uint8 RGB; with a ``palette`` they
    are numbers of colours. A ``lossy`` format (JPEG, most of WebP) does not keep values exactly.
    """

    values: np.ndarray
    palette: bool
    lossy: bool


def read_stored(path: Path | str) -> Stored:
    """A picture whose values are more than colours. Raises VideoError."""
    with opened_picture(path) as picture:
        one_channel = picture.mode in ("P", "L", "I", "F") or picture.mode.startswith("I;16")
        values = _upright(picture, np.array(picture) if one_channel else _rgb(picture))
        lossy = picture.format == "JPEG" or picture.info.get("compression") == "jpeg"  # the latter in a TIFF
        if picture.format == "WEBP":
            with Path(path).open("rb") as file:
                lossy = file.read(16)[12:] != b"VP8L"
        return Stored(values, picture.mode == "P", lossy)


def _upright(picture: Image.Image, values: np.ndarray) -> np.ndarray:
    """Values of a picture that has been loaded (which turns a TIFF already), turned and mirrored as it says."""
    try:
        held = picture.getexif().get(ORIENTATION)
    except Exception:  # damaged notes say nothing of the picture, and each kind of damage has its own error
        held = None
    return np.ascontiguousarray(turned(values, held))


def _rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return np.repeat(_scaled(picture)[..., None], 3, axis=2)
    if picture.mode not in ("LA", "La", "PA", "RGBA", "RGBa") and "transparency" not in picture.info:
        return np.array(picture.convert("RGB"))
    if picture.mode == "La":
        picture = picture.convert("LA")
    rgba_HWC = np.asarray(picture.convert("RGBA")).astype(np.uint16)
    return ((rgba_HWC[..., :3] * rgba_HWC[..., 3:] + 127) // 255).astype(np.uint8)


def _scaled(picture: Image.Image) -> np.ndarray:
    """(H, W) uint8 gray of a picture of 16 or 32 bits, or of floating point from 0 to 1. Raises VideoError."""
    values_HW = np.asarray(picture).astype(np.float64)
    if picture.mode == "F":
        if not (values_HW.min() >= 0 and values_HW.max() <= 1):  # not a number is neither
            name = Path(str(getattr(picture, "filename", ""))).name
            raise VideoError(f"{name} holds floating point outside of 0 to 1, for which there is no colour")
        return np.rint(255 * values_HW).astype(np.uint8)
    bits, signed = 16, False
    if isinstance(picture, TiffImageFile):
        bits, signed = int(picture.tag_v2.get(258, (16,))[0]), picture.tag_v2.get(339, (1,))[0] == 2
    if bits == 32 and not signed:
        values_HW %= 1 << 32  # Pillow takes the upper half for negative
    return np.rint(np.clip(values_HW / (2 ** (bits - signed) - 1), 0, 1) * 255).astype(np.uint8)


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
        beat()
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
