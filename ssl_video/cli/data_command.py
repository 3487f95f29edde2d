"""``ssl-video data``: scan, cache, pack and synthesize videos, and compute their optical flow."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from ssl_video.bounds import Bounded, Count, Natural, Positive
from ssl_video.cli import tell
from ssl_video.cli.parsing import Folder, Json, Spec, action_of, document, messages_aside, parse
from ssl_video.datasets.drawing.config import SyntheticConfig
from ssl_video.errors import UserError
from ssl_video.files import as_word
from ssl_video.progress import are, count, left_out, size
from ssl_video.video.kinds import CopyKind

if TYPE_CHECKING:
    from ssl_video.datasets.prepare import Prepared


@dataclass(frozen=True)
class ScanConfig(Bounded, flags="--"):
    """Options of a scan."""

    examples: ClassVar = (
        "ssl-video data scan videos",
        "ssl-video data scan ucf101:ROOT --out ucf101.csv --workers 8",
        "ssl-video data scan videos --strict --json > scan.json",
    )

    data: tyro.conf.Positional[Spec]
    """A folder, a csv, a video or any other SPEC."""
    out: Path = Path("manifest.csv")
    """The manifest to write."""
    part: str | None = None
    """K/N: scan the K-th of N parts of the files, as one of several machines, and write it beside the manifest."""
    merge: bool = False
    """Scan nothing: make the manifest of all its parts, the same as one scan writes."""
    strict: bool = False
    """Exit with 2 if any file is bad."""
    json: Json = False
    workers: Count | None = None
    """Scanning processes; by default one a core."""
    time_limit: Positive = 60.0
    """Seconds that a file may take without getting on, before it is left out; however long it is, while it gets on it
    is read."""


@dataclass(frozen=True)
class CacheConfig(Bounded, flags="--"):
    """Options of caching."""

    examples: ClassVar = (
        "ssl-video data cache --data videos --out copies",
        "ssl-video data cache --data videos --out copies --kind raw --short-side 64",
        "ssl-video data cache --list",
    )

    data: Spec | None = None
    """A folder, a csv, a manifest or any other SPEC."""
    out: Folder | None = None
    """Folder of the copies; its manifest.csv is the SPEC to train from."""
    kind: CopyKind = "h264"
    """Small h264 files (about 1 MB for 1000 frames), or raw frames."""
    short_side: Natural = 128
    """Shorter side of the copies, in pixels; 0 keeps the size."""
    workers: Count | None = None
    """Encoding processes; by default one a core."""
    list: bool = False
    """Copy nothing: list the folders of copies and flow that commands made by the way, of the runs in this folder and
    in the cache."""
    clear: bool = False
    """List them, and remove those that no living process reads."""
    yes: bool = False
    """With --clear: do not ask before removing."""


@dataclass(frozen=True)
class PackConfig(Bounded, flags="--"):
    """Options of packing."""

    examples: ClassVar = (
        "ssl-video data pack copies --out shards",
        "ssl-video data pack ucf101:ROOT --out shards --shard-bytes 200000000",
        "ssl-video data pack videos/manifest.csv --out shards --workers 4",
    )

    data: tyro.conf.Positional[Spec]
    """A folder, a csv, a manifest (of copies, too) or any other SPEC."""
    out: Folder
    """Folder of the shards; its manifest.csv is the SPEC to train from."""
    shard_bytes: Count = 1_000_000_000
    """Bytes of a shard, about."""
    workers: Count | None = None
    """Scanning processes; by default one a core."""


@dataclass(frozen=True)
class FlowConfig(Bounded, flags="--"):
    """Options of computing flow."""

    examples: ClassVar = (
        "ssl-video data flow --data videos --out flow",
        "ssl-video data flow --data videos --out flow --method dis",
        "ssl-video data flow --data manifest.csv --out backwards --reversed",
    )

    data: Spec
    """A folder, a csv, a manifest or any other SPEC."""
    out: Folder
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

    usual: ClassVar = ("out", "kind", "train", "test", "seed")
    examples: ClassVar = (
        "ssl-video data synthesize --out drawn",
        "ssl-video data synthesize --out drawn --train 100 --test 50",
        "ssl-video data synthesize --out sequences --kind sequences --seed 1",
    )

    out: Folder
    """Folder to write."""
    options: Annotated[SyntheticConfig, tyro.conf.arg(name="")] = SyntheticConfig()
    workers: Count | None = None
    """Drawing processes; by default one a core."""


def main(argv: Sequence[str]) -> int:
    """The command: one of its actions."""
    examples = (ScanConfig.examples[0], CacheConfig.examples[0], SynthesizeConfig.examples[0])
    actions = {"scan": scan, "cache": cache, "pack": pack, "flow": flow, "synthesize": synthesize}
    action = action_of(argv, "data", actions, examples)
    return 0 if action is None else action(argv[1:])


def scan(argv: Sequence[str]) -> int:
    """Scan every file, write a manifest, count what is usable."""
    config = parse(ScanConfig, argv, "data scan", "Scan every video and write a manifest of what can be used.")
    with messages_aside(config.json):
        done = _scanned(config)
        bad = len(done.problems)
        for warning in done.warnings:
            tell(f"warning: {warning}")
        for line in left_out(done.problems, "bad"):
            tell(line)
        print(f"{done.videos} of {count(done.videos + bad, 'file')} can be used ({done.frames} frames); {bad} cannot.")
        for reason, files in done.reasons.most_common(10):
            print(f"{files:>6}  {reason}")
        tell(f"{done.manifest} is written.")
    if config.json:
        said = {"manifest": str(done.manifest), "videos": done.videos, "frames": done.frames, "reasons": done.reasons}
        document({**said, "bad": [asdict(p) for p in done.problems], "warnings": list(done.warnings)})
    return 2 if done.videos == 0 or (config.strict and bad) else 0


def _scanned(config: ScanConfig) -> "Prepared":
    from ssl_video.datasets.parts import Part, merge_parts, scan_part
    from ssl_video.datasets.prepare import scan_to_manifest

    if config.merge and config.part is not None:
        raise UserError("--part scans one part and --merge joins all of them; give one of the two.")
    if config.merge:
        return merge_parts(config.data, config.out)
    limit, workers = config.time_limit, config.workers
    if config.part is not None:
        part = Part.parsed(config.part)
        return scan_part(config.data, config.out, part, limit, workers=workers, progress=True)
    return scan_to_manifest(config.data, config.out, limit, workers=workers, progress=True)


def cache(argv: Sequence[str]) -> int:
    """Copy every usable video to a form that reads fast; or list or clear the copies that commands made by the way."""
    config = parse(CacheConfig, argv, "data cache", "Make copies of videos that read fast, frame for frame.")
    if config.list or config.clear:
        return _look_after(config)
    if config.data is None or config.out is None:
        raise UserError("Copies need --data SPEC and --out FOLDER; --list shows those that commands made by the way.")
    from ssl_video.datasets.prepare import copy_videos

    side, workers = config.short_side, config.workers
    done = copy_videos(config.data, config.out, config.kind, side, workers=workers, progress=True)
    _tell(done)
    tell(f"{are(done.videos, 'copy')} in {config.out}, {len(done.problems)} left out.")
    tell(f"Next: ssl-video pretrain --data {as_word(done.manifest)}")
    return 0


def _look_after(config: CacheConfig) -> int:
    from ssl_video.datasets.kept import clear, kept_copies

    kept = kept_copies()
    for one in kept:
        used = ", in use by a living process" if one.in_use else ""
        print(f"{one.folder}: {count(one.copies, 'file')}, {size(one.bytes)}{used}")
    print(f"{size(sum(one.bytes for one in kept))} in {count(len(kept), 'folder')}.")
    free = [one for one in kept if not one.in_use]
    if config.clear and kept and not free:
        tell("Nothing was removed: living processes use all of them.")
    if not config.clear or not free:
        return 0
    if not config.yes:
        if not sys.stdin.isatty():
            raise UserError("Nothing was removed: --clear needs --yes where nobody can be asked.")
        if input(f"Remove {len(free)} of these folders? [y/N] ").strip().lower() not in ("y", "yes"):
            return 0
    gone, stay = clear(free)
    tell(f"Removed: {size(sum(one.bytes for one in gone))} in {count(len(gone), 'folder')}.")
    for one in stay:
        tell(f"{one.folder} stays: a process has begun to read it.")
    return 0


def pack(argv: Sequence[str]) -> int:
    """Pack the files of every usable video into tar files of about 1 GB."""
    config = parse(PackConfig, argv, "data pack", "Pack the files of videos into tar files, as WebDataset reads them.")
    from ssl_video.datasets.pack import pack_videos

    done = pack_videos(config.data, config.out, config.shard_bytes, workers=config.workers, progress=True)
    for warning in done.warnings:
        tell(f"warning: {warning}")
    for line in left_out(done.problems):
        tell(line)
    there = f", of which {done.kept} lay there already" if done.kept else ""
    tell(
        f"{are(done.videos, 'video')} in {count(done.shards, 'shard')} in {config.out}, {size(done.bytes)}{there}; "
        f"{len(done.problems)} left out."
    )
    tell(f"Next: ssl-video pretrain --data {as_word(config.out)}")
    return 0


def flow(argv: Sequence[str]) -> int:
    """Compute the optical flow of every usable video."""
    config = parse(FlowConfig, argv, "data flow", "Compute the optical flow of videos, for networks that take it.")
    from ssl_video.datasets.prepare import flow_videos

    side, backwards, workers = config.short_side, config.reversed, config.workers
    done = flow_videos(config.data, config.out, config.method, side, reversed=backwards, workers=workers, progress=True)
    _tell(done)
    tell(f"The flow of {count(done.videos, 'video')} is in {config.out}, {len(done.problems)} left out.")
    tell(f"Next: ssl-video pretrain --backbone A_NETWORK_OF_FLOW --data {as_word(done.manifest)}")
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
    tell(f"{are(videos, 'video')} in {config.out}.")
    tell(f"Next: ssl-video pretrain --data {as_word(manifest)}")
    return 0
