"""LeVJEPA: views of one moment are made alike, and what keeps them from becoming one point is a test of normality.

LeVJEPA, 2026 (arXiv 2608.27395); its regulariser is that of R. Balestriero, Y. LeCun: "LeJEPA: Provable and Scalable
Self-Supervised Learning Without the Heuristics", 2025.

One network, one projector, no teacher, no predictor, no decoder. One view of the whole frame and some of small parts,
all of the same frames; of each, nineteen patches in twenty are dropped before anything is computed of them. The loss is
how far the projections of the small views are from that of the whole, and how far the projections of a batch, along
random directions, are from a standard normal distribution (SIGReg).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.bounds import Bounded, Bounds, Count, Fraction, LessThanOne, NotNegative, Positive
from ssl_video.capabilities import Tokens
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS, Context, Output, Pretext, Sample, Skip, View
from ssl_video.pretexts.looks import colour_changes, grayed
from ssl_video.pretexts.tokens import grid_of, kept_and_hidden, token_network
from ssl_video.video import augment

KNOTS, LAST = 17, 3.0
"""Where the characteristic functions are compared: so many numbers from 0 to LAST."""


@dataclass(frozen=True)
class LeVJEPAConfig(Bounded):
    """Options of LeVJEPA, with the values of the authors' recipe as defaults."""

    frames: Count = 16
    """Frames of a clip."""
    fps: Positive = 7.5
    """Frames a second of the file that are taken."""
    short_side: Count = 256
    """The frames' shorter side before the crops, in pixels."""
    size: Count = 224
    """Side of the view of the whole, in pixels."""
    area: tuple[Fraction, Fraction] = (0.8, 1.0)
    """Area of the view of the whole, of the frame's."""
    views: Count = 10
    """Views of small parts."""
    view_size: Count = 96
    """Side of these, in pixels."""
    view_area: tuple[Fraction, Fraction] = (0.02, 0.4)
    """Area of these, of the frame's."""
    changed: Fraction = 0.8
    """Probability with which the colours of a view change."""
    jitter: Fraction = 0.4
    """Contrast, saturation and brightness change by up to this."""
    hue: Annotated[float, Bounds(least=0, most=0.5)] = 0.1
    """Colours turn by up to this fraction of the circle of hues."""
    gray: Fraction = 0.2
    """Probability with which a view loses its colours."""
    drop: LessThanOne = 0.95
    """Fraction of the patches of a view that are dropped, in training."""
    hidden: Count = 2048
    """Units of the projector."""
    embedding: Count = 256
    """Numbers of a projection."""
    directions: Count = 1024
    """Random directions of a step along which projections are compared with a normal distribution."""
    weight: NotNegative = 0.02
    """lambda, the weight of that comparison, which grows with the batch: 0.02 is for batches of 3072."""

    def __post_init__(self):
        super().__post_init__()
        if max(self.size, self.view_size) > self.short_side:
            raise UserError(
                f"Views of {max(self.size, self.view_size)} pixels do not fit into frames of {self.short_side}; make "
                f"--pretext.short-side larger."
            )


@PRETEXTS.register("levjepa")
class LeVJEPA(Pretext):
    """LeVJEPA (2026): views of one moment alike, projections normally distributed; no teacher, and few patches."""

    Config = LeVJEPAConfig
    config: LeVJEPAConfig
    span_limits = (("fps", 25.0), ("frames", 8))
    collapse_below = 0.05

    def __init__(self, config: LeVJEPAConfig, backbone: Backbone):
        super().__init__(config, backbone)
        c = config
        self.tokens = token_network(backbone, "levjepa")
        for size in (c.size, c.view_size):
            grid_of(backbone, c.frames, size)
        self.projector = nn.Sequential(
            nn.Linear(backbone.feature_dim, c.hidden),
            nn.BatchNorm1d(c.hidden),
            nn.GELU(),
            nn.Linear(c.hidden, c.embedding),
        )

    @property
    def view(self) -> View:
        """A clip, whole."""
        c = self.config
        return View(c.frames, 1, c.short_side, c.size, c.fps)

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """A clip from a random frame on."""
        frames_T = self.view.draw(video, rng)
        return frames_T if isinstance(frames_T, Skip) else Sample(tuple(frames_T.tolist()), each=self.view.small)

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray:
        """As a clip spans."""
        return self.view.spans(fps_N)

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """The view of the whole and views_VTHWC of parts, of the same frames; each with its own crop and flip."""
        c = self.config
        frames_THWC = augment.resize_short_side(frames_THWC, c.short_side)

        def cut(size: int, area: tuple[float, float]) -> np.ndarray:
            return augment.flip(augment.resized_crop(frames_THWC, size, area, rng), rng)

        views_VTHWC = np.stack([cut(c.view_size, c.view_area) for _ in range(c.views)])
        return {"clip_THWC": np.ascontiguousarray(cut(c.size, c.area)), "views_VTHWC": views_VTHWC}

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """``alike``, how far the views are from the whole, and ``weight`` times ``normal``, SIGReg."""
        c, (B, V) = self.config, batch["views_VTHWC"].shape[:2]
        whole_BD = self._see(batch["clip_THWC"], ctx)
        parts_ND = self._see(batch["views_VTHWC"].flatten(0, 1), ctx)
        projected_NK = self.projector(torch.cat([whole_BD, parts_ND]))
        with torch.autocast(projected_NK.device.type, enabled=False):
            projected_NK = projected_NK.to(torch.promote_types(whole_BD.dtype, torch.float32))
            z_BVK = torch.cat([projected_NK[:B, None], projected_NK[B:].unflatten(0, (B, V))], 1)
            alike = (z_BVK - z_BVK[:, :1]).square().mean()
            directions_KM = torch.randn(c.embedding, c.directions, generator=ctx.generator).to(z_BVK)
            normal = sigreg(ctx.gather(z_BVK).transpose(0, 1), directions_KM / directions_KM.norm(dim=0))
            loss = alike + c.weight * normal
        numbers = {"alike": alike.detach(), "normal": normal.detach()}
        return Output(loss, numbers, whole_BD.detach())

    def _see(self, clip_BTHWC: Tensor, ctx: Context) -> Tensor:
        """(B, D) the class token of clips of which, in training, few patches are embedded."""
        c, B = self.config, len(clip_BTHWC)
        clip_BCTHW = self.backbone.normalise(clip_BTHWC, **(self._colours(B, ctx) if self.training else {}))
        t, h, w = grid_of(self.backbone, c.frames, clip_BTHWC.shape[2])
        keep_BK = None
        if self.training:
            keep_BK, _ = kept_and_hidden(ctx.uniform(B, t * h * w), max(1, round((1 - c.drop) * t * h * w)))
        return pooled(self.tokens.blocks(self.tokens.embed(clip_BCTHW, keep_BK)))

    def _colours(self, B: int, ctx: Context) -> dict[str, Tensor]:
        c = self.config
        colours = colour_changes(ctx, B, c.jitter, c.hue, c.changed)
        return {**colours, "matrix_B33": grayed(colours["matrix_B33"], ctx.uniform(B, 1, 1) < c.gray)}


def pooled(tokens: Tokens) -> Tensor:
    """(B, D) the class token, which comes first; the mean of the tokens of a network that has none."""
    return tokens.x_BND[:, 0] if tokens.ids_BN[0, 0] < 0 else tokens.x_BND.mean(1)


def sigreg(z_VBK: Tensor, directions_KM: Tensor) -> Tensor:
    r"""How far projections are from a standard normal distribution, a mean over views and directions.

    Of a direction, with the projections $s_b$ of the B samples, it is the distance of Epps and Pulley between their
    characteristic function and $e^{-t^2 / 2}$, by the rectangles of 17 knots $t_j$ from 0 to 3, $\Delta = 3 / 16$:

    $$ B \sum_j w_j \left[ \left( \frac{1}{B} \sum_b \cos t_j s_b - e^{-t_j^2 / 2} \right)^2
       + \left( \frac{1}{B} \sum_b \sin t_j s_b \right)^2 \right], \quad w_j = 2 \Delta e^{-t_j^2 / 2} $$

    with half of the weight at both ends. It grows with B: of samples that are normal its mean is about the same at any
    B, of others it grows like B.
    """
    knots_J = torch.linspace(0, LAST, KNOTS).to(z_VBK)
    normal_J = torch.exp(-knots_J.square() / 2)
    weight_J = 2 * LAST / (KNOTS - 1) * normal_J
    weight_J[[0, -1]] /= 2
    angle_VBMJ = (z_VBK @ directions_KM)[..., None] * knots_J
    error_VMJ = (angle_VBMJ.cos().mean(1) - normal_J).square() + angle_VBMJ.sin().mean(1).square()
    return z_VBK.shape[1] * (error_VMJ @ weight_J).mean()
