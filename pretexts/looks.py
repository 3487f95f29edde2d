"""How clips are made to look different for contrastive pretexts, on the device: hue, gray, blur.

All frames of a clip change alike. Colours change where the clip is normalised, by one matrix and one shift a clip
(``ssl_video.video.augment.to_float``), so that they are those of normalised pixels.
"""

import math

import torch
from torch import Tensor

from ssl_video.constants import constant
from ssl_video.train.objective import Context
from ssl_video.video.colours import LUMINANCE


def hues(turns_B: Tensor) -> Tensor:
    """matrix_B33 that turn colours around the axis of grays by so many whole turns."""
    angle_B11 = 2 * math.pi * turns_B[:, None, None]
    one_33, gray_33 = torch.eye(3, device=turns_B.device), torch.full((3, 3), 1 / 3, device=turns_B.device)
    across_33 = (one_33.roll(1, 0) - one_33.roll(1, 1)) / math.sqrt(3)  # the cross product with the axis
    return angle_B11.cos() * one_33 + (1 - angle_B11.cos()) * gray_33 + angle_B11.sin() * across_33


def grayed(matrix_B33: Tensor, is_gray_B11: Tensor) -> Tensor:
    """Changes of colours that first take all colour away, where ``is_gray_B11``."""
    gray_33 = constant(LUMINANCE, matrix_B33.device).expand(3, 3)
    return torch.where(is_gray_B11, matrix_B33 @ gray_33, matrix_B33)


def colour_changes(ctx: Context, clips: int, jitter: float, hue: float, changed: float) -> dict[str, Tensor]:
    """``matrix_B33`` and ``shift_B`` for ``Backbone.normalise``, drawn for each clip.

    Args:
        ctx: draws them.
        clips: how many.
        jitter: as that of ``Context.jitter``.
        hue: colours turn by up to this fraction of a whole turn, either way.
        changed: probability with which a clip's colours change at all.
    """
    one_33 = torch.eye(3, device=ctx.device)
    colours = ctx.jitter(clips, jitter) or {
        "matrix_B33": one_33.expand(clips, 3, 3),
        "shift_B": torch.zeros(clips, device=ctx.device),
    }
    matrix_B33 = colours["matrix_B33"] @ hues(ctx.uniform(clips, low=-hue, high=hue))
    changes_B = ctx.uniform(clips) < changed
    return {
        "matrix_B33": torch.where(changes_B[:, None, None], matrix_B33, one_33),
        "shift_B": colours["shift_B"] * changes_B,
    }


def blurred(x_BCTHW: Tensor, sigma_B: Tensor) -> Tensor:
    """Every frame blurred by a Gaussian whose standard deviation, in pixels, is its clip's; 0 changes nothing.

    Beyond the border nothing is weighed: the weights of what is inside sum to 1.
    """
    x_BTHWC = x_BCTHW.permute(0, 2, 3, 4, 1)  # as it lies in memory
    B, T, H, W, C = x_BTHWC.shape
    with torch.autocast(x_BTHWC.device.type, enabled=False):
        down_B1HH, across_B1WW = (_weights(sigma_B, n).to(x_BTHWC)[:, None] for n in (H, W))
        x_BTHWC = (down_B1HH @ x_BTHWC.reshape(B, T, H, W * C)).view(B, T * H, W, C)
        x_BTHWC = (across_B1WW @ x_BTHWC).view(B, T, H, W, C)
    return x_BTHWC.permute(0, 4, 1, 2, 3)


def _weights(sigma_B: Tensor, pixels: int) -> Tensor:
    """(B, n, n): what each of n pixels takes of each."""
    place_N = torch.arange(pixels, device=sigma_B.device, dtype=sigma_B.dtype)
    squares_NN = (place_N[:, None] - place_N).square()
    return torch.softmax(-squares_NN / (2 * sigma_B.clamp_min(1e-3).square())[:, None, None], 2)
