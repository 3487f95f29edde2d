"""Pictures of a video's optical flow: a sheet of frames with their flow below, and both side by side as a video."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from ssl_video.apps.film import Shot, film
from ssl_video.apps.options import FlowOptions
from ssl_video.errors import UserError
from ssl_video.figures import figure_to, picture, shortened
from ssl_video.files import cut
from ssl_video.progress import bar
from ssl_video.video.augment import resize_frame
from ssl_video.video.flow import colour_wheel, flow_method
from ssl_video.video.rate import rate_of_file
from ssl_video.video.reader import VideoError, iterate_frames
from ssl_video.video.writer import TO_LOOK_AT, rate_of, write_video


def explain_flow(video: Path | str, out: Path | str = ".", options: FlowOptions = FlowOptions()) -> tuple[Path, Path]:
    """Write ``NAME_flow_METHOD.png``, frames with their flow, and ``.mp4``, the video beside it; returns both paths.

    Raises:
        UserError: if the method is unknown, or the video cannot be decoded or has fewer than two frames.
    """
    video, out = Path(video), Path(out)
    flow = flow_method(options.method)
    frames_THWC = _first_frames(video, options)
    if len(frames_THWC) < 2:
        raise UserError(f"{video} has one frame only, and flow needs two.")
    flows_SHW2 = [flow(frames_THWC[n : n + 2])[0] for n in bar(range(len(frames_THWC) - 1), "flow", "frame")]
    maximum = full_saturation(flows_SHW2)
    method = options.method.partition("?")[0]
    stem = f"{cut(video.stem, 180)}_flow_{method}"
    sheet, beside = out / f"{stem}.{options.format}", out / f"{stem}.mp4"
    chosen = np.unique(np.linspace(0, len(flows_SHW2) - 1, options.columns).round().astype(int))
    rate = rate_of(rate_of_file(video))
    titles = [f"{float(n / rate):.2f} s" for n in chosen.tolist()]
    draw_sheet(frames_THWC[chosen], np.stack([flows_SHW2[n] for n in chosen]), titles, maximum, sheet, video.name)
    names = video.name, f"flow ({method})"
    legend = [(wheel(), f"direction of the motion; rim: {maximum:.1f} pixels a frame or more")]
    write_video(beside, film(_shots(frames_THWC, flows_SHW2, maximum, rate), names, legend), rate, TO_LOOK_AT)
    return sheet, beside


def _first_frames(video: Path, options: FlowOptions) -> np.ndarray:
    """frames_THWC. Raises UserError."""
    try:
        frames = [_smaller(f, options.short_side) for f in islice(iterate_frames(str(video)), options.at_most)]
    except VideoError as error:
        raise UserError(f"{video} cannot be used: {error}.") from None
    return np.stack(frames or [[]])


def full_saturation(flows_SHW2: list[np.ndarray]) -> float:
    """The magnitude that is shown in full colour: few pixels of the video move faster; at least half a pixel."""
    return max(0.5, float(np.quantile(np.concatenate([np.hypot(*f.T).ravel()[::7] for f in flows_SHW2]), 0.99)))


def draw_sheet(
    frames_NHWC: np.ndarray, flows_NHW2: np.ndarray, titles: Sequence[str], maximum: float, path: Path, name: str = ""
) -> None:
    """A figure: frames with titles above, their flow in the colours of the wheel below, the wheel as legend.

    ``name`` of the video stands above all, where there is one.
    """
    count, h, w = frames_NHWC.shape[:3]
    width, height = 2.4, 2.4 * h / w
    with figure_to(path, width * (count + 0.8), 2 * height + 0.7) as figure:
        if name:
            figure.suptitle(shortened(name))
        axes = figure.subplots(2, count + 1, squeeze=False, gridspec_kw={"width_ratios": [1] * count + [0.8]})
        for column, title in enumerate(titles):
            picture(axes[0, column], frames_NHWC[column], title)
            picture(axes[1, column], colour_wheel(flows_NHW2[column], maximum))
        picture(axes[1, count], wheel())
        axes[0, count].set_axis_off()
        words = (
            "below: motion to the",
            "next frame. Colour is its",
            "direction; at the rim,",
            f"{maximum:.1f} pixels or more",
        )
        axes[0, count].text(0.5, 0.5, "\n".join(words), ha="center", va="center")


def wheel(side: int = 101) -> np.ndarray:
    """The colours of all directions and magnitudes: the colour at a place is that of motion from the centre to it."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    picture = colour_wheel(np.stack([x, y], -1), 1.0)
    picture[np.hypot(x, y) > 1] = 255
    return picture


def _smaller(frame_HWC: np.ndarray, short_side: int) -> np.ndarray:
    return resize_frame(frame_HWC, short_side) if min(frame_HWC.shape[:2]) > short_side else frame_HWC


def _shots(frames_THWC: np.ndarray, flows_SHW2: list[np.ndarray], maximum: float, rate: Fraction) -> Iterator[Shot]:
    for number, (frame_HWC, flow_HW2) in enumerate(zip(frames_THWC, flows_SHW2, strict=False)):
        yield Shot((frame_HWC, colour_wheel(flow_HW2, maximum)), (float(number / rate),))
