"""Periodic motions whose period, phase and path are known exactly, in the plain world of ``prompts``.

Periods are 6 to 24 frames. What sees every eighth frame (key frames) takes a third of a cycle between two of them for
two thirds of one, and what sees all frames does not: that is the point of them. Orbits, which all go the same way, are
told by their key frames, unless some are shown backwards.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssl_video.datasets.drawing.motions import Path
from ssl_video.datasets.drawing.plain import BACKGROUNDS, COLOURS, REACH, SHAPES, patch, two_shades
from ssl_video.datasets.drawing.scene import Background, Scene, Sprite, render

PERIODS = (6.0, 24.0)
"""The shortest and the longest period, in frames; their logarithm is uniform."""
RADIUS = 0.15
"""Of a shape, as a share of the side."""

Cycle = Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Of the phase, 0 to 1, and the reach in pixels: x, y and the scale."""


def _bounce(phase_T: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros_like(phase_T), reach - 8 * reach * phase_T * (1 - phase_T), np.ones_like(phase_T)


def _pulse(phase_T: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    zero_T = np.zeros_like(phase_T)
    return zero_T, zero_T, np.exp(0.3 * np.sin(2 * np.pi * phase_T))


def _orbit(phase_T: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    angle_T = 2 * np.pi * phase_T
    return reach * np.cos(angle_T), reach * np.sin(angle_T), np.ones_like(phase_T)


def _swing(phase_T: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    share_T = np.sin(2 * np.pi * phase_T)
    return reach * share_T, -0.3 * reach * share_T**2, np.ones_like(phase_T)


CYCLES: dict[str, Cycle] = {"bounce": _bounce, "pulse": _pulse, "orbit": _orbit, "swing": _swing}


@dataclass(frozen=True)
class Choice:
    """What is random of a video but its shades: period in frames, phase, sizes and place as shares of what is free."""

    period: float
    phase: float
    radius: float
    reach: float
    place_2: np.ndarray
    colour: str
    shape: str
    background: str

    def caption(self, label: str) -> str:
        """What is to be seen, in words; nothing of the period."""
        return f"a {self.colour} {self.shape} {label}s on a {self.background} background"


def choose(rng: np.random.Generator) -> Choice:
    """What a video shows, at random; the logarithm of the period is uniform."""
    period, phase = float(np.exp(rng.uniform(*np.log(PERIODS)))), rng.random()
    radius, reach, place_2 = rng.uniform(0.87, 1), rng.uniform(0.65, 0.95), rng.uniform(-1, 1, 2)
    words = (str(rng.choice(list(names))) for names in (COLOURS, SHAPES, BACKGROUNDS))
    return Choice(period, phase, radius, reach, place_2, *words)


def periodic_scene(rng: np.random.Generator, label: str, size: int, frames: int, made: Choice | None = None) -> Scene:
    """One shape in the motion ``label``; its period in frames and its path are among the scene's ``notes``.

    ``made`` is what it shows, by default something at random.

    ``notes``: ``period`` (), ``centre_T2`` (x and y in pixels) and ``scale_T``, all float64.
    """
    made = made or choose(rng)
    phase_T = (np.arange(frames) / made.period + made.phase) % 1
    radius = made.radius * RADIUS * size
    free = (size - 1) / 2 - REACH * radius * np.exp(0.3 * (label == "pulse")) - 0.5
    reach = made.reach * free
    x_T, y_T, scale_T = CYCLES[label](phase_T, reach)
    x, y = made.place_2 * (free - (0 if label == "pulse" else reach))
    centre_T2 = np.stack((x + x_T, y + y_T), -1) + (size - 1) / 2
    path = Path(centre_T2, np.zeros(frames), np.stack((scale_T, scale_T), -1), phase_T)
    background = Background(two_shades(rng, made.background, size + 2), np.zeros((frames, 2)))
    scene = render(background, [Sprite(patch(rng, made.shape, made.colour, radius), path)], size, label)
    notes = {"period": np.array(made.period), "centre_T2": centre_T2, "scale_T": scale_T}
    return Scene(scene.frames_THWC, scene.masks_THW, scene.phase_T, label, notes)
