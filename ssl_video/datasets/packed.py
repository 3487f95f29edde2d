"""Videos in tar files: through the list that 'data pack' wrote beside a shard, else by listing what is in it.

The members of a tar that has no list are listed once, into a manifest in the cache folder, which counts as long as the
tar is as it was. KEY.cls, KEY.json and KEY.txt beside KEY.mp4 give labels and captions, as WebDataset has them.
"""

import hashlib
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from ssl_video.datasets.base import Splits
from ssl_video.datasets.large import load_list
from ssl_video.datasets.listing import split_named
from ssl_video.datasets.manifest import IN_SHARD, joined, write_manifest
from ssl_video.errors import UserError
from ssl_video.files import as_named, cache_dir
from ssl_video.members import HEADER, Member, plain_name
from ssl_video.readback import DAMAGE, in_short, parsed
from ssl_video.video.content import state_of
from ssl_video.video.info import reason_of
from ssl_video.video.kinds import is_video_name

VERSION = 1
"""Raised when the same tar gives another list."""
WORDS = (".cls", ".json", ".txt")
WORDS_AT_MOST = 1 << 20
"""Bytes of a member that is read for what it says of a video."""
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def shards_in(folder: Path) -> list[Path]:
    """The tar files that lie in a folder itself."""
    return sorted(path for path in folder.glob("*.tar") if path.is_file() and not path.name.startswith("."))


def load_shards(folder: Path, facts: bool = True) -> Splits:
    """As ``load_tars``, of all that lie in a folder, with a warning if these are not all that were to be packed."""
    tars = shards_in(folder)
    splits = load_tars(tars, folder.name, facts)
    if (folder / "manifest.csv").exists() or not any(_is_list(tar.with_suffix(".csv")) for tar in tars):
        return splits
    warning = f"{folder} was not packed to the end: run the same 'ssl-video data pack' again; what is there is used."
    return replace(splits, warnings=(*splits.warnings, warning))


def load_tars(tars: Sequence[Path], name: str, facts: bool = True) -> Splits:
    """The videos in tar files; not scanned yet, unless a list beside the only one says what is in it (``facts``).

    Raises UserError if one is damaged or cut off, or there is no video.
    """
    tars = [as_named(tar) for tar in tars]
    if facts and len(tars) == 1 and _is_list(beside := tars[0].with_suffix(".csv")):
        return load_list(beside)
    states = _states(tars)
    above = cache_dir() / "shards"
    ours = hashlib.sha256("|".join(map(str, tars)).encode(errors="surrogateescape")).hexdigest()[:16]
    kept = above / f"{ours}-{hashlib.sha256(f'{VERSION}|{states}'.encode()).hexdigest()[:16]}.csv"
    if not kept.is_file():
        rows = [row for tar in tars for row in _rows(tar)]
        if not rows:
            raise UserError(f"There is no video in {name}; name a folder, a list or a tar that holds videos.")
        if _states(tars) != states:
            raise UserError(f"{name} changed while it was read; run the same line again when it is whole.")
        try:
            write_manifest(kept, rows)
        except OSError:  # nobody keeps it, then
            with tempfile.TemporaryDirectory() as folder:
                write_manifest(Path(folder) / kept.name, rows)
                return called(load_list(Path(folder) / kept.name), name)
        for former in above.glob(f"{ours}-*"):
            if former != kept:
                former.unlink(missing_ok=True)
    return called(load_list(kept), name)


def called(splits: Splits, name: str) -> Splits:
    """The same lists under another name."""
    if splits.test is None:
        return replace(splits, train=replace(splits.train, name=name))
    train, test = replace(splits.train, name=f"{name} train"), replace(splits.test, name=f"{name} test")
    return replace(splits, train=train, test=test)


def _is_list(path: Path) -> bool:
    """True for a list of videos in shards."""
    try:
        with path.open("rb") as file:
            return set(IN_SHARD) <= set(file.readline(4096).decode(errors="replace").strip().split(","))
    except OSError:
        return False


def _states(tars: Sequence[Path]) -> str:
    try:
        return "|".join(map(state_of, tars))
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({reason_of(error)}).") from None


def _rows(tar: Path) -> list[dict[str, str]]:
    """Of a manifest, of the videos in a tar. Raises UserError."""
    videos: list[tuple[str, str]] = []
    words: dict[str, dict[str, bytes]] = defaultdict(dict)
    try:
        with tarfile.open(tar, "r:", encoding="utf-8", errors="surrogateescape") as opened:
            for info in opened:
                name = plain_name(info.name)
                key, suffix = _key(name)
                if not info.isreg() or info.issparse() or PurePosixPath(name).name.startswith("."):
                    continue
                if is_video_name(name):
                    videos.append((key, Member(str(tar), info.offset_data, info.size, name).path))
                elif suffix in WORDS and info.size <= WORDS_AT_MOST and (file := opened.extractfile(info)):
                    words[key][suffix] = file.read()
            end = opened.offset
        with tar.open("rb") as file:
            file.seek(end)
            if file.read(HEADER) != bytes(HEADER):
                raise tarfile.ReadError("it has no end")
    except (tarfile.TarError, EOFError) as error:
        how = "is cut off" if videos else "is no tar, or a compressed or damaged one"
        raise UserError(f"{tar} {how} ({in_short(error)}); get it again, or unpack it.") from None
    except OSError as error:
        raise UserError(f"{tar} cannot be read ({reason_of(error)}).") from None
    return [{"path": path, **_said(words.get(key, {}))} for key, path in videos]


def _key(name: str) -> tuple[str, str]:
    """A name without what begins at the first dot behind the last slash, and that in small letters."""
    folder, slash, last = name.rpartition("/")
    first, dot, suffix = last.partition(".")
    return folder + slash + first, (dot + suffix).lower()


def _said(words: Mapping[str, bytes]) -> dict[str, str]:
    """Columns of a manifest, from what lies beside a video; what cannot be understood says nothing."""
    said: dict[str, Any] = {}
    with suppress(*DAMAGE):
        said = dict(parsed(words.get(".json", b"{}")))
    labels = said.get("labels", [said.get("label", "")])
    if ".cls" in words:
        labels = [words[".cls"].decode(errors="replace")]
    labels = labels if isinstance(labels, list) else []
    labels = [str(label).strip() for label in labels if isinstance(label, str | int)]
    caption = words[".txt"].decode(errors="replace") if ".txt" in words else said.get("caption")
    split = said.get("split")
    return {
        "label": joined([label for label in labels if label]),
        "group": group if isinstance(group := said.get("group"), str) else "",
        "split": split if isinstance(split, str) and split_named(split, plain=True) else "",
        "caption": caption.strip() if isinstance(caption, str) else "",
    }
