"""How published files are laid out: what tells one from another, and what it takes to make them ours.

A layout reads a file by its outline, names with shapes and no numbers, so that a file of gigabytes is told at once.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ssl_video.backbones.weights.files import read_outline
from ssl_video.backbones.weights.names import own_names
from ssl_video.errors import UserError

Outline = Mapping[str, Tensor]
"""Tensors without numbers, on torch's meta device."""

REFUSED = (
    (r"(^|\.)patch_embed_img\.|(^|\.)norms_block\.", "of V-JEPA 2.1, whose rotary positions and norms are others"),
    (r"(^|\.)attn\.(scale|logit_scale)$", "of a network with cosine attention"),
    (r"(^|\.)mlp\.(w12|w3|weights_in)\.", "of a network with SwiGLU layers"),
)
"""Names that tell networks whose features would be wrong here, and of what they are."""


def check_usable(outline: Outline, what: str) -> None:
    """Raise UserError for a file, called ``what``, that no network of ours loads right."""
    for pattern, of in REFUSED:
        if any(re.search(pattern, name) for name in outline):
            raise UserError(f"{what} holds weights {of}; ssl-video has no such network, take another file.")


def same_names(names: Mapping[str, Tensor]) -> dict[str, str]:
    """Names that need no change."""
    return {name: name for name in names}


@dataclass(frozen=True)
class Layout:
    """How a published file looks, for an entry whose file may be anywhere.

    Args:
        fits: whether an outline, under the names of ``names``, is of this kind.
        options: those of the network that an outline is for, where it tells; what the user gives comes first.
        adapt: (tensors under the names of ``names``, backbone) -> the same under the backbone's own names. What it does
            not know keeps its name, and is refused as unexpected.
        names: theirs -> common ones, which files of several programs share.
        left_out: beginnings of common names that are no part of the network: heads, decoders.
    """

    fits: Callable[[Outline], bool]
    options: Callable[[Outline, Mapping[str, object]], Mapping[str, object]]
    adapt: Callable[[Mapping[str, Tensor], nn.Module], Mapping[str, Tensor]]
    names: Callable[[Mapping[str, Tensor]], Mapping[str, str]] = same_names
    left_out: tuple[str, ...] = ()

    def common(self, tensors: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
        """Tensors under their common names. Raises UserError, which calls the file ``what``, where two share one."""
        common: dict[str, Tensor] = {}
        for name, new in self.names(tensors).items():
            if new in common:
                raise UserError(f"{what} holds {new} twice, once as {name}; save the network that you mean by itself.")
            common[new] = tensors[name]
        return common

    def parted(self, common: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """What is of the network, and the names of what is left out."""
        kept = {name: tensor for name, tensor in common.items() if not name.startswith(self.left_out)}
        return kept, tuple(name for name in common if name not in kept)


def published_to_own(weights: Mapping[str, Tensor], backbone: nn.Module) -> dict[str, Tensor]:
    """Weights under the names of the network that a backbone is made of (``Published``) -> the backbone's own."""
    of: Any = backbone
    return own_names(weights, of.provenance.names)


def outline(path: Path) -> Outline:
    """The outline of a file, read again only if it was changed. Raises UserError."""
    if not path.is_file():
        return read_outline(path)  # which says so
    state = path.stat()
    return _outline(str(path), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _outline(path: str, _changed: int, _size: int) -> Outline:
    return read_outline(path)
