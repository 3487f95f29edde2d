"""``ssl-video data``: scan, cache and synthesize videos, and compute their optical flow."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ssl_video.bounds import Bounded, Count, Natural
from ssl_video.cli import tell
from ssl_video.cli.parsing import action_of, parse
from ssl_video.datasets.drawing.config import SyntheticConfig
from ssl_video.errors import UserError
from ssl_video.progress import left_out, size
from ssl_video.video.kinds import CopyKind

if TYPE_CHECKING:
    from ssl_video.datasets.prepare import Prepared


@dataclass(frozen=True)
class ScanConfig(Bounded, flags="--"):
    """Options of a scan."""

    data: tyro.conf.Positional[str]
    """A folder, a csv, a video or any other SPEC."""
    out: Path = Path("manifest.csv")
    """The manifest to write."""
    strict: bool = False
    """Exit with 2 if any file is bad."""
    workers: Count | None = None
    """Scanning processes; by default one a core."""


@dataclass(frozen=True)
class CacheConfig(Bounded, flags="--"):
    """Options of caching."""

    data: str
    """A folder, a csv, a manifest or any other SPEC."""
    out: Path
    """Folder of the copies; its manifest.csv is the SPEC to train from."""
    kind: CopyKind = "h264"
    """Small h264 files (about 1 MB for 1000 frames), or raw frames."""
    short_side: Natural = 128
    """Shorter side of the copies, in pixels; 0 keeps the size."""
    workers: Count | None = None
    """Encoding processes; by default one a core."""


@dataclass(frozen=True)
class KeptConfig:
    """Options of looking after the copies that commands made by the way."""

    list: bool = False
    """List the folders of copies and flow, of the runs in this folder and in the cache, and remove nothing."""
    clear: bool = False
    """List them, and remove those that no living process reads."""
    yes: bool = False
    """Do not ask before removing."""


@dataclass(frozen=True)
class FlowConfig(Bounded, flags="--"):
    """Options of computing flow."""

    data: str
    """A folder, a csv, a manifest or any other SPEC."""
    out: Path
    """Folder of the flow; its manifest.csv is the SPEC to train networks of flow from."""
    method: str = "farneback"
    """farneback, dis or raft, with options as in 'raft?size=large&weights=FILE'."""
    short_side: Natural = 128
    """Shorter side of the frames for which flow is computed, in pixels; 0 keeps the size."""
    reversed: bool = False
    """Flow of the videos played backwards."""
    workers: Count | None = None
    """Processes; by default one a core."""


@dataclass(frozen=True)
class SynthesizeConfig(Bounded, flags="--"):
    """Options of the synthetic set."""

    out: Path
    """Folder to write."""
    options: Annotated[SyntheticConfig, tyro.conf.arg(name="")] = SyntheticConfig()
    workers: Count | None = None
    """Drawing processes; by default one a core."""


def main(argv: Sequence[str]) -> int:
    """The command: one of its actions."""
    action = action_of(argv, "data", {"scan": scan, "cache": cache, "flow": flow, "synthesize": synthesize})
    return 0 if action is None else action(argv[1:])


def scan(argv: Sequence[str]) -> int:
    """Scan every file, write a manifest, count what is usable."""
    config = parse(ScanConfig, argv, "data scan", "Scan every video and write a manifest of what can be used.")
    from ssl_video.datasets.prepare import scan_to_manifest

    done = scan_to_manifest(config.data, config.out, workers=config.workers, progress=True)
    for warning in done.warnings:
        tell(f"warning: {warning}")
    for line in left_out(done.problems, "bad"):
        tell(line)
    bad = len(done.problems)
    print(f"{done.videos} of {done.videos + bad} files can be used ({done.frames} frames); {bad} cannot.")
    for reason, count in done.reasons.most_common(10):
        print(f"{count:>6}  {reason}")
    tell(f"{config.out} is written.")
    return 2 if done.videos == 0 or (config.strict and bad) else 0


def cache(argv: Sequence[str]) -> int:
    """Copy every usable video to a form that reads fast; or list or clear the copies that commands made by the way."""
    if {"--list", "--clear"} & set(argv):
        return _look_after(parse(KeptConfig, argv, "data cache", "List or clear the copies that commands made."))
    config = parse(CacheConfig, argv, "data cache", "Make copies of videos that read fast, frame for frame.")
    from ssl_video.datasets.prepare import copy_videos

    side, workers = config.short_side, config.workers
    done = copy_videos(config.data, config.out, config.kind, side, workers=workers, progress=True)
    _tell(done)
    print(f"{done.videos} copies are in {config.out}, {len(done.problems)} videos were left out.")
    tell(f"Next: ssl-video pretrain --data {done.manifest}")
    return 0


def _look_after(config: KeptConfig) -> int:
    from ssl_video.datasets.kept import clear, kept_copies

    kept = kept_copies()
    for one in kept:
        used = ", in use by a living process" if one.in_use else ""
        print(f"{one.folder}: {one.copies} files, {size(one.bytes)}{used}")
    print(f"{size(sum(one.bytes for one in kept))} in {len(kept)} folders.")
    free = [one for one in kept if not one.in_use]
    if not config.clear or not free:
        return 0
    if not config.yes:
        if not sys.stdin.isatty():
            raise UserError("Nothing was removed: --clear needs --yes where nobody can be asked.")
        if input(f"Remove {len(free)} of these folders? [y/N] ").strip().lower() not in ("y", "yes"):
            return 0
    gone, stay = clear(free)
    print(f"{size(sum(one.bytes for one in gone))} in {len(gone)} folders were removed.")
    for one in stay:
        print(f"{one.folder} stays: a process has begun to read it.")
    return 0


def flow(argv: Sequence[str]) -> int:
    """Compute the optical flow of every usable video."""
    config = parse(FlowConfig, argv, "data flow", "Compute the optical flow of videos, for networks that take it.")
    from ssl_video.datasets.prepare import flow_videos

    side, backwards, workers = config.short_side, config.reversed, config.workers
    done = flow_videos(config.data, config.out, config.method, side, reversed=backwards, workers=workers, progress=True)
    _tell(done)
    print(f"The flow of {done.videos} videos is in {config.out}, {len(done.problems)} videos were left out.")
    tell(f"Next: ssl-video pretrain --backbone A_NETWORK_OF_FLOW --data {done.manifest}")
    return 0


def _tell(done: "Prepared") -> None:
    for line in left_out(done.problems):
        tell(line)


def synthesize(argv: Sequence[str]) -> int:
    """Draw a set of videos."""
    config = parse(SynthesizeConfig, argv, "data synthesize", "Draw a set of videos whose classes show only in motion.")
    from ssl_video.datasets.synthetic import synthesize as draw

    manifest = draw(config.out, config.options, workers=config.workers, progress=True)
    videos = config.options.train + config.options.test
    print(f"{videos} videos are in {config.out}.\nNext: ssl-video pretrain --data {manifest}")
    return 0
