"""VideoMAE: hide nine patches in ten, the same places in all frames, and paint them.

Z. Tong, Y. Song, J. Wang, L. Wang: "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training", NeurIPS 2022.

Only what is seen passes the network; a small decoder gets its tokens and one learned token for each place that is
hidden, and says the pixels there. Video hardly changes from frame to frame, so that whole tubes are hidden: otherwise
a patch could be copied from the frame before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.backbones.positions import sines_1d
from ssl_video.bounds import Bounded, Count, Fraction
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS, Context, Output, Pretext, Sample, Skip, View
from ssl_video.pretexts.tokens import (
    blocks,
    check_kept,
    grid_of,
    kept_and_hidden,
    of_ids,
    pixels_of,
    run_blocks,
    start_linear,
    token_network,
)  # fmt: skip
from ssl_video.video import augment


@dataclass(frozen=True)
class VideoMAEConfig(Bounded):
    """Options of VideoMAE, with the values of the authors' code for Kinetics-400 as defaults."""

    frames: Count = 16
    """Frames of a clip."""
    stride: Count = 4
    """Every stride-th frame of the file; 2 for Something-Something."""
    short_side: Count = 256
    """The frames' shorter side before the crop, in pixels."""
    size: Count = 224
    """Side of the square that is cut out and resized, in pixels."""
    scales: tuple[Fraction, ...] = (1.0, 0.875, 0.75, 0.66)
    """Height and width of the crop are drawn from these fractions of the shorter side, neighbours of each other."""
    mask: Fraction = 0.9
    """Fraction of the places that are hidden; 0.75 for UCF101."""
    masking: Literal["tubes", "patches"] = "tubes"
    """tubes: the same places in all frames; patches: any, of each row of tubelets as many."""
    decoder_width: Count = 384
    """Channels of the decoder."""
    decoder_heads: Count = 6
    """Heads of the decoder."""
    decoder_depth: Count = 4
    """Blocks of the decoder."""
    decoded: Fraction = 1.0
    """Fraction of the hidden patches that the decoder paints, drawn at random; VideoMAE v2 takes half."""
    normalised: bool = True
    """Paint pixels less the mean of their patch and colour, over the standard deviation of these; else as they are."""

    def __post_init__(self):
        super().__post_init__()
        if self.decoder_width % self.decoder_heads:
            raise UserError(
                f"A decoder of {self.decoder_width} channels cannot have {self.decoder_heads} heads; choose a divisor."
            )
        if self.size > self.short_side:
            raise UserError(f"A crop of {self.size} pixels does not fit into frames of {self.short_side}; shrink it.")


@PRETEXTS.register("videomae")
class VideoMAE(Pretext):
    """VideoMAE (NeurIPS 2022): paint what is hidden of a clip from the tenth that is seen."""

    Config = VideoMAEConfig
    config: VideoMAEConfig
    span_limits = (("stride", 1), ("frames", 8))
    positions_ND: Tensor

    def __init__(self, config: VideoMAEConfig, backbone: Backbone):
        super().__init__(config, backbone)
        c = config
        self.tokens = token_network(backbone, "videomae")
        self.grid = grid_of(backbone, c.frames, c.size)
        t, h, w = self.grid
        self.hidden_places = int(c.mask * h * w)
        check_kept(h * w - self.hidden_places, h * w, f"--pretext.mask {c.mask:g}")
        self.cell = backbone.strides
        self.to_decoder = nn.Linear(backbone.feature_dim, c.decoder_width, bias=False)
        self.mask_token_D = nn.Parameter(0.02 * torch.randn(c.decoder_width))
        self.decoder = blocks(c.decoder_width, c.decoder_heads, c.decoder_depth)
        self.paint = nn.Linear(c.decoder_width, self.cell[0] * self.cell[1] * self.cell[2] * 3)
        positions_ND = sines_1d(torch.arange(t * h * w), c.decoder_width).float()
        self.register_buffer("positions_ND", positions_ND, persistent=False)
        for module in (self.to_decoder, self.decoder, self.paint):
            start_linear(module, xavier=True)

    @property
    def view(self) -> View:
        """A clip, whole."""
        c = self.config
        return View(c.frames, c.stride, c.short_side, c.size)

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """A clip from a random frame on."""
        frames_T = self.view.draw(video, rng)
        return frames_T if isinstance(frames_T, Skip) else Sample(tuple(frames_T.tolist()), each=self.view.small)

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray:
        """As a clip spans."""
        return self.view.spans(fps_N)

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """A rectangle of random height and width, resized; no mirroring and no colours, as in the authors' code."""
        c = self.config
        if not self.training:
            return {"clip_THWC": self.view.prepare(frames_THWC)}
        frames_THWC = augment.resize_short_side(frames_THWC, c.short_side)
        top, left, height, width = draw_scaled(frames_THWC.shape[1:3], c.scales, rng)
        cut_THWC = frames_THWC[:, top : top + height, left : left + width]
        return {"clip_THWC": augment.resize(np.ascontiguousarray(cut_THWC), (c.size, c.size))}

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """Mean squared error of the hidden pixels.

        ``relative``: over that of painting nothing (0, the mean of every patch); of pixels as they are also ``copied``,
        the error of copying the nearest patch that is seen.
        """
        clip_BTHWC = batch["clip_THWC"]
        kept_BK, hidden_BM = self.masks(len(clip_BTHWC), ctx)
        seen = self.tokens.blocks(self.tokens.embed(self.backbone.normalise(clip_BTHWC), kept_BK))
        seen_BKD = seen.x_BND[seen.ids_BN >= 0].unflatten(0, kept_BK.shape)
        painted_BMP = self._paint(seen_BKD, kept_BK, hidden_BM)
        with torch.autocast(clip_BTHWC.device.type, enabled=False):
            target_BNP = targets(pixels_of(clip_BTHWC, self.cell), self.config.normalised).to(painted_BMP.dtype)
            hidden_BMP = of_ids(target_BNP, hidden_BM)
            loss = (painted_BMP - hidden_BMP).square().mean()
            metrics = {"relative": loss.detach() / hidden_BMP.square().mean()}
            if not self.config.normalised:
                copied_BMP = of_ids(target_BNP, nearest(kept_BK, hidden_BM, self.grid))
                metrics["copied"] = (copied_BMP - hidden_BMP).square().mean()
        return Output(loss, metrics, seen_BKD.mean(1).detach())

    def masks(self, B: int, ctx: Context) -> tuple[Tensor, Tensor]:
        """Numbers of the patches that are seen, and of those that are painted."""
        c, (t, h, w) = self.config, self.grid
        rows = 1 if c.masking == "tubes" else t
        score_BRS = ctx.uniform(B, rows, h * w)
        seen = h * w - self.hidden_places
        rank_BRS = score_BRS.argsort(2).argsort(2)
        hidden_BN = (rank_BRS >= seen).expand(B, t, h * w).flatten(1)
        kept_BK, hidden_BM = kept_and_hidden(hidden_BN.float(), t * seen)
        if c.decoded < 1:
            some, _ = kept_and_hidden(ctx.uniform(B, hidden_BM.shape[1]), max(1, round(c.decoded * hidden_BM.shape[1])))
            hidden_BM = hidden_BM.gather(1, some)
        return kept_BK, hidden_BM

    def _paint(self, seen_BKD: Tensor, kept_BK: Tensor, hidden_BM: Tensor) -> Tensor:
        """(B, M, pixels): the hidden patches behind those that are seen, each at its place, through the decoder."""
        seen_BKE = self.to_decoder(seen_BKD)
        places_ND = self.positions_ND.to(seen_BKE)
        hidden_BME = self.mask_token_D.to(seen_BKE) + places_ND[hidden_BM]
        x_BNE = torch.cat([seen_BKE + places_ND[kept_BK], hidden_BME], 1)
        return self.paint(run_blocks(self.decoder, x_BNE)[:, kept_BK.shape[1] :]).to(self.paint.weight.dtype)


def targets(pixels_BNSC: Tensor, normalised: bool) -> Tensor:
    """(B, N, S C): of each patch and colour its pixels less their mean over sqrt of their variance + 1e-6; or as is.

    The variance is the unbiased one, of S - 1.
    """
    if normalised:
        variance, mean = torch.var_mean(pixels_BNSC, 2, keepdim=True)
        pixels_BNSC = (pixels_BNSC - mean) / (variance.sqrt() + 1e-6)
    return pixels_BNSC.flatten(2)


def nearest(kept_BK: Tensor, hidden_BM: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """(B, M) of each hidden patch, the number of the nearest one that is seen, in cells; the first of equals."""
    place_N3 = torch.cartesian_prod(*(torch.arange(n, device=kept_BK.device) for n in grid)).float()
    return kept_BK.gather(1, torch.cdist(place_N3[hidden_BM], place_N3[kept_BK]).argmin(2))


def draw_scaled(
    size: tuple[int, int], scales: tuple[float, ...], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a rectangle whose sides are of ``scales`` of the shorter side, at any place.

    Height and width are the same scale, or neighbours in the list: nothing is stretched much.
    """
    pairs = [(i, j) for i in range(len(scales)) for j in range(len(scales)) if abs(i - j) <= 1]
    i, j = pairs[rng.integers(len(pairs))]
    height, width = (max(1, int(scales[n] * min(size))) for n in (i, j))
    top, left = rng.integers(0, (size[0] - height + 1, size[1] - width + 1))
    return int(top), int(left), height, width
