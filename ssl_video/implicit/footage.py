"""The frames that a network learns, what corresponds between them, and points of them.

A point is (x, y, t): column and row in pixels, the centre of the first at 0, and the number of a frame.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssl_video.video.flow import dis, opencv

AGREE = 1.0
"""Pixels by which the way to another frame and back may miss its start."""


@dataclass(frozen=True)
class FlowPair:
    """Flow between two frames, (H, W, 2) in pixels, and where the way there and back leads home, (H, W) bool."""

    ahead_HW2: np.ndarray
    agree_HW: np.ndarray
    behind_HW2: np.ndarray
    agree_behind_HW: np.ndarray


@dataclass(frozen=True)
class Footage:
    """A short video at the size at which it is learned.

    ``frames_THWC`` are all frames, uint8; ``trained_S`` the numbers of those that are learned, ascending, and R = S - 1
    the pairs of neighbours among them. ``ahead_RHW2`` is where the pixels of a pair's first frame have moved to in its
    second, ``behind_RHW2`` the way of those of the second one back; ``agree_RHW`` and ``agree_behind_RHW`` say where
    the two lead home. ``masks_SHW`` is a coarse mask of the foreground, 0 to 1, and ``given_HW`` one of the first frame
    that holds.
    """

    frames_THWC: Tensor
    trained_S: Tensor
    ahead_RHW2: Tensor
    agree_RHW: Tensor
    behind_RHW2: Tensor
    agree_behind_RHW: Tensor
    masks_SHW: Tensor | None = None
    given_HW: Tensor | None = None

    @property
    def size(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""
        frames, height, width = self.frames_THWC.shape[:3]
        return frames, height, width

    @property
    def kept_out(self) -> list[int]:
        """Numbers of the frames that are not learned."""
        return sorted(set(range(len(self.frames_THWC))) - set(self.trained_S.tolist()))


def learned_of(frames: int, kept_out: int) -> list[int]:
    """Numbers of the frames that are learned: all but every ``kept_out``-th, from frame 2 on; 0 learns all.

    The first and the last are always learned, and with ``kept_out`` of 2 or more both neighbours of one that is not.
    """
    out = range(2, frames - 1, kept_out) if kept_out else ()
    return [t for t in range(frames) if t not in out]


def footage_of(frames_THWC: np.ndarray, learned: Sequence[int], pairs: Sequence[FlowPair]) -> Footage:
    """Footage of uint8 frames, the numbers of those that are learned, and the flow between neighbours among these."""
    height, width = frames_THWC.shape[1:3]

    def stacked(name: str, *more: int) -> Tensor:
        found = [getattr(pair, name) for pair in pairs]
        return torch.from_numpy(np.stack(found) if found else np.zeros((0, height, width, *more), np.float32))

    return Footage(
        torch.from_numpy(np.ascontiguousarray(frames_THWC)),
        torch.tensor(learned),
        stacked("ahead_HW2", 2),
        stacked("agree_HW"),
        stacked("behind_HW2", 2),
        stacked("agree_behind_HW"),
    )


def flow_between(one_HWC: np.ndarray, other_HWC: np.ndarray, size: tuple[int, int]) -> FlowPair:
    """Flow between two uint8 frames by dense inverse search, found at their size and given in pixels of ``size``."""
    ahead, behind = (resized_flow(dis(np.stack(p))[0], size) for p in ((one_HWC, other_HWC), (other_HWC, one_HWC)))
    return FlowPair(ahead, agreeing(ahead, behind), behind, agreeing(behind, ahead))


def resized_flow(flow_HW2: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The flow for frames of ``size`` (h, w), in their pixels."""
    height, width = flow_HW2.shape[:2]
    if (height, width) == size:
        return flow_HW2
    small_HW2 = opencv().resize(flow_HW2, size[::-1], interpolation=opencv().INTER_AREA)
    return small_HW2 * np.array([size[1] / width, size[0] / height], np.float32)


def agreeing(there_HW2: np.ndarray, back_HW2: np.ndarray, limit: float = AGREE) -> np.ndarray:
    """(H, W) bool: pixels that land within the frame, and whose way back, read where they land, leads home.

    Args:
        there_HW2: flow to another frame, in pixels.
        back_HW2: flow from there.
        limit: pixels by which the way back may miss.
    """
    cv2 = opencv()
    height, width = there_HW2.shape[:2]
    y_HW, x_HW = np.mgrid[:height, :width].astype(np.float32)
    land_x, land_y = x_HW + there_HW2[..., 0], y_HW + there_HW2[..., 1]
    inside_HW = (land_x >= 0) & (land_x <= width - 1) & (land_y >= 0) & (land_y <= height - 1)
    back = cv2.remap(back_HW2, land_x, land_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return inside_HW & (np.linalg.norm(there_HW2 + back, axis=-1) <= limit)


def draw_pixels(footage: Footage, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(N,) places s among the learned frames and (N, 3) points, drawn evenly."""
    _, height, width = footage.size
    s_N = torch.randint(len(footage.trained_S), (count,), generator=generator)
    x_N = torch.randint(width, (count,), generator=generator)
    y_N = torch.randint(height, (count,), generator=generator)
    return s_N, torch.stack([x_N, y_N, footage.trained_S[s_N]], 1).float()


def draw_between(footage: Footage, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(N, 3) points between learned frames, and the colours (N, 3) that motion would bring there.

    Each is drawn evenly over time. Its colour is that of where it comes from in the frame before and of where it goes
    in the frame after, the nearer one counting more: a blend of the two frames along the flow, not of one place. Flow
    is read where the point is, which is right where motion is smooth.
    """
    _, height, width = footage.size
    gaps_R = footage.trained_S.diff().float()
    r_N = torch.multinomial(gaps_R, count, replacement=True, generator=generator)
    x_N = torch.randint(width, (count,), generator=generator)
    y_N = torch.randint(height, (count,), generator=generator)
    share_N1 = torch.rand(count, 1, generator=generator)
    here_N2, before_N, after_N = torch.stack([x_N, y_N], 1), footage.trained_S[r_N], footage.trained_S[r_N + 1]
    colours_N3 = along_flow(footage, r_N, here_N2, share_N1)
    time_N = torch.lerp(before_N.float(), after_N.float(), share_N1[:, 0])
    return torch.cat([here_N2, time_N[:, None]], 1), colours_N3


def along_flow(footage: Footage, r_N: Tensor, xy_N2: Tensor, share_N1: Tensor) -> Tensor:
    """(N, 3) colours of pixels (x, y) at a time within a pair of learned frames: both frames, moved there, blended."""
    x_N, y_N = xy_N2.long().unbind(1)
    from_N2 = xy_N2 - share_N1 * footage.ahead_RHW2[r_N, y_N, x_N]
    to_N2 = xy_N2 - (1 - share_N1) * footage.behind_RHW2[r_N, y_N, x_N]
    before_N3 = colours_at(footage.frames_THWC, from_N2, footage.trained_S[r_N])
    return torch.lerp(before_N3, colours_at(footage.frames_THWC, to_N2, footage.trained_S[r_N + 1]), share_N1)


def colours_at(frames_THWC: Tensor, xy_N2: Tensor, t_N: Tensor) -> Tensor:
    """(N, C) colours, 0 to 1, of places in uint8 frames, between pixels interpolated; outside, those of the border."""
    limits_2 = torch.tensor([frames_THWC.shape[2] - 1, frames_THWC.shape[1] - 1])
    xy_N2 = torch.minimum(xy_N2.float().clamp(min=0), limits_2)
    low_N2 = xy_N2.long()
    high_N2, share_N2 = torch.minimum(low_N2 + 1, limits_2), xy_N2 - low_N2
    sides = ((low_N2, 1 - share_N2), (high_N2, share_N2))
    found = [
        frames_THWC[t_N, y_N2[:, 1], x_N2[:, 0]].float() * (wx_N2[:, :1] * wy_N2[:, 1:])
        for (x_N2, wx_N2), (y_N2, wy_N2) in itertools.product(sides, sides)
    ]
    return (found[0] + found[1] + found[2] + found[3]) / 255


def draw_matches(footage: Footage, s_N: Tensor, xyt_N3: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(N, 3) where pixels of learned frames are in the learned frame after or, drawn evenly, before; and (N,) weights.

    A weight is 1 where the flow there and back agrees, else 0; also where there is no frame before or after.
    """
    x_N, y_N = xyt_N3[:, 0].long(), xyt_N3[:, 1].long()
    ahead_N = torch.rand(len(s_N), generator=generator) < 0.5
    last = len(footage.trained_S) - 1
    there_N = (torch.where(ahead_N, s_N < last, s_N > 0)).float()
    r_N = torch.where(ahead_N, s_N, s_N - 1).clamp(0, last - 1)
    flow_N2 = torch.where(ahead_N[:, None], footage.ahead_RHW2[r_N, y_N, x_N], footage.behind_RHW2[r_N, y_N, x_N])
    agree_N = torch.where(ahead_N, footage.agree_RHW[r_N, y_N, x_N], footage.agree_behind_RHW[r_N, y_N, x_N])
    time_N = footage.trained_S[torch.where(ahead_N, s_N + 1, s_N - 1).clamp(0, last)].float()
    return torch.cat([xyt_N3[:, :2] + flow_N2, time_N[:, None]], 1), agree_N.float() * there_N


def lattice(size: tuple[int, int], of: tuple[int, int], t: float) -> Tensor:
    """(h w, 3) the points that a picture of ``size`` (h, w) shows of frames of ``of`` (H, W), row by row, at time t."""
    rows, columns = ((torch.arange(n) + 0.5) * whole / n - 0.5 for n, whole in zip(size, of, strict=True))
    y_HW, x_HW = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x_HW, y_HW, torch.full_like(x_HW, t)], -1).view(-1, 3)
