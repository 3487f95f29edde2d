"""The attentive probe of V-JEPA: a learned query attends to the tokens of a video, and a linear layer classifies.

A. Bardes et al., "Revisiting Feature Prediction for Learning Visual Representations from Video", 2024 (V-JEPA);
M. Assran et al., "V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning", 2025, whose
probe lets the tokens attend to each other first.
"""

import math

import torch
from torch import Tensor, nn

from ssl_video.backbones.vit_blocks import JointBlock, Make, mlp, norm
from ssl_video.errors import UserError

STD = 0.02
"""Standard deviation of the query and of all weights at the start."""


class QueryAttention(nn.Module):
    r"""What one query sees of some tokens: multi-head attention without an output projection.

    Of head h, with the rows $W_h$ of each layer that belong to it: $\sum_n a_n (V_h x_n + v_h)$, where a is the softmax
    over n of $(Q_h q + p_h) \cdot (K_h x_n + k_h) / \sqrt{D / H}$. Since the query is the same for all tokens, $K_h^T
    (Q_h q + p_h)$ is computed first and $V_h$ is applied last, to the mean of the tokens: the same numbers, without
    keys and values of every token. $k_h$ adds the same to all, which the softmax does not see; it is there for weights
    of others.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, query_D: Tensor, x_BND: Tensor) -> Tensor:
        """(B, D) of the query and the tokens."""
        query_HE, key_HED, value_HED = (
            x.unflatten(0, (self.heads, -1)) for x in (self.query(query_D), self.key.weight, self.value.weight)
        )
        asked_HD = torch.einsum("he,hed->hd", query_HE / math.sqrt(query_HE.shape[1]), key_HED)
        share_BNH = (x_BND @ asked_HD.T).softmax(1)
        seen_BHD = share_BNH.transpose(1, 2) @ x_BND
        return torch.einsum("bhd,hed->bhe", seen_BHD, value_HED).flatten(1) + self.value.bias


class AttentiveHead(nn.Module):
    """Tokens to logits: ``blocks`` blocks of self-attention, the query with its MLP, a linear layer.

    With x the tokens behind the blocks: y = q + attention(q, LN(x)), y + MLP(LN(y)). MLPs are four times as wide.

    Args:
        width: channels of a token.
        classes: how many there are.
        heads: of every attention.
        blocks: of self-attention.
        seed: of the weights at the start.

    Raises:
        UserError: if ``heads`` does not divide ``width``.
    """

    def __init__(self, width: int, classes: int, heads: int, blocks: int = 0, seed: int = 0):
        super().__init__()
        if width % heads:
            raise UserError(
                f"heads={heads} does not divide the {width} channels of the map; choose a divisor, "
                f"--option heads={fitting_heads(width, heads)}, say."
            )
        self.blocks = nn.ModuleList(JointBlock(width, Make(heads)) for _ in range(blocks))
        self.query_1D = nn.Parameter(torch.zeros(1, width))
        self.norm, self.attention, self.mlp = norm(width), QueryAttention(width, heads), mlp(width, Make(heads))
        self.linear = nn.Linear(width, classes)
        self._start(torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def _start(self, generator: torch.Generator) -> None:
        """Small weights, no biases; what is added to the tokens of block n, and to the query, over sqrt(2 n)."""
        nn.init.trunc_normal_(self.query_1D, std=STD, generator=generator)
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.trunc_normal_(m.weight, std=STD, generator=generator)
                nn.init.zeros_(m.bias)
        last = [(max(1, len(self.blocks)), self.mlp[-1])]
        for number, block in enumerate(self.blocks, 1):
            assert isinstance(block, JointBlock)
            last += [(number, block.attention.projection), (number, block.mlp[-1])]
        for number, layer in last:
            assert isinstance(layer, nn.Linear)
            layer.weight.div_(math.sqrt(2 * number))

    def pooled(self, x_BND: Tensor) -> Tensor:
        """(B, D) what the query makes of the tokens."""
        for block in self.blocks:
            assert isinstance(block, JointBlock)
            x_BND = block.tokens(x_BND)
        y_BD = self.query_1D + self.attention(self.query_1D[0], self.norm(x_BND))
        return y_BD + self.mlp(y_BD)

    def forward(self, x_BND: Tensor) -> Tensor:
        """logits_BK of tokens (B, N, D)."""
        return self.linear(self.pooled(x_BND))


def fitting_heads(width: int, wanted: int) -> int:
    """The largest number of heads of at most ``wanted`` that divides the channels."""
    return next(n for n in range(max(1, min(wanted, width)), 0, -1) if width % n == 0)


def heads_of(network: nn.Module, width: int) -> int:
    """The heads of the network's own attention, if it has any that divide ``width``; else one for each 64 channels."""
    named = (getattr(m, name, None) for m in network.modules() for name in ("heads", "num_heads"))
    own = next((n for n in named if isinstance(n, int) and n > 0 and width % n == 0), None)
    return own or fitting_heads(width, width // 64)
