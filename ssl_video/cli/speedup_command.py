"""``ssl-video speedup``: speed up a video where nothing is lost by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from ssl_video.apps.options import SpeedupOptions
from ssl_video.cli import tell
from ssl_video.cli.parsing import Device, ModelName, VideoFile, model_or_default, parse

if TYPE_CHECKING:
    from ssl_video.apps.speedup import SpedUp


@dataclass(frozen=True)
class SpeedupConfig:
    """Options of a speed-up."""

    usual: ClassVar = ("model", "out", "factor", "compare", "mute")
    examples: ClassVar = (
        "ssl-video speedup clip.mp4",
        "ssl-video speedup clip.mp4 --model runs/my_run --factor 3 --out fast.mp4",
        "ssl-video speedup clip.mp4 --model runs/my_run --compare --mute",
    )

    video: tyro.conf.Positional[VideoFile]
    """The video."""
    model: ModelName | None = None
    """A run's folder, of the pretext speediness; by default net:speed, which comes with ssl-video."""
    out: Path = Path("fast.mp4")
    """The result, .mp4, .mov or .mkv; a figure and a csv of its speed are written beside it."""
    options: Annotated[SpeedupOptions, tyro.conf.arg(name="")] = SpeedupOptions()
    device: Device = "auto"


def main(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(SpeedupConfig, argv, "speedup", "Speed up a video, most where little happens.")
    from ssl_video.apps.speedup import speed_up
    from ssl_video.train.distributed import choose_device

    model = model_or_default(config.model, "speed", choose_device(config.device))
    _tell(config.video, speed_up(config.video, model, config.out, config.options, progress=True))
    return 0


def _tell(path: Path, done: "SpedUp") -> None:
    curves, plan, fps, frames = done.curves, done.plan, done.video.info.fps, done.video.frames
    tell(f"{path}: measured at {', '.join(f'{speed:.3g}' for speed in curves.speeds)} times its speed.")
    if curves.too_short_for:
        left_out = ", ".join(f"{speed:.3g}" for speed in curves.too_short_for)
        tell(f"At {left_out} times its speed it is shorter than a clip.")
    if plan.allowed_N.max() == plan.allowed_N.min():
        print(f"All of it can be played at the same speed, {plan.allowed_N[0]:.3g}: the speed-up is even.")
    length, speeds = len(plan.kept_M), plan.speed_N
    print(
        f"{length} of {frames} frames are kept, {length / fps:.2f} of {frames / fps:.2f} s: "
        f"{frames / length:.3f} times as fast, {speeds.min():.2f} to {speeds.max():.2f} from place to place."
    )
    if not done.sound:
        tell("The result has no sound.")
    for written in done.written:
        tell(f"{written} is written.")
