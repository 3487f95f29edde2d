"""The contract of every backbone: clip in, feature map out, and maps of the stages between."""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, fields, make_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ssl_video.backbones.taps import Tap, Triple, sized
from ssl_video.backbones.weights import Entry, Names, Published, found, seen_by, start_from
from ssl_video.config import from_mapping, option_type
from ssl_video.errors import UserError
from ssl_video.registry import Registry
from ssl_video.video.augment import to_float

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FLOW_MEAN, FLOW_STD = (128 / 255,) * 2, (127 / 255,) * 2
KINETICS_MEAN, KINETICS_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


@dataclass(frozen=True)
class ClipSpec:
    """The clips that a network was designed for. Pixel statistics are for values scaled to [0, 1].

    ``min_frames`` and ``min_size`` are the smallest clip that the network takes; one that takes exactly ``frames``
    frames (a first convolution over all of them, say), or exactly ``size`` pixels, sets ``fixed_frames`` or
    ``fixed_size``.

    A clip of optical flow (``modality`` "flow") has 2 channels, dx and dy in pixels a frame, as uint8: 128 + d * 127 /
    20, cut at +-20 pixels. ``FLOW_MEAN`` and ``FLOW_STD`` turn it into d / 20.
    """

    frames: int = 16
    size: int = 112
    fps: float = 25.0
    modality: str = "rgb"
    channels: int = 3
    mean: tuple[float, ...] = KINETICS_MEAN
    std: tuple[float, ...] = KINETICS_STD
    min_frames: int = 1
    min_size: int = 32
    fixed_frames: bool = False
    fixed_size: bool = False

    @property
    def smallest(self) -> tuple[int, int, int]:
        """Frames, height and width of the smallest clip that the network takes."""
        size = self.size if self.fixed_size else self.min_size
        return (self.frames if self.fixed_frames else self.min_frames), size, size

    def check(self, name: str, clip_BCTHW: Tensor) -> None:
        """Raise UserError if the network called ``name`` does not take such a clip."""
        _, channels, frames, *size = clip_BCTHW.shape
        least_frames, least_size, _ = self.smallest
        if channels != self.channels:
            raise UserError(f"{name} takes clips of {self.channels} channels ({self.modality}), not of {channels}.")
        if frames < least_frames or (self.fixed_frames and frames != least_frames):
            how = "exactly" if self.fixed_frames else "at least"
            raise UserError(f"{name} takes clips of {how} {least_frames} frames, not of {frames}.")
        if min(size) < least_size or (self.fixed_size and max(size) != least_size):
            how = "exactly" if self.fixed_size else "at least"
            raise UserError(f"{name} takes frames of {how} {least_size} pixels a side, not {size[0]}x{size[1]}.")


@dataclass(frozen=True)
class Provenance:
    """Where a network comes from.

    Args:
        architecture: its registered name, which with ``options`` is what it takes to build it again.
        options: those of its builder.
        weights_report: which weights it starts from, if from any.
        trained_on: what these were trained on: digests of videos, and names of published lists (SET:LIST).
        names: how others name its weights, for networks that others publish.
        entry: the published file that it starts from, if from one.
    """

    architecture: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    weights_report: str = ""
    trained_on: Set[str] = frozenset()
    names: Names | None = None
    entry: Entry | None = None


class Backbone(nn.Module):
    """A network from clip_BCTHW to features_BDthw, with taps. It is put together, not inherited.

    Args:
        network: clip_BCTHW, and a condition if it takes one, to whatever it gives.
        taps: name -> place whose map can be had, in order. The map of the last one, whose size must be given, is that
            of the network.
        clip: the clips it was designed for.
        published: how others name its weights, where there are files of others; ``build_backbone`` has used it up.
    """

    def __init__(
        self, network: nn.Module, taps: Mapping[str, Tap], *, clip: ClipSpec, published: Published | None = None
    ):
        super().__init__()
        self.network = network
        self._taps = dict(taps)
        self.clip = clip
        self.published = published
        self.provenance = Provenance()  # build_backbone puts another one in its place

    @property
    def taps(self) -> Mapping[str, Tap]:
        """The taps by name, in order, all with their sizes."""
        if not all(tap.dim for tap in self._taps.values()):
            fixed = (self.clip.fixed_frames, self.clip.fixed_size, self.clip.fixed_size)
            self._taps = sized(self.network, self._taps, self.clip.channels, self.clip.smallest, fixed)
        return self._taps

    @property
    def stages(self) -> Mapping[str, nn.Module]:
        """The modules of the taps by name, in order; in a chain they are all there is."""
        return {name: tap.module for name, tap in self._taps.items()}

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """What has weights and is always run as a whole, by the name of the tap behind: stages, or blocks.

        Each can be sharded, compiled or computed again by itself. A network of which others are run than the modules
        of its taps says so by a property ``parts`` of its own.
        """
        own = getattr(self.network, "parts", self.stages)
        return {name: part for name, part in own.items() if next(part.parameters(), None) is not None}

    @property
    def feature_dim(self) -> int:
        """Channels of the last tap."""
        return self._last.dim

    @property
    def strides(self) -> Triple:
        """Strides (t, h, w) of the last tap."""
        return self._last.strides

    @property
    def architecture(self) -> str:
        """The registered name, for messages."""
        return self.provenance.architecture or "this network"

    @property
    def is_chain(self) -> bool:
        """True for stages of which each takes what the one before gives, and nothing else."""
        return isinstance(self.network, nn.Sequential) and self._taps.keys() == self.network._modules.keys()

    @property
    def takes_condition(self) -> bool:
        """True for a network that can be told more than a clip: a noise level, say."""
        return "condition" in inspect.signature(self.network.forward).parameters

    def check_stage(self, name: str | None) -> None:
        """Raise UserError if there is no tap of this name; None, the last, there always is."""
        if name is not None and name not in self._taps:
            raise UserError(f"{self.architecture} has no stage {name!r}; there are: {', '.join(self._taps)}.")

    def check_clip(self, frames: int, size: int) -> None:
        """Raise UserError if it does not take clips of so many frames of ``size`` x ``size`` pixels."""
        clip_1CTHW = torch.empty(1, self.clip.channels, frames, size, size, device="meta")
        self.clip.check(self.architecture, clip_1CTHW)

    def normalise(self, clip_BTHWC: Tensor, **colours: Tensor) -> Tensor:
        """clip_BCTHW that ``forward`` takes, of clips of values in 0 to 255 on the network's device.

        ``colours`` change the colours of each clip on the way: ``matrix_B33`` and ``shift_B`` of
        ``ssl_video.video.augment.to_float``.
        """
        return to_float(clip_BTHWC, self.clip.mean, self.clip.std, next(self.parameters()).dtype, **colours)

    def forward(self, clip_BCTHW: Tensor, until: str | None = None, condition: object = None) -> Tensor:
        """features_BDthw of the last tap, or of the one called ``until``, behind which a chain does not run.

        ``condition`` is what else the network is told; an evaluation tells it nothing.

        Raises:
            UserError: for an unknown stage, a condition that the network does not take, and a clip that it does not
                take (``ClipSpec``).
        """
        self.clip.check(self.architecture, clip_BCTHW)
        self.check_stage(until)
        if condition is not None and not self.takes_condition:
            raise UserError(f"{self.architecture} takes no condition; choose a network that does.")
        if self.is_chain:
            return self._chain(clip_BCTHW, until)
        tapped = self._last.module if until is None else self._taps[until].module
        inputs = (clip_BCTHW,) if condition is None else (clip_BCTHW, condition)
        return output_of(tapped, self.network, inputs)

    def _chain(self, x_BCTHW: Tensor, until: str | None) -> Tensor:
        for name, stage in self.network._modules.items():
            assert stage is not None
            x_BCTHW = stage(x_BCTHW)
            if name == until:
                break
        return x_BCTHW

    @property
    def _last(self) -> Tap:
        return next(reversed(self._taps.values()))


def output_of(module: nn.Module, network: nn.Module, inputs: tuple[object, ...]) -> Tensor:
    """What ``module``, one of ``network`` or all of it, puts out while the network runs."""
    found: list[Tensor] = []

    def note(_module: nn.Module, _inputs: object, y: Tensor) -> None:
        found.append(y)

    with module.register_forward_hook(note):
        network(*inputs)
    return found[-1]


def chain(
    stages: Mapping[str, nn.Module] | nn.Sequential,
    *,
    feature_dim: int,
    strides: Triple,
    clip: ClipSpec,
    published: Published | None = None,
) -> Backbone:
    """A network of named stages, one after the other, each from (B, C, T, H, W) to (B, D, t, h, w), with a tap behind.

    ``feature_dim`` and ``strides`` are those of the last stage; see ``Backbone`` for the rest.
    """
    network = stages if isinstance(stages, nn.Sequential) else nn.Sequential(OrderedDict(stages))
    taps = {name: Tap(stage) for name, stage in network._modules.items() if stage is not None}
    last = next(reversed(taps))
    taps[last] = Tap(taps[last].module, feature_dim, strides)
    return Backbone(network, taps, clip=clip, published=published)


def torchvision_net(name: str, **options: Any) -> Any:
    """A network of torchvision with fresh weights.

    Families import torchvision where they build, not above: it brings torch's compiler, 80 MB for every process.
    """
    from torchvision.models import get_model

    return get_model(name, weights=None, **options)


class PerFrame(nn.Module):
    """Apply a 2D module to every frame: (B, C, T, H, W) -> (B, D, T, h, w)."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Fold time into the batch, apply, unfold."""
        B, _, T = x_BCTHW.shape[:3]
        y = self.module(x_BCTHW.transpose(1, 2).flatten(0, 1))
        return y.unflatten(0, (B, T)).transpose(1, 2)


# name -> builder: a function of typed keyword options, each with a default, that returns a Backbone
BACKBONES: Registry[Callable[..., Backbone]] = Registry("backbone", "ssl_video.backbones")


@dataclass(frozen=True)
class StartOptions:
    """The option that every backbone has beside those of its builder."""

    weights: str | None = None
    """Initial weights: a run's backbone.safetensors, a published file, or an entry such as torchvision:DEFAULT."""


def backbone_options(name: str) -> type:
    """The dataclass of a backbone's options. Raises UserError for an unknown name."""
    return make_dataclass("Options", (), bases=(option_type(BACKBONES[name]), StartOptions), frozen=True)


def build_backbone(name: str, **options: object) -> Backbone:
    """Build a registered network and note on it what it takes to build it again (``Provenance``).

    The option ``weights`` says from which weights it starts. It is not among the notes: it is no part of the
    architecture, and its file may be gone when the network is built again. A published file brings the options of its
    network and the statistics of its pixels with it.

    Raises:
        UserError: for unknown names and options, options with which there is no such network, and weights that do not
            fit.
    """
    backbone = unloaded_backbone(name, **options)
    source = options.get("weights")
    if source not in (None, "None"):
        report = start_from(str(source), backbone, name, backbone.published)
        backbone.provenance = replace(
            backbone.provenance,
            weights_report=str(report),
            trained_on=seen_by(str(source), name, backbone.published),
        )
    backbone.published = None  # it holds the heads, which are not needed any more
    return backbone


def unloaded_backbone(name: str, **options: object) -> Backbone:
    """As ``build_backbone``, with fresh weights whatever ``weights`` says: others come from a checkpoint, say."""
    kind = backbone_options(name)
    source = options.get("weights")
    start = None if source in (None, "None") else found(str(source), name, options)
    entry = None if start is None else start.entry
    if start is not None:
        options = {**start.brings, **options}
    chosen = from_mapping(kind, options, f"backbone {name}")
    own = {f.name: getattr(chosen, f.name) for f in fields(chosen) if f.name != "weights"}
    backbone = _built(name, own)
    if entry is not None:
        usual = {f.name: f.default for f in fields(kind)} | dict(start.brings if start is not None else {})
        places = {"frames": "frames", "size": "side"}
        told = {name for name, option in places.items() if own.get(option) != usual.get(option)}
        backbone.clip = with_statistics_of(entry, backbone.clip, told)
    names = None if backbone.published is None else backbone.published.names_of(backbone)
    backbone.provenance = Provenance(name, own, names=names, entry=entry)
    return backbone


def _built(name: str, options: dict[str, object]) -> Backbone:
    """What the builder makes of its options. Raises UserError for those that it cannot do with, whatever it raises."""
    try:
        return BACKBONES[name](**options)
    except Exception as error:
        defaults = vars(option_type(BACKBONES[name])())
        other = ", ".join(f"{key}={value}" for key, value in options.items() if value != defaults[key])
        if isinstance(error, UserError) or not other:  # with its defaults a builder that fails is at fault itself
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"There is no {name} with {other}: {reason}.") from error


def with_statistics_of(entry: Entry, clip: ClipSpec, told: Set[str] = frozenset()) -> ClipSpec:
    """The clips that a published network was trained on, where its entry says other than the network's builder.

    What the user has told the builder (``told``, of frames and size) stays.
    """
    known = {"mean": entry.mean, "std": entry.std, "frames": entry.frames, "size": entry.size}
    return replace(clip, **{k: v for k, v in known.items() if v is not None and k not in told})
