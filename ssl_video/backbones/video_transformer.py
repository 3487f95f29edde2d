"""Video transformers: joint attention over tubelets (ViViT), and attention divided into time and space (TimeSformer).

A. Arnab, M. Dehghani, G. Heigold, C. Sun, M. Lucic, C. Schmid: "ViViT: A Video Vision Transformer", ICCV 2021 (its
model 1, spatio-temporal attention).
G. Bertasius, H. Wang, L. Torresani: "Is Space-Time Attention All You Need for Video Understanding?", ICML 2021.

Both are put out as maps; there is no class token. A network with joint attention also reads a choice of its tubelets;
one with divided attention does not: with gaps, a frame and a place are no rows any more. Sizes are those of image
transformers: width, depth and heads are 192, 12, 3 (tiny), 384, 12, 6 (small) and 768, 12, 12 (base).
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn

from ssl_video.backbones.base import BACKBONES, Backbone, ClipSpec, chain
from ssl_video.backbones.vit_blocks import DividedBlock, JointBlock, Make, Positions, Tubelets, embedded, norm
from ssl_video.bounds import Count
from ssl_video.capabilities import Tokens
from ssl_video.errors import UserError

WIDTHS = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}  # width, heads
DEPTH = 12
HALF = (0.5, 0.5, 0.5)


class Norm(nn.Module):
    """The last layer norm, over the channels of a map."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = norm(width)

    def forward(self, x_BDthw: Tensor) -> Tensor:
        """The same shape."""
        return self.norm(x_BDthw.movedim(1, -1)).movedim(-1, 1)


class JointTransformer(nn.Sequential):
    """The stages of a network with joint attention, which also reads a choice of its tubelets (``TokenNetwork``)."""

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The blocks by name (``Backbone.parts``): of other stages ``embed`` and ``blocks`` run what is in them."""
        return {name: stage for name, stage in self.named_children() if isinstance(stage, JointBlock)}

    def embed(self, clip_BCTHW: Tensor, keep_BK: Tensor | None = None) -> Tokens:
        """Tokens of the tubelets whose numbers are kept, of all by default; no others are projected."""
        first = self[0]
        assert isinstance(first, nn.Sequential)
        tubelets, positions = first
        assert isinstance(tubelets, Tubelets) and isinstance(positions, Positions)
        return embedded(tubelets, positions, clip_BCTHW, keep_BK)

    def blocks(self, tokens: Tokens) -> Tokens:
        """The tokens behind all blocks and the last norm."""
        x_BND = tokens.x_BND
        for stage in self:
            if isinstance(stage, JointBlock):
                x_BND = stage.tokens(x_BND)
            elif isinstance(stage, Norm):
                x_BND = stage.norm(x_BND)
        return replace(tokens, x_BND=x_BND)


def _start(module: nn.Module) -> None:
    """Image transformers' start: small weights, no bias, and nothing from other frames yet."""
    for m in module.modules():
        if isinstance(m, nn.Linear):
            nn.init.trunc_normal_(m.weight, std=0.02)
            nn.init.zeros_(m.bias)
    for m in module.modules():
        if isinstance(m, DividedBlock):
            nn.init.zeros_(m.linear_t.weight)


@dataclass(frozen=True)
class _Family:
    """What the sizes of one family share: its clips, and how its blocks attend."""

    title: str
    paper: str
    divided: bool
    frames: int
    fps: float
    tubelet: tuple[int, int, int]

    def build(self, size: str, frames: int, side: int, tubelet: tuple[int, int, int], depth: int) -> Backbone:
        """Tubelets with their positions, ``depth`` blocks, norm. Raises UserError for a clip without a tubelet."""
        if frames < tubelet[0] or side < max(tubelet[1:]):
            raise UserError(
                f"A video transformer needs a tubelet that fits into its clip, not one of {tubelet} in {frames} frames "
                f"of {side} pixels."
            )
        width, heads = WIDTHS[size]
        t, h, w = frames // tubelet[0], side // tubelet[1], side // tubelet[2]
        grids = ((t, 1, 1), (1, h, w)) if self.divided else ((t, h, w),)
        block = DividedBlock if self.divided else JointBlock
        tubelets = Tubelets(3, width, tubelet)
        stages: dict[str, nn.Module] = {
            "tubelets": nn.Sequential(tubelets, Positions(width, grids)),
            **{f"block{number}": block(width, Make(heads)) for number in range(1, depth + 1)},
            "norm": Norm(width),
        }
        clip = ClipSpec(frames, side, self.fps, mean=HALF, std=HALF, min_frames=tubelet[0], min_size=max(tubelet[1:]))
        whole = (nn.Sequential if self.divided else JointTransformer)(OrderedDict(stages))
        network = chain(whole, feature_dim=width, strides=tubelet, clip=clip)
        _start(network)
        return network


def _builder(family: _Family, size: str, millions: int) -> Callable[..., Backbone]:
    def build(
        *,
        frames: Count = family.frames,
        side: Count = 224,
        tubelet: tuple[Count, Count, Count] = family.tubelet,
        depth: Count = DEPTH,
    ) -> Backbone:
        return family.build(size, frames, side, tubelet, depth)

    build.__doc__ = (
        f"{family.title}, {size}, {millions} M parameters ({family.paper}).\n\n"
        "``frames`` and ``side`` (pixels) are those of the clips that the learned positions are laid out for; clips\n"
        "of other sizes are taken too, with interpolated positions. ``tubelet`` is (frames, pixels, pixels)."
    )
    return build


_VIVIT = _Family(
    "ViViT with joint space-time attention", "Arnab et al., 'ViViT', ICCV 2021", False, 32, 12.5, (2, 16, 16)
)
_TIMESFORMER = _Family(
    "TimeSformer with divided space-time attention",
    "Bertasius et al., 'Is Space-Time Attention All You Need?', ICML 2021",
    True,
    8,
    0.94,
    (1, 16, 16),
)
for _size, _millions in (("tiny", 6), ("small", 23), ("base", 89)):
    BACKBONES.register(f"vivit_{_size}")(_builder(_VIVIT, _size, _millions))
for _size, _millions in (("tiny", 8), ("small", 31), ("base", 121)):
    BACKBONES.register(f"timesformer_{_size}")(_builder(_TIMESFORMER, _size, _millions))
