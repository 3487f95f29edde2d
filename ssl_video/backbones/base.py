"""The contract of every backbone: clip in, feature map out, through named stages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, make_dataclass

from torch import Tensor, nn

from ssl_video.backbones.weights import Names, Published, start_from, videos_seen
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


class Backbone(nn.Module):
    """A chain of named stages from clip_BCTHW to features_BDthw.

    A network is put together, not inherited: a family's builder hands its stages over in order, each a module from
    (B, C, T, H, W) to (B, D, t, h, w).

    Args:
        stages: name -> module, in order.
        feature_dim: D of the last stage.
        strides: (t, h, w), clip size over feature-map size at the last stage; 0 along an axis that the network brings
            together into one cell, however long it is.
        clip: the clips it was designed for.
        published: how others name its weights, where there are files of others; ``build_backbone`` has used it up.
    """

    def __init__(
        self,
        stages: Mapping[str, nn.Module],
        *,
        feature_dim: int,
        strides: tuple[int, int, int],
        clip: ClipSpec,
        published: Published | None = None,
    ):
        super().__init__()
        self.stages = nn.ModuleDict(stages)
        self.feature_dim = feature_dim
        self.strides = strides
        self.clip = clip
        self.published = published
        self.names: Names | None = None  # set by build_backbone, for networks that others publish
        self.architecture = ""  # set by build_backbone: what it takes to build the network again
        self.options: dict[str, object] = {}
        self.weights_report = ""  # set by build_backbone: which weights it starts from, if from any
        self.trained_on: frozenset[str] = frozenset()  # and digests of the videos that these were trained on

    def normalise(self, clip_BTHWC: Tensor, **colours: Tensor) -> Tensor:
        """clip_BCTHW that ``forward`` takes, of clips of values in 0 to 255 on the network's device.

        ``colours`` change the colours of each clip on the way: ``matrix_B33`` and ``shift_B`` of
        ``ssl_video.video.augment.to_float``.
        """
        return to_float(clip_BTHWC, self.clip.mean, self.clip.std, next(self.parameters()).dtype, **colours)

    def forward(self, clip_BCTHW: Tensor, until: str | None = None) -> Tensor:
        """features_BDthw of the last stage, or of the stage called ``until``.

        Raises:
            KeyError: for an unknown stage.
            UserError: for a clip that the network does not take (``ClipSpec``).
        """
        self.clip.check(self.architecture or "this network", clip_BCTHW)
        if until is not None and until not in self.stages:
            raise KeyError(until)
        x = clip_BCTHW
        for name, stage in self.stages.items():
            x = stage(x)
            if name == until:
                break
        return x


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
    """Initial weights: a run's backbone.safetensors, a published file, or torchvision:NAME (torchvision:DEFAULT)."""


def backbone_options(name: str) -> type:
    """The dataclass of a backbone's options. Raises UserError for an unknown name."""
    return make_dataclass("Options", (), bases=(option_type(BACKBONES[name]), StartOptions), frozen=True)


def build_backbone(name: str, **options: object) -> Backbone:
    """Build a registered network and note on it what it takes to build it again.

    The option ``weights`` says from which weights it starts. It is not among the notes: it is no part of the
    architecture, and its file may be gone when the network is built again.

    Raises:
        UserError: for unknown names and options, and for weights that do not fit.
    """
    chosen = from_mapping(backbone_options(name), options, f"backbone {name}")
    own = {f.name: getattr(chosen, f.name) for f in fields(chosen) if f.name != "weights"}
    backbone = BACKBONES[name](**own)
    backbone.architecture, backbone.options = name, own
    if chosen.weights is not None:
        backbone.weights_report = str(start_from(chosen.weights, backbone, name, backbone.published))
        backbone.trained_on = videos_seen(chosen.weights)
    if backbone.published is not None:
        backbone.names = backbone.published.names_of(backbone)
    backbone.published = None  # it holds the heads, which nobody needs any more
    return backbone
