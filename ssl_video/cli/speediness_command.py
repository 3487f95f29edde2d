"""``ssl-video speediness``: does each moment of a video look as if played at its normal speed?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from ssl_video.apps.options import SpeedinessOptions
from ssl_video.cli import tell
from ssl_video.cli.parsing import Device, ModelName, VideoFile, model_or_default, parse


@dataclass(frozen=True)
class SpeedinessConfig:
    """Options of the curve."""

    examples: ClassVar = (
        "ssl-video speediness clip.mp4",
        "ssl-video speediness clip.mp4 --model runs/my_run --overlay --out curves",
        "ssl-video speediness clip.mp4 --model runs/my_run --step 4 --batch-size 8",
    )

    video: tyro.conf.Positional[VideoFile]
    """The video."""
    model: ModelName | None = None
    """A run's folder, of the pretext speediness; by default net:speed, which comes with ssl-video."""
    out: Path = Path()
    """Folder of the csv and the figure, or a .csv file, beside which the figure is written."""
    overlay: bool = False
    """Write the video with the curve below it, too."""
    options: Annotated[SpeedinessOptions, tyro.conf.arg(name="")] = SpeedinessOptions()
    device: Device = "auto"


def main(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(
        SpeedinessConfig, argv, "speediness", "Measure where a video looks as if played at its normal speed."
    )
    from ssl_video.apps.speediness_curve import speediness
    from ssl_video.train.distributed import choose_device

    model = model_or_default(config.model, "speed", choose_device(config.device))
    done = speediness(config.video, model, config.out, config.options, overlay=config.overlay, progress=True)
    video, normal_N = done.video, done.normal_N
    tell(f"{config.video}: {video.frames} frames at {video.info.fps:g} frames/s, in clips that span {done.span}.")
    print(f"Speediness is {normal_N.mean():.3f} on average; {100 * (normal_N < 0.5).mean():.0f} % looks sped up.")
    for path in done.written:
        tell(f"{path} is written.")
    return 0
