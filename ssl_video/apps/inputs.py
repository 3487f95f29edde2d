"""A pretext's inputs as pictures, whatever the pretext: rows of frames from what its ``transform`` gives."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from ssl_video.apps.explain_flow import full_saturation
from ssl_video.errors import UserError
from ssl_video.video.augment import resize_short_side
from ssl_video.video.flow import colour_wheel, decode

COLUMNS, ROWS = 8, 6
"""Frames of a row, and rows of an array, that are shown at most; they are evenly spaced."""
SIDE = 96
"""Pixels of a frame's shorter side at most."""
GAP = 3


@dataclass(frozen=True)
class Strip:
    """One row of frames, side by side, and in plain words what it is."""

    picture_HWC: np.ndarray
    label: str


Classes = Mapping[str, Sequence[str]]
"""What numbers of a sample mean, in words (``Objective.label_words``)."""


def strips(sample: Mapping[str, Any], classes: Classes = MappingProxyType({})) -> list[Strip]:
    """The rows of a sample.

    Every uint8 array whose name ends with its axes, the last three of them HWC, is drawn: the axis before these from
    left to right, and every further one from top to bottom. A number beside the arrays is part of every label. So is a
    list with the axis of the rows (``labels_V`` beside ``clips_VTHWC``), with the number of that row; other lists are
    left out unless they are short. What stands in ``classes`` is said in its words instead.
    """
    return [strip for name, value in sample.items() for strip in _strips_of(name, np.asarray(value), sample, classes)]


def _strips_of(name: str, array: np.ndarray, sample: Mapping[str, Any], classes: Classes) -> list[Strip]:
    stem, _, axes = name.rpartition("_")
    if array.dtype != np.uint8 or not axes.endswith("HWC") or len(axes) != array.ndim or not array.size:
        return []
    rows_RSHWC = array.reshape(-1, *array.shape[-4:]) if array.ndim > 3 else array[None, None]
    shown = _evenly(len(rows_RSHWC), ROWS)
    found = []
    for row in shown:
        frames_SHWC = rows_RSHWC[row]
        columns = _evenly(len(frames_SHWC), COLUMNS)
        words = [stem if len(rows_RSHWC) == 1 else f"{stem} {row + 1} of {len(rows_RSHWC)}"]
        words += [w for other, value in sample.items() if (w := _words(other, np.asarray(value), axes, row, classes))]
        if len(columns) < len(frames_SHWC):
            words.append(f"{len(columns)} of {len(frames_SHWC)} frames")
        found.append(Strip(_side_by_side(frames_SHWC[columns]), ", ".join(words)))
    return found


def _words(name: str, value: np.ndarray, axes: str, row: int, classes: Classes) -> str:
    """What an entry beside the frames says of a row."""
    if value.dtype.kind not in "biuf" or (value.dtype == np.uint8 and value.ndim >= 3):
        return ""
    stem, _, own = name.rpartition("_")
    of_rows = own == axes[:1] and len(axes) > 4 and value.ndim == 1
    short = stem if stem and (of_rows or len(own) == value.ndim) else name
    shown = value[row : row + 1] if of_rows else value.ravel()
    if not 0 < shown.size <= 8:
        return ""
    if short in classes:
        return ", ".join(classes[short][int(n)] for n in shown)
    return f"{short}: {', '.join(f'{v:.4g}' for v in shown)}"


def _evenly(count: int, at_most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, at_most)).round().astype(int))


def _side_by_side(frames_SHWC: np.ndarray) -> np.ndarray:
    frames_SHWC = in_colours(frames_SHWC)
    if min(frames_SHWC.shape[1:3]) > SIDE:
        frames_SHWC = resize_short_side(frames_SHWC, SIDE)
    apart = np.pad(frames_SHWC, ((0, 0), (0, 0), (0, GAP), (0, 0)), constant_values=255)
    return np.concatenate(list(apart), axis=1)[:, :-GAP]


def in_colours(frames_SHWC: np.ndarray) -> np.ndarray:
    """Frames as RGB: flow (2 channels) in the colours of the wheel, gray repeated. Raises UserError for others."""
    channels = frames_SHWC.shape[-1]
    if channels == 2:
        flows = [decode(f) for f in frames_SHWC]
        maximum = full_saturation(flows)
        return np.stack([colour_wheel(f, maximum) for f in flows])
    if channels not in (1, 3):
        raise UserError(f"Frames of {channels} channels cannot be shown as pictures.")
    return frames_SHWC if channels == 3 else frames_SHWC.repeat(3, axis=-1)


def jpeg(picture_HWC: np.ndarray) -> bytes:
    """An RGB picture as JPEG."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture_HWC)).save(out, "JPEG", quality=90)
    return out.getvalue()
