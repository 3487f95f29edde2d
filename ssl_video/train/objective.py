"""What the training loop trains: clips to a loss. A pretext is one, classification with labels another."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.config import Options
from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.recipes import serving
from ssl_video.video.upright import Each
from ssl_video.video.view import Skip, View


@dataclass(frozen=True)
class Progress:
    """Where a training stands: ``step`` steps are done, of ``steps``. Schedules are functions of it."""

    step: int
    steps: int

    @property
    def fraction(self) -> float:
        """From 0 to 1."""
        return self.step / max(1, self.steps)


@dataclass(frozen=True)
class Sample:
    """Which frames of a video to read, and whatever the objective itself needs later to make sense of them.

    With ``reversed`` they are fields of the flow of the video played backwards (``Needs.reversed``). ``each`` is the
    first thing that ``transform`` does to each frame by itself, resizing it as a rule: it is done as soon as the frame
    is decoded, so that no frame is held at its full size.
    """

    frames: tuple[int, ...]
    data: Mapping[str, Any] = field(default_factory=dict)
    reversed: bool = False
    each: Each | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Redraw:
    """These frames cannot serve (all alike, say); the same video is drawn again, a bounded number of times."""

    reason: str


@dataclass(frozen=True)
class Needs:
    """What an objective needs of its backbone (modality, strides) and of the data (per-video statistics by name).

    With ``grouping`` "class" all videos of a batch are of one class: labels reach the sampler, but not the batch. With
    ``reversed`` a network of flow also gets the flow of the videos played backwards (``Sample.reversed``). With
    ``apart`` no two samples of a batch may be of one clip: each is compared with all others.
    """

    modality: Literal["rgb", "flow", "any"] = "rgb"
    max_temporal_stride: int | None = None
    max_spatial_stride: int | None = None
    statistics: tuple[str, ...] = ()
    grouping: Literal["none", "class"] = "none"
    reversed: bool = False
    apart: bool = False

    def check(self, name: str, backbone: Backbone) -> None:
        """Raise UserError if the backbone cannot serve the objective called ``name``."""
        if self.modality not in (backbone.clip.modality, "any"):
            raise UserError(
                f"{name} needs a backbone for {self.modality}, but {backbone.architecture} takes "
                f"{backbone.clip.modality}; choose {serving(name)}."
            )
        t, h, w = backbone.strides
        for what, stride, limit in (
            ("temporal", t, self.max_temporal_stride),
            ("spatial", max(h, w), self.max_spatial_stride),
        ):
            if limit is not None and not 0 < stride <= limit:
                found = f"is {stride}" if stride else "takes in the whole clip"
                raise UserError(
                    f"{name} needs a {what} stride of at most {limit}, but that of {backbone.architecture} {found}; "
                    f"choose {serving(name)}."
                )


@dataclass
class Context:
    """What a forward pass may know of the training around it.

    ``generator`` (on the CPU) is keyed by (seed, step) and the same on every rank: for what a whole batch shares. What
    each sample has for itself is keyed by that, by the number of the call, and by the sample's number in the batch of
    all ranks, and drawn on ``device``; so a rank draws no more than its share.
    """

    progress: Progress
    generator: torch.Generator
    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    draws: int = 0
    """Calls so far that drew for each sample."""

    @property
    def step(self) -> int:
        """Steps done before this one."""
        return self.progress.step

    def uniform(self, batch: int, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(batch, *shape) numbers in [low, high), a row a sample of this rank."""
        return low + (high - low) * self._drawn(batch, shape, Tensor.uniform_)

    def normal(self, batch: int, *shape: int) -> Tensor:
        """As ``uniform``, from N(0, 1)."""
        return self._drawn(batch, shape, Tensor.normal_)

    def _drawn(self, batch: int, shape: tuple[int, ...], fill: Callable[..., Tensor]) -> Tensor:
        sequence = np.random.SeedSequence([self.generator.initial_seed(), self.draws])
        keys = sequence.generate_state(self.world_size * batch, np.uint64)[self.rank * batch :][:batch]
        self.draws += 1
        drawn = torch.empty(batch, *shape, device=self.device)
        generator = torch.Generator(self.device)
        for number, key in enumerate(keys.tolist()):
            fill(drawn[number], generator=generator.manual_seed(key >> 1))
        return drawn

    def colours(self, batch: int, spread: float) -> dict[str, Tensor]:
        """``matrix_B33`` and ``shift_B``, a change of colours for each clip, for ``Backbone.normalise``.

        ``spread`` is the standard deviation of the matrix around the identity; 0 changes nothing.
        """
        if not spread:
            return {}
        noise_B33 = spread * self.normal(batch, 3, 3)
        matrix_B33 = (torch.eye(3, device=self.device) + noise_B33) * self.uniform(batch, 1, 1, low=0.7, high=1.3)
        return {"matrix_B33": matrix_B33, "shift_B": 0.2 * self.normal(batch)}

    def jitter(self, batch: int, most: float) -> dict[str, Tensor]:
        """``matrix_B33`` and ``shift_B``, milder than ``colours``: contrast and saturation times 1 - most to 1 + most.

        Brightness changes by up to ``most`` standard deviations of the pixels; 0 changes nothing.
        """
        if not most:
            return {}
        contrast_B11, saturation_B11 = (self.uniform(batch, 1, 1, low=1 - most, high=1 + most) for _ in range(2))
        gray_33, same_33 = torch.full((3, 3), 1 / 3, device=self.device), torch.eye(3, device=self.device)
        matrix_B33 = contrast_B11 * (saturation_B11 * same_33 + (1 - saturation_B11) * gray_33)
        return {"matrix_B33": matrix_B33, "shift_B": self.uniform(batch, low=-most, high=most)}

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
class Output:
    """A scalar loss with gradient, scalar numbers worth watching, and features for the collapse indicators.

    ``right_B``: in eval mode, what each sample of the batch has of the accuracy in ``metrics``, which is their mean.
    None where there is none, or where it does not belong to single samples.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    features_ND: Tensor | None
    right_B: Tensor | None = None


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate and a weight decay, as factors of those of the optimiser."""

    parameters: tuple[nn.Parameter, ...]
    lr_scale: float = 1.0
    decay_scale: float = 1.0


class Objective(nn.Module, ABC):
    """What the loop trains.

    ``sample`` and ``transform`` run in loader workers and draw only from ``rng``; ``forward`` runs on the device and
    draws only from ``ctx``. In eval mode (``self.training`` is False) all three follow the paper's test protocol.

    Args:
        config: an instance of the subclass's own frozen dataclass ``Config``.
        backbone: the network to train; further heads are made here.

    Raises:
        UserError: if the backbone cannot serve (``needs``).
    """

    Config: ClassVar[type]
    span_limits: ClassVar[tuple[tuple[str, float], ...]] = ()
    """The options that set the span of a sample, in the order in which it is shortened, and how far each may go."""
    collapse_below: ClassVar[float | None] = None
    """The run warns of features whose effective rank is below this fraction of their channels; None: of none."""
    needs: Needs = Needs()  # what the backbone is checked for; an instance may add statistics that its options ask for

    def __init__(self, config: Options, backbone: Backbone):
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.needs.check(type(self).__name__, backbone)

    @property
    @abstractmethod
    def view(self) -> View:
        """How evaluations should show videos to the network that counts."""

    @abstractmethod
    def sample(self, video: Video, stats: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sample | Skip:
        """Choose frames of ``video``, knowing the scan's facts and the statistics that ``needs`` names."""

    @abstractmethod
    def transform(self, frames_THWC: np.ndarray, sample: Sample, rng: np.random.Generator) -> dict[str, Any] | Redraw:
        """Turn the frames asked for (uint8) into arrays of one fixed shape, still uint8, to be stacked."""

    @abstractmethod
    def forward(self, batch: Mapping[str, Tensor], ctx: Context) -> Output:
        """The loss of a batch."""

    def fit(self, samples: Iterable[Mapping[str, Any]], rng: np.random.Generator) -> None:
        """Called once before step 0, to fit what is kept in buffers: colour clusters, say.

        ``samples`` are training samples as ``transform`` gives them, one a video in random order, each read when it is
        asked for: take as many as are needed.
        """

    def least_frames(self, fps_N: np.ndarray) -> np.ndarray | None:
        """(N,) frames that videos of these rates (frames a second) need at least; infinite where no number is enough.

        ``sample`` skips a video with fewer and takes one with as many. Where ``needs`` names statistics, which say what
        a video shows, it may skip longer ones too. None: only a sample of each video can tell which of them serve.
        """
        return None

    def label_words(self) -> dict[str, tuple[str, ...]]:
        """In words, what each class is that a sample's ``transform`` may name: {"label": ("forward", "backward")}.

        Names are without axes, ``labels`` for ``labels_V``. None where nothing is chosen among classes.
        """
        return {}

    def parameter_groups(self, backbone_scale: float = 1.0) -> list[ParameterGroup]:
        """The parameters that take gradients: those of the backbone, then those of the heads."""
        of_backbone = {id(p) for p in self.backbone.parameters()}
        trained = [p for p in self.parameters() if p.requires_grad]
        return [
            ParameterGroup(tuple(p for p in trained if id(p) in of_backbone), backbone_scale),
            ParameterGroup(tuple(p for p in trained if id(p) not in of_backbone)),
        ]

    def after_step(self, progress: Progress) -> None:
        """Called after every optimiser step, ``progress.step`` of which are done: momentum encoders, queues."""

    def exported(self) -> Backbone:
        """The network whose weights count when training has ended, and which monitors watch: a follower, say."""
        return self.backbone
