"""SiamMAE: paint a frame of which next to nothing is seen, from an earlier one.

A. Gupta, J. Wu, J. Deng, L. Fei-Fei: "Siamese Masked Autoencoders", NeurIPS 2023. With ``pair=crops`` a second crop of
the same frame takes the place of the later frame: A. Eymaël, R. Vandeghen, A. Cioppa, S. Giancola, B. Ghanem, M. Van
Droogenbroeck: "Efficient Image Pre-Training with Siamese Cropped Masked Autoencoders", ECCV 2024.

One network sees each frame by itself, the first whole, of the second one patch in twenty. A decoder asks the first for
what belongs where the second is hidden; it has to find the thing there, so that the network learns what corresponds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.backbones.positions import sincos_2d
from ssl_video.bounds import Bounded, Count, Fraction, LessThanOne, Positive
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS, Context, Needs, Output, Pretext, Sample, Skip, View, place
from ssl_video.pretexts.tokens import (
    check_kept,
    grid_of,
    kept_and_hidden,
    of_ids,
    pixels_of,
    start_linear,
    token_network,
)  # fmt: skip
from ssl_video.video import augment


@dataclass(frozen=True)
class SiamMAEConfig(Bounded):
    """Options of SiamMAE, with the values of CropMAE's code as defaults (that of SiamMAE is not published)."""

    pair: Literal["frames", "crops"] = "frames"
    """frames: two frames, in one crop; crops: one frame, the second a crop of the first (CropMAE)."""
    gap_s: tuple[Positive, Positive] = (0.13, 1.6)
    """Least and most seconds between the frames; 4 to 48 frames of 30 a second. Short videos have shorter gaps."""
    short_side: Count = 256
    """The frames' shorter side before the crop, in pixels."""
    size: Count = 224
    """Side of the square that a crop is resized to, in pixels."""
    area: tuple[Fraction, Fraction] = (0.5, 1.0)
    """Area of the crop, of the frame's."""
    crop_area: tuple[Fraction, Fraction] = (0.3, 0.6)
    """Area of the second crop, of the first one's (pair crops)."""
    mask: Fraction = 0.95
    """Fraction of the second frame's patches that are hidden; 0.985 for crops."""
    normalised: bool = True
    """Paint pixels less the mean of their patch, over the standard deviation; else as they are."""
    reference: bool = True
    """Show the first frame to the decoder; without it (an ablation) only its own few patches are left."""
    decoder_width: Count = 256
    """Channels of the decoder."""
    decoder_heads: Count = 8
    """Heads of the decoder."""
    decoder_depth: Count = 4
    """Blocks of the decoder."""
    decoder_hidden: Count = 2048
    """Units of the decoder's layers between."""
    dropout: LessThanOne = 0.1
    """In the decoder."""

    def __post_init__(self):
        super().__post_init__()
        if self.decoder_width % self.decoder_heads:
            raise UserError(
                f"A decoder of {self.decoder_width} channels cannot have {self.decoder_heads} heads; choose a divisor."
            )
        if self.gap_s[0] > self.gap_s[1]:
            raise UserError(f"--pretext.gap-s runs from {self.gap_s[0]:g} to {self.gap_s[1]:g}; exchange them.")


@PRETEXTS.register("siam_mae")
class SiamMAE(Pretext):
    """SiamMAE (NeurIPS 2023): paint a frame of which one patch in twenty is seen, from an earlier one."""

    Config = SiamMAEConfig
    config: SiamMAEConfig
    span_limits = (("gap_s", 0.04),)
    needs = Needs(max_temporal_stride=1)
    positions_SE: Tensor

    def __init__(self, config: SiamMAEConfig, backbone: Backbone):
        super().__init__(config, backbone)
        c = config
        self.tokens = token_network(backbone, "siam_mae")
        _, *self.grid = grid_of(backbone, 1, c.size)
        cells = self.grid[0] * self.grid[1]
        self.seen = round((1 - c.mask) * cells) or 1
        check_kept(self.seen, cells, f"--pretext.mask {c.mask:g}")
        self.cell = backbone.strides
        self.to_decoder = nn.Linear(backbone.feature_dim, c.decoder_width)
        self.mask_token_E = nn.Parameter(0.02 * torch.randn(c.decoder_width))
        self.decoder = nn.ModuleList(
            CrossBlock(c.decoder_width, c.decoder_heads, c.decoder_hidden, c.dropout) for _ in range(c.decoder_depth)
        )
        self.norm = nn.LayerNorm(c.decoder_width, eps=1e-6)
        self.paint = nn.Linear(c.decoder_width, self.cell[1] * self.cell[2] * 3)
        table_SE = sincos_2d((self.grid[0], self.grid[1]), c.decoder_width).float()
        self.register_buffer("positions_SE", table_SE, persistent=False)
        for module in (self.to_decoder, self.decoder, self.paint):
            start_linear(module, xavier=True)

    @property
    def view(self) -> View:
        """A frame."""
        return View(1, 1, self.config.short_side, self.config.size)

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """Two frames, the gap uniform among those that the video has; one frame, twice, for two crops."""
        assert video.info is not None
        low, high = self._gaps(np.array([video.info.fps]))
        if self.config.pair == "crops":
            gap = 0
        else:
            gap = int(rng.integers(low[0], max(low[0], min(high[0], video.info.frames - 1)) + 1))
        first = place(video, gap + 1, rng, "frames from the first of a pair to the second")
        return first if isinstance(first, Skip) else Sample((first, first + gap), each=self.view.small)

    def _gaps(self, fps_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        least, most = (np.maximum(1, np.rint(s * fps_N)).astype(int) for s in self.config.gap_s)
        return least, most

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray:
        """As the shortest gap spans."""
        return np.ones(len(fps_N)) if self.config.pair == "crops" else self._gaps(fps_N)[0] + 1.0

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """One rectangle and one flip for both; of two crops the second lies in the first. At test the centre."""
        c = self.config
        if not self.training:
            pair_2HWC = self.view.prepare(frames_THWC)
            return {"pair_2HWC": self._second_crop(pair_2HWC, np.random.default_rng(sample.frames[0]))}
        frames_THWC = augment.resize_short_side(frames_THWC, c.short_side)
        pair_2HWC = augment.flip(augment.resized_crop(frames_THWC, c.size, c.area, rng), rng)
        return {"pair_2HWC": self._second_crop(np.ascontiguousarray(pair_2HWC), rng)}

    def _second_crop(self, pair_2HWC: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.config.pair == "frames":
            return pair_2HWC
        inner = augment.resized_crop(pair_2HWC[1:], self.config.size, self.config.crop_area, rng)
        return np.concatenate([pair_2HWC[:1], inner])

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """Mean squared error of the hidden pixels; ``relative``: over that of painting nothing."""
        first_B1HWC, second_B1HWC = batch["pair_2HWC"].split(1, 1)
        kept_BK, hidden_BM = kept_and_hidden(ctx.uniform(len(first_B1HWC), self.grid[0] * self.grid[1]), self.seen)
        whole = self.tokens.blocks(self.tokens.embed(self.backbone.normalise(first_B1HWC)))
        seen = self.tokens.blocks(self.tokens.embed(self.backbone.normalise(second_B1HWC), kept_BK))
        painted_BMP = self._paint(whole.x_BND, seen.x_BND, kept_BK, hidden_BM)
        with torch.autocast(first_B1HWC.device.type, enabled=False):
            target_BNP = targets(pixels_of(second_B1HWC, self.cell).flatten(2), self.config.normalised)
            hidden_BMP = of_ids(target_BNP, hidden_BM).to(painted_BMP.dtype)
            loss = (painted_BMP - hidden_BMP).square().mean()
        metrics = {"relative": loss.detach() / hidden_BMP.square().mean()}
        return Output(loss, metrics, whole.x_BND.mean(1).detach())

    def _paint(self, whole_BND: Tensor, seen_BLD: Tensor, kept_BK: Tensor, hidden_BM: Tensor) -> Tensor:
        """(B, M, pixels) of the hidden patches; a class token, where there is one, goes along without a position."""
        whole_BNE, seen_BLE = self.to_decoder(whole_BND), self.to_decoder(seen_BLD)
        places_SE = self.positions_SE.to(seen_BLE)
        extra = seen_BLE.shape[1] - kept_BK.shape[1]
        seen_BKE = seen_BLE[:, extra:] + places_SE[kept_BK]
        hidden_BME = self.mask_token_E.to(seen_BLE) + places_SE[hidden_BM]
        x_BNE = torch.cat([seen_BLE[:, :extra], seen_BKE, hidden_BME], 1)
        if not self.config.reference:
            whole_BNE = torch.zeros_like(whole_BNE)
        for block in self.decoder:
            x_BNE = block(x_BNE, whole_BNE)
        painted_BMP = self.paint(self.norm(x_BNE[:, -hidden_BM.shape[1] :]))
        return painted_BMP.to(self.paint.weight.dtype)


class CrossBlock(nn.Module):
    """Asks the first frame, then two layers, then asks itself; a norm behind each (not before, as elsewhere)."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.cross = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.own = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BND: Tensor, other_BMD: Tensor) -> Tensor:
        """(B, N, D), of the tokens of both frames."""
        cross, own = self.cross, self.own
        x_BND = self.norms[0](x_BND + self.dropout(cross(x_BND, other_BMD, other_BMD, need_weights=False)[0]))
        x_BND = self.norms[1](x_BND + self.mlp(x_BND))
        return self.norms[2](x_BND + self.dropout(own(x_BND, x_BND, x_BND, need_weights=False)[0]))


def targets(pixels_BNP: Tensor, normalised: bool) -> Tensor:
    """(B, N, P): of each patch its pixels of all colours less their mean, over sqrt(variance + 1e-6); or as they are.

    The variance is the unbiased one, of P - 1. (VideoMAE normalises each colour by itself.)
    """
    if not normalised:
        return pixels_BNP
    variance, mean = torch.var_mean(pixels_BNP, 2, keepdim=True)
    return (pixels_BNP - mean) / (variance + 1e-6).sqrt()
