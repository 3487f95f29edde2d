"""The plan of an adaptive speed-up of the video that ``speediness_curve`` shows."""

from pathlib import Path

from drawings.speediness_curve import WHAT, curves_of
from ssl_video.apps.speedup import allowed_speeds, draw_plan, plan_speed


def draw(out: Path, run: str) -> None:
    curves = curves_of(run)
    plan = plan_speed(allowed_speeds(curves), 2.0, 4.0, alpha=12.5**2)
    draw_plan(out, plan, curves.strip, 25.0, WHAT)
