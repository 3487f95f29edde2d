"""A video sped up where nothing is lost by it (adaptive speed-up, SpeedNet, CVPR 2020, section 4)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssl_video.apps.film import Shot, film, rgb
from ssl_video.apps.options import Form, SpeedinessOptions, SpeedupOptions
from ssl_video.apps.smooth_speed import of_duration, of_mean
from ssl_video.apps.speediness_curve import COOL, WARM, Curves, height_of, speediness_curves, strip_and_axes, write_csv
from ssl_video.apps.windows import frames_of
from ssl_video.datasets.base import Video
from ssl_video.datasets.spec import one_video
from ssl_video.errors import UserError
from ssl_video.figures import QUIET, figure_to, styled
from ssl_video.files import check_not_over
from ssl_video.model import Model
from ssl_video.progress import bar
from ssl_video.video.augment import resize_height
from ssl_video.video.sound import has_sound, read_sound, stretched
from ssl_video.video.writer import TO_LOOK_AT, check_writable, rate_of, write_video

FASTEST = 100.0
"""The largest speed, as much as the filter that stretches sound takes."""
STILL_NORMAL, RESULT = "speed at which it still looks normal", "speed of the result"
STEP = 1.25
"""Each version of the video is so many times as fast as the one before."""


@dataclass(frozen=True)
class Plan:
    """How a video is sped up.

    ``allowed_N`` is V, the largest speed at which a frame still looks normal, and ``speed_N`` the smooth curve S.
    ``kept_M`` are the frames of the result, ascending. ``result_N1`` says, in frames of the result, where in it each
    frame of the video starts and the last one ends.
    """

    allowed_N: np.ndarray
    speed_N: np.ndarray
    kept_M: np.ndarray
    result_N1: np.ndarray


@dataclass(frozen=True)
class SpedUp:
    """A scanned video, its curves and plan, whether the result has sound, and the files written."""

    video: Video
    curves: Curves
    plan: Plan
    sound: bool
    written: tuple[Path, ...]


def speed_up(
    video: Path | str,
    model: Model,
    out: Path | str,
    options: SpeedupOptions = SpeedupOptions(),
    *,
    progress: bool = False,
) -> SpedUp:
    """Speed up a video where nothing is lost by it.

    Writes the video ``out``, and beside it a figure and a csv of its speed and, with ``compare``, a comparison.

    Args:
        video: the file.
        model: a run of the pretext speediness.
        out: .mp4, .mov or .mkv.
        options: see ``SpeedupOptions``.
        progress: show a bar, on a terminal.

    Raises:
        UserError: if the model has no such head, the video cannot be used, or the factor is not possible.
    """
    video, out = Path(video), Path(out)
    check_writable(out)
    check_not_over(video, out, *([_comparison(out)] if options.compare else []))
    scanned = one_video(video)
    fps, factor = scanned.info.fps, options.factor
    max_speed = min(2 * factor, FASTEST) if options.max_speed is None else options.max_speed
    check_factor(factor, max_speed, scanned.frames)
    step = max(1, model.view.span(scanned) // 8) if options.step is None else options.step
    looking = SpeedinessOptions(step, options.batch_size)
    curves = speediness_curves(model, scanned, versions(max_speed), looking, progress=progress)
    allowed_N = allowed_speeds(curves, options.threshold)
    plan = plan_speed(allowed_N, factor, max_speed, (options.smooth * fps) ** 2, form=options.form, beta=options.beta)
    sound = write_speedup(out, scanned, plan, options.mute)
    written = [out, out.with_suffix(f".{options.format}"), out.with_suffix(".csv")]
    draw_plan(written[1], plan, curves.strip, fps, video.name)
    write_csv(written[2], {"allowed": allowed_N, "speed": plan.speed_N, "starts_at": plan.result_N1[:-1]}, fps)
    if options.compare:
        written.append(_comparison(out))
        write_comparison(written[3], scanned, plan)
    return SpedUp(scanned, curves, plan, sound, tuple(written))


def check_factor(factor: float, max_speed: float, frames: int) -> None:
    """Raise UserError unless 1 <= factor <= max_speed and two frames or more are left of a video."""
    if not factor >= 1:
        raise UserError(f"--factor must be 1 or more, not {factor:g}.")
    if factor > frames / 2 or factor > FASTEST:
        most = max(1, min(frames / 2, FASTEST))
        raise UserError(
            f"A video of {frames} frames can be sped up by {most:g} at most, not by {factor:g}; use a smaller --factor."
        )
    if not factor <= max_speed <= FASTEST:
        raise UserError(f"--max-speed lies between {factor:g}, the factor, and {FASTEST:g}; it is not {max_speed:g}.")


def versions(max_speed: float) -> tuple[float, ...]:
    """The speeds X_i at which a video is played to the network: 1 and on by factors of 1.25, and the largest one."""
    count = int(np.floor(np.log(max_speed) / np.log(STEP) + 1e-9)) + 1
    speeds = [STEP**i for i in range(count)]
    return tuple(speeds if speeds[-1] > max_speed * 0.999 else [*speeds, max_speed])


def allowed_speeds(curves: Curves, threshold: float = 0.5) -> np.ndarray:
    """(N,) V: at each frame the largest X at which the video still looks normal there, 1 where it looks so at none."""
    still_normal_XN = curves.normal_XN >= threshold
    return np.maximum(1.0, (np.array(curves.speeds)[:, None] * still_normal_XN).max(0))


def plan_speed(
    allowed_N: np.ndarray,
    factor: float,
    max_speed: float,
    alpha: float,
    *,
    form: Form = "duration",
    beta: float = 10.0,
) -> Plan:
    """A smooth curve of speed, and the frames that it keeps.

    Args:
        allowed_N: V.
        factor: how much shorter the result is (form "duration"), or the mean speed it is drawn to (form "mean").
        max_speed: the largest speed.
        alpha: smoothness, see ``smooth_speed``.
        form: "duration" fixes the sum of 1/S, to within a frame; "mean" is the paper's, see ``smooth_speed.of_mean``.
        beta: how much the mean counts in the paper's form.

    Raises:
        UserError: if ``factor`` or ``max_speed`` is not possible.
    """
    count = len(allowed_N)
    check_factor(factor, max_speed, count)
    if form == "duration":
        share_N, total = of_duration(allowed_N, factor, max_speed, alpha), count / factor
    else:
        share_N = 1 / of_mean(allowed_N, factor, max_speed, alpha, beta)
        total = float(share_N.sum())
    # rounded down, so that frames of the result lie at least as far apart as any frame is long: none comes twice
    length = max(1, int(total + 1e-6))
    result_N1 = np.concatenate([[0.0], np.cumsum(share_N)])
    result_N1 *= length / result_N1[-1]
    kept_M = np.searchsorted(result_N1[1:], np.arange(length) + 0.5, side="right")
    return Plan(allowed_N, 1 / share_N, np.minimum(kept_M, count - 1), result_N1)


def _comparison(out: Path) -> Path:
    return out.with_name(f"{out.stem}_compare{out.suffix}")


def write_speedup(path: Path, video: Video, plan: Plan, mute: bool = False) -> bool:
    """Write the frames that a plan keeps, with the sound stretched to them. Returns whether there is sound."""
    rate = rate_of(video.info.fps)
    sound = None
    if not mute and has_sound(video.path):
        times_s = np.arange(len(plan.result_N1)) / float(rate), plan.result_N1 / float(rate)
        sound = stretched(read_sound(video.path), *times_s)
    write_video(path, kept_frames(video, plan.kept_M), rate, TO_LOOK_AT, sound=sound)
    return sound is not None


def kept_frames(video: Video, kept_M: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
    """Frames of a video, their numbers ascending; one that is named again comes again."""
    wanted = iter(np.asarray(kept_M).tolist())
    number = next(wanted, None)
    for n, frame_HWC in enumerate(bar(frames_of(video), "write", "frame", total=video.frames)):
        while number == n:
            yield frame_HWC
            number = next(wanted, None)
        if number is None:
            return


def write_comparison(path: Path, video: Video, plan: Plan, height: int = 360) -> None:
    """A video: on the left the one sped up evenly, on the right by the plan, and below the curve of speed.

    Two lines move over it, blue where the left one is and orange where the right one is. The times are the source's.
    """
    fps, length, count = video.info.fps, len(plan.kept_M), len(plan.speed_N)
    even_M = np.minimum(((np.arange(length) + 0.5) * count / length).astype(int), count - 1)
    height = min(height, video.info.height)

    def shots() -> Iterator[Shot]:
        panel_HWC = None
        frames = zip(kept_frames(video, even_M), kept_frames(video, plan.kept_M), strict=True)
        for (left_HWC, right_HWC), even, own in zip(frames, even_M.tolist(), plan.kept_M.tolist(), strict=True):
            both = [resize_height(f, height) for f in (left_HWC, right_HWC)]
            if panel_HWC is None:
                panel_HWC = _panel(plan, fps, 2 * both[0].shape[1])
            below_HWC = panel_HWC.copy()
            for number, colour in ((even, COOL), (own, WARM)):
                at = int((number + 0.5) / count * below_HWC.shape[1])
                below_HWC[:, max(0, at - 1) : at + 2] = rgb(colour)
            yield Shot(both, (even / fps, own / fps), below_HWC)

    mean = f"{count / length:.2f}x"
    names = f"even, {mean}", f"adaptive, {mean}"
    lines = (rgb(COOL), "even is here"), (rgb(WARM), "adaptive is here")
    curves = ((217,) * 3, STILL_NORMAL), ((0,) * 3, RESULT), ((115,) * 3, "even speed (dashed)")
    title = f"{Path(video.source).name}, {count / fps:.2f} s long"
    write_video(path, film(shots(), names, (*lines, *curves), title), rate_of(fps), TO_LOOK_AT)


def _panel(plan: Plan, fps: float, width: int) -> np.ndarray:
    """(h, width, 3) uint8: the curve of speed over the whole width."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=(width / 100, max(0.7, width / 900)), dpi=100)
        canvas = FigureCanvasAgg(figure)
        ax = figure.add_axes((0, 0, 1, 1))
        _draw_speeds(ax, plan, fps)
        ax.set_axis_off()
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :width, :3].copy()


def _draw_speeds(ax: Any, plan: Plan, fps: float) -> None:
    count = len(plan.speed_N)
    time_N = (np.arange(count) + 0.5) / fps
    ax.fill_between(time_N, 0, plan.allowed_N, step="mid", color="0.85", label=f"V: {STILL_NORMAL}")
    ax.plot(time_N, plan.speed_N, color="black", linewidth=1.5, label=f"S: {RESULT}")
    ax.axhline(count / len(plan.kept_M), color=QUIET, linewidth=0.8, linestyle="--", label="even")
    ax.set_xlim(0, count / fps)
    ax.set_ylim(0, 1.08 * max(plan.allowed_N.max(), plan.speed_N.max()))


def draw_plan(path: Path, plan: Plan, strip: Sequence[np.ndarray], fps: float, title: str) -> None:
    """A figure: V and S over time, under a strip of frames."""
    with figure_to(path, 10, height_of(strip) + 0.3) as figure:
        ax = strip_and_axes(figure, strip, fps, len(plan.speed_N), title)
        _draw_speeds(ax, plan, fps)
        ax.set_ylabel("speed (times the video's own)")
        figure.legend(loc="outside lower center", ncols=3)  # the curves may lie anywhere
