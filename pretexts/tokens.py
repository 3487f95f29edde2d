"""What pretexts of tokens share: which are kept and hidden, their pixels, and a small transformer for them."""

from collections import OrderedDict

from torch import Tensor, nn

from ssl_video.backbones.base import Backbone
from ssl_video.backbones.vit_blocks import JointBlock, Make, norm
from ssl_video.capabilities import TokenNetwork
from ssl_video.errors import UserError
from ssl_video.recipes import serving


def token_network(backbone: Backbone, name: str) -> TokenNetwork:
    """The network of a backbone whose patches can be left out. Raises UserError for any other; ``name`` asks."""
    if not isinstance(backbone.network, TokenNetwork):
        raise UserError(
            f"{name} needs a backbone that reads any choice of a clip's patches, which {backbone.architecture} does "
            f"not; choose {serving(name)}."
        )
    return backbone.network


def grid_of(backbone: Backbone, frames: int, size: int) -> tuple[int, int, int]:
    """Cells (t, h, w) of clips of so many frames of ``size`` pixels. Raises UserError if patches do not fill them."""
    t, h, w = backbone.strides
    if frames % t or size % h or size % w:
        raise UserError(
            f"{backbone.architecture} has patches of {t} frames of {h} x {w} pixels, which do not fill clips of "
            f"{frames} frames of {size} pixels; change --pretext.frames or --pretext.size to multiples of them."
        )
    return frames // t, size // h, size // w


def kept_and_hidden(score_BN: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """Numbers of the ``keep`` tokens of the lowest score, and of the others, each in rising order."""
    order_BN = score_BN.argsort(1)
    return order_BN[:, :keep].sort(1)[0], order_BN[:, keep:].sort(1)[0]


def of_ids(x_BND: Tensor, ids_BK: Tensor) -> Tensor:
    """(B, K, D) the rows of these numbers."""
    return x_BND.gather(1, ids_BK[..., None].expand(-1, -1, x_BND.shape[2]))


def pixels_of(clip_BTHWC: Tensor, cell: tuple[int, int, int]) -> Tensor:
    """(B, N, t h w, C) pixels of each cell of (t, h, w), row by row, scaled to [0, 1]; of uint8 in float32."""
    x = (clip_BTHWC if clip_BTHWC.is_floating_point() else clip_BTHWC.float()) / 255
    for axis, side in enumerate(cell, 1):
        x = x.unfold(axis, side, side)
    return x.permute(0, 1, 2, 3, 5, 6, 7, 4).flatten(4, 6).flatten(1, 3)


def blocks(width: int, heads: int, depth: int, mlp_ratio: float = 4.0) -> nn.Sequential:
    """So many blocks of a transformer and a last norm, over (B, N, D), as ``run_blocks`` runs them."""
    made = {f"block{number}": JointBlock(width, Make(heads, mlp_ratio)) for number in range(1, depth + 1)}
    return nn.Sequential(OrderedDict([*made.items(), ("norm", norm(width))]))


def run_blocks(stack: nn.Sequential, x_BND: Tensor) -> Tensor:
    """The tokens behind all of them."""
    for block in stack:
        x_BND = block.tokens(x_BND) if isinstance(block, JointBlock) else block(x_BND)
    return x_BND


def start_linear(module: nn.Module, xavier: bool = False) -> None:
    """First weights of linear layers: normal of 0.02, cut at two of it, or uniform as Glorot's; no bias."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            if xavier:
                nn.init.xavier_uniform_(layer.weight)
            else:
                nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def check_kept(keep: int, tokens: int, what: str) -> None:
    """Raise UserError where a mask keeps nothing, or hides nothing; ``what`` names the option."""
    if not 0 < keep < tokens:
        raise UserError(
            f"{what} leaves {keep} of {tokens} patches to see; choose one that keeps at least one and hides one, or "
            f"larger clips."
        )
