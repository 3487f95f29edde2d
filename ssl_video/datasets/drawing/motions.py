"""Motions: where a shape is, how it is turned and scaled, and in which phase of its motion it is, frame by frame.

A motion takes a generator, a number of frames and the side of the picture in pixels. Lengths are given for a picture of
72 pixels and scaled; times are in frames, so that each motion has a natural speed, which varies by 10 % either way.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

REFERENCE_SIDE = 72


@dataclass(frozen=True)
class Path:
    """What a motion does to a shape: it is turned, then scaled along x and y, then put at its centre.

    ``centre_T2`` holds x and y in pixels, ``angle_T`` radians, ``phase_T`` is NaN for a motion that has no phase.
    """

    centre_T2: np.ndarray
    angle_T: np.ndarray
    scale_T2: np.ndarray
    phase_T: np.ndarray


Motion = Callable[[np.random.Generator, int, float], Path]


def _path(
    x_T: np.ndarray,
    y_T: np.ndarray,
    phase_T: np.ndarray | None = None,
    *,
    angle_T: np.ndarray | float = 0.0,
    scale_x_T: np.ndarray | float = 1.0,
    scale_y_T: np.ndarray | float = 1.0,
) -> Path:
    frames = len(x_T)
    scale_T2 = np.stack(np.broadcast_arrays(scale_x_T, scale_y_T, x_T)[:2], axis=-1)
    phase_T = np.full(frames, np.nan) if phase_T is None else phase_T
    return Path(np.stack((x_T, y_T), axis=-1), np.broadcast_to(angle_T, frames), scale_T2, phase_T)


def _centre(rng: np.random.Generator, side: float, margin: float = 0.3) -> np.ndarray:
    return rng.uniform(margin, 1 - margin, 2) * side


def _speed(rng: np.random.Generator) -> float:
    return rng.uniform(0.9, 1.1)


def _sign(rng: np.random.Generator) -> int:
    return int(rng.choice([-1, 1]))


def _cycles(rng: np.random.Generator, frames: int, period: float) -> np.ndarray:
    """Time in periods, from a random beginning."""
    return np.arange(frames) / period + rng.random()


def between_walls(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Positions of a point that is reflected by walls at ``low`` and ``high``."""
    width = high - low
    return low + width - np.abs(np.mod(x - low, 2 * width) - width)


def _in_view(x: np.ndarray, side: float, margin: float = 0.15) -> np.ndarray:
    return between_walls(x, margin * side, (1 - margin) * side)


# Eight classes that show only in motion.

MARGIN = 0.22
"""What stays in place begins, and what crosses the picture is kept, this share of the side away from the edges: so all
classes have about the same spread of places, which a single frame shows."""


def bounce(rng: np.random.Generator, frames: int, side: float) -> Path:
    """A ball hops on a floor under gravity and drifts sideways."""
    k, (cx, cy), gravity = side / REFERENCE_SIDE, _centre(rng, side), 0.5 * _speed(rng) ** 2 * side / REFERENCE_SIDE
    height = rng.uniform(10, 26) * k
    hop = 2 * np.sqrt(2 * height / gravity)
    phase_T = _cycles(rng, frames, hop) % 1
    tau = hop * phase_T
    y_T = cy + 2 / 3 * height - (np.sqrt(2 * gravity * height) * tau - gravity * tau**2 / 2)
    x_T = cx + _sign(rng) * rng.uniform(0, 0.6) * k * np.arange(frames)
    return _path(_in_view(x_T, side), y_T, phase_T)


def pendulum(rng: np.random.Generator, frames: int, side: float) -> Path:
    """A bob swings on a rod; the period grows with the root of its length."""
    k, (cx, cy) = side / REFERENCE_SIDE, _centre(rng, side)
    length, amplitude = rng.uniform(14, 36) * k, rng.uniform(0.5, 1.1)
    cycles_T = _cycles(rng, frames, 2 * np.pi * np.sqrt(length / (1.9 * k)) / _speed(rng))
    angle_T = amplitude * np.sin(2 * np.pi * cycles_T)
    pivot_y = cy - length * (1 + np.cos(amplitude)) / 2
    x_T, y_T = cx + length * np.sin(angle_T), pivot_y + length * np.cos(angle_T)
    return _path(x_T, y_T, cycles_T % 1, angle_T=-angle_T)


def orbit(rng: np.random.Generator, frames: int, side: float) -> Path:
    """A round trip on an ellipse, slower the larger it is."""
    k, (cx, cy) = side / REFERENCE_SIDE, _centre(rng, side)
    radius = rng.uniform(6, 17) * k
    cycles_T = _sign(rng) * _cycles(rng, frames, 20 * (radius / (11 * k)) ** 0.75 / _speed(rng))
    a, b = radius * np.cos(2 * np.pi * cycles_T), radius * rng.uniform(0.7, 1) * np.sin(2 * np.pi * cycles_T)
    tilt = rng.uniform(0, 2 * np.pi)
    x_T, y_T = a * np.cos(tilt) - b * np.sin(tilt), a * np.sin(tilt) + b * np.cos(tilt)
    return _path(cx + x_T, cy + y_T, np.abs(cycles_T) % 1)


def spin(rng: np.random.Generator, frames: int, side: float) -> Path:
    """Turning in place."""
    cx, cy = _centre(rng, side, MARGIN)
    cycles_T = _cycles(rng, frames, 24 / _speed(rng))
    still_T = np.zeros(frames)
    return _path(cx + still_T, cy + still_T, cycles_T % 1, angle_T=_sign(rng) * 2 * np.pi * cycles_T)


def pulse(rng: np.random.Generator, frames: int, side: float) -> Path:
    """Growing and shrinking in place."""
    cx, cy = _centre(rng, side, MARGIN)
    cycles_T = _cycles(rng, frames, 16 / _speed(rng))
    scale_T = np.exp(rng.uniform(0.25, 0.5) * np.sin(2 * np.pi * cycles_T))
    still_T = np.zeros(frames)
    return _path(cx + still_T, cy + still_T, cycles_T % 1, scale_x_T=scale_T, scale_y_T=scale_T)


def brown(rng: np.random.Generator, frames: int, side: float) -> Path:
    """Random steps, drawn back to a place."""
    k, (cx, cy) = side / REFERENCE_SIDE, _centre(rng, side)
    steps_T2 = rng.normal(0, 1.5 * _speed(rng) * k, (frames, 2))
    place_T2 = np.zeros((frames, 2))
    for t in range(1, frames):
        place_T2[t] = 0.97 * place_T2[t - 1] + steps_T2[t]
    return _path(_in_view(cx + place_T2[:, 0], side), _in_view(cy + place_T2[:, 1], side))


def stopgo(rng: np.random.Generator, frames: int, side: float) -> Path:
    """A quick step in a new direction, then a rest, again and again."""
    k, (cx, cy) = side / REFERENCE_SIDE, _centre(rng, side)
    cycles_T = _cycles(rng, frames, 11 / _speed(rng))
    steps = int(cycles_T[-1]) + 1
    length, direction = rng.uniform(7, 15, steps) * k, rng.uniform(0, 2 * np.pi, steps)
    moved = np.clip((cycles_T[:, None] - np.arange(steps)) / 0.45, 0, 1)
    moved = moved**2 * (3 - 2 * moved)
    x_T, y_T = moved @ (length * np.cos(direction)), moved @ (length * np.sin(direction))
    return _path(_in_view(cx + x_T, side), _in_view(cy + y_T, side), cycles_T % 1)


def drift(rng: np.random.Generator, frames: int, side: float) -> Path:
    """Straight on at a constant speed, reflected by the walls."""
    (cx, cy), direction = _centre(rng, side), rng.uniform(0, 2 * np.pi)
    way_T = 1.3 * _speed(rng) * side / REFERENCE_SIDE * np.arange(frames)
    x_T, y_T = cx + way_T * np.cos(direction), cy + way_T * np.sin(direction)
    return _path(_in_view(x_T, side, MARGIN), _in_view(y_T, side, MARGIN))


# Six actions, each passed through once from phase 0 to 1; the state at every phase is another one.


def time_warp(rng: np.random.Generator, frames: int) -> np.ndarray:
    """(frames,) from 0 to 1, strictly rising, at a speed that varies smoothly and by a factor of up to about 5."""
    knots = rng.uniform(-0.8, 0.8, 5)
    pace_T = np.exp(np.interp(np.linspace(0, 4, frames - 1), np.arange(5), knots))
    passed_T = np.concatenate(([0.0], np.cumsum(pace_T)))
    return passed_T / passed_T[-1]


def _near(rng: np.random.Generator, share: float, side: float) -> float:
    """A length or place around ``share`` of the side."""
    return (share + rng.uniform(-0.06, 0.06)) * side


def throw(rng: np.random.Generator, frames: int, side: float) -> Path:
    """A throw from left to right: a parabola."""
    p_T = time_warp(rng, frames)
    x_T = _near(rng, 0.2, side) + _near(rng, 0.6, side) * p_T
    y_T = _near(rng, 0.75, side) - _near(rng, 0.45, side) * 4 * p_T * (1 - p_T)
    return _path(x_T, y_T, p_T)


def swing(rng: np.random.Generator, frames: int, side: float) -> Path:
    """Half a period of a pendulum, from the right to the left."""
    p_T = time_warp(rng, frames)
    angle_T = rng.uniform(0.7, 1.0) * np.cos(np.pi * p_T)
    length = _near(rng, 0.4, side)
    x_T = _near(rng, 0.5, side) + length * np.sin(angle_T)
    y_T = _near(rng, 0.25, side) + length * np.cos(angle_T)
    return _path(x_T, y_T, p_T, angle_T=-angle_T)


def spiral(rng: np.random.Generator, frames: int, side: float) -> Path:
    """From outside into the middle, one turn and a quarter."""
    p_T = time_warp(rng, frames)
    radius_T, angle_T = _near(rng, 0.32, side) * (1 - 0.85 * p_T), 2.5 * np.pi * p_T
    x_T, y_T = _near(rng, 0.5, side) + radius_T * np.cos(angle_T), _near(rng, 0.5, side) + radius_T * np.sin(angle_T)
    return _path(x_T, y_T, p_T)


def roll(rng: np.random.Generator, frames: int, side: float) -> Path:
    """Down a slope from the left to the right at constant acceleration, turning as it rolls."""
    p_T = time_warp(rng, frames)
    slope, length = rng.uniform(0.3, 0.6), _near(rng, 0.62, side)
    way_T = length * (0.3 * p_T + 0.7 * p_T**2)
    x_T, y_T = _near(rng, 0.2, side) + way_T * np.cos(slope), _near(rng, 0.3, side) + way_T * np.sin(slope)
    return _path(x_T, y_T, p_T, angle_T=way_T / (0.12 * side))


def grow(rng: np.random.Generator, frames: int, side: float) -> Path:
    """From less than half its size to twice."""
    p_T = time_warp(rng, frames)
    scale_T = 0.45 * (rng.uniform(1.7, 2.1) / 0.45) ** p_T
    still_T = np.zeros(frames)
    x_T, y_T = _near(rng, 0.5, side) + still_T, _near(rng, 0.5, side) + still_T
    return _path(x_T, y_T, p_T, scale_x_T=scale_T, scale_y_T=scale_T)


def fold(rng: np.random.Generator, frames: int, side: float) -> Path:
    """A card turns about its upright axis until it is almost seen from its edge."""
    p_T = time_warp(rng, frames)
    still_T = np.zeros(frames)
    x_T, y_T = _near(rng, 0.5, side) + still_T, _near(rng, 0.5, side) + still_T
    return _path(x_T, y_T, p_T, scale_x_T=1.5 * np.cos(np.radians(80) * p_T), scale_y_T=1.5)


# Wandering about, for objects to be followed.


def wander(rng: np.random.Generator, frames: int, side: float) -> Path:
    """Straight on with a slow swing across, slow turning and breathing; not kept in view, about the origin."""
    t, direction = np.arange(frames), rng.uniform(0, 2 * np.pi)
    along_T = rng.uniform(0.5, 1.3) * side / 128 * t
    across_T = rng.uniform(0, 0.1) * side * np.sin(2 * np.pi * _cycles(rng, frames, rng.uniform(30, 60)))
    x_T = along_T * np.cos(direction) - across_T * np.sin(direction)
    y_T = along_T * np.sin(direction) + across_T * np.cos(direction)
    scale_T = np.exp(0.15 * np.sin(2 * np.pi * _cycles(rng, frames, rng.uniform(40, 80))))
    return _path(x_T, y_T, angle_T=rng.uniform(-0.04, 0.04) * t, scale_x_T=scale_T, scale_y_T=scale_T)


CLIPS: dict[str, Motion] = {m.__name__: m for m in (bounce, pendulum, orbit, spin, pulse, brown, stopgo, drift)}
SEQUENCES: dict[str, Motion] = {m.__name__: m for m in (throw, swing, spiral, roll, grow, fold)}
