"""What some networks and pretexts can do beyond a feature map, asked for by ``Model.need``."""

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Tokens:
    """Tokens of clips, all of them or some.

    ``ids_BN`` says where they come from: the number of their cell of ``grid`` (t, h, w), counted row by row; -1 is a
    class token, which comes from nowhere. Rotary positions and causal masks are made from them.
    """

    x_BND: Tensor
    ids_BN: Tensor
    grid: tuple[int, int, int]

    def map_BDthw(self) -> Tensor:
        """The tokens in their cells, without class tokens; every cell must have one."""
        kept_BN = self.ids_BN >= 0
        x_BND = self.x_BND[kept_BN].unflatten(0, (len(self.x_BND), -1))
        order_BN = self.ids_BN[kept_BN].unflatten(0, (len(self.ids_BN), -1)).argsort(1)
        x_BND = x_BND.gather(1, order_BN[..., None].expand_as(x_BND))
        return x_BND.transpose(1, 2).unflatten(2, self.grid)


@runtime_checkable
class TokenNetwork(Protocol):
    """A network whose tokens can be left out. ``blocks(embed(clip_BCTHW))`` is, as a map, what its backbone gives."""

    def embed(self, clip_BCTHW: Tensor, keep_BK: Tensor | None = None) -> Tokens:
        """Tokens of the patches whose numbers are kept, with their positions; None: of all. Only these are embedded.

        A class token, where there is one, comes first and is always there.
        """
        ...

    def blocks(self, tokens: Tokens) -> Tokens:
        """The tokens behind the last block, in the same order."""
        ...


@runtime_checkable
class WholeTokens(Protocol):
    """A network whose tokens can be had, its class token among them, whether or not some may be left out."""

    def tokens(self, clip_BCTHW: Tensor) -> Tokens:
        """All tokens behind the last block; those of frames that are read one by one each with its own class token."""
        ...


CAN: dict[type, str] = {
    HeatMaps: "says where a clip speaks for which answer (a run of speediness or arrow_of_time, or a fine-tuned one)",
    FrameEmbeddings: "embeds single frames",
    TokenNetwork: "reads any choice of a clip's patches (vivit_tiny, say)",
    SpeedLogits: "tells normal speed from faster (a run of speediness)",
}
"""What a capability is, as the end of "needs a model that ..."."""
