"""``ssl-video align``: play two videos of one action in step."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ssl_video.apps.align import agreement, carried, draw_match, match_videos, write_film
from ssl_video.cli.parsing import parse
from ssl_video.datasets.phases import FramePhases, of_frames, phases_of, read_csv, write_csv
from ssl_video.datasets.spec import one_video
from ssl_video.errors import UserError
from ssl_video.model import load_model
from ssl_video.train.distributed import choose_device
from ssl_video.video.writer import check_film


@dataclass(frozen=True)
class AlignConfig:
    """Options of an alignment."""

    a: tyro.conf.Positional[Path]
    """The video that gives the time."""
    b: tyro.conf.Positional[Path]
    """The video that follows it."""
    model: str
    """A run's folder (of temporal_cycle_consistency, best), a .safetensors file or random:NAME."""
    out: Path = Path("aligned.mp4")
    """The film; a picture of the match and the phases of B are written beside it."""
    method: Literal["dtw", "nearest"] = "dtw"
    """dtw: dynamic time warping, which keeps the order of both; nearest: each frame's nearest neighbour by itself."""
    phases: Path | None = None
    """A csv frame,phase of A to carry over to B; by default A_phases.csv beside A, if it is there."""
    height: int = 360
    """Height of the film in pixels, at most."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def run(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(AlignConfig, argv, "align", "Play two videos of one action in step, side by side.")
    if config.height < 16:
        raise UserError("--height must be 16 pixels or more.")
    check_film(config.out)
    a, b = one_video(config.a), one_video(config.b)
    phases = phases_of(a) if config.phases is None else of_frames(read_csv(config.phases), a.frames)
    model = load_model(config.model, choose_device(config.device))
    for video in (a, b):
        print(f"{video.path}: {video.frames} frames at {video.info.fps:g} frames/s")
    if abs(a.info.fps - b.info.fps) > 0.01 * a.info.fps:
        print("The rates differ: frames are matched by what they show, and the film plays at the rate of the first.")
    match = match_videos(model, a, b, config.method)
    labels = None if phases is None else carried(phases, match)
    write_film(config.out, a, b, match, config.height)
    written = [config.out, config.out.with_suffix(".png")]
    draw_match(written[1], match, (config.a.name, config.b.name), (phases, labels))
    if phases is not None and labels is not None:
        written.append(config.out.with_name(f"{config.out.stem}_phases_of_B.csv"))
        write_csv(written[2], labels.names_T)
        _say_about(phases, labels, phases_of(b))
    for path in written:
        print(f"{path} is written.")
    return 0


def _say_about(phases: FramePhases, labels: FramePhases, own: FramePhases | None) -> None:
    if phases.beyond:
        print(f"{phases.beyond} phases are of frames beyond the end of the first video and are left out.")
    agrees = None if own is None else agreement(labels, own)
    if agrees is not None:
        print(f"The phases carried over are the second video's own in {100 * agrees:.1f} % of its frames.")
