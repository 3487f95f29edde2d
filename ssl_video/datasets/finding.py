"""Finding the videos of a folder, and what in it is none: what systems and archives leave behind."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from ssl_video.datasets.spelling import why_absent
from ssl_video.files import as_named, shown
from ssl_video.video.info import Problem
from ssl_video.video.kinds import is_video_name

LEFT_BEHIND = frozenset(
    ["__macosx", "@eadir", "#recycle", "$recycle.bin", "recycler", "system volume information", "lost+found"]
)
"""Folders of archives, network drives, Windows and file systems, in small letters."""
HIDDEN_LEFT_BEHIND = (".trash", ".ipynb_checkpoints", ".appledouble", ".spotlight-v100", ".fseventsd", "._")
"""Beginnings of the names of hidden folders, and of the files that macOS puts beside others, in small letters."""


@dataclass(frozen=True)
class Found:
    """Sorted paths of the videos in a folder and its sub-folders, what could not be read or leads nowhere, and paths
    of what systems and archives left behind, which is skipped."""

    paths: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence on what was skipped, if anything was."""
        if not self.skipped:
            return ()
        some = ", ".join(map(shown, self.skipped[:3])) + (", ..." if len(self.skipped) > 3 else "")
        files = "file or folder" if len(self.skipped) == 1 else "files and folders"
        return (f"{len(self.skipped)} {files} that a system or an archive left behind are skipped ({some}).",)


def videos_below(root: Path) -> Found:
    """The videos in ``root`` and its sub-folders.

    Hidden files and folders are skipped. Links are followed; a folder that is reached twice is read once, so that a
    link to a folder above itself ends.
    """
    found = Found()
    seen: set[tuple[int, int]] = set()

    def refused(error: OSError) -> None:
        found.problems.append(Problem(str(error.filename), f"cannot be read: {error.strerror}"))

    for folder, subfolders, names in os.walk(as_named(root), followlinks=True, onerror=refused):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        videos = [name for name in names if is_video_name(name)]
        found.skipped.extend(f"{folder}{os.sep}{n}" for n in sorted((*subfolders, *videos)) if was_left_behind(n))
        subfolders[:] = sorted(s for s in subfolders if not (s.startswith(".") or was_left_behind(s)))
        for path in (f"{folder}{os.sep}{name}" for name in videos if not name.startswith(".")):
            reason = why_absent(path) if Path(path).is_symlink() else ""
            found.problems.append(Problem(path, reason)) if reason else found.paths.append(path)
    found.paths.sort()
    return found


def was_left_behind(name: str) -> bool:
    """True for names of what systems and archives leave in folders of others."""
    small = name.casefold()
    return small in LEFT_BEHIND or small.startswith(HIDDEN_LEFT_BEHIND)
