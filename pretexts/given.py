"""Which pixels of a clip are given, so that a network learns to fill the others: the masks of the tasks."""

import numpy as np

TASKS = ("unconditional", "first_frame", "inpainting", "cinemagraph", "between")


def mask(task: str, size: tuple[int, int, int], every: int, rng: np.random.Generator) -> np.ndarray:
    """(T, H, W) uint8, 1 where a pixel is given.

    ``unconditional``: nothing. ``first_frame``: that. ``between``: every ``every``-th frame. ``inpainting``: all but a
    box, which moves along a line through half of the frames or more. ``cinemagraph``: the first frame, and behind it
    all but a box that stands still.
    """
    T = size[0]
    given_THW = np.zeros(size, np.uint8)
    if task == "first_frame":
        given_THW[0] = 1
    elif task == "between":
        given_THW[::every] = 1
    elif task == "inpainting":
        given_THW[:] = 1
        frames = int(rng.integers(-(-T // 2), T + 1))
        first = int(rng.integers(T - frames + 1))
        cut(given_THW[first : first + frames], rng, moves=True)
    elif task == "cinemagraph":
        given_THW[:] = 1
        cut(given_THW[1:], rng, moves=False)
    return given_THW


def cut(given_THW: np.ndarray, rng: np.random.Generator, moves: bool) -> None:
    """Take a box of a quarter to three quarters of either side out of all frames, along a line if it ``moves``."""
    size_2 = np.array(given_THW.shape[1:])
    box_2 = np.maximum(1, np.rint(rng.uniform(0.25, 0.75, 2) * size_2)).astype(int)
    start_2, end_2 = rng.uniform(0, size_2 - box_2 + 1, (2, 2))
    for number, frame_HW in enumerate(given_THW):
        share = number / max(1, len(given_THW) - 1) if moves else 0.0
        top, left = np.floor(start_2 + share * (end_2 - start_2)).astype(int)
        frame_HW[top : top + box_2[0], left : left + box_2[1]] = 0
