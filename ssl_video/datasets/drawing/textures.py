"""Random textures and textured shapes; every length follows the side of what is drawn, so that all sizes look alike."""

import functools

import numpy as np


def texture(rng: np.random.Generator, side: int, unit: float) -> np.ndarray:
    """(3, side, side) float32 in 0 to 255: a random pattern (noise, stripes or checks) between two random colours.

    ``unit`` scales the wave length of stripes and checks, in pixels.
    """
    kind = rng.choice(["noise", "noise", "stripes", "checks"])
    if kind == "noise":
        roughness, first = rng.uniform(0.4, 0.9), int(rng.integers(1, 3))
        pattern_HW = sum(roughness**o * smooth_noise(rng, side, 2 ** (o + first)) for o in range(4))
    else:
        direction, wave, phase = rng.uniform(0, np.pi), max(3.0, rng.uniform(5, 24) * unit), rng.uniform(0, 2 * np.pi)
        pattern_HW = _stripes(side, direction, wave, phase)
        if kind == "checks":
            pattern_HW = pattern_HW * _stripes(side, direction + np.pi / 2, wave, phase)
        pattern_HW = pattern_HW + 0.6 * smooth_noise(rng, side, 3)
    pattern_HW = (pattern_HW - np.mean(pattern_HW)) / (np.std(pattern_HW) + 1e-6)
    share_HW = (1 / (1 + np.exp(-1.5 * pattern_HW))).astype(np.float32)
    one_C11, other_C11 = rng.uniform(20, 235, (2, 3, 1, 1)).astype(np.float32)
    return one_C11 + (other_C11 - one_C11) * share_HW


def smooth_noise(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """(side, side): standard normal values on a ``cells`` x ``cells`` grid, interpolated by cubic splines."""
    weights = _cubic_weights(side, cells)
    return weights @ rng.standard_normal((cells, cells)) @ weights.T


@functools.lru_cache(maxsize=64)
def _cubic_weights(side: int, cells: int) -> np.ndarray:
    """(side, cells): what each grid value adds to each pixel, by Catmull-Rom splines; the grid's ends are repeated."""
    place = (np.arange(side) + 0.5) * cells / side - 0.5
    left = np.floor(place).astype(int)
    f = place - left
    taps = (-f + 2 * f**2 - f**3, 2 - 5 * f**2 + 3 * f**3, f + 4 * f**2 - 3 * f**3, f**3 - f**2)
    weights = np.zeros((side, cells))
    for offset, tap in enumerate(taps, -1):
        np.add.at(weights, (np.arange(side), np.clip(left + offset, 0, cells - 1)), tap / 2)
    return weights


def _stripes(side: int, direction: float, wave: float, phase: float) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return np.sin(2 * np.pi / wave * (x * np.cos(direction) + y * np.sin(direction)) + phase)


def sprite(rng: np.random.Generator, radius: float) -> np.ndarray:
    """(4, P, P) float32: a textured star polygon or ellipse around the middle pixel, in a transparent border.

    Colours (0 to 255) are multiplied by alpha (0 to 1, channel 3), so that interpolating between pixels is
    right. ``radius``, in pixels, is the distance of the farthest point from the middle.
    """
    half = int(np.ceil(radius)) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    inside = _star(rng, x, y, radius) if rng.random() < 0.5 else _ellipse(rng, x, y, radius)
    alpha_HW = np.clip(inside + 0.5, 0, 1).astype(np.float32)
    side = len(x)
    return np.concatenate((texture(rng, side, side / 48) * alpha_HW, alpha_HW[None]))


def _star(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Distance in pixels to the edge of a polygon with 3 to 8 corners, positive inside."""
    corners = int(rng.integers(3, 9))
    reach = rng.uniform(0.45, 1, corners)
    reach *= radius / reach.max()
    turn = 2 * np.pi / corners
    sector = (np.mod(np.arctan2(y, x), 2 * np.pi) / turn).astype(int) % corners
    corner_x, corner_y = reach * np.cos(turn * np.arange(corners)), reach * np.sin(turn * np.arange(corners))
    edge_x, edge_y = np.roll(corner_x, -1) - corner_x, np.roll(corner_y, -1) - corner_y
    length = np.hypot(edge_x, edge_y)
    s = sector
    return (edge_x[s] * (y - corner_y[s]) - edge_y[s] * (x - corner_x[s])) / length[s]


def _ellipse(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Distance in pixels to the edge of an ellipse (to first order), positive inside."""
    aspect = rng.uniform(0.4, 0.8)
    level = np.hypot(x, y / aspect) / radius
    slope = np.hypot(x, y / aspect**2) / (radius**2 * np.maximum(level, 1e-6))
    return (1 - level) / np.maximum(slope, 1e-6)
