"""``ssl-video data``: scan, cache and synthesize videos, and compute their optical flow."""

import collections
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ssl_video.cli.parsing import parse
from ssl_video.datasets.base import VideoSet
from ssl_video.errors import UserError, nearest


@dataclass(frozen=True)
class ScanConfig:
    """Options of a scan."""

    data: tyro.conf.Positional[str]
    """A folder, a csv, a video or any other SPEC."""
    out: Path = Path("manifest.csv")
    """The manifest to write."""
    strict: bool = False
    """Exit with 2 if any file is bad."""
    workers: int | None = None
    """Probing processes; by default one a core."""


@dataclass(frozen=True)
class CacheConfig:
    """Options of caching."""

    data: str
    """A folder, a csv, a manifest or any other SPEC."""
    out: Path
    """Folder of the copies; its manifest.csv is the SPEC to train from."""
    kind: Literal["h264", "raw"] = "h264"
    """Small h264 files (about 1 MB for 1000 frames), or raw frames."""
    short_side: int = 128
    """Shorter side of the copies, in pixels; 0 keeps the size."""
    workers: int | None = None
    """Encoding processes; by default one a core."""


@dataclass(frozen=True)
class FlowConfig:
    """Options of computing flow."""

    data: str
    """A folder, a csv, a manifest or any other SPEC."""
    out: Path
    """Folder of the flow; its manifest.csv is the SPEC to train networks of flow from."""
    method: str = "farneback"
    """farneback, dis or raft, with options as in 'raft?size=large&weights=FILE'."""
    short_side: int = 128
    """Shorter side of the frames for which flow is computed, in pixels; 0 keeps the size."""
    reversed: bool = False
    """Flow of the videos played backwards."""
    workers: int | None = None
    """Processes; by default one a core."""


@dataclass(frozen=True)
class SynthesizeConfig:
    """Options of the synthetic set."""

    out: Path
    """Folder to write."""
    kind: Literal["clips", "sequences", "tracks"] = "clips"
    """clips: motion classes; sequences: one pass of an action with its phase; tracks: objects with masks."""
    size: int | None = None
    """Side of the square frames, in pixels."""
    frames: int | None = None
    """Frames of a video."""
    sprites: int | None = None
    """Objects in a video; by default a random number."""
    train: int = 400
    """Training videos."""
    test: int = 160
    """Test videos."""
    seed: int = 0
    """Seed of everything drawn."""
    workers: int | None = None
    """Drawing processes; by default one a core."""


def run(argv: Sequence[str]) -> int:
    """The command: one of its actions."""
    actions = {"scan": scan, "cache": cache, "flow": flow, "synthesize": synthesize}
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: ssl-video data {'|'.join(actions)} [options]")
        return 0
    if argv[0] not in actions:
        raise UserError(f"'ssl-video data' has no action {argv[0]!r}; {nearest(argv[0], actions)}")
    return actions[argv[0]](argv[1:])


def scan(argv: Sequence[str]) -> int:
    """Probe every file, write a manifest, count what is usable."""
    from ssl_video.datasets.manifest import manifest_rows, write_manifest
    from ssl_video.datasets.spec import load_splits, scanned

    config = parse(ScanConfig, argv, "data scan", "Probe every video and write a manifest of what can be used.")
    splits = load_splits(config.data, through_manifest=False)
    for warning in splits.warnings:
        print(f"warning: {warning}")
    parts = {"train": splits.train} if splits.test is None else {"train": splits.train, "test": splits.test}
    rows, good, bad = [], 0, collections.Counter[str]()
    for name, part in parts.items():
        done = scanned(part, workers=config.workers, progress=True, none_usable_is_an_error=False)
        rows += manifest_rows(done, "" if splits.test is None else name)
        good += len(done.videos)
        for problem in done.problems:
            print(f"bad: {problem.path}: {problem.reason}")
            bad[problem.reason] += 1
    write_manifest(config.out, rows)
    frames = sum(int(r.get("frames") or 0) for r in rows)
    print(f"{good} of {good + bad.total()} files can be used ({frames} frames); {bad.total()} cannot.")
    for reason, count in bad.most_common(10):
        print(f"{count:>6}  {reason}")
    print(f"{config.out} is written.")
    return 2 if good == 0 or (config.strict and bad) else 0


def cache(argv: Sequence[str]) -> int:
    """Copy every usable video to a form that reads fast."""
    from ssl_video.datasets.cached import cached

    config = parse(CacheConfig, argv, "data cache", "Make copies of videos that read fast, frame for frame.")

    def copies_of(videos: VideoSet) -> VideoSet:
        side, workers = config.short_side or None, config.workers
        return cached(videos, config.kind, side, out=config.out, workers=workers, progress=True)

    good, bad = _write_copies(config, copies_of)
    print(f"{good} copies are in {config.out}, {bad} videos were left out.")
    print(f"Next: ssl-video pretrain --data {config.out / 'manifest.csv'}")
    return 0


def flow(argv: Sequence[str]) -> int:
    """Compute the optical flow of every usable video."""
    from ssl_video.datasets.flow import flow_of

    config = parse(FlowConfig, argv, "data flow", "Compute the optical flow of videos, for networks that look at it.")

    def flows_of(videos: VideoSet) -> VideoSet:
        side, reversed, out, workers = config.short_side or None, config.reversed, config.out, config.workers
        return flow_of(videos, config.method, side, reversed=reversed, out=out, workers=workers, progress=True)

    good, bad = _write_copies(config, flows_of)
    print(f"The flow of {good} videos is in {config.out}, {bad} videos were left out.")
    print(f"Next: ssl-video pretrain --backbone A_NETWORK_OF_FLOW --data {config.out / 'manifest.csv'}")
    return 0


def _write_copies(config: CacheConfig | FlowConfig, copies_of: Callable[[VideoSet], VideoSet]) -> tuple[int, int]:
    """Copies of all lists of the data and a manifest beside them; returns how many were made and left out."""
    from ssl_video.datasets.manifest import manifest_rows, write_manifest
    from ssl_video.datasets.spec import load_splits, scanned

    splits = load_splits(config.data)
    parts = {"train": splits.train} if splits.test is None else {"train": splits.train, "test": splits.test}
    rows, good, bad = [], 0, 0
    for name, part in parts.items():
        copies = copies_of(scanned(part, workers=config.workers, progress=True))
        rows += manifest_rows(copies, "" if splits.test is None else name)
        good += len(copies.videos)
        bad += len(copies.problems)
        for problem in copies.problems:
            print(f"left out: {problem.path}: {problem.reason}")
    write_manifest(config.out / "manifest.csv", rows)
    return good, bad


def synthesize(argv: Sequence[str]) -> int:
    """Draw a set of videos."""
    from ssl_video.datasets.synthetic import synthesize as draw

    config = parse(SynthesizeConfig, argv, "data synthesize", "Draw a set of videos whose classes show only in motion.")
    manifest = draw(
        config.out,
        config.kind,
        config.size,
        config.frames,
        config.sprites,
        config.train,
        config.test,
        config.seed,
        workers=config.workers,
        progress=True,
    )
    print(f"{config.train + config.test} videos are in {config.out}.\nNext: ssl-video pretrain --data {manifest}")
    return 0
