"""Labels carried from frame to frame of a video by the affinity of features: the functional core of ``propagation``.

Two rules, after the released code of two papers, whose numbers are presets of the protocol:

* ``joint`` (Jabri et al., "Space-Time Correspondence as a Contrastive Random Walk", NeurIPS 2020): a cell is compared
  with all cells of the first frame and, in each of the previous n frames, with those nearer than a radius. The k of the
  largest affinity, of all frames together, share the weight by a softmax.
* ``per-frame`` (Wang, Jabri, Efros: "Learning Correspondence from the Cycle-Consistency of Time", CVPR 2019): a softmax
  over all cells of each context frame by itself, of which the k largest weights are kept as they are, and the mean over
  the frames. Each label is stretched to [0, 1] over the frame.

Frames are streamed: what is held are the features and labels of the context, however long the video is.

Shape suffixes: D features, L labels, H W cells of the feature map, N = H * W cells, n context frames.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_video.bounds import Bounded, Bounds, Count, Natural, Positive

STRIP = 8
"""Columns of cells whose queries are computed together: wider ones multiply more in vain, narrower ones are slower."""
Radius = Annotated[float, Bounds(above=0, most=math.inf)]
FIRST_GROUP = 16
"""Cells of the first frame that make a group."""


@dataclass(frozen=True)
class Affinity(Bounded):
    """How labels are carried: see the module for the rules. Raises UserError for numbers that make no sense."""

    context: Natural = 20
    """Previous frames from which labels are carried, besides the first one."""
    radius: Radius = 12.0
    """Cells of previous frames at this distance or farther are left out (rule joint only)."""
    top_k: Count = 10
    """Cells that share the weight: of all frames together (joint), or of each one."""
    temperature: Positive = 0.05
    """Affinities are divided by it before the softmax."""
    rule: Literal["joint", "per-frame"] = "joint"
    """joint or per-frame."""


@torch.no_grad()
def propagate(features: Iterable[Tensor], labels_LHW: Tensor, how: Affinity) -> Iterator[Tensor]:
    """labels_LHW of every frame, the first frame's as they are given.

    Before the first frame lie, for the context, as many copies of it as are needed.

    Args:
        features: features_DHW of each frame in turn, to be normalised by the caller for cosines.
        labels_LHW: soft labels of the first frame on the same grid of cells.
        how: the rule and its numbers.

    Raises:
        ValueError: if a frame's map has another shape than the first one's.
    """
    stream = iter(features)
    first_DHW = next(stream)
    if first_DHW.shape[1:] != labels_LHW.shape[1:]:
        raise ValueError(f"features of {tuple(first_DHW.shape[1:])} cells, labels of {tuple(labels_LHW.shape[1:])}")
    labels_LHW = labels_LHW.to(first_DHW)
    carrier = (_Joint if how.rule == "joint" else _PerFrame)(first_DHW, labels_LHW, how)
    yield labels_LHW
    for features_DHW in stream:
        if features_DHW.shape != first_DHW.shape:
            raise ValueError(f"a map of {tuple(features_DHW.shape)} after one of {tuple(first_DHW.shape)}")
        yield carrier.step(features_DHW)


class _Joint:
    """The rule ``joint``, computed in windows: products with cells that a radius excludes are (nearly) never formed.

    The queries of a strip of columns are multiplied, one row of keys at a time, with the rows of queries that this row
    can reach. The k largest of many scores are found in two exact steps: scores are put into groups (the same cell of
    all previous frames; every so many cells of the first frame), and the k largest lie in the k groups with the largest
    maxima. Copies of the first frame that fill the context are one frame that counts several times.
    """

    def __init__(self, first_DHW: Tensor, labels_LHW: Tensor, how: Affinity):
        self.how, (self.D, self.H, self.W) = how, first_DHW.shape
        self.reach = math.ceil(min(how.radius, max(self.H, self.W))) - 1
        n, self.N = how.context, self.H * self.W
        self.first_ND = first_DHW.flatten(1).T.contiguous()
        # a cell of all previous frames lies side by side, so that a row of a window is one matrix; the last are copies
        self.first_HWD = F.pad(first_DHW.permute(1, 2, 0), (0, 0, self.reach, self.reach))
        self.store = self.first_HWD.new_empty(n * self.first_HWD.numel())
        self.keys_HWnD = self._stored(min(n, 1))
        self.keys_HWnD[:] = self.first_HWD[:, :, None]
        self.labels = labels_LHW.flatten(1).T.repeat(1 + n, 1)  # ((1 + n) * N, L), the first frame's on top
        self.every = -(-self.N // FIRST_GROUP)  # groups of the first frame: cells g, g + every, g + 2 every, ...
        self.span = 2 * self.reach + 1
        windows = self.H * (STRIP + 2 * self.reach) * n * self.span * STRIP
        self.scores = first_DHW.new_empty(windows + self.every * FIRST_GROUP * self.H * STRIP)
        self.steps = 0

    @property
    def copies(self) -> int:
        """Of the first frame, that still fill the context; they are kept as one."""
        return max(0, self.how.context - self.steps)

    def step(self, features_DHW: Tensor) -> Tensor:
        """labels_LHW of the next frame."""
        strips = [self._strip(features_DHW[:, :, x : x + STRIP], x) for x in range(0, self.W, STRIP)]
        labels_LHW = torch.cat(strips, 2)
        if self.how.context:
            slot = self.steps % self.how.context
            self.steps += 1
            self.keys_HWnD[:, self.reach : self.reach + self.W, slot] = features_DHW.permute(1, 2, 0)
            if self.copies:
                self._grow()
            self.labels[(1 + slot) * self.N : (2 + slot) * self.N] = labels_LHW.flatten(1).T
        return labels_LHW

    def _stored(self, n: int) -> Tensor:
        """keys_HWnD of ``n`` previous frames, side by side at the beginning of what is held for all of them."""
        H, W, D = self.first_HWD.shape
        return self.store[: H * W * n * D].view(H, W, n, D)

    def _grow(self) -> None:
        """Lay a copy of the first frame beside the previous frames; from the last row on, none is overwritten."""
        before, n = self.keys_HWnD, self.keys_HWnD.shape[2]
        self.keys_HWnD = self._stored(n + 1)
        for row in reversed(range(self.H)):
            self.keys_HWnD[row, :, :n] = before[row].clone()
            self.keys_HWnD[row, :, n] = self.first_HWD[row]

    def _strip(self, queries_DHw: Tensor, x: int) -> Tensor:
        """labels_LHw of the cells in columns x, x + 1, ... of the frame."""
        H, w, k, n = self.H, queries_DHw.shape[2], self.how.top_k, self.keys_HWnD.shape[2]
        queries_DQ = queries_DHw.reshape(self.D, H * w)
        windows_QG, size = self._windows(queries_DQ, x, w)
        groups_QG = torch.cat([windows_QG, self._first(queries_DQ, size)], 1)
        top_Qk, group_Qk = groups_QG.topk(min(k, groups_QG.shape[1]), 1)

        # where the members of these groups lie among the scores
        members = torch.arange(max(n, FIRST_GROUP), device=top_Qk.device)
        query = torch.arange(H * w, device=top_Qk.device)[:, None]
        in_window, first_group = group_Qk < windows_QG.shape[1], group_Qk - windows_QG.shape[1]
        dy, kx = group_Qk // (w + 2 * self.reach), group_Qk % (w + 2 * self.reach)
        row = query // w + dy - self.reach
        start = torch.where(
            in_window,
            (row * (w + 2 * self.reach) + kx) * n * self.span * w + (self.span - 1 - dy) * w + query % w,
            size + first_group * H * w + query,
        )
        apart = torch.where(in_window, self.span * w, self.every * H * w)
        count = torch.where(in_window, n, FIRST_GROUP).masked_fill_(top_Qk == -torch.inf, 0)
        absent = members >= count[..., None]
        at = (start[..., None] + apart[..., None] * members).masked_fill_(absent, 0)
        scores_QM = self.scores[at].masked_fill_(absent, -torch.inf).flatten(1)

        best_Qk, member = scores_QM.topk(min(k, scores_QM.shape[1]), 1)
        which, member = member // len(members), member % len(members)
        cell = torch.where(in_window, row * self.W + kx + x - self.reach + self.N, first_group).gather(1, which)
        step = torch.where(in_window, self.N, self.every).gather(1, which)
        cell = (cell + step * member).masked_fill_(best_Qk == -torch.inf, 0)
        logits_Qk = best_Qk / self.how.temperature
        if self.copies > 1:
            copied_Qk = in_window.gather(1, which) & (member == n - 1)
            logits_Qk = logits_Qk + counted(torch.where(copied_Qk, self.copies, 1), k).to(logits_Qk).log()
        weights_Qk = logits_Qk.softmax(1)
        labels_QL = F.embedding_bag(cell, self.labels, mode="sum", per_sample_weights=weights_Qk)
        return labels_QL.T.unflatten(1, (H, w))

    def _windows(self, queries_DQ: Tensor, x: int, w: int) -> tuple[Tensor, int]:
        """The largest score of each group in a query's window, (Q, rows * columns); how many scores there are."""
        H, n, reach, span = self.H, self.keys_HWnD.shape[2], self.reach, self.span
        if not n:
            return queries_DQ.new_empty(H * w, 0), 0
        columns = w + 2 * reach
        size = H * columns * n * span * w
        scores = self.scores[:size].view(H, columns * n, span * w)
        left, right = max(0, reach - x), min(columns, reach + self.W - x)  # outside of the map there is nothing to see
        for row in range(H):
            y0, y1 = max(0, row - reach), min(H, row + reach + 1)
            keys = self.keys_HWnD[row, x + left : x + right].flatten(0, 1)
            out = scores[row, left * n : right * n, (y0 - row + reach) * w : (y1 - row + reach) * w]
            torch.mm(keys, queries_DQ[:, y0 * w : y1 * w], out=out)
        largest = scores.new_full((H + 2 * reach, columns, span, w), -torch.inf)  # rows outside of the map around it
        largest[reach : reach + H] = scores.view(H, columns, n, span * w).amax(2).unflatten(2, (span, w))
        # by query: row y + dy of it has the query row y at place span - 1 - dy
        a_row, a_column, a_place, _ = largest.stride()
        by_query = largest.as_strided(
            (H, w, span, columns), (a_row, 1, a_row - a_place, a_column), (span - 1) * a_place
        )
        dy = torch.arange(-reach, reach + 1, device=scores.device)[:, None]
        kx = torch.arange(columns, device=scores.device)
        dx_wx = kx - reach - torch.arange(w, device=scores.device)[:, None]
        inside = (kx + x >= reach) & (kx + x < reach + self.W)
        seen = (dx_wx[:, None] ** 2 + dy**2 < self.how.radius * self.how.radius) & inside
        return by_query.masked_fill(~seen, -torch.inf).flatten(2).flatten(0, 1), size

    def _first(self, queries_DQ: Tensor, size: int) -> Tensor:
        """The largest score of each group of the first frame's cells, (Q, groups); the scores go behind ``size``."""
        Q = queries_DQ.shape[1]
        scores = self.scores[size : size + self.every * FIRST_GROUP * Q].view(-1, Q)
        torch.mm(self.first_ND, queries_DQ, out=scores[: self.N])
        scores[self.N :] = -torch.inf
        return scores.view(FIRST_GROUP, self.every, Q).amax(0).T


def counted(number_Qk: Tensor, most: int) -> Tensor:
    """How many of each are among the first ``most``, of so many of each in a row: 2, 3 and 4 of 4 are 2, 2 and 0."""
    before_Qk = number_Qk.cumsum(1) - number_Qk
    return torch.minimum(number_Qk, (most - before_Qk).clamp_min(0))


class _PerFrame:
    """The rule ``per-frame``."""

    def __init__(self, first_DHW: Tensor, labels_LHW: Tensor, how: Affinity):
        self.how = how
        first = (first_DHW.flatten(1), labels_LHW.flatten(1))
        self.first, self.previous = first, deque([first] * how.context, maxlen=how.context)

    def step(self, features_DHW: Tensor) -> Tensor:
        """labels_LHW of the next frame."""
        queries_DN = features_DHW.flatten(1)
        total_LN = torch.zeros_like(self.first[1])
        for keys_DN, labels_LN in (self.first, *self.previous):
            weights_NN = (queries_DN.T @ keys_DN / self.how.temperature).softmax(1)
            weights_Nk, cell_Nk = weights_NN.topk(min(self.how.top_k, weights_NN.shape[1]), 1)
            labels_NL = labels_LN.T.contiguous()
            total_LN += F.embedding_bag(cell_Nk, labels_NL, mode="sum", per_sample_weights=weights_Nk).T
        mean_LN = total_LN / (1 + self.how.context)
        least_L1, most_L1 = mean_LN.amin(1, keepdim=True), mean_LN.amax(1, keepdim=True)
        spread_L1 = most_L1 - least_L1
        stretched_LN = (mean_LN - least_L1) / torch.where(spread_L1 > 0, spread_L1, 1)
        self.previous.append((queries_DN, stretched_LN))
        return stretched_LN.unflatten(1, features_DHW.shape[1:])
