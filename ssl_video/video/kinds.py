"""From what videos are read, and how often they are cut. Light to import, since flags are made of it."""

from typing import Literal

CopyKind = Literal["h264", "raw"]
"""Copies made once that read fast: small h264 files, or raw frames."""
CacheKind = Literal["none", "raw", "h264"]
"""The files themselves, or copies."""

Crops = Literal[1, 3, 10]
"""Crops of a clip at test."""
