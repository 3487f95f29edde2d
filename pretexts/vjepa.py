"""V-JEPA: predict, of what is hidden, not the pixels but what a slowly following copy of the network makes of them.

A. Bardes, Q. Garrido, J. Ponce, X. Chen, M. Rabbat, Y. LeCun, M. Assran, N. Ballas: "Revisiting Feature Prediction for
Learning Visual Representations from Video", 2024.

The student sees the patches outside of some blocks; a predictor says from its tokens what the teacher, who sees the
whole clip, has at the others. The teacher is the student's moving average, and it is what is exported. Nothing keeps
the two from agreeing on a constant but the speeds at which they move, so that the numbers that would fall are logged.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.backbones.positions import sincos_3d
from ssl_video.bounds import Bounded, Count, Fraction, LessThanOne, Positive
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS, Context, Output, Pretext, Progress, Sample, Skip, View
from ssl_video.pretexts.teacher import follow, load_teacher, teacher_of
from ssl_video.pretexts.tokens import (
    blocks,
    grid_of,
    kept_and_hidden,
    of_ids,
    run_blocks,
    start_linear,
    token_network,
)  # fmt: skip
from ssl_video.train.log import effective_rank
from ssl_video.video import augment

Kind = tuple[int, float]
"""A kind of mask: how many blocks, and which fraction of a frame each has."""


@dataclass(frozen=True)
class VJEPAConfig(Bounded):
    """Options of V-JEPA, with the values of the authors' code as defaults."""

    frames: Count = 16
    """Frames of a clip."""
    stride: Count = 4
    """Every stride-th frame of the file."""
    short_side: Count = 256
    """The frames' shorter side before the crop, in pixels."""
    size: Count = 224
    """Side of the square that the crop is resized to, in pixels."""
    area: tuple[Fraction, Fraction] = (0.3, 1.0)
    """Area of the crop, of the frame's."""
    short_blocks: Count = 8
    """Blocks of the mask of many small ones."""
    short_scale: Fraction = 0.15
    """Fraction of a frame that each of these has."""
    long_blocks: Count = 2
    """Blocks of the mask of few large ones."""
    long_scale: Fraction = 0.7
    """Fraction of a frame that each of these has."""
    aspect: tuple[Positive, Positive] = (0.75, 1.5)
    """Height over width of a block."""
    predictor_width: Count = 384
    """Channels of the predictor."""
    predictor_heads: Count = 12
    """Heads of the predictor."""
    predictor_depth: Count = 12
    """Blocks of the predictor."""
    momentum: LessThanOne = 0.998
    """How much of itself the teacher keeps in a step; it rises to 1 along a line."""
    teacher: str = "ema"
    """ema, or frozen:RUN, the same network as a finished run (of videomae, say) left it, which does not move (SALT)."""

    def __post_init__(self):
        super().__post_init__()
        if self.predictor_width % self.predictor_heads:
            raise UserError(
                f"A predictor of {self.predictor_width} channels cannot have {self.predictor_heads} heads; choose a "
                f"divisor."
            )
        if self.teacher != "ema" and not self.teacher.startswith("frozen:"):
            raise UserError(f"--pretext.teacher is ema or frozen:RUN, not {self.teacher!r}.")


@PRETEXTS.register("vjepa")
class VJEPA(Pretext):
    """V-JEPA (2024): predict what a teacher makes of the hidden parts of a clip."""

    Config = VJEPAConfig
    config: VJEPAConfig
    span_limits = (("stride", 1), ("frames", 8))
    collapse_below = 0.03
    positions_ND: Tensor

    def __init__(self, config: VJEPAConfig, backbone: Backbone):
        super().__init__(config, backbone)
        c = config
        self.tokens = token_network(backbone, "vjepa")
        self.grid = grid_of(backbone, c.frames, c.size)
        self.kinds: tuple[Kind, ...] = ((c.short_blocks, c.short_scale), (c.long_blocks, c.long_scale))
        self.to_predictor = nn.Linear(backbone.feature_dim, c.predictor_width)
        self.mask_tokens = nn.ParameterList(torch.zeros(c.predictor_width) for _ in self.kinds)
        self.predictor = blocks(c.predictor_width, c.predictor_heads, c.predictor_depth)
        self.from_predictor = nn.Linear(c.predictor_width, backbone.feature_dim)
        self.register_buffer("positions_ND", sincos_3d(self.grid, c.predictor_width).float(), persistent=False)
        for module in (self.to_predictor, self.predictor, self.from_predictor):
            start_linear(module)
        self.moves = c.teacher == "ema"
        self.teacher = teacher_of(backbone)

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
        """One rectangle for all frames, resized, and mirrored in half of the clips; no colours."""
        c = self.config
        if not self.training:
            return {"clip_THWC": self.view.prepare(frames_THWC)}
        frames_THWC = augment.resize_short_side(frames_THWC, c.short_side)
        return {"clip_THWC": augment.flip(augment.resized_crop(frames_THWC, c.size, c.area, rng), rng)}

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """Mean distance (L1) of the predicted tokens from the teacher's, over both kinds of masks.

        ``relative``: over the distance of the best constant, the medians of the channels; ``rank``: the effective rank
        of the teacher's tokens. Both fall together when everything becomes one point.
        """
        clip_BCTHW = self.backbone.normalise(batch["clip_THWC"])
        with torch.no_grad():
            h_BND = self._teach(clip_BCTHW)
        losses, constants = [], []
        for number, kind in enumerate(self.kinds):
            kept_BK, hidden_BM = self.masks(kind, len(clip_BCTHW), ctx)
            predicted_BMD = self._predict(clip_BCTHW, kept_BK, hidden_BM, number)
            with torch.autocast(clip_BCTHW.device.type, enabled=False):
                hidden_BMD = of_ids(h_BND, hidden_BM).to(predicted_BMD.dtype)
                losses.append((predicted_BMD - hidden_BMD).abs().mean())
                constants.append((hidden_BMD - hidden_BMD.flatten(0, 1).median(0).values).abs().mean())
        loss = torch.stack(losses).mean()
        some_MD = h_BND.flatten(0, 1)[:: max(1, h_BND.shape[0] * h_BND.shape[1] // 512)]
        metrics = {"relative": loss.detach() / torch.stack(constants).mean(), "rank": effective_rank(some_MD)}
        return Output(loss, metrics, h_BND.mean(1))

    def masks(self, kind: Kind, B: int, ctx: Context) -> tuple[Tensor, Tensor]:
        """Numbers of the patches that are seen, and of all others, as many in every clip.

        Blocks go through all frames. They are of one size in a batch, at other places in each clip, so that their
        unions differ: where one hides less than another, patches at random are hidden too. No patch is lost. A clip
        that blocks hide whole is shown as many of its patches as the others.
        """
        (t, h, w), (blocks_, scale) = self.grid, kind
        height, width = block_size(scale, self.config.aspect, (h, w), ctx.generator)
        score_BS = ctx.uniform(B, h * w) + union(ctx.uniform(B, blocks_, 2), (height, width), (h, w))
        seen_B = (score_BS < 1).sum(1)
        least = int(ctx.gather(torch.where(seen_B == 0, h * w, seen_B).float()).min())
        seen = 1 if least == h * w else least
        kept_BS, hidden_BS = kept_and_hidden(score_BS, seen)
        row_T = torch.arange(t, device=kept_BS.device)[:, None] * h * w
        return tuple((row_T + ids_BS[:, None]).flatten(1) for ids_BS in (kept_BS, hidden_BS))  # pyright: ignore

    def fit(self, samples: Iterable[Mapping[str, Any]], rng: np.random.Generator) -> None:
        """A frozen teacher gets its weights. Raises UserError if they are not there, or of another network."""
        if not self.moves:
            load_teacher(self.teacher, self.config.teacher.removeprefix("frozen:"))

    def _teach(self, clip_BCTHW: Tensor) -> Tensor:
        """(B, N, D) the teacher's tokens of the whole clip, each normalised over its channels."""
        network = token_network(self.teacher, "a teacher")
        seen = network.blocks(network.embed(clip_BCTHW))
        x_BND = seen.x_BND[seen.ids_BN >= 0].unflatten(0, (len(clip_BCTHW), -1))
        return F.layer_norm(x_BND.float(), x_BND.shape[-1:])

    def _predict(self, clip_BCTHW: Tensor, kept_BK: Tensor, hidden_BM: Tensor, number: int) -> Tensor:
        seen = self.tokens.blocks(self.tokens.embed(clip_BCTHW, kept_BK))
        seen_BKE = self.to_predictor(seen.x_BND[seen.ids_BN >= 0].unflatten(0, kept_BK.shape))
        places_ND = self.positions_ND.to(seen_BKE)
        hidden_BME = self.mask_tokens[number].to(seen_BKE) + places_ND[hidden_BM]
        x_BNE = torch.cat([seen_BKE + places_ND[kept_BK], hidden_BME], 1)
        y_BMD = self.from_predictor(run_blocks(self.predictor, x_BNE)[:, kept_BK.shape[1] :])
        return y_BMD.to(self.from_predictor.weight.dtype)

    def after_step(self, progress: Progress) -> None:
        """The teacher follows, ever more slowly."""
        if self.moves:
            follow(self.teacher, self.backbone, self.momentum(progress))

    def momentum(self, progress: Progress) -> float:
        """From ``momentum`` to 1 along a line."""
        return self.config.momentum + (1 - self.config.momentum) * progress.fraction

    def exported(self) -> Backbone:
        """The teacher, which is what the authors evaluate; the student of a frozen one."""
        return self.teacher if self.moves else self.backbone


def block_size(
    scale: float, aspect: tuple[float, float], grid: tuple[int, int], generator: torch.Generator
) -> tuple[int, int]:
    """Height and width of a block in cells: of ``scale`` of the grid's cells, and of a random aspect ratio."""
    ratio = aspect[0] + (aspect[1] - aspect[0]) * torch.rand((), generator=generator).item()
    area = scale * grid[0] * grid[1]
    return min(grid[0], max(1, round((area * ratio) ** 0.5))), min(grid[1], max(1, round((area / ratio) ** 0.5)))


def union(place_BK2: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """(B, h w) 1 where one of the blocks of ``size`` lies, else 0; places are uniform in [0, 1)."""
    hidden_BKhw = []
    for axis in (0, 1):
        first_BK1 = (place_BK2[..., axis] * (grid[axis] - size[axis] + 1)).floor()[..., None]
        cell_n = torch.arange(grid[axis], device=place_BK2.device)
        hidden_BKhw.append((cell_n >= first_BK1) & (cell_n < first_BK1 + size[axis]))
    inside_BKhw = hidden_BKhw[0][..., :, None] & hidden_BKhw[1][..., None, :]
    return inside_BKhw.any(1).flatten(1).float()
