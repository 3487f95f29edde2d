"""Learned videos as pictures: frames of any size and time, the atlases, and what is painted on these."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.implicit.atlas import LayeredAtlas
from ssl_video.implicit.footage import lattice

LAYERS = ("foreground", "background")
Box = tuple[float, float, float, float]
"""A part of an atlas: u and v of its top left and of its bottom right."""
SEEN = 0.5
"""Opacity from which a point shows the foreground, and below which the background."""
SIDE = 512
"""Pixels of the longer side of a picture of an atlas."""
POINTS = 1 << 16
"""Points that are computed at a time."""


@torch.no_grad()
def frames_of(
    network: nn.Module,
    of: tuple[int, int],
    times: Sequence[float],
    size: tuple[int, int],
    edits: Mapping[int, tuple[Tensor, Box]] | None = None,
) -> Iterator[np.ndarray]:
    """(h, w, 3) uint8 frames of ``size`` at these times, in frames of the video, whose size was ``of`` (H, W).

    ``edits`` are pictures (h, w, 4) of what is painted on layers of an atlas, colours and opacity from 0 to 1, each
    with the part of the atlas that it covers.
    """
    for t in times:
        parts = lattice(size, of, t).split(POINTS)
        colours = torch.cat([edited(network, part, edits or {}) for part in parts])
        yield (colours.clamp(0, 1) * 255).round().view(*size, 3).to(torch.uint8).numpy()


@torch.no_grad()
def opacities_of(
    atlas: LayeredAtlas, of: tuple[int, int], times: Sequence[float], size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """(h, w) float32 opacity of the foreground at these times, for the arguments see ``frames_of``."""
    for t in times:
        parts = lattice(size, of, t).split(POINTS)
        yield torch.cat([atlas.layers_at(p).opacity_N for p in parts]).view(size).numpy()


def edited(network: nn.Module, xyt_N3: Tensor, edits: Mapping[int, tuple[Tensor, Box]]) -> Tensor:
    """(N, 3) colours of points, with what is painted on layers of an atlas over the colours of these."""
    if not isinstance(network, LayeredAtlas) or not edits:
        return network(xyt_N3)
    at = network.layers_at(xyt_N3)
    found = []
    for layer, uv_N2 in enumerate((at.front_N2, at.back_N2)):
        colours_N3 = network.colour(layer, uv_N2)
        if layer in edits:
            paint_N4 = painted_at(*edits[layer], uv_N2)
            colours_N3 = paint_N4[:, :3] + (1 - paint_N4[:, 3:]) * colours_N3
        found.append(colours_N3)
    return torch.lerp(found[1], found[0], at.opacity_N[:, None])


def painted_at(paint_HWC: Tensor, box: Box, uv_N2: Tensor) -> Tensor:
    """(N, 4) colours times opacity, and opacity, of a picture over a part of an atlas; nothing outside of it."""
    low_2, high_2 = torch.tensor(box[:2]), torch.tensor(box[2:])
    places = (2 * (uv_N2.clamp(-1, 1) - low_2) / (high_2 - low_2) - 1).view(1, -1, 1, 2)
    solid_HWC = torch.cat([paint_HWC[..., :3] * paint_HWC[..., 3:], paint_HWC[..., 3:]], -1)
    found = F.grid_sample(solid_HWC.permute(2, 0, 1)[None], places, align_corners=False)
    return found[0, :, :, 0].T


@torch.no_grad()
def boxes_of(atlas: LayeredAtlas, size: tuple[int, int, int]) -> list[Box]:
    """The parts of both atlases that the video shows; all of one of which it shows nothing.

    Of the foreground a hundredth of the places may lie outside: single pixels that were taken for it are far away.
    """
    places: list[list[Tensor]] = [[], []]
    for t in range(size[0]):
        at = atlas.layers_at(lattice(size[1:], size[1:], t))
        seen_N = at.opacity_N > SEEN
        places[0].append(at.front_N2[seen_N].clamp(-1, 1))
        places[1].append(at.back_N2[~seen_N].clamp(-1, 1))
    boxes = []
    for layer, outside in enumerate((1.0, 0.0)):
        low_2, high_2 = _extent(torch.cat(places[layer]).numpy(), outside)
        pixel = float(atlas.scales_2[layer]) / atlas.half_side
        (a, b), (c, d) = np.maximum(low_2 - pixel, -1).tolist(), np.minimum(high_2 + pixel, 1).tolist()
        boxes.append((a, b, c, d))
    return boxes


def _extent(places_N2: np.ndarray, outside: float) -> np.ndarray:
    """(2, 2) the least and the largest u and v, of places of which so many percent may lie outside; all if none is."""
    if len(places_N2):
        found_22 = np.percentile(places_N2, (outside / 2, 100 - outside / 2), axis=0)
        if (found_22[0] < found_22[1]).all():
            return found_22
    return np.array([[-1.0, -1.0], [1.0, 1.0]])


@torch.no_grad()
def atlas_picture(atlas: LayeredAtlas, layer: int, box: Box, size: tuple[int, int, int]) -> np.ndarray:
    """(h, w, 4) uint8 RGBA: a part of an atlas, and how opaque what it shows is in the video, on average.

    The background is opaque everywhere.
    """
    pixel = float(atlas.scales_2[layer]) / atlas.half_side
    cells = [max(2, round((box[d + 2] - box[d]) / pixel)) for d in (0, 1)]
    w, h = (max(2, round(n * SIDE / max(cells))) for n in cells)
    uv_N2 = lattice((h, w), (1, 1), 0)[:, :2] + 0.5  # 0 to 1
    uv_N2 = torch.tensor(box[:2]) + uv_N2 * (torch.tensor(box[2:]) - torch.tensor(box[:2]))
    colours = torch.cat([atlas.colour(layer, part) for part in uv_N2.split(POINTS)]).view(h, w, 3)
    opaque = torch.ones(h, w, 1) if layer else _opacity_on(atlas, box, cells, size, (h, w))
    return (torch.cat([colours, opaque], -1) * 255).round().to(torch.uint8).numpy()


def _opacity_on(
    atlas: LayeredAtlas, box: Box, cells: list[int], size: tuple[int, int, int], shape: tuple[int, int]
) -> Tensor:
    """(h, w, 1) the mean opacity of the points of the video that a place of the foreground's atlas shows."""
    columns, rows = cells
    low_2, wide_2 = torch.tensor(box[:2]), torch.tensor([box[2] - box[0], box[3] - box[1]])
    sums, counts = torch.zeros(rows * columns), torch.zeros(rows * columns)
    for t in range(size[0]):
        at = atlas.layers_at(lattice(size[1:], size[1:], t))
        place_N2 = ((at.front_N2 - low_2) / wide_2 * torch.tensor([columns, rows])).floor().long()
        inside_N = ((place_N2 >= 0) & (place_N2 < torch.tensor([columns, rows]))).all(1)
        cell_N = place_N2[inside_N, 1] * columns + place_N2[inside_N, 0]
        sums.index_add_(0, cell_N, at.opacity_N[inside_N])
        counts.index_add_(0, cell_N, torch.ones(len(cell_N)))
    parts_2hw = torch.stack([sums, counts]).view(1, 2, rows, columns)
    parts_2hw = F.avg_pool2d(parts_2hw, 3, 1, 1, count_include_pad=False)  # what no pixel's centre has met
    mean_hw = parts_2hw[:, :1] / parts_2hw[:, 1:].clamp(min=1e-6)
    return F.interpolate(mean_hw, shape, mode="bilinear")[0, 0, :, :, None].clamp(0, 1)
