"""From the speed that every frame allows to one smooth curve of speed: two quadratic problems on a chain of frames."""

import numpy as np
from scipy.linalg import solve_banded
from scipy.optimize import root_scalar

ROUNDING = 1e-13
"""Of the largest term. A frame at a bound that nothing pushes or pulls would change sides for ever without it."""


def of_duration(allowed_N: np.ndarray, factor: float, max_speed: float, alpha: float) -> np.ndarray:
    r"""(N,) the time that every frame gets, u = 1/S, in frames of the result; they sum to N / ``factor``.

    A frame that plays at speed S takes 1/S of its time, so that a sum over u is a duration, and a mean over S is not.
    Ours: the u with the smallest

    $$ \sum_n (u_n - 1 / V_n)^2 + \alpha \sum_n (u_{n+1} - u_n)^2 $$

    among those that sum to N / ``factor`` and lie between 1 / ``max_speed`` and 1.

    It is one for every problem. A multiplier m of the sum is added to every 1/V; the sum falls as m grows, so that one
    number is sought, and for each m a problem with bounds only is solved.

    Args:
        allowed_N: V, from 1 on.
        factor: how much shorter the result is, from 1 to ``max_speed``.
        max_speed: the largest speed.
        alpha: smoothness; speeds change over some sqrt(alpha) frames.
    """
    low, high, count = 1 / max_speed, 1.0, len(allowed_N)
    target_N = np.clip(1 / allowed_N, low, high)

    def too_long(multiplier: float) -> float:
        return float(within_bounds(target_N - multiplier, alpha, low, high).mean() - 1 / factor)

    # from here all are at their upper bound to there, where all are at their lower one
    first, last = target_N.min() - high, target_N.max() - low
    if too_long(first) <= 0:
        return np.full(count, high)
    if too_long(last) >= 0:
        return np.full(count, low)
    multiplier = float(root_scalar(too_long, method="brentq", bracket=(first, last), xtol=1e-14).root)
    return within_bounds(target_N - multiplier, alpha, low, high)


def of_mean(allowed_N: np.ndarray, factor: float, max_speed: float, alpha: float, beta: float) -> np.ndarray:
    r"""(N,) the speed S of every frame, as in SpeedNet (CVPR 2020, section 4): the mean of S is drawn to ``factor``.

    The S with the smallest

    $$ \frac{1}{N} \sum_n (S_n - V_n)^2 + \beta (\bar S - f)^2 + \frac{\alpha}{N} \sum_n (S_{n+1} - S_n)^2, $$

    all terms quadratic, cut to 1 to ``max_speed``; $\bar S$ is the mean of S and $f$ the ``factor``. What is constant
    is not smoothed, so that the second term only adds the same to all of the smoothed V. The duration is not fixed.
    """
    unbounded = np.inf
    smooth_N = within_bounds(allowed_N.astype(np.float64), alpha, -unbounded, unbounded)
    shift = beta * (factor - smooth_N.mean()) / (1 + beta)
    return np.clip(smooth_N + shift, 1, max_speed)


def within_bounds(target_N: np.ndarray, alpha: float, low: float, high: float) -> np.ndarray:
    r"""The x from ``low`` to ``high`` with the smallest $\sum_n (x_n - t_n)^2 + \alpha \sum_n (x_{n+1} - x_n)^2$.

    Frames at a bound are guessed, the others solved for, and the guess is mended by the signs of what came out. With
    one bound that ends after finitely many steps, since the matrix has nothing above zero outside its diagonal
    (Hintermueller, Ito, Kunisch, "The Primal-Dual Active Set Strategy as a Semismooth Newton Method", 2002). So the
    upper bound is mended in an outer loop, around whole solutions for the lower one.
    """
    noise = ROUNDING * (1 + 4 * alpha) * max(1.0, float(np.abs(target_N).max()))
    above_N = np.zeros(len(target_N), bool)
    while True:
        x_N, pull_N = _above(target_N, alpha, low, high, above_N, noise)
        wanted_N = np.where(above_N, pull_N > -noise, x_N > high + noise)
        if (wanted_N == above_N).all():
            return np.clip(x_N, low, high)
        above_N = wanted_N


def _above(
    target_N: np.ndarray, alpha: float, low: float, high: float, above_N: np.ndarray, noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """x with the lower bound only, but held at the upper one where ``above_N``; and the pull upwards on each frame."""
    below_N = np.zeros(len(target_N), bool)
    while True:
        held_N = np.where(above_N, high, low)
        x_N = _solved(held_N, ~(above_N | below_N), target_N, alpha)
        pull_N = target_N - x_N - alpha * _times_laplacian(x_N)
        wanted_N = ~above_N & np.where(below_N, pull_N < noise, x_N < low - noise)
        if (wanted_N == below_N).all():
            return x_N, pull_N
        below_N = wanted_N


def _solved(held_N: np.ndarray, free_N: np.ndarray, target_N: np.ndarray, alpha: float) -> np.ndarray:
    """The x with (1 + alpha L) x = target at the free frames; the others stay as in ``held_N``."""
    held_N = np.where(free_N, 0.0, held_N)
    right_N = np.where(free_N, target_N - alpha * _times_laplacian(held_N), held_N)
    neighbours_N = np.full(len(held_N), 2.0)
    neighbours_N[0] -= 1
    neighbours_N[-1] -= 1
    bands_3N = np.zeros((3, len(held_N)))
    bands_3N[0, 1:] = bands_3N[2, :-1] = np.where(free_N[1:] & free_N[:-1], -alpha, 0.0)
    bands_3N[1] = np.where(free_N, 1 + alpha * neighbours_N, 1.0)
    return solve_banded((1, 1), bands_3N, right_N)


def _times_laplacian(x_N: np.ndarray) -> np.ndarray:
    """L x, where x L x is the sum of squared differences of neighbours."""
    steps = np.diff(x_N)
    return np.concatenate([[0.0], steps]) - np.concatenate([steps, [0.0]])
