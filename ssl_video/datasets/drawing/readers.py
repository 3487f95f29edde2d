"""Reading back what a plain shape is and does: by its hue, its outline and the path of its middle. Nothing is learned.

Backgrounds are gray, so that what has a colour is the shape: pixels are weighed by how much they have of the colour of
most of what is coloured. So readers are exact on drawn videos, decoded ones too, and can be asked of generated ones.
"""

import colorsys
import functools
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates, uniform_filter1d

from ssl_video.datasets.drawing.plain import BACKGROUNDS, COLOURS, SHAPES, shape_alpha
from ssl_video.datasets.drawing.prompts import Prompt

LEAST_COLOUR = 40
"""Levels of 255 by which the shape's colour differs from gray; less is no shape."""
LEAST_AREA = 0.006
"""Of the picture; a smaller shape is none."""
STILL = 0.14
"""A middle that moves by less than this share of the side stays where it is."""
OUTLINE = 33
"""Points a side of the square in which outlines are compared, of four radii a side."""


@dataclass(frozen=True)
class Seen:
    """A shape in the frames in which there is one: ``times_T`` are their numbers, of ``frames`` in all.

    ``alpha_THW``: how much of each pixel it covers, 0 to 1; ``centre_T2``: x and y of its middle in pixels;
    ``area_T``: in pixels; ``rgb_C``: its colour, 0 to 1.
    """

    frames: int
    times_T: np.ndarray
    alpha_THW: np.ndarray
    centre_T2: np.ndarray
    area_T: np.ndarray
    rgb_C: np.ndarray

    @property
    def side(self) -> int:
        """The shorter side of the frames, in pixels."""
        return min(self.alpha_THW.shape[1:])


def see(clip_THWC: np.ndarray) -> Seen | None:
    """The coloured shape of a uint8 clip; None if fewer than three frames, or less than half of all, have one."""
    clip_THWC = clip_THWC.astype(np.float32)
    colour_THW2 = _chroma(clip_THWC)
    strength_THW = np.linalg.norm(colour_THW2, axis=-1)
    few = max(8, int(0.01 * strength_THW.size))
    strongest = np.argpartition(strength_THW.ravel(), -few)[-few:]
    mean_2 = colour_THW2.reshape(-1, 2)[strongest].mean(0)
    strength = float(np.linalg.norm(mean_2))
    along_THW = colour_THW2 @ (mean_2 / max(strength, 1e-6))
    inside = along_THW > 0.5 * strength
    if strength < LEAST_COLOUR or not inside.any():
        return None
    alpha_THW = _covered(along_THW, strength)
    area_T = alpha_THW.sum((1, 2))
    times_T = np.flatnonzero(area_T >= LEAST_AREA * alpha_THW[0].size)
    if len(times_T) < max(3, len(clip_THWC) / 2):
        return None
    alpha_THW, area_T = alpha_THW[times_T], area_T[times_T]
    y_HW, x_HW = np.mgrid[: alpha_THW.shape[1], : alpha_THW.shape[2]]
    centre_T2 = np.stack([(alpha_THW * place_HW).sum((1, 2)) / area_T for place_HW in (x_HW, y_HW)], -1)
    return Seen(len(clip_THWC), times_T, alpha_THW, centre_T2, area_T, clip_THWC[inside].mean(0) / 255)


def _covered(along_THW: np.ndarray, strength: float) -> np.ndarray:
    """How much of each pixel has the colour: none where its neighbourhood has little of it, which noise has."""
    full = float(np.median(along_THW[along_THW > 0.5 * strength]))
    alpha_THW = np.clip(along_THW / full, 0, 1)
    around_THW = uniform_filter1d(uniform_filter1d(alpha_THW, 3, 1), 3, 2)
    alpha_THW[(alpha_THW < 0.25) | (around_THW < 0.25)] = 0
    return alpha_THW


def _chroma(rgb: np.ndarray) -> np.ndarray:
    """(..., 2): what of a colour is not gray; its direction is the hue, its length about the saturation."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    return np.stack((red - (green + blue) / 2, np.sqrt(0.75) * (green - blue)), -1)


def read_colour(seen: Seen) -> str:
    """The colour of the nearest hue."""
    hue = 360 * colorsys.rgb_to_hsv(*seen.rgb_C.tolist())[0]
    return min(COLOURS, key=lambda name: abs((hue - COLOURS[name] + 180) % 360 - 180))


def read_background(clip_THWC: np.ndarray, seen: Seen) -> str:
    """Of dark, gray and light the nearest to the mean of what is not the shape."""
    gray_THW = clip_THWC[seen.times_T].mean(-1)
    level = float(gray_THW[seen.alpha_THW == 0].mean())
    return min(BACKGROUNDS, key=lambda name: abs(level - sum(BACKGROUNDS[name]) / 2))


def read_shape(seen: Seen) -> str:
    """The shape whose outline is most like that of the half of the frames in which it is largest, averaged."""
    largest = np.argsort(-seen.area_T, kind="stable")[: (len(seen.area_T) + 1) // 2]
    outline_D = sum(_outline(seen.alpha_THW[t], seen.centre_T2[t], float(seen.area_T[t])) for t in largest)
    names, outlines_ND = _outlines()
    return names[int((outlines_ND @ _unit(np.asarray(outline_D))).argmax())]


def _outline(alpha_HW: np.ndarray, centre_2: np.ndarray, area: float) -> np.ndarray:
    """(OUTLINE^2,) of a shape about its middle, in radii of the circle of the same area."""
    (x, y), radius = centre_2, np.sqrt(area / np.pi)
    u_PP, v_PP = np.meshgrid(*[np.linspace(-2, 2, OUTLINE) * radius] * 2)
    return map_coordinates(alpha_HW, [y + v_PP, x + u_PP], order=1).ravel()


@functools.cache
def _outlines() -> tuple[list[str], np.ndarray]:
    """Names and outlines, of length 1, of all shapes of equal area, more and less blurred."""
    radius, half = 20, 60
    names, rows = [], []
    for name in SHAPES:
        for blur in (0.1, 0.2, 0.3, 0.45, 0.6):
            blurred_HW = gaussian_filter(shape_alpha(name, radius, half), blur * radius)
            alpha_HW = _covered(blurred_HW[None], float(blurred_HW.max()))[0]
            y, x = ((alpha_HW.sum(axis) * np.arange(2 * half + 1)).sum() / alpha_HW.sum() for axis in (1, 0))
            names.append(name)
            rows.append(_unit(_outline(alpha_HW, np.array((x, y)), float(alpha_HW.sum()))))
    return names, np.stack(rows)


def _unit(x_D: np.ndarray) -> np.ndarray:
    x_D = x_D - x_D.mean()
    return x_D / max(np.linalg.norm(x_D), 1e-9)


def read_motion(seen: Seen) -> str:
    """One of ``prompts.MOTIONS``; half of a drawn video is enough."""
    path_T2, side = seen.centre_T2, seen.side
    low_2, high_2 = np.percentile(path_T2, [3, 97], axis=0)
    extent_2 = high_2 - low_2
    if extent_2.max() < STILL * side:
        slope = np.polyfit(seen.times_T, np.log(seen.area_T), 1)[0]
        return "grows" if slope > 0 else "shrinks"
    axis = int(extent_2.argmax())
    if abs(_straightness(path_T2[:, axis])) > 0.6 and extent_2.min() < 0.5 * extent_2.max():
        return f"drifts {(('left', 'right'), ('up', 'down'))[axis][int(path_T2[-1, axis] > path_T2[0, axis])]}"
    return _round_trip(path_T2, (low_2 + high_2) / 2, axis)


def _straightness(x_T: np.ndarray) -> float:
    """How far it comes of the way that it goes: 1 if it never turns back. Noise is smoothed first."""
    smooth_T = uniform_filter1d(x_T, max(1, len(x_T) // 8), mode="nearest")
    return float((smooth_T[-1] - smooth_T[0]) / max(np.abs(np.diff(smooth_T)).sum(), 1e-9))


def _round_trip(path_T2: np.ndarray, middle_2: np.ndarray, axis: int) -> str:
    """Around a middle, or there and back along the axis of the larger extent."""
    arm_T2, step_T2 = path_T2[:-1] - middle_2, np.diff(path_T2, axis=0)
    swept = arm_T2[:, 0] * step_T2[:, 1] - arm_T2[:, 1] * step_T2[:, 0]
    lengths = np.linalg.norm(arm_T2, axis=1) * np.linalg.norm(step_T2, axis=1)
    turning = float(swept.sum() / max(lengths.sum(), 1e-9))  # 1: a circle, 0: there and back
    if abs(turning) > 0.5:
        return f"orbits {'clockwise' if turning > 0 else 'counterclockwise'}"  # y points down
    return "bounces" if axis else "swings"


def read_prompt(clip_THWC: np.ndarray) -> Prompt | None:
    """What a uint8 clip in the plain world of ``prompts`` shows; None if there is no shape to be seen.

    A clip should take at least half of the time of a drawn video.
    """
    seen = see(clip_THWC)
    if seen is None:
        return None
    return Prompt(read_colour(seen), read_shape(seen), read_motion(seen), read_background(clip_THWC, seen))


def read_direction(clip_THWC: np.ndarray) -> str | None:
    """Where a shape is carried from the first third of its frames to the last, however little: left, right, up, down.

    None if there is no shape to be seen. It asks less than the motion of ``read_prompt``, which has to be a drift.
    """
    seen = see(clip_THWC)
    if seen is None:
        return None
    some = max(1, len(seen.times_T) // 3)
    dx, dy = seen.centre_T2[-some:].mean(0) - seen.centre_T2[:some].mean(0)
    return ("right" if dx > 0 else "left") if abs(dx) > abs(dy) else ("down" if dy > 0 else "up")


@dataclass(frozen=True)
class Cycle:
    """A periodic motion as it was read: ``motion`` is one of ``periodic.CYCLES``, or "" if nothing repeats itself.

    ``period`` in frames; ``explained`` is the share, 0 to 1, of the shape's motion that a sinusoid of this period and
    its second harmonic make; ``times_T``, ``centre_T2`` and ``scale_T`` are its path, the scale 1 for the median area.
    """

    motion: str
    period: float
    explained: float
    times_T: np.ndarray
    centre_T2: np.ndarray
    scale_T: np.ndarray


def read_cycle(clip_THWC: np.ndarray, periods: tuple[float, float] | None = None) -> Cycle | None:
    """The period and the path of a shape in the plain world of ``periodic``; None if there is no shape to be seen.

    ``periods``: the shortest and the longest that are looked for, in frames of the clip; by default from 2.2 frames to
    the whole clip, which needs about one and a half periods to be read well.
    """
    seen = see(clip_THWC)
    if seen is None:
        return None
    scale_T = np.sqrt(seen.area_T / np.median(seen.area_T))
    state_TD = np.column_stack((seen.centre_T2, scale_T * np.sqrt(np.median(seen.area_T) / np.pi)))
    state_TD = state_TD - state_TD.mean(0)
    period, explained = period_of(seen.times_T, state_TD, periods or (2.2, float(seen.frames)))
    spread_D = state_TD.std(0)
    moving = spread_D.max() > 0.01 * seen.side and explained > 0.5
    return Cycle(_kind(state_TD, spread_D) if moving else "", period, explained, seen.times_T, seen.centre_T2, scale_T)


def _kind(state_TD: np.ndarray, spread_D: np.ndarray) -> str:
    """The kind of a round trip, by what of place and size changes the most."""
    if spread_D[2] > spread_D[:2].max():
        return "pulse"
    if spread_D[:2].min() > 0.5 * spread_D[:2].max():
        return "orbit"
    return "swing" if spread_D[0] > spread_D[1] else "bounce"


def period_of(times_T: np.ndarray, state_TD: np.ndarray, periods: tuple[float, float]) -> tuple[float, float]:
    """The period of a motion, and the share of its variance that one sinusoid of it and the second harmonic explain.

    The period whose sinusoid explains most (least-squares spectral analysis, J. D. Scargle 1982, with a free mean),
    then, near it, the one for which both do.
    """
    frequencies = np.linspace(1 / periods[1], 1 / periods[0], max(64, int(8 * len(times_T))))
    best = max(frequencies, key=lambda f: _explained(times_T, state_TD, f, 1))
    width = 0.5 / len(times_T)
    near = np.linspace(max(best - width / 2, 1 / periods[1]), min(best + width / 2, 1 / periods[0]), 101)
    best = max(near, key=lambda f: _explained(times_T, state_TD, f, 2))
    return float(1 / best), _explained(times_T, state_TD, best, 2)


def _explained(times_T: np.ndarray, state_TD: np.ndarray, frequency: float, harmonics: int) -> float:
    angles_TK = 2 * np.pi * frequency * times_T[:, None] * np.arange(1, harmonics + 1)
    basis_TK = np.column_stack((np.ones(len(times_T)), np.cos(angles_TK), np.sin(angles_TK)))
    fitted_KD = np.linalg.lstsq(basis_TK, state_TD, rcond=None)[0]
    rest = ((state_TD - basis_TK @ fitted_KD) ** 2).sum()
    return float(1 - rest / max(((state_TD - state_TD.mean(0)) ** 2).sum(), 1e-12))
