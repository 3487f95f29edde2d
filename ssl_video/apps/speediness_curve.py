"""Speediness along a video (SpeedNet, CVPR 2020, section 4): does each moment look as if played at its normal speed?"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ssl_video.apps.film import Shot, film, rgb
from ssl_video.apps.options import SpeedinessOptions
from ssl_video.apps.windows import check_length, frames_of, offsets_at, over_windows
from ssl_video.capabilities import SpeedLogits
from ssl_video.datasets.base import Video
from ssl_video.datasets.spec import one_video
from ssl_video.errors import UserError
from ssl_video.figures import QUIET, figure_to, picture, shortened
from ssl_video.files import check_not_over, cut, write_text
from ssl_video.model import Model
from ssl_video.progress import bar
from ssl_video.video.augment import resize_height
from ssl_video.video.writer import TO_LOOK_AT, rate_of, write_video

COOL, WARM = "#1f8fb4", "#f59b1c"
"""Blue for what looks fast, orange for what looks slow, here and in maps (``explain_cam``)."""
NORMAL, SPED_UP = "looks normal", "looks sped up"


@dataclass(frozen=True)
class Curves:
    """``normal_XN``: how likely frame n of the video, played X times as fast, is at its normal speed, in [0, 1].

    ``speeds`` are the X. ``too_short_for`` are speeds at which the video is shorter than one clip. ``strip`` are
    frames of the video, evenly spaced and small.
    """

    speeds: tuple[float, ...]
    normal_XN: np.ndarray
    too_short_for: tuple[float, ...] = ()
    strip: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class Speediness:
    """The speediness of a scanned video, one number a frame, the frames of a clip's span, and the files written."""

    video: Video
    normal_N: np.ndarray
    span: int
    written: tuple[Path, ...]


def speediness(
    video: Path | str,
    model: Model,
    out: Path | str = ".",
    options: SpeedinessOptions = SpeedinessOptions(),
    *,
    overlay: bool = False,
    progress: bool = False,
) -> Speediness:
    """Write the speediness of a video as a csv and a figure and, with ``overlay``, as a video with the curve below.

    Args:
        video: the file.
        model: a run of the pretext speediness.
        out: a folder, or a .csv file, beside which the others lie.
        options: see ``SpeedinessOptions``.
        overlay: write the video, too.
        progress: show a bar, on a terminal.

    Raises:
        UserError: if the model has no such head, or the video cannot be used or is shorter than a clip.
    """
    video, out = Path(video), Path(out)
    is_folder = not out.suffix or out.is_dir()
    table = out / f"{cut(video.stem, 180)}_speediness.csv" if is_folder else out
    if table.suffix != ".csv":
        raise UserError(f"--out names a folder or a .csv file, not {out}.")
    drawn, shown = table.with_suffix(f".{options.format}"), table.with_suffix(".mp4")
    check_not_over(video, table, drawn, shown)
    scanned = one_video(video)
    curves = speediness_curves(model, scanned, options=options, progress=progress)
    normal_N, fps = curves.normal_XN[0], scanned.info.fps
    write_csv(table, {"speediness": normal_N}, fps)
    draw_speediness(drawn, curves, fps, video.name)
    if overlay:
        write_overlay(shown, scanned, normal_N)
    written = (table, drawn, shown) if overlay else (table, drawn)
    return Speediness(scanned, normal_N, model.view.span(scanned), written)


def speediness_curves(
    model: Model,
    video: Video,
    speeds: Sequence[float] = (1.0,),
    options: SpeedinessOptions = SpeedinessOptions(),
    *,
    strip: int = 10,
    progress: bool = False,
) -> Curves:
    """Speediness of a scanned video at every frame, for each of several speeds at which it is played.

    A clip's prediction belongs to its middle frame. Between clips it is interpolated, and before the first middle and
    after the last one it is repeated. The video is decoded once, for all speeds together, and no more frames are held
    than the longest clip has and than are in a batch.

    Args:
        model: a run of the pretext speediness.
        video: scanned.
        speeds: ascending, the first is 1.
        options: see ``SpeedinessOptions``.
        strip: frames kept for pictures.
        progress: show a bar, on a terminal.

    Raises:
        UserError: if the model has no such head, or the video is shorter than a clip at speed 1.
    """
    head, view = model.need(SpeedLogits), model.view
    offsets = [offsets_at(model, video, speed) for speed in speeds]
    check_length(model, video, offsets[0])
    measured = sum(int(o[-1]) < video.frames for o in offsets)
    kept: list[np.ndarray] = []
    shown = set(((np.arange(strip) + 0.5) * video.frames / strip).astype(int).tolist())

    def prepared() -> Iterator[np.ndarray]:
        for number, frame_HWC in enumerate(frames_of(video)):
            if number in shown:
                kept.append(resize_height(frame_HWC, 120))
            yield view.prepare(frame_HWC[None])[0]

    def normal(clips_BTHWC: Tensor) -> Tensor:
        logits_B = head.clip_logits(model.dense_map(clips_BTHWC))
        return (-logits_B.float()).sigmoid()

    middles: list[list[int]] = [[] for _ in range(measured)]
    values: list[list[float]] = [[] for _ in range(measured)]
    frames = bar(prepared(), "frames", "frame", progress, video.frames)
    for kind, first, value in over_windows(normal, frames, offsets[:measured], options.step, options.batch_size):
        middles[kind].append(first + int(offsets[kind][-1]) // 2)
        values[kind].append(float(value))
    every_N = np.arange(video.frames)
    normal_XN = np.stack([np.interp(every_N, at, known) for at, known in zip(middles, values, strict=True)])
    return Curves(tuple(speeds[:measured]), normal_XN, tuple(speeds[measured:]), kept)


def write_csv(path: Path, columns: dict[str, np.ndarray], fps: float) -> None:
    """A csv of one row a frame: its number, its time in seconds, and ``columns``."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["frame", "time_s", *columns])
    for number, row in enumerate(zip(*columns.values(), strict=True)):
        table.writerow([number, f"{number / fps:.3f}", *(f"{value:.4f}" for value in row)])
    write_text(path, text.getvalue())


def strip_and_axes(figure: Any, strip: Sequence[np.ndarray], fps: float, frames: int, title: str) -> Any:
    """A strip of frames, and below it the axes that are returned, of time in seconds over the whole video."""
    top, below = figure.subplots(2, 1, gridspec_kw={"height_ratios": [_strip_height(strip), 2.2]})
    picture(top, np.concatenate(list(strip), axis=1), shortened(title, 100), aspect="auto")
    below.set_xlim(0, frames / fps)
    below.set_xlabel("time in s")
    return below


def height_of(strip: Sequence[np.ndarray]) -> float:
    """Inches of a figure, ten wide, of a strip and a curve."""
    return _strip_height(strip) + 2.6


def _strip_height(strip: Sequence[np.ndarray]) -> float:
    return float(np.clip(9.0 * strip[0].shape[0] / sum(f.shape[1] for f in strip), 0.3, 3.0))


def draw_speediness(path: Path, curves: Curves, fps: float, title: str) -> None:
    """A figure: the speediness of a video under a strip of its frames, blue where it looks sped up, else orange."""
    normal_N = curves.normal_XN[0]
    time_N = (np.arange(len(normal_N)) + 0.5) / fps
    with figure_to(path, 10, height_of(curves.strip)) as figure:
        ax = strip_and_axes(figure, curves.strip, fps, len(normal_N), title)
        for side_N, colour, words in ((normal_N >= 0.5, WARM, NORMAL), (normal_N <= 0.5, COOL, SPED_UP)):
            ax.fill_between(
                time_N, 0.5, normal_N, where=side_N, interpolate=True, color=colour, alpha=0.6, linewidth=0, label=words
            )
        ax.plot(time_N, normal_N, color="black", linewidth=1)
        ax.axhline(0.5, color=QUIET, linewidth=0.8, linestyle=":")
        ax.set_ylim(0, 1)
        ax.set_yticks([0, 0.5, 1], ["0\nsped up", "0.5", "normal\n1"])
        ax.set_ylabel("speediness")
        ax.legend(loc="lower right", ncols=2)


def write_overlay(path: Path, video: Video, normal_N: np.ndarray, height: int = 360) -> None:
    """The video, ``height`` pixels high, with its speediness below: the curve, filled up to the frame shown."""
    height = min(height, video.info.height)
    rate = rate_of(video.info.fps)

    def shots() -> Iterator[Shot]:
        panel_HWC = None
        for number, frame_HWC in enumerate(frames_of(video)):
            picture_HWC = resize_height(frame_HWC, height)
            if panel_HWC is None:
                width = picture_HWC.shape[1]
                panel_HWC = curve_panel(normal_N, (0.0, 1.0), max(24, height // 5), width, middle=0.5)
            yield Shot((picture_HWC,), (float(number / rate),), up_to(panel_HWC, number, len(normal_N)))

    legend = ((rgb(WARM), NORMAL), (rgb(COOL), SPED_UP), ((0, 0, 0), f"now, of {video.info.duration_s:.2f} s"))
    write_video(path, film(shots(), (Path(video.source).name,), legend), rate, TO_LOOK_AT)


def curve_panel(
    values_N: np.ndarray, limits: tuple[float, float], height: int, width: int, middle: float
) -> np.ndarray:
    """(height, width, 3) uint8: a curve over all frames, filled down to the floor, orange above ``middle``, else blue.

    Drawn pixel by pixel, since a figure a frame would take longer than the network.
    """
    low, high = limits
    at_W = np.interp((np.arange(width) + 0.5) * len(values_N) / width - 0.5, np.arange(len(values_N)), values_N)
    level_W = np.clip((at_W - low) / (high - low), 0, 1) * (height - 1)
    filled_HW = np.arange(height)[::-1, None] <= level_W
    colours = [rgb(c) for c in (COOL, WARM)]
    panel_HWC = np.full((height, width, 3), 245, np.uint8)
    panel_HWC[filled_HW] = np.array(colours)[(at_W >= middle).astype(int)][None].repeat(height, 0)[filled_HW]
    panel_HWC[height - 1 - round((middle - low) / (high - low) * (height - 1))] //= 2
    return panel_HWC


def up_to(panel_HWC: np.ndarray, number: float, count: int) -> np.ndarray:
    """A panel with a black line at a frame of ``count``, and paler behind it."""
    width = panel_HWC.shape[1]
    at = min(width - 1, int((number + 0.5) * width / count))
    out = panel_HWC.copy()
    out[:, at:] = 128 + out[:, at:] // 2
    out[:, max(0, at - 1) : at + 1] = 0
    return out
