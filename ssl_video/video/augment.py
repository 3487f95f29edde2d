"""Clip-consistent geometry on uint8 frames in loader workers, and colour on whole batches on the device.

Frames are RGB, or encoded optical flow of two channels (in pixels of the copy that they come from, whatever their own
size). They stay uint8 until they are on their device: a quarter of the bytes to move, and flips and crops are views.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def resize(frames_THWC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 frames to (h, w) pixels, bilinear with anti-aliasing."""
    if frames_THWC.shape[1:3] == size:
        return frames_THWC
    x = torch.from_numpy(np.ascontiguousarray(frames_THWC)).permute(0, 3, 1, 2)
    return F.interpolate(x, size=size, mode="bilinear", antialias=True).permute(0, 2, 3, 1).numpy()


def resize_short_side(frames_THWC: np.ndarray, short_side: int) -> np.ndarray:
    """Resize so that the shorter side has ``short_side`` pixels, keeping the aspect ratio."""
    h, w = frames_THWC.shape[1:3]
    scale = short_side / min(h, w)
    return resize(frames_THWC, (max(short_side, round(h * scale)), max(short_side, round(w * scale))))


def crop(frames_THWC: np.ndarray, size: int, rng: np.random.Generator | None) -> np.ndarray:
    """A square of ``size`` pixels at one random place for all frames, or at the centre without ``rng``."""
    h, w = frames_THWC.shape[1:3]
    top, left = ((h - size) // 2, (w - size) // 2) if rng is None else rng.integers(0, (h - size + 1, w - size + 1))
    return frames_THWC[:, top : top + size, left : left + size]


def flip(frames_THWC: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror all frames left to right with probability one half.

    Frames of two channels are optical flow as ``ssl_video.video.flow.encode`` makes it: what moved right moves left.
    """
    if rng.random() >= 0.5:
        return frames_THWC
    return mirror_flow(frames_THWC) if frames_THWC.shape[-1] == 2 else frames_THWC[:, :, ::-1]


def mirror_flow(flow_THW2: np.ndarray) -> np.ndarray:
    """Encoded flow of the mirrored video: mirrored, with dx negated, which maps 128 + d to 128 - d."""
    mirrored = flow_THW2[:, :, ::-1].copy()
    mirrored[..., 0] = np.negative(np.maximum(mirrored[..., 0], 1))  # uint8 wraps: 256 - x; 0 is cut off like 1
    return mirrored


def to_float(
    clip_BTHWC: Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: torch.dtype = torch.float32,
    *,
    matrix_B33: Tensor | None = None,
    shift_B: Tensor | None = None,
) -> Tensor:
    """Clips of values in 0 to 255 as normalised clip_BCTHW (channels last in memory), colours changed on the way.

    x -> M (x / 255 - mean) / std + shift, with one matrix and shift a clip, the same for all its frames: a 3x3 matrix
    mixes the channels as changes of hue, saturation and white balance do. Normalising and changing colours is one
    matrix product for the batch.
    """
    mean_C, std_C = (torch.tensor(x, dtype=dtype, device=clip_BTHWC.device) for x in (mean, std))
    if matrix_B33 is None or shift_B is None:
        return clip_BTHWC.to(dtype).mul_(1 / (255 * std_C)).sub_(mean_C / std_C).permute(0, 4, 1, 2, 3)
    matrix_B33, shift_B11 = matrix_B33.to(mean_C), shift_B.to(mean_C)[:, None, None]
    offset_B1C = shift_B11 - torch.einsum("bdc,c->bd", matrix_B33, mean_C / std_C)[:, None]
    pixels_BNC = clip_BTHWC.to(dtype).flatten(1, 3)
    scaled_BCD = (matrix_B33 / (255 * std_C)).transpose(1, 2)
    return torch.baddbmm(offset_B1C, pixels_BNC, scaled_BCD).view(clip_BTHWC.shape).permute(0, 4, 1, 2, 3)


def resize_batch(clip_BTHWC: Tensor, side: int) -> Tensor:
    """Square uint8 clips at another size, bilinear, anti-aliased when smaller; uint8 on a CPU, float32 on a GPU."""
    if side == clip_BTHWC.shape[2]:
        return clip_BTHWC
    frames_NCHW = clip_BTHWC.flatten(0, 1).permute(0, 3, 1, 2)
    if frames_NCHW.is_cuda:  # there is no kernel for uint8
        frames_NCHW = frames_NCHW.float()
    resized = F.interpolate(frames_NCHW, size=(side, side), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1).unflatten(0, clip_BTHWC.shape[:2])
