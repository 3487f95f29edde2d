"""The arrow of time: is this clip played forward or backward?

D. Wei, J. Lim, A. Zisserman, W. T. Freeman: "Learning and Using the Arrow of Time", CVPR 2018.

The paper's network, T-CAM, takes optical flow. The flow of a clip played backward is computed anew from its frames
in reverse order: it is not the forward flow negated, and a network that saw negated flow would learn how the two
differ, not how time runs.

A network could also tell the direction by traces of how the video was made. The paper removes two of them, black
borders and the camera's motion, and each removal is an option here, so that its effect can be measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.bounds import Bounded, Count, NotNegative
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.pretexts.base import (
    PRETEXTS,
    Context,
    Needs,
    Output,
    Pretext,
    Redraw,
    Sample,
    Skip,
    View,
    at_every_cell,
)
from ssl_video.video import cues

FORWARD, BACKWARD = 0, 1
STILL = {"flow": 1, "rgb": 8}
"""Levels of stored flow around no motion, or gray levels between frames, within which a clip stands still."""
MOVING = 0.001
"""Fraction of a clip that must move more than that."""


@dataclass(frozen=True)
class ArrowOfTimeConfig(Bounded):
    """Options of the arrow of time, with the paper's values as defaults."""

    frames: Count = 20
    """Flow fields of a clip, or frames for a network of RGB; shorter videos are skipped."""
    stride: Count = 1
    """Every stride-th field or frame is taken."""
    zero_borders: bool = True
    """Set to zero what is black at the edges in all frames of a clip."""
    stabilise: bool = True
    """Take the camera's motion out; clips whose camera motion cannot be found are drawn again. Needs OpenCV."""
    short_side: Count = 256
    """The frames' shorter side before the crop, in pixels."""
    crop: Count = 224
    """Side of the square cut out of the frames, in pixels."""
    colour: NotNegative = 0.15
    """Standard deviation of the random colour matrix of an RGB clip around the identity; 0 turns colour changes off."""
    both_directions: bool = False
    """Train on each RGB clip forward and backward in one batch; the paper draws the direction, and takes flow."""


@PRETEXTS.register("arrow_of_time")
class ArrowOfTime(Pretext):
    """The arrow of time (CVPR 2018): classify a clip, of flow or of RGB, as forward or backward."""

    Config = ArrowOfTimeConfig
    config: ArrowOfTimeConfig
    span_limits = (("stride", 1), ("frames", 8))
    needs = Needs(modality="any", reversed=True)
    answers = ("forward", "backward")

    def __init__(self, config: ArrowOfTimeConfig, backbone: Backbone):
        super().__init__(config, backbone)
        self.of_flow = backbone.clip.modality == "flow"
        if config.both_directions and self.of_flow:
            raise UserError(
                "both_directions is for networks of RGB, since the flow of a clip reversed is another file; add "
                "--pretext.no-both-directions."
            )
        if config.zero_borders and self.of_flow:  # RGB frames show their borders themselves
            self.needs = replace(self.needs, statistics=("black_borders",))
        self.head = nn.Linear(backbone.feature_dim, 1)

    @property
    def view(self) -> View:
        """Forward clips, cropped as at test."""
        return View(self.config.frames, self.config.stride, self.config.short_side, self.config.crop)

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """A part of the video, forward or backward: what it shows says nothing of its label."""
        label = int(rng.integers(2))
        positions = self.view.draw(video, rng, f"{'flow fields' if self.of_flow else 'frames'} of a clip")
        if isinstance(positions, Skip):
            return positions
        data: dict[str, Any] = {"label": label, "borders_4": np.zeros(4, np.float32)}
        if "black_borders" in stats:
            borders_T4 = stats["black_borders"]  # field n lies between frames n and n + 1
            around = np.minimum(np.concatenate([positions, positions + 1]), len(borders_T4) - 1)
            data["borders_4"] = borders_T4[around].min(axis=0)
        if label == BACKWARD:
            positions = positions[::-1]
            if self.of_flow:  # the same frames in the video played backward, which begins at its end
                positions = video.frames - 1 - positions
        return Sample(tuple(positions.tolist()), data, reversed=self.of_flow and label == BACKWARD)

    def label_words(self) -> dict[str, tuple[str, ...]]:
        """Two directions."""
        return {"label": ("forward", "backward")}

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray:
        """As a clip spans."""
        return self.view.spans(fps_N)

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any] | Redraw:
        """Artificial cues out; one crop and one flip for all frames."""
        label = sample.data["label"]
        order = -1 if label == BACKWARD and not self.of_flow else 1  # cues are sought in frames that run forward
        clean_THWC = self._without_cues(frames_THWC[::order], sample.data["borders_4"])
        if isinstance(clean_THWC, Redraw):
            return clean_THWC
        clip_THWC = self.view.prepare(clean_THWC[::order], rng if self.training else None)
        return {"clip_THWC": clip_THWC, "label": label}

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """Binary cross-entropy of "backward", from the mean over the feature map."""
        clip_BTHWC, labels_B = batch["clip_THWC"], batch["label"]
        changes = self.training and not self.of_flow
        colours = ctx.colours(len(clip_BTHWC), self.config.colour) if changes else {}
        x_BCTHW = self.backbone.normalise(clip_BTHWC, **colours)
        if self.training and self.config.both_directions:
            x_BCTHW, labels_B = torch.cat([x_BCTHW, x_BCTHW.flip(2)]), torch.cat([labels_B, 1 - labels_B])
        features_BD = self.backbone(x_BCTHW).mean((2, 3, 4))
        logits_B = self.head(features_BD).squeeze(1).to(x_BCTHW.dtype)
        loss = F.binary_cross_entropy_with_logits(logits_B, labels_B.to(logits_B.dtype))
        right_B = ((logits_B > 0) == (labels_B == BACKWARD)).double()
        return Output(loss, {"accuracy": right_B.mean()}, features_BD.detach(), right_B)

    def heat_map(self, features_BDthw: Tensor) -> Tensor:
        """(B, t, h, w) logit of "backward" at every cell of a feature map, the paper's class activation map.

        Their mean is the logit of the clip.
        """
        return at_every_cell(self.head, features_BDthw)[:, 0]

    def _without_cues(self, frames_THWC: np.ndarray, borders_4: np.ndarray) -> np.ndarray | Redraw:
        c = self.config
        if c.zero_borders and not self.of_flow:
            borders_4 = cues.black_borders(frames_THWC).min(axis=0)
        inside = cues.content(frames_THWC.shape[1:3], borders_4)
        if any(s.stop <= s.start for s in inside):
            return Redraw("it is black all over")
        if c.stabilise:
            remove = cues.flow_without_camera if self.of_flow else cues.frames_without_camera
            steady_THWC = remove(frames_THWC, inside)
            if steady_THWC is None:
                return Redraw("its camera's motion cannot be found")
            frames_THWC = steady_THWC
        if c.zero_borders:
            frames_THWC = cues.zero_outside(frames_THWC, inside)
        return Redraw("nothing moves in it") if self._still(frames_THWC) else frames_THWC

    def _still(self, frames_THWC: np.ndarray) -> bool:
        if self.of_flow:
            moved = np.abs(frames_THWC.astype(np.int16) - cues.NO_FLOW) > STILL["flow"]
        else:
            moved = np.ptp(frames_THWC, axis=0) > STILL["rgb"]
        return bool(moved.mean() < MOVING)
