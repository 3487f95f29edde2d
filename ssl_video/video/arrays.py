"""Frames that were stored as they are: arrays (T, H, W, C) in files of their own, or in shards; read through a map."""

import io
from collections.abc import Callable, Sequence

import numpy as np

from ssl_video.members import Member, check_member, member_of, read_member
from ssl_video.readback import DAMAGE, in_short, read_array
from ssl_video.remote import is_remote
from ssl_video.video.info import VideoError


def open_array(path: str) -> np.ndarray:
    """(T, H, W, C), mapped. Raises VideoError."""
    member = member_of(path)
    try:
        return read_array(path, 4) if member is None else _mapped(member)
    except (OSError, *DAMAGE) as error:
        raise VideoError(f"it cannot be read ({in_short(error)})") from error


def _mapped(member: Member) -> np.ndarray:
    """As ``read_array``. Raises one of ``DAMAGE``, or OSError."""
    if is_remote(member.shard):
        return read_array(io.BytesIO(read_member(member)), 4, mapped=False)
    check_member(member)
    with open(member.shard, "rb") as file:  # noqa: PTH123
        file.seek(member.offset)
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read_header(file)
        begin = file.tell()
    needed = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(shape) != 4 or by_columns or dtype.kind not in "biuf" or begin + needed > member.offset + member.size:
        raise ValueError(f"it holds no 4 dimensions of numbers, but {dtype} of {shape}")
    return np.memmap(member.shard, dtype, "r", begin, shape)


def frames_of_array(path: str, frames: Sequence[int], each: Callable[[np.ndarray], np.ndarray] | None) -> np.ndarray:
    """The frames with these numbers, or what ``each`` makes of each. Raises VideoError."""
    array_THWC = open_array(path)
    try:
        if each:
            return np.stack([each(np.array(array_THWC[number])) for number in frames])
        return array_THWC[np.asarray(frames)]
    except IndexError as error:
        raise VideoError(f"there is no frame {max(frames)}: the file ends before it") from error
