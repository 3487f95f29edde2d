"""Keys of earlier batches, for losses that contrast with more videos than a batch has (MoCo)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KeyQueue(nn.Module):
    """The latest keys of all ranks, at first random directions. A buffer, so that it is in checkpoints.

    What a forward pass saw joins after the step (``push``): every batch of a step is contrasted with the same keys.
    """

    keys_KD: Tensor

    def __init__(self, length: int, dim: int):
        super().__init__()
        self.register_buffer("keys_KD", directions(torch.randn(length, dim)))
        self._waiting: list[Tensor] = []

    def wait(self, keys_ND: Tensor) -> None:
        """Keys that join at the next ``push``: those of all ranks (``Context.gather``), so that all have one queue."""
        self._waiting.append(keys_ND.detach().to(self.keys_KD.dtype))

    def push(self) -> None:
        """The keys that wait join, and the oldest leave."""
        if self._waiting:
            self.keys_KD.copy_(torch.cat([*self._waiting[::-1], self.keys_KD])[: len(self.keys_KD)])
            self._waiting.clear()


def directions(x_ND: Tensor) -> Tensor:
    """Rows of length 1, in float32 or better."""
    return F.normalize(x_ND.to(torch.promote_types(x_ND.dtype, torch.float32)), dim=1)


def info_nce(positive_X: Tensor, negatives_X: Tensor) -> Tensor:
    r"""$-\ln (\exp p / (\exp p + \sum_k \exp n_k))$, each by itself, of the same shape.

    Args:
        positive_X: $p$, the logit of the positive key.
        negatives_X: $\ln \sum_k \exp n_k$ of the logits of all negative ones.
    """
    return torch.logaddexp(positive_X, negatives_X) - positive_X
