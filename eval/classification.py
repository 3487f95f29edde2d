"""Learning to classify videos with labels: what fine-tuning trains, as an objective of the loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.bounds import Bounded, Count, Fraction, LessThanOne, Natural, NotNegative
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.model import Classifier
from ssl_video.train.objective import Context, Needs, Objective, Output, Sample
from ssl_video.video import augment
from ssl_video.video.colours import in_colours
from ssl_video.video.view import View


@dataclass(frozen=True)
class ClassificationConfig(Bounded):
    """How clips are changed, and what is trained."""

    crop: Literal["random", "resized"] = "random"
    """random: a square of the view's size; resized: a random rectangle, resized to it."""
    area: tuple[Fraction, Fraction] = (0.25, 1.0)
    """Fraction of the frame that a resized crop takes."""
    short_sides: tuple[Count, ...] = ()
    """Shorter sides, one of which is drawn before a random crop; without any, the view's."""
    flip: Fraction = 0.5
    """Probability of mirroring a clip."""
    colour: NotNegative = 0.15
    """Standard deviation of the random colour matrix around the identity; 0 turns colour changes off. RGB only."""
    colour_fraction: Fraction = field(default=1.0, metadata={"formerly": "colour_part"})
    """Fraction of the clips whose colours are changed."""
    batch_norm: bool = False
    """Batch norm of the pooled features, before the dropout."""
    dropout: LessThanOne = 0.5
    """Dropout before the linear layer."""
    initial: Literal["uniform", "normal", "orthogonal"] = "uniform"
    """Weights of the linear layer at the start: uniform as PyTorch draws them, or normal (a standard deviation of 0.01)
    or orthogonal, both with biases of 0."""
    top: Natural | None = None
    """Stages of the backbone that are trained, counted from the last; by default all, 0 trains the classifier only."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.area[0] <= self.area[1]:
            raise UserError(f"area is two fractions above 0, the smaller one first, not {self.area}.")


class Classification(Objective):
    """Cross-entropy over classes; for videos with several labels, binary cross-entropy for each class.

    The label of a video is part of its sample.

    Args:
        config: see there.
        backbone: the network to train.
        view: clips as the test shows them.
        classes: their names.
        multi_label: videos have several labels: one yes or no a class is learned.
    """

    Config = ClassificationConfig
    config: ClassificationConfig
    needs = Needs(modality="any")

    def __init__(
        self,
        config: ClassificationConfig,
        backbone: Backbone,
        view: View,
        classes: tuple[str, ...],
        multi_label: bool = False,
    ):
        super().__init__(config, backbone)
        backbone.requires_grad_(True)  # its pretext may have trained less of it
        self.shown, self.classes, self.multi_label = view, classes, multi_label
        self.classifier = Classifier(backbone.feature_dim, classes, config.dropout, config.batch_norm)
        initialise(self.classifier.linear, config.initial)
        if min(config.short_sides, default=view.size) < view.size:
            raise UserError(
                f"A crop of {view.size} pixels cannot be cut out of frames whose shorter side has "
                f"{min(config.short_sides)}; "
                "change one by --option classification.short_sides=128 or --option size=112."
            )
        stages = list(backbone.stages.values())
        if config.top is not None and not 0 <= config.top <= len(stages):
            raise UserError(
                f"{backbone.architecture} has {len(stages)} stages; top must be between 0 and that; "
                "change it by --option classification.top=1."
            )
        self.frozen = [] if config.top is None else stages[: len(stages) - config.top]
        for stage in self.frozen:
            stage.requires_grad_(False)

    @property
    def view(self) -> View:
        """Clips as the test shows them."""
        return self.shown

    def train(self, mode: bool = True) -> "Classification":
        """Stages that are not trained stay in eval mode: their batch norms keep their statistics."""
        super().train(mode)
        for stage in self.frozen:
            stage.eval()
        return self

    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample:
        """A clip from a random place; one that is longer than the video shows its last frame again and again."""
        offsets = self.view.offsets(video)
        first = int(rng.integers(max(video.frames - int(offsets[-1]), 1)))
        target_K = np.zeros(len(self.classes), np.float32)
        target_K[list(video.labels)] = 1
        frames = tuple(np.minimum(first + offsets, video.frames - 1).tolist())
        c, side = self.config, self.view.short_side
        if self.training and c.crop == "resized":
            return Sample(frames, {"target_K": target_K})
        if self.training and c.short_sides:
            side = int(rng.choice(c.short_sides))
        return Sample(frames, {"target_K": target_K, "side": side}, each=replace(self.view, short_side=side).small)

    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """One crop and one flip for all frames of a clip."""
        c = self.config
        if not self.training:
            clip_THWC = self.view.prepare(frames_THWC)
        elif c.crop == "resized":
            clip_THWC = augment.resized_crop(frames_THWC, self.view.size, c.area, rng)
        else:
            clip_THWC = augment.resize_short_side(frames_THWC, sample.data["side"])
            clip_THWC = augment.crop(clip_THWC, self.view.size, rng)
        if self.training:
            clip_THWC = augment.flip(clip_THWC, rng, c.flip)
        return {"clip_THWC": clip_THWC, "target_K": sample.data["target_K"]}

    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """The loss of a batch of labelled clips."""
        clip_BTHWC, target_BK = batch["clip_THWC"], batch["target_K"]
        spec, weight = self.backbone.clip, self.classifier.linear.weight
        mixes = self.training and spec.modality == "rgb" and self.view.colours == "rgb"
        colours = self._colours(len(clip_BTHWC), ctx) if mixes else {}
        clip_BTHWC = in_colours(clip_BTHWC, self.view.colours)
        features_BDthw = self.backbone(self.backbone.normalise(clip_BTHWC, **colours))
        logits_BK = self.classifier(features_BDthw).to(weight.dtype)
        target_BK = target_BK.to(logits_BK)
        loss = loss_of(logits_BK, target_BK, self.multi_label)
        hit_B = target_BK.gather(1, logits_BK.argmax(1, keepdim=True))
        return Output(loss, {"accuracy": hit_B.mean()}, features_BDthw.mean((2, 3, 4)).detach())

    def _colours(self, B: int, ctx: Context) -> dict[str, Tensor]:
        colours = ctx.colours(B, self.config.colour)
        if not colours or self.config.colour_fraction == 1:
            return colours
        kept_B = ctx.uniform(B) >= self.config.colour_fraction
        return {
            "matrix_B33": torch.where(kept_B[:, None, None], torch.eye(3, device=ctx.device), colours["matrix_B33"]),
            "shift_B": colours["shift_B"].masked_fill(kept_B, 0),
        }


def loss_of(logits_BK: Tensor, target_BK: Tensor, multi_label: bool) -> Tensor:
    """Mean over clips of cross-entropy, or with ``multi_label`` over classes too of binary cross-entropy."""
    return (F.binary_cross_entropy_with_logits if multi_label else F.cross_entropy)(logits_BK, target_BK)


def clip_loss(clips_KC: Sequence[np.ndarray], targets_NC: np.ndarray, multi_label: bool) -> float:
    """Mean over videos of the mean loss of their clips, logits (clips, classes) a video."""
    losses = []
    for logits_KC, target_C in zip(map(torch.from_numpy, clips_KC), targets_NC, strict=True):
        target_KC = torch.from_numpy(target_C).to(logits_KC).expand_as(logits_KC)
        losses.append(loss_of(logits_KC, target_KC, multi_label))
    return float(torch.stack(losses).mean())


def initialise(linear: nn.Linear, initial: str) -> None:
    """Draw a layer's weights anew, with biases of 0, as ``ClassificationConfig.initial`` says; uniform leaves them."""
    if initial == "uniform":
        return
    if initial == "orthogonal":
        nn.init.orthogonal_(linear.weight)
    else:
        nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
