"""What some networks and pretexts can do beyond a feature map, asked for by ``Model.need``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from ssl_video.sampling import Sampling as Sampling


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


@dataclass(frozen=True)
class Text:
    """Texts as a network reads them, a row a clip: numbers of known words, or an encoder's states of their tokens.

    ``known_BL`` says where there is a word at all; a row without one is a clip of which nothing is said.
    """

    known_BL: Tensor
    words_BL: Tensor | None = None
    states_BLE: Tensor | None = None

    def without(self, dropped_B: Tensor) -> "Text":
        """The same, and nothing said of the clips that are ``dropped``."""
        return replace(self, known_BL=self.known_BL & ~dropped_B[:, None])

    def silent(self) -> "Text":
        """Nothing said of any clip."""
        return replace(self, known_BL=torch.zeros_like(self.known_BL))


@dataclass(frozen=True)
class Condition:
    """What a network that denoises is told beside the noisy clip.

    Args:
        theta_B: how much noise there is, as an angle: 0 is the clip, pi / 2 nothing but noise.
        given_BCTHW: a clip of which some is known, normalised, zero elsewhere.
        mask_B1THW: 1 where it is known, 0 where not.
        text: what is said of the clips.
        low_BCTHW: the clip as it is known at a lower resolution, enlarged to the size of the clip.
        low_theta_B: how much noise there is in that.
    """

    theta_B: Tensor
    given_BCTHW: Tensor | None = None
    mask_B1THW: Tensor | None = None
    text: Text | None = None
    low_BCTHW: Tensor | None = None
    low_theta_B: Tensor | None = None

    def cut(self, window: tuple[slice, slice, slice]) -> "Condition":
        """What is told of a window (t, h, w) of the clips."""
        at = (slice(None), slice(None), *window)
        parts = {name: getattr(self, name) for name in ("given_BCTHW", "mask_B1THW", "low_BCTHW")}
        return replace(self, **{name: part[at] for name, part in parts.items() if part is not None})


@runtime_checkable
class Denoises(Protocol):
    """A network that says of a noisy clip what is clip in it and what noise."""

    @property
    def text_dim(self) -> int:
        """Channels of the states of an encoder that it reads; 0: none."""
        ...

    @property
    def low_resolution(self) -> bool:
        """True if it is to be shown the clip at a lower resolution too."""
        ...

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words that it knows, in the order of their numbers."""
        ...

    def learn_words(self, words: tuple[str, ...]) -> None:
        """Give numbers to words that have none yet. Raises UserError where there are not places enough."""
        ...

    @property
    def part_of(self) -> Mapping[str, str]:
        """Name of each tensor of its state -> spatial (what a network of images has), temporal, given or text."""
        ...

    def denoise(self, clip_BCTHW: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """The velocity v_BCTHW = cos(theta) noise - sin(theta) clip, and the map (B, D, t, h, w) of the coarsest level.

        Differentiable, of any number of frames. Raises UserError for a text longer than it reads.
        """
        ...


@dataclass(frozen=True)
class Conditions:
    """What is known of the videos that are asked for, all B of them; frames are uint8, of the size asked for.

    Args:
        texts: a text for each; None: nothing is said.
        given_BTHWC: pixels that are known, where ``mask_BTHW`` is true. They come back as they are.
        mask_BTHW: where they are known: the first frame, say, or everything but a box.
        start_BTHWC: videos to start from, for editing: noise is added to ``strength`` and taken away again.
        strength: from 0, which gives back ``start_BTHWC``, to 1, which forgets it.
        pasted: False: pixels that are known come back as the network draws them, to be compared with what they are.
    """

    texts: tuple[str, ...] | None = None
    given_BTHWC: Tensor | None = None
    mask_BTHW: Tensor | None = None
    start_BTHWC: Tensor | None = None
    strength: float = 1.0
    pasted: bool = True


@runtime_checkable
class Generates(Protocol):
    """Draws videos from nothing, from a text, or around what is given of them."""

    @property
    def trained_for(self) -> frozenset[str]:
        """What it has learned to fill: unconditional, first_frame, inpainting, cinemagraph, between."""
        ...

    @property
    def takes_text(self) -> bool:
        """True if it was trained with captions."""
        ...

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words that it knows; empty where it knows none, or reads any by an encoder."""
        ...

    def generate(
        self,
        shape_BTHW: tuple[int, int, int, int],
        conditions: Conditions,
        sampling: Sampling,
        generator: torch.Generator,
        network: nn.Module | None = None,
    ) -> Tensor:
        """(B, T, H, W, 3) uint8 videos, a function of the arguments and of ``generator`` (on the CPU) alone.

        Videos longer or larger than the clips that it was trained on are made of overlapping windows. ``network`` is
        the backbone whose weights count (``Model.backbone``, a moving average, say, or one of another style); None:
        its own.

        Raises:
            UserError: for a text with an unknown word, or given to a network without, for conditions that it was not
                trained for, of another size, or half of a pair.
        """
        ...


@runtime_checkable
class Upscales(Protocol):
    """Makes videos larger."""

    @property
    def factor(self) -> int:
        """How many times as high and wide."""
        ...

    def upscale(
        self, low_BTHWC: Tensor, sampling: Sampling, generator: torch.Generator, network: nn.Module | None = None
    ) -> Tensor:
        """(B, T, factor H, factor W, 3) uint8 of uint8 videos of any length, as ``Generates.generate`` draws them."""
        ...


CAN: dict[type, str] = {
    HeatMaps: "says where a clip speaks for which answer (a run of speediness or arrow_of_time, or a fine-tuned one)",
    FrameEmbeddings: "embeds single frames",
    TokenNetwork: "reads any choice of a clip's patches (vivit_tiny, say)",
    SpeedLogits: "tells normal speed from faster (a run of speediness)",
    Denoises: "tells a clip from noise (stunet)",
    Generates: "draws videos (a run of video_diffusion)",
    Upscales: "makes videos larger (a run of video_upscaling)",
}
"""What a capability is, as the end of "needs a model that ..."."""
