"""Walks over the nodes of a video's frames and back, for the contrastive random walk: chances, losses, targets."""

import torch
from torch import Tensor


def kept_edges(uniform_B2SNN: Tensor, dropout: float) -> Tensor:
    """Which edges a walker may take, (B, 2, S, N, N) of bool: forward and backward edges of S steps.

    An edge is dropped where its number, uniform in [0, 1), is below ``dropout``. A node that would lose all its edges
    keeps them: a walker must go somewhere.
    """
    kept = uniform_B2SNN >= dropout
    return kept | ~kept.any(-1, keepdim=True)


def transitions(nodes_BTNE: Tensor, temperature: float, kept_B2SNN: Tensor | None = None) -> Tensor:
    r"""(B, 2, S, N, N) chances of the S = T - 1 steps: from frame t to t + 1 [:, 0, t], and from t + 1 to t [:, 1, t].

    With the nodes $q_t$ of frame t as rows and the temperature $\tau$ they are the softmax, over the nodes that a step
    may lead to, of $q_t q_{t+1}^\top / \tau$ (there, $P_t$) and of $q_{t+1} q_t^\top / \tau$ (back, $R_t$). See
    ``walk`` for the arguments.
    """
    similar_BSNN = nodes_BTNE[:, :-1] @ nodes_BTNE[:, 1:].transpose(2, 3) / temperature
    both_B2SNN = torch.stack([similar_BSNN, similar_BSNN.transpose(2, 3)], 1)
    if kept_B2SNN is not None:
        both_B2SNN = both_B2SNN.masked_fill(~kept_B2SNN, -torch.inf)
    return both_B2SNN.softmax(4)


def walk(nodes_BTNE: Tensor, temperature: float, kept_B2SNN: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""Walks of 1 to T - 1 steps forward and as many back: the loss of every sub-cycle (section 3).

    $W_k = P_0 \cdots P_{k-1} R_{k-1} \cdots R_0$ (``transitions``) says where walks of k steps and back end, and their
    loss is the mean over the N nodes of how unlikely it is to come home:

    $$ L_k = -\frac{1}{N} \sum_n \ln W_k[n, n] $$

    Chances, not their logarithms, are multiplied: wherever a walker is before the last step back, that step has at
    least the chance $\exp(-2 / \tau) / N$, so $W_k[n, n]$ has too, which float32 holds, and sums of positive numbers
    lose nothing. Only dropped edges can cut a node off from itself; its chance 0 then counts as the smallest normal
    number, without a gradient.

    Args:
        nodes_BTNE: N nodes of each of T frames, of length 1.
        temperature: of the softmax, tau.
        kept_B2SNN: edges that may be taken, forward [:, 0] and backward [:, 1] (``kept_edges``), or None for all.

    Returns:
        losses_K, and returned_KBN, 1 for nodes whose likeliest end is themselves, else 0; K = T - 1 cycle lengths.
    """
    steps_B2SNN = transitions(nodes_BTNE, temperature, kept_B2SNN)
    there_BNN = back_BNN = torch.eye(nodes_BTNE.shape[2]).to(nodes_BTNE)
    losses, returned = [], []
    for forward_BNN, backward_BNN in zip(steps_B2SNN[:, 0].unbind(1), steps_B2SNN[:, 1].unbind(1), strict=True):
        there_BNN, back_BNN = there_BNN @ forward_BNN, backward_BNN @ back_BNN
        home_BN = (there_BNN * back_BNN.transpose(1, 2)).sum(2)  # the diagonal of their product
        losses.append(-home_BN.clamp(min=torch.finfo(home_BN.dtype).tiny).log().mean())
        with torch.no_grad():
            ends_BN = (there_BNN @ back_BNN).argmax(2)
            returned.append((ends_BN == torch.arange(ends_BN.shape[1], device=ends_BN.device)).double())
    return torch.stack(losses), torch.stack(returned)


def walk_elsewhere(
    there_BTNE: Tensor, back_BTNE: Tensor, target_BNN: Tensor, temperature: float, kept_B2SNN: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Walks of 0 to T - 1 steps forward, over to another view of the frame reached, and as many back in that view.

    With the softmax $X_k$ of the similarities of frame k's nodes in the two views, $P$ as in ``transitions`` and
    $R'_k$ the steps back of the other view, $W_k = P_0 \cdots P_{k-1} X_k R'_{k-1} \cdots R'_0$ should lead node n to
    its targets m, with the weights $w$ (``cells_in``); nodes without a target do not count. Of each
    clip, which are then averaged:

    $$ L_k = -\frac{1}{|\{n\}|} \sum_n \sum_m w[n, m] \ln W_k[n, m] $$

    Args:
        there_BTNE: the N nodes of each of T frames on the way there, of length 1.
        back_BTNE: those of the same frames in the other view.
        target_BNN: weights of the nodes of the first frame in the other view, which sum to 1, or to 0 for no target.
        temperature: of the softmax, tau.
        kept_B2SNN: edges that may be taken (``kept_edges``): forward from frame t [:, 0, t], and back from frame t + 1
            [:, 1, t]; the step over to the other view has all of its edges. None: all.

    Returns:
        losses_K, and returned_KB, the fraction of a clip's nodes with a target whose likeliest end is one; K = T walks.
    """

    def step(x_BNE: Tensor, y_BNE: Tensor, kept_BNN: Tensor | None = None) -> Tensor:
        similar_BNN = x_BNE @ y_BNE.transpose(1, 2) / temperature
        if kept_BNN is not None:
            similar_BNN = similar_BNN.masked_fill(~kept_BNN, -torch.inf)
        return similar_BNN.softmax(2)

    there_T, back_T = there_BTNE.unbind(1), back_BTNE.unbind(1)
    forward_BNN = home_BNN = torch.eye(there_BTNE.shape[2]).to(there_BTNE)
    counted_BN = target_BNN.any(2)
    count_B = counted_BN.sum(1).clamp_min(1)
    losses, returned = [], []
    for t in range(len(there_T)):
        if t:
            kept = (None, None) if kept_B2SNN is None else kept_B2SNN[:, :, t - 1].unbind(1)
            forward_BNN = forward_BNN @ step(there_T[t - 1], there_T[t], kept[0])
            home_BNN = step(back_T[t], back_T[t - 1], kept[1]) @ home_BNN
        ends_BNN = forward_BNN @ step(there_T[t], back_T[t]) @ home_BNN
        log_BNN = ends_BNN.clamp(min=torch.finfo(ends_BNN.dtype).tiny).log()
        losses.append((-(target_BNN * log_BNN).sum((1, 2)) / count_B).mean())
        with torch.no_grad():
            met_BN = target_BNN.gather(2, ends_BNN.argmax(2, keepdim=True)).squeeze(2) > 0
            returned.append(met_BN.sum(1).double() / count_B)
    return torch.stack(losses), torch.stack(returned)


def cells_in(first_B4: Tensor, second_B4: Tensor, side: int) -> Tensor:
    """(B, N, N) weights of the side x side cells of a second rectangle in which the centre of each of the first lies.

    Bilinear: of up to four cells, by how near their centres are. They sum to 1; where a centre lies outside of the
    second rectangle they are all 0. Cells are counted row by row; float32.

    Args:
        first_B4: top, left, height and width of a rectangle of a frame that is cut into cells.
        second_B4: those of another one.
        side: cells along a side of both.
    """
    middle_S = (torch.arange(side, dtype=torch.float64, device=first_B4.device) + 0.5) / side
    along = []
    for start in (0, 1):
        (a_B, length_B), (b_B, other_B) = (x[:, start::2].double().unbind(1) for x in (first_B4, second_B4))
        place_BS = (a_B[:, None] + length_B[:, None] * middle_S - b_B[:, None]) / other_B[:, None]
        cell_BS1 = (place_BS * side - 0.5).clamp(0, side - 1)[..., None]
        weight_BSS = (1 - (cell_BS1 - torch.arange(side, device=first_B4.device)).abs()).clamp_min(0)
        along.append(weight_BSS * ((place_BS >= 0) & (place_BS < 1))[..., None])
    down_BSS, across_BSS = along
    return torch.einsum("bij,bkl->bikjl", down_BSS, across_BSS).flatten(3).flatten(1, 2).float()
