"""Clip-consistent geometry on uint8 frames in loader workers, and colour on whole batches on the device.

Frames are RGB, or encoded optical flow of two channels (in pixels of the copy that they come from, whatever their own
size). They stay uint8 until they are on their device: a quarter of the bytes to move, and flips and crops are views.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_video.constants import constant
from ssl_video.video.upright import ELONGATED, scaled_size


def resize(frames_THWC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 frames to (h, w) pixels, bilinear with anti-aliasing."""
    if frames_THWC.shape[1:3] == size:
        return frames_THWC
    x = torch.from_numpy(np.ascontiguousarray(frames_THWC)).permute(0, 3, 1, 2)
    return F.interpolate(x, size=size, mode="bilinear", antialias=True).permute(0, 2, 3, 1).numpy()


def resize_short_side(frames_THWC: np.ndarray, short_side: int) -> np.ndarray:
    """Resize so that the shorter side has ``short_side`` pixels, keeping the aspect ratio as ``scaled_size`` does."""
    h, w = frames_THWC.shape[1:3]
    return resize(frames_THWC, scaled_size(h, w, short_side))


def resize_frame(frame_HWC: np.ndarray, short_side: int) -> np.ndarray:
    """``resize_short_side`` of one frame."""
    return resize_short_side(frame_HWC[None], short_side)[0]


def resize_height(frame_HWC: np.ndarray, height: int) -> np.ndarray:
    """Resize one frame to ``height`` pixels, keeping the aspect ratio, unless a flat one would become very wide."""
    h, w = frame_HWC.shape[:2]
    most = max(w, ELONGATED * height)  # of a low and wide picture that is enlarged
    return resize(frame_HWC[None], (height, max(1, min(most, round(w * height / h)))))[0]


def crop(frames_THWC: np.ndarray, size: int, rng: np.random.Generator | None) -> np.ndarray:
    """A square of ``size`` pixels at one random place for all frames, or at the centre without ``rng``."""
    h, w = frames_THWC.shape[1:3]
    top, left = ((h - size) // 2, (w - size) // 2) if rng is None else rng.integers(0, (h - size + 1, w - size + 1))
    return frames_THWC[:, top : top + size, left : left + size]


def resized_crop(
    frames_THWC: np.ndarray, size: int, area: tuple[float, float], rng: np.random.Generator, longest: float = 4 / 3
) -> np.ndarray:
    """A random rectangle, the same in all frames, resized to ``size`` x ``size``.

    Its area is a random fraction of the frame's between the two of ``area``; neither of its sides is more than
    ``longest`` times the other.
    """
    top, left, height, width = draw_box(frames_THWC.shape[1:3], area, rng, longest)
    return resize(frames_THWC[:, top : top + height, left : left + width], (size, size))


def draw_box(
    size: tuple[int, int], area: tuple[float, float], rng: np.random.Generator, longest: float = 4 / 3
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random rectangle of a frame of (H, W), as ``resized_crop`` takes it.

    Where ten draws do not fit into the frame: the square in its middle.
    """
    h, w = size
    for _ in range(10):
        fraction, ratio = rng.uniform(*area), np.exp(rng.uniform(np.log(1 / longest), np.log(longest)))
        height, width = round(np.sqrt(fraction * h * w / ratio)), round(np.sqrt(fraction * h * w * ratio))
        if 0 < height <= h and 0 < width <= w:
            top, left = rng.integers(0, (h - height + 1, w - width + 1))
            return int(top), int(left), height, width
    side = min(h, w)
    return (h - side) // 2, (w - side) // 2, side, side


def mirror(frames_THWC: np.ndarray) -> np.ndarray:
    """All frames left to right; horizontal flow (2 channels, see ``ClipSpec``) changes its sign with that."""
    mirrored = frames_THWC[:, :, ::-1]
    if frames_THWC.shape[3] == 2:
        mirrored = mirrored.copy()
        mirrored[..., 0] = np.clip(256 - mirrored[..., 0].astype(np.int16), 1, 255)  # 128 is no motion
    return mirrored


def flip(frames_THWC: np.ndarray, rng: np.random.Generator, probability: float = 0.5) -> np.ndarray:
    """Mirror all frames left to right with that probability."""
    return mirror(frames_THWC) if rng.random() < probability else frames_THWC


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
    mean_C, std_C = (constant(tuple(x), clip_BTHWC.device, dtype) for x in (mean, std))
    if matrix_B33 is None or shift_B is None:
        return clip_BTHWC.to(dtype, copy=True).mul_(1 / (255 * std_C)).sub_(mean_C / std_C).permute(0, 4, 1, 2, 3)
    matrix_B33, shift_B11 = matrix_B33.to(mean_C), shift_B.to(mean_C)[:, None, None]
    with torch.autocast(clip_BTHWC.device.type, enabled=False):  # the result is of ``dtype``, as without a change
        offset_B1C = shift_B11 - torch.einsum("bdc,c->bd", matrix_B33, mean_C / std_C)[:, None]
        pixels_BNC = clip_BTHWC.to(dtype).flatten(1, 3)
        scaled_BCD = (matrix_B33 / (255 * std_C)).transpose(1, 2)
        changed_BNC = torch.baddbmm(offset_B1C, pixels_BNC, scaled_BCD)
    return changed_BNC.view(clip_BTHWC.shape).permute(0, 4, 1, 2, 3)


def resize_batch(clip_BTHWC: Tensor, side: int) -> Tensor:
    """Square uint8 clips at another size, bilinear, anti-aliased when smaller; uint8 on a CPU, float32 on a GPU."""
    if side == clip_BTHWC.shape[2]:
        return clip_BTHWC
    frames_NCHW = clip_BTHWC.flatten(0, 1).permute(0, 3, 1, 2)
    if frames_NCHW.is_cuda:  # there is no kernel for uint8
        frames_NCHW = frames_NCHW.float()
    resized = F.interpolate(frames_NCHW, size=(side, side), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1).unflatten(0, clip_BTHWC.shape[:2])
