"""What a layered atlas is trained by: the losses of Kasten et al. 2021 with their weights, formula by formula."""

import torch
from torch import Tensor

COLOUR, GRADIENT, RIGID, FLOW, OPACITY_FLOW, SPARSE, BOOTSTRAP = 5000.0, 1000.0, 1.0, 5.0, 49.0, 1000.0, 2000.0
RIGID_FAR = (5.0, 50.0)
"""Of the foreground and of the background, over larger distances."""
SINGULAR = 0.001


def colour_loss(colours_N3: Tensor, true_N3: Tensor) -> Tensor:
    """The squared distance of colours, on average."""
    return (colours_N3 - true_N3).square().sum(1).mean()


def gradient_loss(colours_3N3: Tensor, true_3N3: Tensor, weight_N: Tensor) -> Tensor:
    """The squared distance of the differences to the pixel to the right and to that below, on average.

    Args:
        colours_3N3: of pixels, of those to their right, of those below.
        true_3N3: likewise.
        weight_N: 0 where one of them is outside of the frame.
    """
    steps_2N3 = (colours_3N3[1:] - colours_3N3[:1]) - (true_3N3[1:] - true_3N3[:1])
    return (steps_2N3.square().sum((0, 2)) * weight_N).mean()


def rigidity_loss(uv_N2: Tensor, right_N2: Tensor, below_N2: Tensor, scale: float) -> Tensor:
    """How far a mapping is from a turn and a shift: |J'J| + |(J'J + .001 I)^-1| in the norm of Frobenius, on average.

    Args:
        uv_N2: places of points on the atlas.
        right_N2: of points to their right.
        below_N2: of points below them, at the same distance.
        scale: how far apart these are on the atlas where nothing is stretched. There the loss is 2.83 (2 sqrt 2).
    """
    j_N22 = torch.stack([right_N2 - uv_N2, below_N2 - uv_N2], 2) / scale
    square_N22 = j_N22.transpose(1, 2) @ j_N22
    a, b, d = square_N22[:, 0, 0], square_N22[:, 0, 1], square_N22[:, 1, 1]
    norm_N = (a**2 + 2 * b**2 + d**2).clamp(min=1e-12).sqrt()
    a, d = a + SINGULAR, d + SINGULAR
    inverse_N = (a**2 + 2 * b**2 + d**2).sqrt() / (a * d - b**2)  # of two by two: the same entries over the determinant
    return (norm_N + inverse_N).mean()


def flow_loss(uv_N2: Tensor, match_N2: Tensor, weight_N: Tensor, scale: float) -> Tensor:
    """The distance on the atlas of points that correspond, in pixels of the video, weighted, on average."""
    distance_N = ((uv_N2 - match_N2).square().sum(1) + 1e-12).sqrt() / scale
    return (distance_N * weight_N).mean()


def opacity_flow_loss(opacity_N: Tensor, match_N: Tensor, weight_N: Tensor) -> Tensor:
    """The difference of the opacity of points that correspond, weighted, on average."""
    return ((opacity_N - match_N).abs() * weight_N).mean()


def sparsity_loss(front_N3: Tensor, opacity_N: Tensor) -> Tensor:
    """The square of the foreground's colour as far as it is not seen, on average: unseen, it has to be black."""
    return (front_N3 * (1 - opacity_N)[:, None]).square().sum(1).mean()


def mask_loss(opacity_N: Tensor, mask_N: Tensor, weight_N: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of the opacity with a mask, weighted, on average."""
    entropy_N = -(mask_N * opacity_N.log() + (1 - mask_N) * (1 - opacity_N).log())
    return (entropy_N if weight_N is None else entropy_N * weight_N).mean()
