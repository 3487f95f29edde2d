"""Large lists: a csv, or a table of parquet, becomes columns once, and is opened as such from then on.

Nothing is asked of the disk about the files that a large list names. What the list says of them is taken as it is;
whether they are there is found by the scan, or when they are read.
"""

import hashlib
import os
import shutil
import warnings
from contextlib import suppress
from pathlib import Path

from ssl_video.datasets.base import COLUMNS_FROM, Splits
from ssl_video.datasets.columns import VERSION, temporary_folder
from ssl_video.datasets.conversion import convert, files_of, open_lists
from ssl_video.datasets.manifest import whole_path
from ssl_video.datasets.parquet import rows_in
from ssl_video.datasets.table import load_table
from ssl_video.errors import UserError
from ssl_video.files import aside_of, cache_dir, clear_dead
from ssl_video.progress import announce
from ssl_video.readback import DAMAGE, in_short
from ssl_video.video.content import state_of


def load_list(path: Path, facts: bool = True) -> Splits:
    """The videos of a list: as ``load_table``, or with ``COLUMNS_FROM`` lines or more in columns.

    Without ``facts`` a large list only says which files there are, and what earlier scans found of them is left out.
    Raises UserError.
    """
    path = whole_path(path)
    if not is_large(path):
        return load_table(path)
    return _converted(path) if facts else _made_for_us(path, facts)


def is_large(path: Path) -> bool:
    """True if a list has so many lines that it is read as columns."""
    if path.suffix.lower() == ".parquet":
        return rows_in(path) >= COLUMNS_FROM
    lines = 0
    with suppress(OSError), path.open("rb") as file:  # load_table says what is wrong with it
        while lines < COLUMNS_FROM and (block := file.read(1 << 20)):
            lines += block.count(b"\n") or block.count(b"\r")
    return lines >= COLUMNS_FROM


def _converted(path: Path) -> Splits:
    """The columns that were made of this list in its present state, or are made now; a full disk does without."""
    states = _states(path)
    above = cache_dir() / "lists"
    ours = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    key = hashlib.sha256(f"{VERSION}|{states}".encode(errors="surrogateescape")).hexdigest()[:16]
    folder = above / f"{ours}-{key}"
    if folder.is_dir():
        try:
            return open_lists(folder)
        except (*DAMAGE, OSError) as error:
            warnings.warn(f"{folder} was damaged ({in_short(error)}): it is made again from {path}.", stacklevel=2)
            shutil.rmtree(folder, ignore_errors=True)
    try:
        above.mkdir(parents=True, exist_ok=True)
        clear_dead(above)
        aside = aside_of(folder)
        aside.mkdir()
    except OSError:
        return _made_for_us(path)
    announce(f"{path} becomes columns, once, in {folder}.")
    try:
        convert(path, aside)
        _check_same(path, states)
        for former in above.glob(f"{ours}-*"):  # of other states; who has mapped them keeps them
            if former != folder:
                shutil.rmtree(former, ignore_errors=True)
        with suppress(OSError):  # another process was as fast
            aside.replace(folder)
        return open_lists(folder)
    except OSError:
        return _made_for_us(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _made_for_us(path: Path, facts: bool = True) -> Splits:
    """In columns that nobody keeps. Raises UserError."""
    states = _states(path)
    try:
        with temporary_folder() as folder:
            convert(path, folder, facts)
            _check_same(path, states)
            return open_lists(folder, ours=True)
    except OSError as error:
        raise UserError(
            f"The columns of {path} cannot be written ({error.strerror or error}); name a folder with room by "
            f"SSL_VIDEO_CACHE or TMPDIR."
        ) from None


def _states(path: Path) -> str:
    try:
        return "|".join(map(state_of, files_of(path)))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None


def _check_same(path: Path, states: str) -> None:
    if _states(path) != states:
        raise UserError(f"{path} changed while it was read; run the same line again when it is whole.")
