"""Plain shapes of one colour on a background of two grays: a world of few words, which can be read back exactly."""

import colorsys
from collections.abc import Callable

import numpy as np

COLOURS = {"red": 0, "yellow": 60, "green": 120, "cyan": 180, "blue": 240, "purple": 300}
"""Hues in degrees."""
BACKGROUNDS = {"dark": (15, 60), "gray": (105, 150), "light": (195, 240)}
"""Between which levels of gray, of 255, both shades of a background lie."""
REACH = 1.25
"""No shape reaches farther from its middle than so many of its radii."""

Inside = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of x and y in radii: the distance to the edge in radii, positive inside; to first order outside of a corner."""


def _circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 1 - np.hypot(x, y)


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.86 - np.maximum(np.abs(x), np.abs(y))


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Standing on a side, its corners 1.24 from its middle."""
    slanted = 0.62 - (np.abs(x) * np.sqrt(3) - y) / 2
    return np.minimum(slanted, 0.62 - y)


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.minimum(1.05 - x, 0.36 - y), np.minimum(0.36 - x, 1.05 - y))


SHAPES: dict[str, Inside] = {"circle": _circle, "square": _square, "triangle": _triangle, "cross": _cross}


def shape_alpha(shape: str, radius: float, half: int) -> np.ndarray:
    """(2 half + 1, 2 half + 1) in 0 to 1: how much of each pixel the shape covers, its middle in the middle pixel."""
    y, x = np.mgrid[-half : half + 1, -half : half + 1] / radius
    return np.clip(SHAPES[shape](x, y) * radius + 0.5, 0, 1).astype(np.float32)


def patch(rng: np.random.Generator, shape: str, colour: str, radius: float) -> np.ndarray:
    """(4, P, P) float32 as ``textures.sprite``: a shape of one colour, whose hue and brightness vary a little."""
    hue, saturation, value = COLOURS[colour] + rng.uniform(-8, 8), rng.uniform(0.85, 1), rng.uniform(0.75, 1)
    rgb_C = np.array(colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value), np.float32) * 255
    alpha_PP = shape_alpha(shape, radius, int(np.ceil(REACH * radius)) + 2)
    return np.concatenate((rgb_C[:, None, None] * alpha_PP, alpha_PP[None]))


def two_shades(rng: np.random.Generator, background: str, side: int) -> np.ndarray:
    """(3, side, side) float32: two shades of gray that differ by 10 to 25 levels, above and below or side by side."""
    low, high = BACKGROUNDS[background]
    apart = rng.uniform(10, 25)
    first = rng.uniform(low, high - apart)
    shades = rng.permutation([first, first + apart])
    picture_HW = np.full((side, side), shades[0], np.float32)
    picture_HW[round(rng.uniform(0.3, 0.7) * side) :] = shades[1]
    return np.broadcast_to(picture_HW if rng.random() < 0.5 else picture_HW.T, (3, side, side)).copy()
