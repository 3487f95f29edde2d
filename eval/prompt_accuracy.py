"""How well drawn-world videos show what their captions say, by the exact readers of that world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from ssl_video.datasets.drawing.plain import BACKGROUNDS, COLOURS, SHAPES
from ssl_video.datasets.drawing.prompts import MOTIONS, Prompt
from ssl_video.datasets.drawing.readers import read_direction, read_prompt

WORDS = tuple(f.name for f in fields(Prompt))
CHANCE = {"colour": 1 / len(COLOURS), "shape": 1 / len(SHAPES), "motion": 1 / len(MOTIONS)}
CHANCE["background"] = 1 / len(BACKGROUNDS)
"""Of guessing a word without looking."""
DRIFTS = "drifts "
"""How the motions begin that say a direction."""


@dataclass(frozen=True)
class PromptAccuracy:
    """Fractions of clips: of each word that it is read as asked, ``whole`` that all four are, ``read`` with a shape.

    ``shuffled``: the same of every clip with the prompts of all others in turn: what a generator reaches that draws the
    right videos and does not listen.
    """

    clips: int
    read: float
    right: Mapping[str, float]
    shuffled: Mapping[str, float]


def prompt_accuracy(read: Sequence[Prompt | None], asked: Sequence[Prompt]) -> PromptAccuracy:
    """Compare what was read of clips (``read_prompt``) with what they were asked to show. Needs one clip."""
    matches = {
        word: _matches([getattr(r, word, None) for r in read], [getattr(a, word) for a in asked]) for word in WORDS
    }
    matches["whole"] = np.logical_and.reduce(list(matches.values()))
    count = len(asked)
    right = {word: float(np.diag(match_NN).mean()) for word, match_NN in matches.items()}
    others = max(count * (count - 1), 1)
    shuffled = {word: float((match_NN.sum() - np.diag(match_NN).sum()) / others) for word, match_NN in matches.items()}
    return PromptAccuracy(count, float(np.mean([r is not None for r in read])), right, shuffled)


def _matches(read: Sequence[str | None], asked: Sequence[str]) -> np.ndarray:
    return np.array([[r == a for a in asked] for r in read])


def of_clips(clips_NTHWC: Sequence[np.ndarray] | np.ndarray, asked: Sequence[Prompt]) -> dict[str, float]:
    """The numbers of uint8 clips by name: of all, and of seen and held-out combinations of words apart.

    ``motion right (held out)`` and the like, beside ``motion by chance`` and ``motion with shuffled prompts``;
    ``direction``: of those that are to drift, whether they are carried that way at all (``read_direction``).
    """
    read = [read_prompt(clip_THWC) for clip_THWC in clips_NTHWC]
    parts = {"seen": [n for n, p in enumerate(asked) if not p.held_out]}
    parts["held out"] = [n for n, p in enumerate(asked) if p.held_out]
    found = prompt_accuracy(read, asked)
    chance = CHANCE | {"whole": float(np.prod(list(CHANCE.values())))}
    numbers = {"prompts with a shape": found.read}
    for word in found.right:
        for part, numbers_of in parts.items():
            if numbers_of:
                some = prompt_accuracy([read[n] for n in numbers_of], [asked[n] for n in numbers_of])
                numbers[f"{word} right ({part})"] = some.right[word]
        numbers[f"{word} with shuffled prompts"] = found.shuffled[word]
        numbers[f"{word} by chance"] = chance[word]
    drifting = [n for n, prompt in enumerate(asked) if prompt.motion.startswith(DRIFTS)]
    if drifting:
        said = [asked[n].motion.removeprefix(DRIFTS) for n in drifting]
        match_NN = _matches([read_direction(clips_NTHWC[n]) for n in drifting], said)
        right_N, count = np.diag(match_NN), len(drifting)
        for part, numbers_of in parts.items():
            if some := [row for row, n in enumerate(drifting) if n in numbers_of]:
                numbers[f"direction right ({part})"] = float(right_N[some].mean())
                numbers[f"drifting clips ({part})"] = len(some)
        numbers["direction with shuffled prompts"] = (match_NN.sum() - right_N.sum()) / max(count * (count - 1), 1)
        numbers["direction by chance"] = 0.25
    return numbers
