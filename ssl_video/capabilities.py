"""What some networks and pretexts can do beyond a feature map, asked for by ``Model.need``."""

from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor


@runtime_checkable
class HeatMaps(Protocol):
    """Says at every cell of a feature map how much there speaks for the second of two ``answers``."""

    answers: tuple[str, str]

    def heat_map(self, features_BDthw: Tensor) -> Tensor:
        """(B, t, h, w) logit of the second answer at every cell; for a linear head their mean is that of the clip.

        B. Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016.
        """
        ...


@runtime_checkable
class FrameEmbeddings(Protocol):
    """Embeds every frame of a video by itself, or with its own context."""

    def frame_embeddings(self, frames_THWC: np.ndarray, batch: int) -> Tensor:
        """(T, D) of the uint8 frames of a prepared video, ``batch`` frames at a time."""
        ...


@runtime_checkable
class SpeedLogits(Protocol):
    """Tells clips that play at their normal speed from such that were sped up."""

    def clip_logits(self, features_BDthw: Tensor) -> Tensor:
        """(B,) logit of "sped up" of whole clips; the sigmoid of its negative is the speediness of the paper."""
        ...


CAN: dict[type, str] = {
    HeatMaps: "says where a clip speaks for which answer (a run of speediness or arrow_of_time, or a fine-tuned one)",
    FrameEmbeddings: "embeds single frames",
    SpeedLogits: "tells normal speed from faster (a run of speediness)",
}
"""What a capability is, as the end of "needs a model that ..."."""
