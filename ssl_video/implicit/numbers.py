"""How well a video was learned: errors on frames that were not, and how firmly an edit sticks to what moves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ssl_video.implicit.atlas import LayeredAtlas
from ssl_video.implicit.footage import FlowPair, Footage, along_flow, colours_at, flow_between, lattice
from ssl_video.implicit.rendering import SEEN, frames_of
from ssl_video.video.flow import opencv

AT_ONCE = 1 << 14
"""Places that are looked up at a time: OpenCV takes fewer than 32,767."""
WAVE = 12.0
"""Pixels of the video of a wave of the edit that consistency is measured with."""


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 pictures in dB; 100 where they are equal."""
    error = float(np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2))
    return min(100.0, 10 * np.log10(255**2 / error)) if error else 100.0


def fidelity(network: nn.Module, footage: Footage) -> dict[str, float]:
    """Mean PSNR over learned frames and over those that were kept out, beside what can be done without a network.

    ``blend`` is the mean of the two neighbouring frames, ``along_flow`` that of the two moved along the optical flow
    between them, which the network was told of.
    """
    frames_THWC, size = footage.frames_THWC.numpy(), footage.size[1:]

    def of(numbers: Sequence[int]) -> list[float]:
        shown = frames_of(network, size, numbers, size)
        return [psnr(frame_HWC, frames_THWC[t]) for t, frame_HWC in zip(numbers, shown, strict=True)]

    found = {"psnr_trained": float(np.mean(of(footage.trained_S.tolist())))}
    if out := footage.kept_out:
        found["psnr_kept_out"] = float(np.mean(of(out)))
        blends = [frames_THWC[[t - 1, t + 1]].astype(np.float64).mean(0).round() for t in out]
        found["psnr_blend"] = float(np.mean([psnr(b, frames_THWC[t]) for b, t in zip(blends, out, strict=True)]))
        found["psnr_along_flow"] = float(np.mean([psnr(_moved(footage, t), frames_THWC[t]) for t in out]))
    return found


def _moved(footage: Footage, t: int) -> np.ndarray:
    """A frame that was kept out, as the flow between its neighbours would have it."""
    _, height, width = footage.size
    xy_N2 = lattice((height, width), (height, width), t)[:, :2]
    r = int(torch.searchsorted(footage.trained_S, t)) - 1
    colours = along_flow(footage, torch.full((len(xy_N2),), r), xy_N2, torch.full((len(xy_N2), 1), 0.5))
    return (colours * 255).round().view(height, width, 3).numpy()


@torch.no_grad()
def consistency(atlas: LayeredAtlas, footage: Footage) -> dict[str, float]:
    """Mean absolute difference, 0 to 1, of an edit's colour in a frame to that in the first, at what corresponds.

    Pixels of the foreground of the first frame are followed along the optical flow from frame to frame, for as long as
    that agrees there and back. ``edit`` is waves painted on the foreground's atlas; ``pasted`` the same as they lie in
    the first frame, left at their places. Nothing is said of a video whose first frame shows no foreground that can be
    followed.
    """
    frames_THWC, size = footage.frames_THWC.numpy(), footage.size[1:]
    first_N3 = lattice(size, size, 0)
    pasted_1HWC = (_waves(atlas, first_N3).view(1, *size, 3) * 255).round().to(torch.uint8)
    first_N3 = first_N3[atlas.layers_at(first_N3).opacity_N > SEEN]
    xy_N2, sums, count = first_N3[:, :2].numpy(), np.zeros(2), 0
    for t in range(1, len(frames_THWC)):
        xy_N2, kept_N = _followed(xy_N2, flow_between(frames_THWC[t - 1], frames_THWC[t], size))
        xy_N2, first_N3 = xy_N2[kept_N], first_N3[torch.from_numpy(kept_N)]
        now_N3 = torch.cat([torch.from_numpy(xy_N2), torch.full((len(xy_N2), 1), float(t))], 1)
        moved = (_waves(atlas, now_N3) - _waves(atlas, first_N3)).abs().mean(1)
        none_N = torch.zeros(len(xy_N2), dtype=torch.long)
        here, there = (colours_at(pasted_1HWC, xyt_N3[:, :2], none_N) for xyt_N3 in (first_N3, now_N3))
        sums += float(moved.sum()), float((here - there).abs().mean(1).sum())
        count += len(moved)
    return {"consistency_edit": sums[0] / count, "consistency_pasted": sums[1] / count} if count else {}


def _followed(xy_N2: np.ndarray, pair: FlowPair) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) float32 where places of one frame are in the next, and (N,) bool whether the flow there can be trusted."""
    cv2, agree_HW = opencv(), pair.agree_HW.astype(np.float32)
    parts = [xy_N2[first : first + AT_ONCE].astype(np.float32) for first in range(0, len(xy_N2), AT_ONCE)]
    if not parts:
        return xy_N2, np.zeros(0, bool)
    ahead = [part_N2 + cv2.remap(pair.ahead_HW2, part_N2[None], None, cv2.INTER_LINEAR)[0] for part_N2 in parts]
    agree = [cv2.remap(agree_HW, part_N2[None], None, cv2.INTER_LINEAR)[0] > SEEN for part_N2 in parts]
    return np.concatenate(ahead), np.concatenate(agree)


def _waves(atlas: LayeredAtlas, xyt_N3: torch.Tensor) -> torch.Tensor:
    """(N, 3) colours of points, 0 to 1: waves of another phase for each colour, painted on the foreground's atlas."""
    pixels_N2 = atlas.layers_at(xyt_N3).front_N2 * atlas.half_side / atlas.scales_2[0]
    turns_N2 = 2 * torch.pi / WAVE * pixels_N2
    waves = [turns_N2[:, 0].sin(), turns_N2[:, 1].sin(), (turns_N2[:, 0] + turns_N2[:, 1]).cos()]
    return (torch.stack(waves, 1) + 1) / 2


def overlap(opacities: Sequence[np.ndarray], masks_SHW: Any) -> float:
    """Mean intersection over union of opacities, cut at a half, and masks, 0 to 1."""
    ious = []
    for opacity_HW, mask_HW in zip(opacities, masks_SHW, strict=True):
        one, other = opacity_HW > SEEN, np.asarray(mask_HW) > 0.5
        union = np.count_nonzero(one | other)
        ious.append(np.count_nonzero(one & other) / union if union else 1.0)
    return float(np.mean(ious))
