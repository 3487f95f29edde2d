"""``ssl-video speediness``: does each moment of a video look as if played at its normal speed?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from ssl_video.apps.speediness_curve import draw_speediness, speediness_curves, write_csv, write_overlay
from ssl_video.cli.parsing import parse
from ssl_video.datasets.spec import one_video
from ssl_video.errors import UserError
from ssl_video.files import check_not_over
from ssl_video.model import load_model
from ssl_video.train.distributed import choose_device


@dataclass(frozen=True)
class SpeedinessCommand:
    """Options of the curve."""

    video: tyro.conf.Positional[Path]
    """The video."""
    model: str
    """A run's folder, of the pretext speediness."""
    out: Path = Path()
    """Folder of the csv and the picture, or a .csv file, beside which the picture is written."""
    overlay: bool = False
    """Write a film with the curve below it, too."""
    step: int = 1
    """Frames from one clip to the next; between them the curve is interpolated."""
    batch: int = 16
    """Clips in one forward pass."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def run(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(SpeedinessCommand, argv, "speediness", "See where a video looks as if played at its normal speed.")
    if min(config.step, config.batch) < 1:
        raise UserError("--step and --batch must be 1 or more.")
    is_folder = not config.out.suffix or config.out.is_dir()
    table = config.out if not is_folder else config.out / f"{config.video.stem}_speediness.csv"
    if table.suffix != ".csv":
        raise UserError(f"--out names a folder or a .csv file, not {config.out}.")
    picture, film = table.with_suffix(".png"), table.with_suffix(".mp4")
    check_not_over(config.video, table, picture, film)
    video = one_video(config.video)
    model = load_model(config.model, choose_device(config.device))
    curves = speediness_curves(model, video, step=config.step, batch=config.batch)
    normal_N, fps = curves.normal_XN[0], video.info.fps
    write_csv(table, {"speediness": normal_N}, fps)
    draw_speediness(picture, curves, fps, config.video.name)
    if config.overlay:
        write_overlay(film, video, normal_N)
    span = model.view.span(video)
    print(f"{config.video}: {video.frames} frames at {fps:g} frames/s, looked at {span} at a time.")
    print(f"Speediness is {normal_N.mean():.3f} in the mean; {100 * (normal_N < 0.5).mean():.0f} % looks sped up.")
    for path in (table, picture, *([film] if config.overlay else [])):
        print(f"{path} is written.")
    return 0
