"""Clip-consistent geometry on uint8 frames in loader workers, and colour on whole batches on the device.

Frames stay uint8 until they are on their device: a quarter of the bytes to move, and flips and crops are views.
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
    """Mirror all frames left to right with probability one half."""
    return frames_THWC[:, :, ::-1] if rng.random() < 0.5 else frames_THWC


def to_float(
    clip_BTHWC: Tensor, mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype = torch.float32
) -> Tensor:
    """uint8 clips to normalised clip_BCTHW (channels last in memory)."""
    mean_C, std_C = (torch.tensor(x, dtype=dtype, device=clip_BTHWC.device) for x in (mean, std))
    return clip_BTHWC.to(dtype).mul_(1 / (255 * std_C)).sub_(mean_C / std_C).permute(0, 4, 1, 2, 3)


def colour_jitter(clip_BCTHW: Tensor, matrix_noise_B33: Tensor, gain_B: Tensor, shift_B: Tensor) -> Tensor:
    """One linear colour change a clip: x -> gain * (I + noise) x + shift, on normalised clips.

    A 3x3 matrix mixes the channels as changes of hue, saturation and white balance do, at the price of one matrix
    product for the batch. All frames of a clip get the same change.
    """
    matrix_B33 = (torch.eye(3) + matrix_noise_B33) * gain_B[:, None, None]
    x = torch.einsum("bdc,bcthw->bdthw", matrix_B33.to(clip_BCTHW), clip_BCTHW)
    return x + shift_B.to(clip_BCTHW)[:, None, None, None, None]
