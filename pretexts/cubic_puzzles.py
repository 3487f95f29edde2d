"""Space-time cubic puzzles: where, or when, does each of these pieces of a video belong?

D. Kim, D. Cho, I. S. Kweon: "Self-Supervised Video Representation Learning with Space-Time Cubic Puzzles", AAAI 2019.

The paper's auxiliary task, to tell by which of four angles the pieces were rotated, is left out.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.bounds import Bounded, Count, Fraction, LessThanOne
from ssl_video.constants import constant
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS, Context, Output, Pretext, Sample, Skip, View, place
from ssl_video.pretexts.orders import in_every_order, in_words
from ssl_video.video import augment

PERMUTATIONS = tuple(itertools.permutations(range(4)))
SPACE, TIME = 0, 1


@dataclass(frozen=True)
class CubicPuzzlesConfig(Bounded):
    """Options of the cubic puzzles pretext, with the paper's values as defaults."""

    frames: Count = 16
    """Frames of a piece."""
    cell_frames: Count = 32
    """Frames of a cell of the grid; the clip has four cells in time."""
    stride: Count = 1
    """Every stride-th frame of the file is a frame of the clip."""
    crop: Count = 80
    """Side of a piece, in pixels."""
    cell: Count = 112
    """Side of a cell, in pixels; the clip is two cells wide and two high."""
    short_side: Count = 256
    """The frames' shorter side before the clip is cut out of them, in pixels."""
    puzzles: Literal["both", "space", "time"] = "both"
    """Shuffle over space or time, at random for each puzzle, or over one of them only."""
    replicate: Fraction = 0.5
    """Probability that one channel, drawn for the puzzle, stands in for all three."""
    width: Count = 512
    """Units of the layer that brings the four pieces together."""
    dropout: LessThanOne = 0.5
    """Fraction of these units dropped before the last layer."""
    every_order: bool = False
    """Train on a puzzle in all its permutations at once, which cost one pass of the backbone; the paper draws one."""

    def __post_init__(self):
        super().__post_init__()
        if self.frames > self.cell_frames or self.crop > self.cell or 2 * self.cell > self.short_side:
            raise UserError(
                f"A piece of {self.frames} frames of {self.crop} pixels must fit into a cell of "
                f"{self.cell_frames} frames of {self.cell} pixels, and two cells into the short side of "
                f"{self.short_side} pixels; change frames, crop, cell_frames, cell or short_side."
            )


@PRETEXTS.register("cubic_puzzles")
class CubicPuzzles(Pretext):
    """Space-time cubic puzzles (AAAI 2019): recognise the permutation of four pieces over space or over time."""

    Config = CubicPuzzlesConfig
    config: CubicPuzzlesConfig
    span_limits = (("stride", 1), ("cell_frames", 10))

    def __init__(self, config: CubicPuzzlesConfig, backbone: Backbone):
        super().__init__(config, backbone)
        backbone.check_clip(config.frames, config.crop)
        self.span = (4 * config.cell_frames - 1) * config.stride + 1
        self.head = nn.Sequential(  # late fusion
            nn.Linear(4 * backbone.feature_dim, config.width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.width, len(PERMUTATIONS)),
        )

    @property
    def view(self) -> View:
        """As long as a piece and at its scale, but with the whole picture, where the network takes it."""
        c = self.config
        return View(c.frames, c.stride, c.short_side, c.crop if self.backbone.clip.fixed_size else 2 * c.cell)

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """A clip of four cells in time, the kind of puzzle, and the frames of each piece, shaken inside its cell."""
        c = self.config
        first = place(video, self.span, rng, "frames of a puzzle")
        if isinstance(first, Skip):
            return first
        axis = int(rng.integers(2)) if c.puzzles == "both" else (SPACE, TIME)[c.puzzles == "time"]
        cells_P = np.arange(4) if axis == TIME else np.full(4, rng.integers(4))
        starts_P = cells_P * c.cell_frames + self._jitter(c.cell_frames - c.frames, rng)
        # a frame in several pieces is read once
        offsets, positions = np.unique(starts_P[:, None] + np.arange(c.frames), return_inverse=True)
        frames = tuple(int(first + c.stride * offset) for offset in offsets)
        class_ = int(rng.integers(len(PERMUTATIONS)))
        data = {"positions_PT": positions.reshape(4, c.frames), "axis": axis, "class": class_}
        return Sample(frames, data, each=self.view.small)

    def label_words(self) -> dict[str, tuple[str, ...]]:
        """Every order of the pieces."""
        return {"class": in_words(PERMUTATIONS)}

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray:
        """As a puzzle spans, over space too, at any rate."""
        return np.full(len(fps_N), self.span)

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """Cut the pieces, each shaken inside its cell, and show them in the order of the class."""
        c, data = self.config, sample.data
        frames_THWC = augment.resize_short_side(frames_THWC, c.short_side)
        frames_THWC = augment.crop(frames_THWC, 2 * c.cell, rng if self.training else None)
        if self.training and rng.random() < c.replicate:
            frames_THWC = np.repeat(frames_THWC[..., rng.integers(3), None], 3, axis=3)
        cells_P = np.arange(4) if data["axis"] == SPACE else np.full(4, rng.integers(4))
        tops_P = cells_P // 2 * c.cell + self._jitter(c.cell - c.crop, rng)
        lefts_P = cells_P % 2 * c.cell + self._jitter(c.cell - c.crop, rng)
        pieces = [
            frames_THWC[positions_T, top : top + c.crop, left : left + c.crop]
            for positions_T, top, left in zip(data["positions_PT"], tops_P, lefts_P, strict=True)
        ]
        shown_PTHWC = np.stack([pieces[p] for p in PERMUTATIONS[data["class"]]])
        return {"pieces_PTHWC": shown_PTHWC, "class": data["class"]}

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """Cross-entropy over the 24 permutations; which axis a puzzle is of is not told."""
        pieces_BPTHWC, classes_B = batch["pieces_PTHWC"], batch["class"]
        x_NCTHW = self.backbone.normalise(pieces_BPTHWC.flatten(0, 1))
        features_ND = self.backbone(x_NCTHW).mean((2, 3, 4))
        features_BPD = features_ND.unflatten(0, (-1, 4))
        if self.training and self.config.every_order:
            order_BP = constant(PERMUTATIONS, classes_B.device)[classes_B]
            features_BPD, classes_B = in_every_order(features_BPD, order_BP, PERMUTATIONS, range(len(PERMUTATIONS)))
        logits_BK = self.head(features_BPD.flatten(1)).to(x_NCTHW.dtype)
        loss = F.cross_entropy(logits_BK, classes_B)
        right_B = (logits_BK.argmax(1) == classes_B).double()
        return Output(loss, {"accuracy": right_B.mean()}, features_ND.detach(), right_B)

    def _jitter(self, room: int, rng: np.random.Generator) -> np.ndarray:
        """(4,) distances of the pieces from the start of their cells; at test they are in the middle."""
        return rng.integers(0, room + 1, 4) if self.training else np.full(4, room // 2)
