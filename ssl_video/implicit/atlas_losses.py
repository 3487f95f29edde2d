"""What a layered atlas is trained by: the losses of Kasten et al. 2021 with their weights, formula by formula.

Steps are counted in fractions of the training, since ours takes thousands where theirs takes hundreds of thousands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ssl_video.implicit.footage import Footage, colours_at, draw_between, draw_matches, draw_pixels

if TYPE_CHECKING:
    from ssl_video.implicit.atlas import LayeredAtlas, Layers

Terms = dict[str, Tensor]
COLOUR, GRADIENT, RIGID, FLOW, OPACITY_FLOW, SPARSE, BOOTSTRAP = 5000.0, 1000.0, 1.0, 5.0, 49.0, 1000.0, 2000.0
RIGID_FAR = (5.0, 50.0)
"""Of the foreground and of the background, over larger distances."""
FAR = 100 / 768
"""That distance, of the longer side: 100 of their 768 pixels."""
FAR_UNTIL, BOOTSTRAP_UNTIL = 0.05, 0.15
"""How much of the training is over when rigidity over larger distances and the coarse mask no longer count."""
SINGULAR = 0.001


@dataclass(frozen=True)
class Start:
    """Where mappings begin: the foreground's follows points ``front_T2``, the background's affine maps ``back_T23``.

    ``middle_2`` is what the latter puts in the middle of its atlas, and ``scales_2`` how much of the atlas, of 1, half
    of a frame's longer side fills on each layer. All are in pixels otherwise.
    """

    front_T2: np.ndarray
    back_T23: np.ndarray
    middle_2: np.ndarray
    scales_2: np.ndarray

    @classmethod
    def still(cls, size: tuple[int, int, int]) -> Start:
        """Nothing moves."""
        frames, height, width = size
        middle_2 = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
        still_T23 = np.tile(np.eye(2, 3, dtype=np.float32), (frames, 1, 1))
        return cls(np.tile(middle_2, (frames, 1)), still_T23, middle_2, np.float32((0.8, 0.8)))


def atlas_losses(atlas: LayeredAtlas, footage: Footage, pixels: int, generator: torch.Generator, done: float) -> Terms:
    """The weighted terms at ``pixels`` learned points.

    Half as many points between learned frames count for the colour, see ``footage.draw_between``.
    """
    n, one_frame = pixels, len(footage.trained_S) == 1
    s_N, xyt_N3 = draw_pixels(footage, n, generator)
    frames = footage.frames_THWC
    right_N3, below_N3 = xyt_N3 + xyt_N3.new_tensor([1, 0, 0]), xyt_N3 + xyt_N3.new_tensor([0, 1, 0])
    seen = torch.cat([xyt_N3, right_N3, below_N3])
    true = colours_at(frames, seen[:, :2], seen[:, 2].long())
    if not one_frame:
        between_M3, moved_M3 = draw_between(footage, n // 2, generator)
        match_N3, weight_N = draw_matches(footage, s_N, xyt_N3, generator)
        seen, true = torch.cat([seen, between_M3]), torch.cat([true, moved_M3])
        at = atlas.layers_at(torch.cat([seen, match_N3]))
    else:
        at = atlas.layers_at(seen)
    front = atlas.colour(0, at.front_N2[: len(seen)])
    opacity = at.opacity_N[: len(seen), None]
    mixed = torch.lerp(atlas.colour(1, at.back_N2[: len(seen)]), front, opacity)
    scales = [float(s) / atlas.half for s in atlas.scales_2]
    here, right, below = (slice(k * n, (k + 1) * n) for k in range(3))
    inside_N = ((right_N3[:, 0] < footage.size[2]) & (below_N3[:, 1] < footage.size[1])).float()
    terms = {
        "colour": COLOUR * colour_loss(mixed[:n], true[:n]),
        "gradient": GRADIENT * gradient_loss(mixed[: 3 * n].view(3, n, 3), true[: 3 * n].view(3, n, 3), inside_N),
        "sparse": SPARSE * sparsity_loss(front[:n], opacity[:n, 0]),
    }
    for name, uv, scale in (("front", at.front_N2, scales[0]), ("back", at.back_N2, scales[1])):
        terms[f"rigid_{name}"] = RIGID * rigidity_loss(uv[here], uv[right], uv[below], scale)
    if done < FAR_UNTIL:
        terms |= _far(atlas, xyt_N3, at, scales)
    if not one_frame:
        terms["between"] = COLOUR * colour_loss(mixed[3 * n :], true[3 * n :])
        matched = slice(len(seen), None)
        alpha_N = at.opacity_N[:n]
        front_flow = flow_loss(at.front_N2[:n], at.front_N2[matched], weight_N * alpha_N.detach(), scales[0])
        back_flow = flow_loss(at.back_N2[:n], at.back_N2[matched], weight_N * (1 - alpha_N.detach()), scales[1])
        terms["flow"] = FLOW * (front_flow + back_flow)
        terms["opacity_flow"] = OPACITY_FLOW * opacity_flow_loss(alpha_N, at.opacity_N[matched], weight_N)
    return terms | _bootstrap(footage, s_N, xyt_N3, at.opacity_N[:n], done)


def _far(atlas: LayeredAtlas, xyt_N3: Tensor, at: Layers, scales: list[float]) -> Terms:
    """Rigidity over larger distances."""
    n, far = len(xyt_N3), max(1, round(FAR * 2 * atlas.half))
    moved = [xyt_N3 + xyt_N3.new_tensor(step) for step in ([far, 0, 0], [0, far, 0])]
    there = atlas.layers_at(torch.cat(moved))
    terms = {}
    for layer, (name, uv, uv_there) in enumerate(
        (("front", at.front_N2, there.front_N2), ("back", at.back_N2, there.back_N2))
    ):
        loss = rigidity_loss(uv[:n], uv_there[:n], uv_there[n:], scales[layer] * far)
        terms[f"rigid_{name}_far"] = RIGID_FAR[layer] * loss
    return terms


def _bootstrap(footage: Footage, s_N: Tensor, xyt_N3: Tensor, opacity_N: Tensor, done: float) -> Terms:
    """The coarse mask, at first, and the mask that was given, to the end."""
    x_N, y_N = xyt_N3[:, 0].long(), xyt_N3[:, 1].long()
    terms = {}
    if footage.masks_SHW is not None and done < BOOTSTRAP_UNTIL:
        terms["bootstrap"] = BOOTSTRAP * mask_loss(opacity_N, footage.masks_SHW[s_N, y_N, x_N])
    if footage.given_HW is not None:
        given_N = (s_N == 0).float()
        terms["given"] = BOOTSTRAP * mask_loss(opacity_N, footage.given_HW[y_N, x_N], given_N)
    return terms


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
