"""The vision transformer of today's masked and joint-embedding pretexts, all of its choices options.

A. Dosovitskiy et al.: "An Image is Worth 16x16 Words", ICLR 2021, on tubelets; positions, class token, order of
attention and start are those of VideoMAE, V-JEPA, V-JEPA 2, LeVJEPA, MAE-ST, TimeSformer and ViViT by option. The sizes
that were published come with the entries of their weights.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from ssl_video.backbones.base import BACKBONES, IMAGENET_MEAN, IMAGENET_STD, Backbone, ClipSpec
from ssl_video.backbones.taps import Tap
from ssl_video.backbones.vit_blocks import (
    EPSILON,
    DividedBlock,
    FixedPositions,
    Grid,
    JointBlock,
    Make,
    Positions,
    Told,
    Tubelets,
    block_causal,
    embedded,
    rotation,
)
from ssl_video.backbones.vit_blocks import norm as layer_norm
from ssl_video.bounds import Count, Positive
from ssl_video.capabilities import Tokens
from ssl_video.errors import UserError

PositionKind = Literal["learned", "sincos1d", "sincos3d", "rope3d"]
AttentionKind = Literal["full", "block_causal", "divided"]
Init = Literal["normal", "scaled", "xavier"]


T = TypeVar("T")


def last(items: Iterable[T]) -> T:
    """The last of what an iterator gives, of which no other is kept."""
    return deque(items, maxlen=1)[0]


class ToMap(nn.Module):
    """The cells of tokens as a map, for a tap: all tokens are there, row by row, behind ``first`` others."""

    def __init__(self, first: int):
        super().__init__()
        self.first = first

    def forward(self, tokens: Tokens) -> Tensor:
        """(B, D, t, h, w); frames that are each a batch entry of the tokens are put side by side."""
        x_NSD = tokens.x_BND[:, self.first :]
        x_BND = x_NSD.reshape(-1, math.prod(tokens.grid), x_NSD.shape[2])
        return x_BND.transpose(1, 2).unflatten(2, tokens.grid)


class VisionTransformer(nn.Module):
    """Tubelets with their positions, a class token or none, blocks, and a last norm or none.

    Args:
        tubelets: cut and project the clip.
        positions: what is added to the tubelets; None: queries and keys are turned instead (``rotation``).
        blocks: JointBlocks, or DividedBlocks.
        norm: the last one; None: there is none.
        cls: whether there is a class token.
        causal: whether no tubelet sees later rows of tubelets.
    """

    others = 1
    """How many tokens that are no cells come with a class token, itself counted."""

    def __init__(
        self,
        tubelets: Tubelets,
        positions: Positions | FixedPositions | None,
        blocks: Sequence[JointBlock | DividedBlock],
        norm: nn.Module | None,
        cls: bool,
        causal: bool = False,
    ):
        super().__init__()
        self.tubelets, self.positions, self.norm = tubelets, positions, norm
        width = tubelets.projection.out_features
        self.cls = nn.Parameter(nn.init.trunc_normal_(torch.zeros(1, 1, width), std=0.02)) if cls else None
        self.stack = nn.ModuleList(blocks)
        self.causal = causal
        names = ["tubelets", *(f"block{number}" for number in range(1, len(blocks) + 1)), *(["norm"] if norm else [])]
        self.maps = nn.ModuleDict({name: ToMap(self.others if cls else 0) for name in names})

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The blocks by the names of their taps (``Backbone.parts``)."""
        return {f"block{number}": block for number, block in enumerate(self.stack, 1)}

    def forward(self, clip_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, D, t, h, w)."""
        maps = (self.maps[name](tokens) for name, tokens in self.steps(self.start(clip_BCTHW)))
        return last(maps)

    def tokens(self, clip_BCTHW: Tensor) -> Tokens:
        """All tokens behind the last block and the norm."""
        return last(self.steps(self.start(clip_BCTHW)))[1]

    def start(self, clip_BCTHW: Tensor, keep_BK: Tensor | None = None) -> Tokens:
        """The tokens before the first block; see ``embedded``."""
        tokens = embedded(self.tubelets, self.positions, clip_BCTHW, keep_BK)
        if self.cls is None:
            return tokens
        x_BND = torch.cat([self.cls.expand(len(clip_BCTHW), -1, -1), tokens.x_BND], 1)
        ids_1N = torch.cat([tokens.ids_BN.new_full((1, 1), -1), tokens.ids_BN[:1]], 1)
        if keep_BK is None:
            return replace(tokens, x_BND=x_BND, ids_BN=ids_1N.expand(len(x_BND), -1))
        return replace(tokens, x_BND=x_BND, ids_BN=torch.cat([ids_1N[:, :1].expand(len(x_BND), 1), keep_BK], 1))

    def steps(self, tokens: Tokens) -> Iterator[tuple[str, Tokens]]:
        """The tokens before and behind each block, and behind the norm, with the name of the tap there."""
        yield "tubelets", tokens
        told = self._told(tokens)
        for number, block in enumerate(self.stack, 1):
            if isinstance(block, DividedBlock):
                x_BND = block.whole(tokens.x_BND, tokens.grid, classes=int(self.cls is not None))
            else:
                assert isinstance(block, JointBlock)
                x_BND = block.tokens(tokens.x_BND, told)
            tokens = replace(tokens, x_BND=x_BND)
            yield f"block{number}", tokens
        if self.norm is not None:
            yield "norm", replace(tokens, x_BND=self.norm(tokens.x_BND))

    def _told(self, tokens: Tokens) -> Told:
        """Made once for all blocks, and once for all clips whose tokens are the same."""
        ids_BN = tokens.ids_BN[:1] if tokens.ids_BN.stride(0) == 0 else tokens.ids_BN
        cosine = sine = None
        if self.positions is None:
            block = self.stack[0]
            assert isinstance(block, JointBlock)
            head = tokens.x_BND.shape[2] // block.attention.heads
            kind = torch.promote_types(tokens.x_BND.dtype, torch.float32)
            cosine, sine = rotation(ids_BN, tokens.grid, head, kind)
        return Told(cosine, sine, block_causal(ids_BN, tokens.grid) if self.causal else None)


class TokenTransformer(VisionTransformer):
    """One whose tokens may be left out (``TokenNetwork``): with divided attention they may not."""

    def embed(self, clip_BCTHW: Tensor, keep_BK: Tensor | None = None) -> Tokens:
        """Tokens of the tubelets whose numbers are kept, of all by default, behind the class token if there is one."""
        return self.start(clip_BCTHW, keep_BK)

    def blocks(self, tokens: Tokens) -> Tokens:
        """The tokens behind all blocks and the norm."""
        return last(self.steps(tokens))[1]


def start_weights(network: nn.Module, init: Init) -> None:
    """Small normal weights without bias; ``scaled``: what a block adds is smaller the later it is; or Xavier's."""
    for m in network.modules():
        if isinstance(m, nn.Linear):
            nn.init.xavier_uniform_(m.weight) if init == "xavier" else nn.init.trunc_normal_(m.weight, std=0.02)
            nn.init.zeros_(m.bias)
    blocks = [m for m in network.modules() if isinstance(m, JointBlock | DividedBlock)]
    for number, block in enumerate(blocks, 1):
        last = block.mlp[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            for weight in (block.attention.projection.weight, last.weight) if init == "scaled" else ():
                weight /= math.sqrt(2 * number)
        if isinstance(block, DividedBlock):
            nn.init.zeros_(block.linear_t.weight)


def as_backbone(network: VisionTransformer, clip: ClipSpec) -> Backbone:
    """A backbone with a tap behind the tubelets, each block and the norm."""
    width = network.tubelets.projection.out_features
    taps = {name: Tap(module, width, network.tubelets.tubelet) for name, module in network.maps.items()}
    return Backbone(network, taps, clip=clip)


def check_heads(width: int, heads: int) -> None:
    """Raise UserError unless the heads share the channels evenly."""
    if width % heads:
        raise UserError(f"The width of a vision transformer must be a multiple of its heads, not {width} of {heads}.")


def _grid(tubelet: Grid, frames: int, side: int) -> Grid:
    """Cells of the clips that the positions are laid out for. Raises UserError."""
    if frames % tubelet[0] or side % tubelet[1] or side % tubelet[2]:
        raise UserError(
            f"frames and side of a vision transformer must be multiples of its tubelet {tubelet}, not {frames} frames "
            f"of {side} pixels."
        )
    return frames // tubelet[0], side // tubelet[1], side // tubelet[2]


def _check_rotation(width: int, heads: int, divided: bool) -> None:
    if divided:
        raise UserError("positions rope3d need attention full or block_causal, not divided.")
    if width // heads < 6:
        raise UserError(f"positions rope3d need 6 channels a head or more, not {width // heads}; take fewer heads.")


@BACKBONES.register("vit")
def vit(
    *,
    width: Count = 128,
    depth: Count = 4,
    heads: Count = 4,
    mlp_ratio: Positive = 4.0,
    tubelet: tuple[Count, Count, Count] = (2, 8, 8),
    frames: Count = 16,
    side: Count = 64,
    positions: PositionKind = "sincos3d",
    cls: bool = False,
    norm: Literal["tokens", "none"] = "tokens",
    attention: AttentionKind = "full",
    init: Init = "normal",
    epsilon: Positive = EPSILON,
    gelu: Literal["exact", "tanh"] = "exact",
) -> Backbone:
    """Vision transformer on tubelets, 0.8 M parameters; its options make those of VideoMAE, V-JEPA, LeVJEPA and others.

    ``frames`` and ``side`` (pixels) are those of the clips that the positions are laid out for; at other sizes these
    are interpolated, but for ``rope3d``, which turns queries and keys. ``tubelet`` is (frames, pixels, pixels). With
    ``cls`` there is a class token, the readout ``cls``. ``norm`` is the last one. With ``attention`` ``block_causal`` a
    tubelet sees its own and earlier rows of tubelets; ``divided`` is TimeSformer's. ``init`` ``scaled`` divides what
    block n adds by sqrt(2 n) at the start. ``epsilon`` and ``gelu`` are those of published weights.
    """
    check_heads(width, heads)
    grid, divided = _grid(tubelet, frames, side), attention == "divided"
    added: Positions | FixedPositions | None = None
    if positions == "rope3d":
        _check_rotation(width, heads, divided)
    elif positions == "learned":
        added = Positions(width, ((grid[0], 1, 1), (1, *grid[1:])) if divided else (grid,))
    else:
        added = FixedPositions(width, grid, positions)
    make = Make(heads, mlp_ratio, epsilon, "tanh" if gelu == "tanh" else "none")
    network = (VisionTransformer if divided else TokenTransformer)(
        Tubelets(3, width, tubelet),
        added,
        [(DividedBlock if divided else JointBlock)(width, make) for _ in range(depth)],
        layer_norm(width, epsilon) if norm == "tokens" else None,
        cls,
        causal=attention == "block_causal",
    )
    start_weights(network, init)
    size = max(tubelet[1:])
    clip = ClipSpec(frames, side, 12.5, mean=IMAGENET_MEAN, std=IMAGENET_STD, min_frames=tubelet[0], min_size=size)
    return as_backbone(network, clip)
