"""From RGB to gray and to CIE Lab, on the device and without OpenCV, so that training runs where it is missing."""

from typing import Literal, get_args

import torch
from torch import Tensor

from ssl_video.constants import constant

Colours = Literal["rgb", "gray", "lab"]
COLOURS: tuple[str, ...] = get_args(Colours)
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a gray value (ITU-R BT.601)."""
XYZ_OF_RGB = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
"""From linear RGB with the primaries of ITU-R BT.709 to CIE XYZ."""
WHITE = (0.950456, 1.0, 1.088754)
"""XYZ of the white of these primaries (D65): a gray pixel has a = b = 0."""


def rgb_to_lab(rgb_X3: Tensor) -> Tensor:
    """CIE Lab of sRGB: (..., 3), L from 0 to 100, a and b within -128 to 127, in float32 or the dtype given.

    Args:
        rgb_X3: (..., 3) values from 0 to 255, integers or floating point.
    """
    x = rgb_X3 / 255 if rgb_X3.is_floating_point() else rgb_X3.float() / 255
    linear_X3 = torch.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
    r, g, b = linear_X3.unbind(-1)  # no matrix product: autocast would round it to bf16
    rows = zip(XYZ_OF_RGB, WHITE, strict=True)
    t_X3 = torch.stack([(red * r + green * g + blue * b) / white for (red, green, blue), white in rows], -1)
    # the cube root, with a straight line below (6/29)^3
    f_X3 = torch.where(t_X3 > (6 / 29) ** 3, t_X3.clamp_min(1e-6) ** (1 / 3), t_X3 * (29 / 6) ** 2 / 3 + 4 / 29)
    fx, fy, fz = f_X3.unbind(-1)
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], -1)


def in_colours(clip_BTHWC: Tensor, colours: Colours) -> Tensor:
    """RGB clips (values 0 to 255) in what a network was trained on, three channels of values from 0 to 255.

    ``rgb``: as they are. ``gray``: the gray value in all three channels, float32. ``lab``: float32 in the 8-bit code of
    Lab (L * 2.55, a + 128, b + 128), where 128 in the last two channels is gray.
    """
    if colours == "gray":
        r, g, b = clip_BTHWC.float().unbind(-1)
        gray_BTHW = LUMINANCE[0] * r + LUMINANCE[1] * g + LUMINANCE[2] * b
        return gray_BTHW.unsqueeze(-1).expand(clip_BTHWC.shape).contiguous()
    if colours == "lab":
        lab_BTHWC = rgb_to_lab(clip_BTHWC.float())
        code_23 = constant(((2.55, 1.0, 1.0), (0.0, 128.0, 128.0)), clip_BTHWC.device)
        return lab_BTHWC * code_23[0] + code_23[1]
    return clip_BTHWC
