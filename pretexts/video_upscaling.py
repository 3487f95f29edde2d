"""Spatial super-resolution by diffusion: take the noise out of a clip, knowing it at a lower resolution.

The second network of Lumiere's cascade (O. Bar-Tal, H. Chefer, O. Tov, C. Herrmann et al., SIGGRAPH Asia 2024). What is
known has noise of its own, as much as the network is told (J. Ho et al.: "Cascaded Diffusion Models", JMLR 2022), so
that it also serves videos that another network has drawn. Long videos are made of windows that overlap.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.bounds import Bounded, Bounds, Count, Fraction, Positive
from ssl_video.capabilities import Condition, Sampling
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS, Context, Output, Pretext, Sample, Skip, View
from ssl_video.pretexts.denoising import Way, as_frames, denoiser, followed, noised, normal, outcome
from ssl_video.pretexts.diffusion_core import RIGHT, mixed


@dataclass(frozen=True)
class VideoUpscalingConfig(Bounded):
    """Options of super-resolution; the paper publishes but the sizes (128 to 1024 pixels)."""

    frames: Count = 8
    """Frames of a clip, and of a window in use."""
    stride: Count = 1
    """Every stride-th frame of the file."""
    short_side: Count = 288
    """The frames' shorter side before the crop, in pixels."""
    size: Count = 256
    """Side of the square that is cut out, in pixels; also of a window in use."""
    factor: Annotated[int, Bounds(least=2)] = 8
    """How many times as high and wide as what is known."""
    most_noise: Fraction = 0.3
    """Noise of what is known is uniform from 0 to this fraction of pi / 2 in training."""
    noise: Fraction = 0.1
    """The same in use and at test."""
    shift: Positive = 2.0
    """How much larger the frames are than those of even noise; above 1 there is more noise."""

    def __post_init__(self):
        super().__post_init__()
        if self.size % self.factor:
            raise UserError(f"Clips of {self.size} pixels are no multiple of factor {self.factor}; change one of them.")


@PRETEXTS.register("video_upscaling")
class VideoUpscaling(Pretext):
    """Video super-resolution (Lumiere's second network, 2024): a clip from its low resolution, by diffusion."""

    Config = VideoUpscalingConfig
    config: VideoUpscalingConfig
    span_limits = (("stride", 1), ("frames", 4))

    def __init__(self, config: VideoUpscalingConfig, backbone: Backbone):
        super().__init__(config, backbone)
        if not denoiser(None, backbone, "video_upscaling").low_resolution:
            raise UserError("video_upscaling shows the network two clips; use --backbone.low-resolution.")

    @property
    def view(self) -> View:
        """A clip, whole."""
        c = self.config
        return View(c.frames, c.stride, c.short_side, c.size)

    @property
    def factor(self) -> int:
        """How many times as high and wide."""
        return self.config.factor

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """A clip from a random frame on."""
        frames_T = self.view.draw(video, rng)
        return frames_T if isinstance(frames_T, Skip) else Sample(tuple(frames_T.tolist()), each=self.view.small)

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray:
        """As a clip spans."""
        return self.view.spans(fps_N)

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """A square at a random place, mirrored in half of the clips; at test the centre."""
        return {"clip_THWC": self.view.prepare(frames_THWC, rng if self.training else None)}

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """Mean squared error of the velocity, and beside it the losses by noise (``loss_1`` to ``loss_8``)."""
        c, clip_BCTHW = self.config, self.backbone.normalise(batch["clip_THWC"])
        there = noised(clip_BCTHW, ctx, c.shift)
        low_BCTHW = lowered(clip_BCTHW, c.factor)
        B = len(low_BCTHW)
        noise_B = ctx.uniform(B, high=c.most_noise) if self.training else torch.full((B,), c.noise)
        theta_B = RIGHT * noise_B.to(low_BCTHW.device)
        e = ctx.normal(B, *low_BCTHW.shape[1:]).to(low_BCTHW.dtype)
        low_BCTHW = enlarged(mixed(low_BCTHW, e, theta_B)[0], c.factor)
        told = Condition(there.theta_B, low_BCTHW=low_BCTHW, low_theta_B=theta_B)
        network = denoiser(None, self.backbone, "video_upscaling")
        return outcome(*network.denoise(there.x_t, told), there, ctx)

    @torch.no_grad()
    def upscale(
        self, low_BTHWC: Tensor, sampling: Sampling, generator: torch.Generator, network: nn.Module | None = None
    ) -> Tensor:
        """(B, T, factor H, factor W, 3) uint8, see ``capabilities.Upscales``."""
        c, own = self.config, next(self.backbone.parameters())
        low_BCTHW = self.backbone.normalise(low_BTHWC.to(own.device))
        theta = RIGHT * c.noise
        low_BCTHW = mixed(low_BCTHW, normal(tuple(low_BCTHW.shape), generator, own), theta)[0]
        low_BCTHW = enlarged(low_BCTHW, c.factor)
        theta_B = torch.full((len(low_BCTHW),), theta, device=own.device)
        told = Condition(theta_B, low_BCTHW=low_BCTHW, low_theta_B=theta_B)
        way = Way(normal(tuple(low_BCTHW.shape), generator, own), RIGHT, generator)
        by = denoiser(network, self.backbone, "video_upscaling")
        return as_frames(followed(by, told, way, sampling, (c.frames, c.size, c.size)))


def lowered(clip_BCTHW: Tensor, factor: int) -> Tensor:
    """Every square of ``factor`` x ``factor`` pixels as its mean."""
    return F.avg_pool3d(clip_BCTHW, (1, factor, factor))


def enlarged(clip_BCTHW: Tensor, factor: int) -> Tensor:
    """Every pixel ``factor`` x ``factor`` times."""
    return clip_BCTHW.repeat_interleave(factor, 3).repeat_interleave(factor, 4)
