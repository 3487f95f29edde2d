"""What earlier scans found, kept in the user's cache folder: by path, for the state that the file had.

It is only a memory. One that is damaged is set aside and begun anew; one that is locked, or on a disk that cannot be
written, is done without: the files are scanned again.
"""

import contextlib
import json
import os
import sqlite3
import uuid
import warnings
import zlib
from dataclasses import asdict
from pathlib import Path

import av

from ssl_video.files import cache_dir
from ssl_video.readback import DAMAGE
from ssl_video.video.info import Problem, VideoInfo

VERSION = 6
"""Raised when what a scan finds changes, so that what older versions kept is not used."""
DECODER = f"PyAV {av.__version__}, libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"
"""A file that this one cannot decode may be one for the next."""
COLUMNS = [("path", 1), ("state", 0), ("found", 0)]
"""Names, and which one is the key."""
WAIT_S = 5.0
"""Seconds to wait for another process that writes."""
BUSY = ("locked", "busy", "locking protocol")
DAMAGED = (sqlite3.Error, UnicodeDecodeError)
"""What sqlite raises; the second where its own message has bytes of a damaged file in it."""
REFUSED = ("disk i/o error", "disk is full", "unable to open", "readonly", "out of memory")


class Known:
    """Facts and reasons by path. It raises nothing: what it cannot read is not known, what it cannot write not kept."""

    def __init__(self) -> None:
        self.file = cache_dir() / "probes.sqlite"
        self.base: sqlite3.Connection | None = None
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        self._open()

    def get(self, path: str, state: str) -> VideoInfo | Problem | None:
        """What is known of the file in this state."""
        rows = self._do("SELECT state, found FROM probes WHERE path = ?", (_key(path),))
        try:
            ((kept_for, found),) = rows
            checksum, text = found[:8], found[8:]
            if checksum != _checksum(text):
                return None
            what = json.loads(text)
            if "reason" in what:
                return Problem(path, what["reason"]) if kept_for == f"{VERSION}|{DECODER}|{state}" else None
            return VideoInfo(**what) if kept_for == f"{VERSION}|{state}" else None
        except DAMAGE:  # nothing, or no words of ours
            return None

    def put(self, path: str, state: str, found: VideoInfo | Problem) -> None:
        """Keep what was found of the file in this state, unless it is the machine's reason."""
        if isinstance(found, Problem):
            if found.passing:
                return
            text, kept_for = json.dumps({"reason": found.reason}), f"{VERSION}|{DECODER}|{state}"
        else:
            text, kept_for = json.dumps(asdict(found)), f"{VERSION}|{state}"
        row = (_key(path), kept_for, _checksum(text) + text)
        self._do("INSERT OR REPLACE INTO probes (path, state, found) VALUES (?, ?, ?)", row)

    def close(self) -> None:
        """The end."""
        if self.base is not None:
            with contextlib.suppress(sqlite3.Error):
                self.base.close()
        self.base = None

    def _do(self, what: str, values: tuple[object, ...]) -> list[tuple[str, str]]:
        """The rows that a statement gives; none where there is no memory."""
        if self.base is None:
            return []
        try:
            with self.base:
                return self.base.execute(what, values).fetchall()
        except DAMAGED as error:
            self._give_up(error)
            return []

    def _give_up(self, error: Exception) -> None:
        """Do without the memory, or begin a new one where this one is damaged."""
        said = str(error).lower()
        if any(word in said for word in BUSY):
            self.close()
            warnings.warn(
                f"{self.file} is locked by another process ({error}): this scan does without what earlier ones found.",
                stacklevel=2,
            )
        elif isinstance(error, sqlite3.OperationalError) and any(word in said for word in REFUSED):
            return  # the machine; a read-only memory can still be read
        else:
            self._renew()

    def _open(self, again: bool = False) -> None:
        try:
            if self.file.is_dir():
                raise sqlite3.DatabaseError("a folder")
            # a scan may be ended by another thread than it was begun by
            self.base = sqlite3.connect(self.file, timeout=WAIT_S, check_same_thread=False)
            self.base.execute("PRAGMA synchronous = OFF")  # losing the last entries costs a second look, no more
            layout = self.base.execute("PRAGMA table_info(probes)").fetchall()
            if not layout:
                self.base.execute("CREATE TABLE IF NOT EXISTS probes (path PRIMARY KEY, state TEXT, found TEXT)")
            elif [(name, key) for _, name, _, _, _, key in layout] != COLUMNS:
                raise sqlite3.DatabaseError("another layout")
        except DAMAGED as error:
            if again:
                self.close()
            else:
                self._give_up(error)

    def _renew(self) -> None:
        """Set the damaged file aside, with what belongs to it, and begin a new one, if the folder can be written."""
        self.close()
        aside = self.file.with_name(f"{self.file.name}.damaged-{uuid.uuid4().hex[:8]}")
        try:
            self.file.rename(aside)
        except OSError:
            return
        for ending in ("-journal", "-wal", "-shm"):  # of the damaged one: they would be played back into the new one
            with contextlib.suppress(OSError):
                Path(f"{self.file}{ending}").rename(f"{aside}{ending}")
        warnings.warn(
            f"{self.file} was damaged: it is {aside.name} now, and files are scanned anew. Remove it.", stacklevel=2
        )
        self._open(again=True)


def _key(path: str) -> bytes:
    return os.fsencode(os.path.abspath(path))  # noqa: PTH100  (a link is a file of its own here)


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
