"""The contract of every pretext: it owns the choice of frames, because in video that choice is the label."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.config import make_options
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.registry import Registry
from ssl_video.video import augment
from ssl_video.video.colours import Colours


@dataclass(frozen=True)
class View:
    """How evaluations should show a video to a backbone so that it sees what it saw in training.

    ``frames`` of every ``stride``-th frame, or with ``fps`` so many a second, whatever the rate of the file; short side
    resized to ``short_side`` pixels, crops of ``size``. Clips stay RGB until they are normalised for the network; for
    other ``colours`` they are converted then (``ssl_video.video.colours.in_colours``).
    """

    frames: int
    stride: int
    short_side: int
    size: int
    fps: float | None = None
    colours: Colours = "rgb"

    def offsets(self, video: Video) -> np.ndarray:
        """(T,) numbers of a clip's frames, counted from its first."""
        if self.fps is None:
            return np.arange(self.frames) * self.stride
        assert video.info is not None
        return np.floor(np.arange(self.frames) * (video.info.fps / self.fps)).astype(np.int64)

    def span(self, video: Video) -> int:
        """Frames of the video from a clip's first to its last."""
        return int(self.offsets(video)[-1]) + 1

    def prepare(self, frames_THWC: np.ndarray) -> np.ndarray:
        """Resize the short side and crop the centre; uint8 (T, size, size, C)."""
        return augment.crop(augment.resize_short_side(frames_THWC, self.short_side), self.size, None)

    def crops(self, frames_THWC: np.ndarray, crops: int) -> np.ndarray:
        """(crops, T, size, size, C) uint8: the centre, or 3 along the longer side, or 10: corners, centre, mirrored.

        Raises:
            UserError: for another number of crops.
        """
        frames_THWC = augment.resize_short_side(frames_THWC, self.short_side)
        bottom, right = (n - self.size for n in frames_THWC.shape[1:3])
        centre = (bottom // 2, right // 2)
        places = {
            1: [centre],
            3: [(round(bottom * f), round(right * f)) for f in (0, 0.5, 1)],
            10: [(0, 0), (0, right), (bottom, 0), (bottom, right), centre],
        }
        if crops not in places:
            raise UserError(f"The number of crops is 1, 3 or 10, not {crops}.")
        cut = [frames_THWC[:, y : y + self.size, x : x + self.size] for y, x in places[crops]]
        if crops == 10:
            cut += [augment.mirror(c) for c in cut]
        return np.stack(cut)


@dataclass(frozen=True)
class Sample:
    """Which frames of a video to read, and whatever the pretext itself needs later to make sense of them.

    With ``reversed`` they are fields of the flow of the video played backwards (``Needs.reversed``).
    """

    frames: tuple[int, ...]
    data: Mapping[str, Any] = field(default_factory=dict)
    reversed: bool = False


@dataclass(frozen=True)
class Skip:
    """This video cannot serve this pretext; the reason is counted and listed."""

    reason: str


@dataclass(frozen=True)
class Redraw:
    """These frames cannot serve (all alike, say); the same video is drawn again, a bounded number of times."""

    reason: str


@dataclass(frozen=True)
class Needs:
    """What a pretext asks of its backbone (modality, strides) and of the data (per-video statistics by name).

    With ``grouping`` "class" all videos of a batch are of one class: labels reach the sampler, but not the batch. With
    ``reversed`` a network of flow also gets the flow of the videos played backwards (``Sample.reversed``).
    """

    modality: Literal["rgb", "flow", "any"] = "rgb"
    max_temporal_stride: int | None = None
    max_spatial_stride: int | None = None
    statistics: tuple[str, ...] = ()
    grouping: Literal["none", "class"] = "none"
    reversed: bool = False


@dataclass
class Context:
    """What a forward pass may know of the run around it.

    ``generator`` (on the CPU) is keyed by (seed, step) and the same on every rank.
    """

    step: int
    generator: torch.Generator
    rank: int = 0
    world_size: int = 1

    def uniform(self, batch: int, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(batch, *shape) numbers in [low, high), drawn for the batch of all ranks; this rank gets its share."""
        drawn = torch.rand(self.world_size * batch, *shape, generator=self.generator)
        return low + (high - low) * drawn[self.rank * batch : (self.rank + 1) * batch]

    def normal(self, batch: int, *shape: int) -> Tensor:
        """As ``uniform``, from N(0, 1)."""
        drawn = torch.randn(self.world_size * batch, *shape, generator=self.generator)
        return drawn[self.rank * batch : (self.rank + 1) * batch]

    def colours(self, batch: int, spread: float) -> dict[str, Tensor]:
        """``matrix_B33`` and ``shift_B``, a change of colours for each clip, for ``augment.to_float``.

        ``spread`` is the standard deviation of the matrix around the identity; 0 changes nothing.
        """
        if not spread:
            return {}
        noise_B33 = spread * self.normal(batch, 3, 3)
        matrix_B33 = (torch.eye(3) + noise_B33) * self.uniform(batch, 1, 1, low=0.7, high=1.3)
        return {"matrix_B33": matrix_B33, "shift_B": 0.2 * self.normal(batch)}

    def gather(self, x: Tensor) -> Tensor:
        """The rows of ``x`` of all ranks, in rank order, with gradient: for losses that couple samples of a batch."""
        if self.world_size == 1:
            return x
        return GatherRows.apply(x.contiguous(), self.rank, self.world_size)  # pyright: ignore[reportReturnType]


class GatherRows(torch.autograd.Function):
    """All ranks' rows, of which each rank holds as many. Holds no process group, so that ``leave`` can end it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rank: int, world_size: int) -> Tensor:
        """(N, ...) of each rank to (ranks * N, ...)."""
        ctx.share = slice(rank * len(x), (rank + 1) * len(x))
        shares = [torch.empty_like(x) for _ in range(world_size)]
        torch.distributed.all_gather(shares, x)
        return torch.cat(shares)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """A rank's rows get the sum of what all ranks' losses say of them."""
        whole = gradients[0].clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(whole)
        return whole[ctx.share], None, None


@dataclass
class PretextOutput:
    """A scalar loss with gradient, scalar numbers worth watching, and features_ND for the collapse indicators."""

    loss: Tensor
    metrics: dict[str, Tensor]
    features_ND: Tensor


class Pretext(nn.Module, ABC):
    """One pretext task. Every subclass is final.

    ``sample`` and ``transform`` run in loader workers and draw only from ``rng``; ``forward`` runs on the device and
    draws only from ``ctx``. In eval mode (``self.training`` is False) all three follow the paper's test protocol.

    Args:
        config: an instance of the subclass's own frozen dataclass ``Config``.
        backbone: the network to train; further heads are made here.

    Raises:
        UserError: if the backbone cannot serve (``needs``).
    """

    Config: ClassVar[type]
    answers: ClassVar[tuple[str, str] | None] = None
    """What a pretext with one linear output chooses between: a positive logit says the second (``heat_map``)."""
    needs: Needs = Needs()  # what the backbone is checked for; an instance may add statistics that its options ask for
    fitted: ClassVar[tuple[str, ...]] = ()  # buffers that ``fit`` fills; random:RUN keeps those of the run

    def __init__(self, config: Any, backbone: Backbone):
        super().__init__()
        self.config = config
        self.backbone = backbone
        _check_needs(type(self).__name__, self.needs, backbone)

    @property
    @abstractmethod
    def view(self) -> View:
        """How evaluations should show videos to the backbone."""

    @abstractmethod
    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """Choose frames of ``video``, knowing the scan's facts and the statistics that ``needs`` names."""

    @abstractmethod
    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any] | Redraw:
        """Turn the frames asked for (uint8) into arrays of one fixed shape, still uint8, to be stacked."""

    @abstractmethod
    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> PretextOutput:
        """The loss of a batch."""

    def fit(self, samples: Iterable[Mapping[str, Any]], rng: np.random.Generator) -> None:
        """Called once before step 0, to fit what is kept in buffers: colour clusters, say.

        ``samples`` are training samples as ``transform`` gives them, one a video in random order, each read when it is
        asked for: take as many as are needed.
        """

    def after_step(self, step: int) -> None:
        """Called after every optimiser step: momentum encoders, queues."""

    def frame_embeddings(self, frames_THWC: np.ndarray, batch: int) -> Tensor | None:
        """(T, D) the pretext's own embedding of every frame of a prepared video, ``batch`` frames at a time.

        None, for a pretext that embeds no frames: the features of the backbone are taken then.
        """
        return None

    def heat_map(self, features_BDthw: Tensor) -> Tensor | None:
        """(B, t, h, w) logit of the second of ``answers`` at every cell of a feature map; None without a linear head.

        B. Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016.
        """
        return None


def at_every_cell(linear: nn.Linear, features_BDthw: Tensor) -> Tensor:
    """(B, K, t, h, w): a layer made for pooled features, applied to each cell of a feature map by itself."""
    return linear(features_BDthw.movedim(1, -1)).movedim(-1, 1)


PRETEXTS: Registry[type[Pretext]] = Registry("pretext", "ssl_video.pretexts")


def build_pretext(name: str, backbone: Backbone, options: Mapping[str, object]) -> Pretext:
    """A registered pretext on ``backbone``. Raises UserError for unknown names and options."""
    cls = PRETEXTS[name]
    return cls(cls.Config(**make_options(cls, f"pretext {name}", options)), backbone)


def _check_needs(name: str, needs: Needs, backbone: Backbone) -> None:
    if needs.modality not in (backbone.clip.modality, "any"):
        raise UserError(
            f"{name} needs a backbone for {needs.modality}, but {backbone.architecture} takes {backbone.clip.modality}."
        )
    t, h, w = backbone.strides
    for what, stride, limit in (
        ("temporal", t, needs.max_temporal_stride),
        ("spatial", max(h, w), needs.max_spatial_stride),
    ):
        if limit is not None and not 0 < stride <= limit:
            found = f"is {stride}" if stride else "takes in the whole clip"
            raise UserError(
                f"{name} needs a {what} stride of at most {limit}, but that of {backbone.architecture} {found}; "
                f"choose a backbone or option with a finer feature map."
            )
