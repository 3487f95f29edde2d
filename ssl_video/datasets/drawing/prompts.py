"""Captioned videos of a closed vocabulary: one plain shape that does one thing on a plain background.

"a red circle drifts left on a dark background": 4 shapes, 6 colours, 10 motions, 3 backgrounds. Of the 240 combinations
of shape, colour and motion 36 are held out (``Prompt.held_out``): no training video of any seed shows one, and half of
the test videos do. So it shows whether a model puts words together or knows them by heart.

Every motion takes the whole video, so that half of a video is enough to tell it.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssl_video.datasets.drawing.motions import Path
from ssl_video.datasets.drawing.plain import BACKGROUNDS, COLOURS, REACH, SHAPES, patch, two_shades
from ssl_video.datasets.drawing.scene import Background, Scene, Sprite, render
from ssl_video.errors import UserError, nearest

Places = tuple[np.ndarray, np.ndarray, np.ndarray]
"""x and y, and the scale, frame by frame."""
Move = Callable[[np.random.Generator, np.ndarray, float], Places]
"""Of the time from 0 to 1 and the free pixels about the middle, in which the shape's middle may be: 0 is the middle."""


def _drift(dx: int, dy: int) -> Move:
    def move(rng: np.random.Generator, time_T: np.ndarray, free: float) -> Places:
        way = rng.uniform(0.7, 1) * free
        across = rng.uniform(-0.5, 0.5) * free
        along_T = rng.uniform(-0.5, 0.5) * (free - way) + way * (time_T - 0.5)
        return along_T * dx + across * abs(dy), along_T * dy + across * abs(dx), np.ones_like(time_T)

    return move


def _orbit(sense: int) -> Move:
    def move(rng: np.random.Generator, time_T: np.ndarray, free: float) -> Places:
        radius = rng.uniform(0.35, 0.5) * free
        x, y = rng.uniform(-1, 1, 2) * (free / 2 - radius)
        angle_T = sense * 2 * np.pi * _cycles(rng, time_T)
        return x + radius * np.cos(angle_T), y + radius * np.sin(angle_T), np.ones_like(time_T)

    return move


def _bounce(rng: np.random.Generator, time_T: np.ndarray, free: float) -> Places:
    height = rng.uniform(0.6, 0.95) * free
    phase_T = _cycles(rng, time_T) % 1
    floor = free / 2 - rng.uniform(0, 1) * (free - height)
    x_T = np.full_like(time_T, rng.uniform(-0.5, 0.5) * free)
    return x_T, floor - 4 * height * phase_T * (1 - phase_T), np.ones_like(time_T)


def _swing(rng: np.random.Generator, time_T: np.ndarray, free: float) -> Places:
    reach = rng.uniform(0.35, 0.48) * free
    share_T = np.sin(2 * np.pi * _cycles(rng, time_T))
    x, y = rng.uniform(-1, 1) * (free / 2 - reach), rng.uniform(-0.35, 0.5) * free
    return x + reach * share_T, y - 0.3 * reach * share_T**2, np.ones_like(time_T)


def _scale(start: float, end: float) -> Move:
    def move(rng: np.random.Generator, time_T: np.ndarray, free: float) -> Places:
        x, y = rng.uniform(-0.5, 0.5, 2) * free
        zero_T = np.zeros_like(time_T)
        return x + zero_T, y + zero_T, start * (end / start) ** time_T

    return move


def _cycles(rng: np.random.Generator, time_T: np.ndarray) -> np.ndarray:
    """Time in periods, of which a video has about two, from a random beginning."""
    return time_T / rng.uniform(0.4, 0.6) + rng.random()


MOTIONS: dict[str, Move] = {
    "drifts left": _drift(-1, 0),
    "drifts right": _drift(1, 0),
    "drifts up": _drift(0, -1),
    "drifts down": _drift(0, 1),
    "orbits clockwise": _orbit(1),  # y points down
    "orbits counterclockwise": _orbit(-1),
    "bounces": _bounce,
    "swings": _swing,
    "grows": _scale(0.5, 1),
    "shrinks": _scale(1, 0.5),
}
SIZES = {"grows": 0.24, "shrinks": 0.24}
"""The largest radius as a share of the side; of other motions 0.18."""


@dataclass(frozen=True)
class Prompt:
    """What a caption says."""

    colour: str
    shape: str
    motion: str
    background: str

    @property
    def caption(self) -> str:
        """In words."""
        return f"a {self.colour} {self.shape} {self.motion} on a {self.background} background"

    @property
    def held_out(self) -> bool:
        """Whether no training video shows this colour, shape and motion together."""
        return (self.colour, self.shape, self.motion) in _held_out()


@functools.cache
def _held_out() -> frozenset[tuple[str, str, str]]:
    """One or two motions, in turn, of every colour and shape; each motion about as often.

    Every two of a colour, a shape and a motion are together in some training video.
    """
    motions, found = list(MOTIONS), []
    for number, (shape, colour) in enumerate(itertools.product(SHAPES, COLOURS)):
        for _ in range(1 + number % 2):
            found.append((colour, shape, motions[(3 * len(found) + len(found) // 10) % len(motions)]))
    return frozenset(found)


@functools.cache
def _by_caption() -> dict[str, Prompt]:
    prompts = itertools.starmap(Prompt, itertools.product(COLOURS, SHAPES, MOTIONS, BACKGROUNDS))
    return {prompt.caption: prompt for prompt in prompts}


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """All words of captions, in alphabetical order."""
    return tuple(sorted({word for caption in _by_caption() for word in caption.split()}))


def prompt_of(caption: str) -> Prompt:
    """What a caption says. Raises UserError for another word, or words in another order."""
    words = caption.split()
    if known := _by_caption().get(" ".join(words)):
        return known
    for word in words:
        if word not in vocabulary():
            raise UserError(f"No caption of drawn prompts has the word {word!r}; {nearest(word, vocabulary())}")
    example = next(iter(_by_caption()))
    raise UserError(f"{caption!r} is no caption of drawn prompts; write one as {example!r}.")


def choose(rng: np.random.Generator, motion: str, held_out: bool) -> Prompt:
    """A prompt of this motion at random, of a combination that is held out or of one that is not."""
    prompts = [p for p in _by_caption().values() if p.motion == motion and p.held_out == held_out]
    return prompts[int(rng.integers(len(prompts)))]


def prompt_scene(rng: np.random.Generator, prompt: Prompt, size: int, frames: int) -> Scene:
    """A video that shows what ``prompt`` says."""
    radius = rng.uniform(0.83, 1) * SIZES.get(prompt.motion, 0.18) * size
    free = size - 1 - 2 * (REACH * radius + 0.5)
    x_T, y_T, scale_T = MOTIONS[prompt.motion](rng, np.linspace(0, 1, frames), free)
    middle = (size - 1) / 2
    still_T = np.zeros(frames)
    path = Path(np.stack((x_T, y_T), -1) + middle, still_T, np.stack((scale_T, scale_T), -1), still_T + np.nan)
    shape = Sprite(patch(rng, prompt.shape, prompt.colour, radius), path)
    background = Background(two_shades(rng, prompt.background, size + 2), np.zeros((frames, 2)))
    return render(background, [shape], size, prompt.motion)
