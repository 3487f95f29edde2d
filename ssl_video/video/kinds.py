"""From what videos are read, how their files are called, and how often they are cut.

Light to import, since flags are made of it.
"""

from typing import Literal

CopyKind = Literal["h264", "raw"]
"""Copies made once that read fast: small h264 files, or raw frames."""
CacheKind = Literal["none", "raw", "h264"]
"""The files themselves, or copies."""

Crops = Literal[1, 3, 10]
"""Crops of a clip at test."""

# fmt: off
VIDEO_SUFFIXES = frozenset([
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".gif", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4",
    ".mpeg", ".mpg", ".mts", ".mxf", ".ogg", ".ogm", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
])
# fmt: on


def is_video_name(name: str) -> bool:
    """True if the suffix is one of a video, in lower or upper case."""
    return name[name.rfind(".") :].lower() in VIDEO_SUFFIXES
