"""Packing the videos of a SPEC into tar files, shards, which local disks and object stores read well.

A shard is a plain tar as WebDataset reads it: for each video KEY.mp4 (or another suffix) with its bytes as they are,
and KEY.json with what is known of it. Beside shard-000000.tar lies its list shard-000000.csv, a manifest, and
manifest.csv is those of all shards. What is written is a function of the videos: a shard that lies there with its list
is a finished one, and packing goes on behind it.
"""

import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.manifest import is_as_noted, manifest_lines, manifest_rows
from ssl_video.datasets.many import some
from ssl_video.datasets.prepare import lists_of
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.errors import UserError
from ssl_video.files import clear_dead, write_text, written_aside
from ssl_video.members import HEADER, Member, member_of, read_member
from ssl_video.progress import Bar, announce, count, size
from ssl_video.video.cache import FULL
from ssl_video.video.info import Problem, reason_of
from ssl_video.video.pictures import of_pictures

SHARD_BYTES = 1_000_000_000
"""Bytes that a shard has, about."""
END = bytes(2 * HEADER)
"""What ends a tar."""
PICTURES = "pictures are not packed; make a copy of it by 'ssl-video data cache' first"


@dataclass(frozen=True)
class Packed:
    """Shards that lie there now: how many, how many of them lay there before, and what they hold."""

    manifest: Path
    shards: int
    kept: int
    videos: int
    bytes: int
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...] = ()


def pack_videos(
    data: str, out: Path, shard_bytes: int = SHARD_BYTES, *, workers: int | None = None, progress: bool = False
) -> Packed:
    """Pack the usable videos of a SPEC, their files as they are, and write ``out``/manifest.csv, to train from.

    A SPEC of copies packs the copies. Training and test videos lie in shards of their own, and a video larger than
    ``shard_bytes`` in one for itself. Digests stay those of the originals, which the lists name (``copy_of``).
    Annotations stay where they are.

    Args:
        data: a SPEC; its videos are scanned, if they were not.
        out: folder of the shards. Finished ones of the same videos are kept.
        shard_bytes: how large shards are to be.
        workers: scanning processes; by default one a core.
        progress: show a bar, on a terminal.

    Raises:
        UserError: if no video can be used, a file cannot be read or has changed, or ``out`` holds other shards, is full
            or cannot be written. Finished shards stay there.
    """
    splits = load_splits(data)
    sets = [(name, scanned(one, workers=workers, progress=progress)) for name, one in lists_of(splits)]
    problems = [problem for _, one in sets for problem in one.problems]
    plans = [(name, *_with_sizes(one, problems)) for name, one in sets]
    total = sum(len(sizes_N) for _, _, sizes_N in plans)
    if not total:
        raise UserError(f"No video of {data} can be packed; the first: {problems[-1].path}: {problems[-1].reason}.")
    shards = kept = written = 0
    try:
        clear_dead(out)
        needed = sum(int(sizes_N.sum()) for _, _, sizes_N in plans)
        announce(f"Packing {count(total, 'video')}, {size(needed)}, into {out}.", progress)
        with Bar("pack", total, "video", progress) as bar:
            for shard in _planned(plans, out, shard_bytes):
                found = shard.is_finished()
                if not found:
                    _check_room(out, shard.bytes)
                    shard.write()
                bar.update(len(shard.items))
                shards, kept, written = shards + 1, kept + found, written + shard.bytes
        _check_no_more(out, shards)
        _join(out, shards)
    except OSError as error:
        how = "is full" if error.errno in FULL else "cannot be written"
        raise UserError(f"{out} {how} ({error.strerror or error}); name another --out, or make room.") from None
    return Packed(out / "manifest.csv", shards, kept, total, written, tuple(problems), splits.warnings)


def _with_sizes(videos: VideoSet, problems: list[Problem]) -> tuple[VideoSet, np.ndarray]:
    """Those that can be packed, and the bytes of their files; the others join the problems."""
    sizes_N = np.full(len(videos.videos), -1, np.int64)
    for number, video in enumerate(videos.videos):
        try:
            member = member_of(video.path)
            if member is None and of_pictures(video.path):
                problems.append(Problem(video.path, PICTURES))
            else:
                sizes_N[number] = Path(video.path).stat().st_size if member is None else member.size
        except OSError as error:
            problems.append(Problem(video.path, reason_of(error), passing=True))
    fit_N = np.flatnonzero(sizes_N >= 0)
    return replace(videos, videos=some(videos.videos, fit_N)), sizes_N[fit_N]


def _check_room(out: Path, needed: int) -> None:
    free = shutil.disk_usage(next(p for p in (out, *out.absolute().parents) if p.is_dir())).free
    if needed > free:
        raise UserError(f"{out} has {size(free)} free, the next shard needs {size(needed)}; name another --out.")


@dataclass(frozen=True)
class _Item:
    """A video to be packed: KEY in its shard, the bytes of its file, and the words beside it."""

    video: Video
    key: str
    size: int
    words: bytes

    @property
    def name(self) -> str:
        return self.key + Path(self.video.path).suffix.lower()

    @property
    def bytes(self) -> int:
        return 2 * HEADER + _filled(self.size) + _filled(len(self.words))


def _filled(length: int) -> int:
    return -(-length // HEADER) * HEADER


def _planned(plans: Sequence[tuple[str, VideoSet, np.ndarray]], out: Path, shard_bytes: int) -> "Iterator[_Shard]":
    """The shards, one after the other; no list goes on in a shard of another one."""
    first = shards = 0
    for split, videos, sizes_N in plans:
        items, filled = list[_Item](), len(END)
        for number, (video, length) in enumerate(zip(videos.videos, sizes_N.tolist(), strict=True), first):
            item = _Item(video, _key(number, video), length, _words(video, split, videos.classes))
            if items and filled + item.bytes > shard_bytes:
                yield _Shard(out, shards, tuple(items), split, videos.classes)
                items, filled, shards = [], len(END), shards + 1
            items.append(item)
            filled += item.bytes
        if items:
            yield _Shard(out, shards, tuple(items), split, videos.classes)
            shards += 1
        first += len(sizes_N)


def _key(number: int, video: Video) -> str:
    """No dot is in it, at which WebDataset ends keys, and nothing but ASCII."""
    return f"{number:09d}-{re.sub(r'[^A-Za-z0-9_-]', '_', Path(video.source).stem)[:60]}"


def _words(video: Video, split: str, classes: Sequence[str]) -> bytes:
    labels = [classes[n] for n in video.labels]
    said = {"name": video.name, "labels": labels, "cls": list(video.labels), "group": video.group, "split": split}
    said |= {"caption": video.caption, "content": video.info.content, "frames": video.frames, "fps": video.info.fps}
    return json.dumps(said, sort_keys=True).encode()


@dataclass(frozen=True)
class _Shard:
    """One shard as it is to be."""

    out: Path
    number: int
    items: tuple[_Item, ...]
    split: str
    classes: tuple[str, ...]

    @property
    def path(self) -> Path:
        return self.out / f"shard-{self.number:06d}.tar"

    @property
    def list(self) -> Path:
        return self.path.with_suffix(".csv")

    @cached_property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items) + len(END)

    @cached_property
    def lines(self) -> str:
        """Its list."""
        videos, at = [], HEADER
        for item in self.items:
            path = Member(os.path.abspath(self.path), at, item.size, item.name).path  # noqa: PTH100
            info = replace(item.video.info, state="")  # what says where it lies says which file it is
            videos.append(replace(item.video, path=path, copy_of=item.video.source, info=info))
            at += item.bytes
        return "".join(manifest_lines(self.list, manifest_rows(VideoSet("", videos, self.classes), self.split)))

    def is_finished(self) -> bool:
        """True if it lies there. Raises UserError if another one does."""
        there = self.path.exists()
        if self.list.exists() and self.list.read_text("utf-8", "surrogateescape") == self.lines:
            return there and self.path.stat().st_size == self.bytes
        if there or self.list.exists():
            raise _others(self.path)
        return False

    def write(self) -> None:
        """Write list and shard, the shard last. Raises OSError, UserError if a video cannot be read."""
        write_text(self.list, self.lines)
        try:
            with written_aside(self.path) as aside, aside.open("wb") as file:
                for item in self.items:
                    _write_member(file, item.name, item.size)
                    _copy(item, file)
                    file.write(bytes(_filled(item.size) - item.size))
                    _write_member(file, f"{item.key}.json", len(item.words))
                    file.write(item.words + bytes(_filled(len(item.words)) - len(item.words)))
                file.write(END)
        except BaseException:
            self.list.unlink(missing_ok=True)
            raise


def _write_member(file: BinaryIO, name: str, length: int) -> None:
    """The header of a member, the same at any time for any user."""
    header = tarfile.TarInfo(name)
    header.size = length
    file.write(header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))


def _copy(item: _Item, file: BinaryIO) -> None:
    """The bytes of a video, as they were scanned. Raises UserError if these cannot be read, OSError of ``file``."""
    path, info, at = item.video.path, item.video.info, file.tell()
    for block in _blocks(path):
        file.write(block)
    own = "" if item.video.copy_of else info.content
    as_scanned = is_as_noted(path, info.state or f"{item.size}|", own)
    if file.tell() - at != item.size or not as_scanned:
        raise UserError(f"{path} has changed since it was scanned; run the same line again.")


def _blocks(path: str) -> Iterator[bytes]:
    member = member_of(path)
    try:
        if member is not None:
            yield read_member(member)
            return
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                yield block
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason_of(error)}); run the same line again when it can.") from None


def _check_no_more(out: Path, shards: int) -> None:
    """Raise UserError if a shard lies there that is none of so many."""
    for path in sorted(out.glob("shard-*.tar")):
        if path.stem not in {f"shard-{number:06d}" for number in range(shards)}:
            raise _others(path)


def _others(shard: Path) -> UserError:
    return UserError(f"{shard.parent} holds other shards ({shard.name}); name another --out.")


def _join(out: Path, shards: int) -> None:
    """Write manifest.csv: the lists of all shards."""
    with written_aside(out / "manifest.csv") as aside, aside.open("wb") as whole:
        for number in range(shards):
            with (out / f"shard-{number:06d}.csv").open("rb") as one:
                head = one.readline()
                whole.write(head * (number == 0))
                shutil.copyfileobj(one, whole)
