r"""Diffusion on a circle: how a clip and noise are mixed, what is predicted of the mixture, and the way back.

T. Salimans, J. Ho: "Progressive Distillation for Fast Sampling of Diffusion Models", ICLR 2022 (the velocity); J. Song,
C. Meng, S. Ermon: "Denoising Diffusion Implicit Models", ICLR 2021; O. Bar-Tal, L. Yariv, Y. Lipman, T. Dekel:
"MultiDiffusion", ICML 2023 (windows).

With an angle $\theta$ from 0 to $\pi / 2$ a clip $x$ and noise $e$ become $x_t = \cos\theta\, x + \sin\theta\, e$,
and what a network says is the velocity $v = \cos\theta\, e - \sin\theta\, x$, the derivative of $x_t$. At $\pi / 2$
there is nothing but noise, exactly. Angles are numbers here, or (B,) for the clips of a batch.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ssl_video.capabilities import Sampling

RIGHT = math.pi / 2
Window = tuple[slice, slice, slice]
Velocity = Callable[[Tensor, float], Tensor]
"""The velocity of noisy clips (B, C, T, H, W) at an angle."""
WindowVelocity = Callable[[Tensor, float, Window], Tensor]
"""The same of one window (t, h, w) of the clips."""


def stratified(u: float, batch: int, first: int, whole: int) -> Tensor:
    r"""(B,) angles of ``batch`` clips from number ``first`` on of a batch of ``whole``, spread evenly from ``u``.

    $\theta_i = \frac{\pi}{2} ((u + i / B) \bmod 1)$, u uniform in [0, 1): each is uniform, and together they are even.
    """
    number_B = torch.arange(first, first + batch, dtype=torch.float64)
    return (RIGHT * ((u + number_B / whole) % 1)).float()


def shifted(theta_B: Tensor, ratio: float, even: float = 0.0) -> Tensor:
    r"""Angles for clips ``ratio`` times as large, which show through more noise: $\tan\theta' = r \tan\theta$.

    Of even angles, the fraction ``even`` stays even: the smallest of them are spread out over all angles. The others
    are spread out as well, and then shifted.
    """
    rest_B = theta_B if even in (0, 1) else (theta_B - even * RIGHT) / (1 - even)
    shifted_B = torch.atan2(ratio * rest_B.sin(), rest_B.cos())
    return torch.where(theta_B < even * RIGHT, theta_B / (even or 1), shifted_B)


def along(theta: Tensor | float, like: Tensor) -> Tensor:
    """An angle, or one a clip, in the type of ``like`` (B, ...), so that they can be multiplied."""
    theta = torch.as_tensor(theta, dtype=like.dtype, device=like.device)
    return theta.reshape(-1, *(1 for _ in like.shape[1:])) if theta.ndim else theta


def mixed(x: Tensor, e: Tensor, theta: Tensor | float) -> tuple[Tensor, Tensor]:
    """The noisy clip x_t, and its velocity."""
    a, s = along(theta, x).cos(), along(theta, x).sin()
    return a * x + s * e, a * e - s * x


def parts(x_t: Tensor, v: Tensor, theta: Tensor | float) -> tuple[Tensor, Tensor]:
    """What a velocity says that the clip is, and the noise."""
    a, s = along(theta, x_t).cos(), along(theta, x_t).sin()
    return a * x_t - s * v, s * x_t + a * v


def clipped(x_t: Tensor, v: Tensor, theta: float) -> Tensor:
    """The velocity whose clip stays within -1 and 1; without noise there is nothing to change."""
    if theta == 0:
        return v
    x = parts(x_t, v, theta)[0].clamp(-1, 1)
    return (math.cos(theta) * x_t - x) / math.sin(theta)


def guided(v_silent: Tensor, v_told: Tensor, guidance: float) -> Tensor:
    """From the velocity without a text beyond the one with it (classifier-free guidance): 1 is the latter."""
    return v_silent + guidance * (v_told - v_silent)


def step(x_t: Tensor, v: Tensor, theta: float, to: float) -> Tensor:
    """DDIM: the rotation from one angle to another."""
    return math.cos(theta - to) * x_t - math.sin(theta - to) * v


def noisy_step(x_t: Tensor, v: Tensor, angles: tuple[float, float], z: Tensor, eta: float) -> Tensor:
    """As ``step``, of whose noise a part is replaced by ``z``, fresh noise; with ``eta`` = 1 as much as DDPM does."""
    theta, to = angles
    x, e = parts(x_t, v, theta)
    kept = math.sin(to) / math.sin(theta)
    fresh = eta * kept * math.sqrt(max(0.0, 1 - (math.cos(theta) / math.cos(to)) ** 2))
    return math.cos(to) * x + math.sqrt(max(0.0, math.sin(to) ** 2 - fresh**2)) * e + fresh * z


def angles_of(steps: int, start: float = RIGHT) -> list[float]:
    """``steps`` + 1 angles from ``start`` to 0, at even distances."""
    return [start * (steps - n) / steps for n in range(steps + 1)]


def sample(
    velocity: Velocity, x_t: Tensor, sampling: Sampling, start: float, fresh: Callable[[], Tensor] | None = None
) -> Tensor:
    """The clean clips to which ``x_t``, at the angle ``start``, is followed.

    ``velocity`` sees the clips whole, or in windows (``windowed``): it is clipped behind the mean over these. Fresh
    noise for ``eta``, as large as the clips, is drawn by ``fresh`` once a step for all windows.
    """
    keep = clipped if sampling.clip else lambda _x, v, _theta: v
    angles = angles_of(sampling.steps, start)
    for theta, to in itertools.pairwise(angles):
        v = keep(x_t, velocity(x_t, theta), theta)
        if sampling.eta and fresh is not None and to > 0:
            x_t = noisy_step(x_t, v, (theta, to), fresh(), sampling.eta)
            continue
        ahead = step(x_t, v, theta, to)
        if sampling.solver == "heun" and to > 0:
            there = keep(ahead, velocity(ahead, to), to)
            ahead = x_t - (theta - to) / 2 * (v + there)
        x_t = ahead
    return x_t


def starts(length: int, window: int, overlap: int) -> list[int]:
    """The firsts of windows that cover ``length``, neighbours with ``overlap`` in common; the last one ends with it."""
    if length <= window:
        return [0]
    stride = max(1, window - min(overlap, window - 1))
    return [*range(0, length - window, stride), length - window]


def windows(size: Sequence[int], window: Sequence[int], overlap: Sequence[int]) -> Iterator[Window]:
    """Windows over (T, H, W), all of one size, that leave nothing uncovered."""
    lengths = [min(n, most) for n, most in zip(size, window, strict=True)]
    firsts = [starts(*numbers) for numbers in zip(size, window, overlap, strict=True)]
    for t, h, w in itertools.product(*firsts):
        yield slice(t, t + lengths[0]), slice(h, h + lengths[1]), slice(w, w + lengths[2])


def windowed(velocity: WindowVelocity, over: Sequence[Window]) -> Velocity:
    """The mean, pixel by pixel, of the velocities of all windows that cover it.

    That is the clip which differs least, in squares, from what every window asks for.
    """

    def mean(x_t: Tensor, theta: float) -> Tensor:
        total, count = torch.zeros_like(x_t), torch.zeros_like(x_t[:1, :1])
        for window in over:
            at = (slice(None), slice(None), *window)
            total[at] += velocity(x_t[at], theta, window)
            count[at] += 1
        return total / count

    return mean


def floors(clip_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
    r"""The losses at which the best network that knows less than a film would end, angles being uniform.

    One that knows the mean and the standard deviation $S$ of pixels, as white noise of that mean: $S$. One that knows
    their power spectrum in space and time, as a Gaussian of that spectrum: the mean over modes of its root. Both are of
    this batch around its mean colour; a small one makes the second a little low.
    """
    x = clip_BCTHW.detach().float()
    x = x - x.mean((0, 2, 3, 4), keepdim=True)
    power_CTHW = torch.fft.fftn(x, dim=(2, 3, 4), norm="ortho").abs().square().mean(0)
    return x.square().mean().sqrt(), power_CTHW.sqrt().mean()
