"""What pretexts that denoise share: clips with noise, the loss and the numbers beside it, and pixels there and back."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.capabilities import CAN, Condition, Denoises, Sampling, Text
from ssl_video.errors import UserError
from ssl_video.pretexts.base import Context, Output
from ssl_video.pretexts.diffusion_core import (
    RIGHT,
    Window,
    guided,
    mixed,
    sample,
    shifted,
    stratified,
    windowed,
    windows,
)
from ssl_video.recipes import serving

BINS = 8
"""Of equal width over the angles: the loss of each is logged."""


def denoiser(network: nn.Module | None, backbone: Backbone, name: str) -> Denoises:
    """What denoises in ``network``, or in ``backbone`` for None. Raises UserError for any other; ``name`` asks."""
    backbone = network if isinstance(network, Backbone) else backbone
    if not isinstance(backbone.network, Denoises):
        raise UserError(
            f"{name} needs a backbone that {CAN[Denoises]}, which {backbone.architecture} does not; choose "
            f"{serving(name)}."
        )
    return backbone.network


@dataclass(frozen=True)
class Noised:
    """Clips, noise, how much of it (angles), and what comes of them."""

    theta_B: Tensor
    x_t: Tensor
    v: Tensor


def noised(clip_BCTHW: Tensor, ctx: Context, shift: float, even: float = 0.0) -> Noised:
    """Clips with noise; angles are stratified over the batch of all processes."""
    B = len(clip_BCTHW)
    u = torch.rand((), generator=ctx.generator, dtype=torch.float64).item()
    theta_B = stratified(u, B, ctx.rank * B, ctx.world_size * B).to(clip_BCTHW.device)
    theta_B = theta_B if shift == 1 else shifted(theta_B, shift, even)
    e = ctx.normal(B, *clip_BCTHW.shape[1:]).to(clip_BCTHW.dtype)
    return Noised(theta_B, *mixed(clip_BCTHW, e, theta_B))


def outcome(v: Tensor, mid_BDthw: Tensor, there: Noised, ctx: Context) -> Output:
    """Mean squared error of the velocity; ``loss_1`` to ``loss_8`` are those of little to much noise.

    Features are the mean of the coarsest map.
    """
    with torch.autocast(v.device.type, enabled=False):
        losses_B = (v.to(there.v.dtype) - there.v).square().flatten(1).mean(1)
    whole_N2 = ctx.gather(torch.stack([losses_B.detach(), there.theta_B.to(losses_B)], 1))
    metrics = {f"loss_{n + 1}": loss for n, loss in enumerate(by_noise(*whole_N2.T))}
    return Output(losses_B.mean(), metrics, mid_BDthw.detach().float().mean((2, 3, 4)))


def by_noise(losses_N: Tensor, theta_N: Tensor) -> Tensor:
    """(8,) mean losses of the angles in each of eight bins; where a small batch has none, that of the nearest angle."""
    place_N = theta_N / RIGHT * BINS
    centre_K = torch.arange(BINS, device=theta_N.device)[:, None] + 0.5
    distance_KN = (place_N - centre_K).abs()
    inside_KN = (place_N.clamp(max=BINS - 1e-6).floor() + 0.5 == centre_K).to(losses_N)
    nearest_KN = (distance_KN == distance_KN.min(1, keepdim=True).values).to(losses_N)
    weight_KN = torch.where(inside_KN.any(1, keepdim=True), inside_KN, nearest_KN)
    return (weight_KN * losses_N).sum(1) / weight_KN.sum(1)


def as_frames(clip_BCTHW: Tensor) -> Tensor:
    """(B, T, H, W, C) uint8 of clips in -1 to 1."""
    return ((clip_BCTHW + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()


def normal(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Noise of N(0, 1), drawn on the CPU so that it is the same on any device."""
    return torch.randn(shape, generator=generator).to(like)


@dataclass(frozen=True)
class Way:
    """From where noise is followed to a clip: the noisy clips, their angle, and the noise that is still drawn."""

    x_t: Tensor
    start: float
    generator: torch.Generator


def followed(
    network: Denoises, condition: Condition, way: Way, sampling: Sampling, window: tuple[int, int, int]
) -> Tensor:
    """Clean clips (B, C, T, H, W) under a condition, in windows of at most ``window`` (frames, height, width)."""

    def velocity(x_t: Tensor, theta: float, at: Window) -> Tensor:
        told = condition.cut(at)
        return guided_velocity(network, x_t, told, theta, sampling.guidance)

    size, overlap = way.x_t.shape[2:], (sampling.overlap, sampling.overlap_side, sampling.overlap_side)
    over = list(windows(size, window, overlap))
    fresh: Callable[[], Tensor] = lambda: normal(tuple(way.x_t.shape), way.generator, way.x_t)  # noqa: E731
    return sample(windowed(velocity, over), way.x_t, sampling, way.start, fresh)


def guided_velocity(network: Denoises, x_t: Tensor, told: Condition, theta: float, guidance: float) -> Tensor:
    """The velocity under a condition; of texts, as far beyond nothing said as ``guidance`` asks."""
    theta_B = torch.full((len(x_t),), theta, device=x_t.device)

    def of(text: Text | None) -> Tensor:
        parts = {n: getattr(told, n) for n in ("given_BCTHW", "mask_B1THW", "low_BCTHW", "low_theta_B")}
        return network.denoise(x_t, Condition(theta_B, text=text, **parts))[0]

    if told.text is None or guidance == 1:
        return of(told.text)
    silent = of(told.text.silent())
    return silent if guidance == 0 else guided(silent, of(told.text), guidance)
