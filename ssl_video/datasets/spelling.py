"""Names that are there in another spelling than a list has them: what was probably meant is said, or read."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ssl_video.files import there
from ssl_video.video.kinds import is_video_name


def folded(name: str) -> str:
    """What two spellings of a name share.

    Capitals, composed characters or not, blanks, underscores and hyphens, the suffix of a video, and the encoding of
    bytes that are not UTF-8 make no difference.
    """
    if not name.isprintable():
        name = os.fsencode(name).decode("latin-1") if re.search("[\udc80-\udcff]", name) else name
    name = name.strip()
    stem = name[: name.rfind(".")] if is_video_name(name) else name
    return re.sub(r"[\s_-]+", "_", unicodedata.normalize("NFC", stem).casefold().strip())


def spellings(cell: str) -> Iterator[str]:
    """What a path in a list may mean, the likeliest first: itself; without blanks at its ends; ``~`` as the home
    folder; characters composed or decomposed, as another system wrote them; folders separated by ``\\``."""
    bare = cell.strip()
    for path in (cell, bare, os.path.expanduser(bare)):  # noqa: PTH111  (Path.expanduser raises for unknown users)
        yield from (path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD")))
    if "\\" in bare:
        yield bare.replace("\\", "/")


@dataclass
class Spellings:
    """Looks for paths that are there in another spelling; each folder is read once."""

    folders: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def of(self, path: str) -> str | None:
        """The path that is there and differs from ``path`` in its spelling alone; None without one, or with several."""
        found = Path(path).anchor
        for part in Path(path).parts[1 if found else 0 :]:
            here = os.path.join(found, part)  # noqa: PTH118  (names stay as they are)
            if not there(here):
                alike = self._in(found or ".").get(folded(part), [])
                if len(alike) != 1:
                    return None
                here = os.path.join(found, alike[0])  # noqa: PTH118
            found = here
        return found if found != path else None

    def _in(self, folder: str) -> dict[str, list[str]]:
        if folder not in self.folders:
            try:
                self.folders[folder] = alike(os.listdir(folder))  # noqa: PTH208  (names, not paths)
            except OSError:
                self.folders[folder] = {}
        return self.folders[folder]


def alike(names: Iterable[str]) -> dict[str, list[str]]:
    """Names by what their spellings share."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        found.setdefault(folded(name), []).append(name)
    return found


def why_absent(path: str) -> str:
    """What is wrong with a link, as a phrase; "" for one that leads somewhere, and for what is no link."""
    try:
        target = os.readlink(path)  # noqa: PTH115  (the words of the link)
    except (OSError, ValueError):
        return ""
    try:
        Path(path).stat()
    except FileNotFoundError:
        return f"it is a link to {target}, which is not there"
    except OSError as error:
        return f"it is a link to {target}, which cannot be followed: {error.strerror}"
    return ""
