"""What videos are read from. Light to import, since flags are made of it."""

from typing import Literal

CopyKind = Literal["h264", "raw"]
"""Copies made once that read fast: small h264 files, or raw frames."""
CacheKind = Literal["none", "raw", "h264"]
"""The files themselves, or copies."""
