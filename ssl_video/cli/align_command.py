"""``ssl-video align``: play two videos of one action in step."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from ssl_video.apps.options import AlignOptions
from ssl_video.cli import tell
from ssl_video.cli.parsing import Device, ModelName, VideoFile, parse

if TYPE_CHECKING:
    from ssl_video.apps.align import Aligned


@dataclass(frozen=True)
class AlignConfig:
    """Options of an alignment."""

    usual: ClassVar = ("model", "out", "phases", "method", "device")
    examples: ClassVar = (
        "ssl-video align a.mp4 b.mp4 --model runs/tcc",
        "ssl-video align a.mp4 b.mp4 --model runs/tcc --out both.mp4 --method nearest",
        "ssl-video align a.mp4 b.mp4 --model random:dense_resnet_8 --phases a_phases.csv",
    )

    a: tyro.conf.Positional[VideoFile]
    """The video that gives the time."""
    b: tyro.conf.Positional[VideoFile]
    """The video that follows it."""
    model: ModelName
    """A run's folder (of temporal_cycle_consistency, best), a .safetensors file, net:NAME?weights=FILE or
    random:NAME."""
    out: Path = Path("aligned.mp4")
    """The video of both; a picture of the match and the phases of B are written beside it."""
    options: Annotated[AlignOptions, tyro.conf.arg(name="")] = AlignOptions()
    phases: Path | None = None
    """A csv frame,phase of A to carry over to B; by default A_phases.csv beside A, if it is there."""
    device: Device = "auto"


def main(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(AlignConfig, argv, "align", "Play two videos of one action in step, side by side.")
    from ssl_video.apps.align import align
    from ssl_video.model import load_model
    from ssl_video.train.distributed import choose_device

    model = load_model(config.model, choose_device(config.device))
    _tell(align(config.a, config.b, model, config.out, config.options, config.phases))
    return 0


def _tell(done: "Aligned") -> None:
    for video in (done.a, done.b):
        tell(f"{video.path}: {video.frames} frames at {video.info.fps:g} frames/s")
    if done.rates_differ:
        tell("The rates differ: frames are matched by what they show, and the result plays at the rate of the first.")
    if done.phases is not None and done.phases.beyond:
        print(f"{done.phases.beyond} phases are of frames beyond the end of the first video and are left out.")
    if done.agreement is not None:
        print(f"The phases carried over are the second video's own in {100 * done.agreement:.1f} % of its frames.")
    for path in done.written:
        tell(f"{path} is written.")
