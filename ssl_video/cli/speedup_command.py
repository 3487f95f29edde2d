"""``ssl-video speedup``: speed up a video where nothing is lost by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ssl_video.apps.speediness_curve import speediness_curves, write_csv
from ssl_video.apps.speedup import (
    FASTEST,
    allowed_speeds,
    check_factor,
    draw_plan,
    plan_speed,
    versions,
    write_comparison,
    write_speedup,
)
from ssl_video.cli.parsing import parse
from ssl_video.datasets.spec import one_video
from ssl_video.errors import UserError
from ssl_video.files import check_not_over
from ssl_video.model import load_model
from ssl_video.train.distributed import choose_device
from ssl_video.video.writer import check_film


@dataclass(frozen=True)
class SpeedupConfig:
    """Options of a speed-up."""

    video: tyro.conf.Positional[Path]
    """The video."""
    model: str
    """A run's folder, of the pretext speediness."""
    factor: float = 2.0
    """How much shorter the result is."""
    out: Path = Path("fast.mp4")
    """The film, .mp4, .mov or .mkv; a picture and a csv of its speed are written beside it."""
    max_speed: float | None = None
    """The largest speed; by default twice the factor."""
    smooth: float = 0.5
    """Seconds over which the speed changes."""
    threshold: float = 0.5
    """Speediness from which on a moment counts as normal."""
    form: Literal["duration", "mean"] = "duration"
    """duration: the result has the length asked for; mean: the paper's, the mean speed is drawn to the factor."""
    beta: float = 10.0
    """How much the mean speed counts in the form mean."""
    compare: bool = False
    """Write a film of the even and the adaptive speed-up side by side, too."""
    mute: bool = False
    """Leave the sound out."""
    step: int | None = None
    """Frames from one clip to the next; by default an eighth of a clip's span."""
    batch: int = 16
    """Clips in one forward pass."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def run(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(SpeedupConfig, argv, "speedup", "Speed up a video where nothing is lost by it.")
    if min(config.batch, 1 if config.step is None else config.step) < 1:
        raise UserError("--step and --batch must be 1 or more.")
    if not 0 <= config.smooth <= 60 or not 0 <= config.beta <= 1e6 or not 0 < config.threshold < 1:
        raise UserError("--smooth is from 0 to 60 seconds, --beta from 0 to 1e6, and --threshold between 0 and 1.")
    check_film(config.out)
    check_not_over(config.video, config.out)
    video = one_video(config.video)
    fps = video.info.fps
    max_speed = min(2 * config.factor, FASTEST) if config.max_speed is None else config.max_speed
    check_factor(config.factor, max_speed, video.frames)
    model = load_model(config.model, choose_device(config.device))
    step = max(1, model.view.span(video) // 8) if config.step is None else config.step
    curves = speediness_curves(model, video, versions(max_speed), step=step, batch=config.batch)
    allowed_N = allowed_speeds(curves, config.threshold)
    alpha = (config.smooth * fps) ** 2
    plan = plan_speed(allowed_N, config.factor, max_speed, alpha, form=config.form, beta=config.beta)
    sound = write_speedup(config.out, video, plan, config.mute)
    written = [config.out, config.out.with_suffix(".png"), config.out.with_suffix(".csv")]
    draw_plan(written[1], plan, curves.film, fps, config.video.name)
    write_csv(written[2], {"allowed": allowed_N, "speed": plan.speed_N, "starts_at": plan.result_N1[:-1]}, fps)
    if config.compare:
        written.append(config.out.with_name(f"{config.out.stem}_compare{config.out.suffix}"))
        write_comparison(written[3], video, plan)
    print(f"{config.video}: looked at {', '.join(f'{speed:.3g}' for speed in curves.speeds)} times as fast.")
    if curves.too_short_for:
        left_out = ", ".join(f"{speed:.3g}" for speed in curves.too_short_for)
        print(f"At {left_out} times its speed it is shorter than a clip.")
    if allowed_N.max() == allowed_N.min():
        print(f"All of it allows the same speed, {allowed_N[0]:.3g}: the result is even.")
    length, speeds = len(plan.kept_M), plan.speed_N
    print(
        f"{length} of {video.frames} frames are kept, {length / fps:.2f} of {video.frames / fps:.2f} s: "
        f"{video.frames / length:.3f} times as fast, {speeds.min():.2f} to {speeds.max():.2f} from place to place."
    )
    if not sound:
        print("The result has no sound.")
    for path in written:
        print(f"{path} is written.")
    return 0
