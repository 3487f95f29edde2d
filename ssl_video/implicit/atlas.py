"""A video as two pictures, and where each of its points lies on them.

Y. Kasten, D. Ofri, O. Wang, T. Dekel: "Layered Neural Atlases for Consistent Video Editing", SIGGRAPH Asia 2021. Two
mappings take a point of the video to the foreground's and to the background's atlas, an opacity mixes what these show.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ssl_video.implicit.atlas_losses import Start, Terms, atlas_losses
from ssl_video.implicit.coordinates import RATE, TABLE_RATE
from ssl_video.implicit.encodings import HashGrid, layers, resolutions
from ssl_video.implicit.footage import Footage
from ssl_video.implicit.motion import camera_path, object_path

HIDDEN = 64
LEVELS, FEATURES = 8, 4
SPREAD, ROOM, LARGEST = 0.8, 0.9, 2.0
"""How much of an atlas a frame that does not move fills, how much of it all frames may, and the largest enlargement."""


@dataclass(frozen=True)
class Layers:
    """Points on the layers: places on both atlases, not limited, and the opacity of the foreground, 0 to 1."""

    front_N2: Tensor
    back_N2: Tensor
    opacity_N: Tensor


class LayeredAtlas(nn.Module):
    """Two atlases, their mappings, and the opacity.

    Args:
        size: frames, rows and columns of the video.
        start: where the mappings begin, see ``start_of``.
    """

    def __init__(self, size: tuple[int, int, int], start: Start | None = None):
        super().__init__()
        start = start or Start.still(size)
        frames, height, width = size
        self.front_map = _last_zero(layers([3, HIDDEN, HIDDEN, HIDDEN, 2]))
        self.back_map = _last_zero(layers([3, HIDDEN, HIDDEN, 2]))
        last = [max(1, n - 1) for n in (width, height, frames)]
        opaque = [max(1, n // 2) for n in last]
        coarsest = [min(8, a) for a in opaque[:2]] + [min(4, opaque[2])]
        self.opacity_grid = HashGrid(resolutions(coarsest, opaque, 6), 2)
        self.opacity = layers([self.opacity_grid.width, HIDDEN, 1])
        scales = [float(s) for s in start.scales_2]
        self.grids, self.colours = nn.ModuleList(), nn.ModuleList()
        for scale in scales:  # cells of a pixel each
            cells = max(16, min(512, round(max(width, height) / scale)))
            self.grids.append(HashGrid(resolutions((8, 8), (cells, cells), LEVELS), FEATURES))
            self.colours.append(layers([LEVELS * FEATURES, HIDDEN, HIDDEN, 3]))
        self.register_buffer("last_3", torch.tensor(last, dtype=torch.float32), persistent=False)
        self.half = max(width, height) / 2
        for name in ("front_T2", "back_T23", "middle_2", "scales_2"):
            self.register_buffer(name, torch.as_tensor(getattr(start, name)).clone())

    def layers_at(self, xyt_N3: Tensor) -> Layers:
        """Where points lie. x and y are in halves of the longer side, so that pixels are square on an atlas."""
        t_N = xyt_N3[:, 2].clamp(0, len(self.front_T2) - 1)
        low_N = t_N.floor().long()
        high_N, share_N1 = (low_N + 1).clamp(max=len(self.front_T2) - 1), (t_N - low_N)[:, None]
        middle_N2 = torch.lerp(self.front_T2[low_N], self.front_T2[high_N], share_N1)
        camera_N23 = torch.lerp(self.back_T23[low_N], self.back_T23[high_N], share_N1[..., None])
        frames = self.last_3[2] + 1
        scaled_N3 = torch.cat([xyt_N3[:, :2] / self.half, xyt_N3[:, 2:] / (frames / 2)], 1) - 1
        camera_N2 = (camera_N23[:, :, :2] @ xyt_N3[:, :2, None])[..., 0] + camera_N23[:, :, 2]
        front_N2 = (xyt_N3[:, :2] - middle_N2) / self.half * self.scales_2[0] + self.front_map(scaled_N3)
        back_N2 = (camera_N2 - self.middle_2) / self.half * self.scales_2[1] + self.back_map(scaled_N3)
        raw_N = self.opacity(self.opacity_grid(xyt_N3 / self.last_3))[:, 0]
        return Layers(front_N2, back_N2, 0.99 * (raw_N.tanh() + 1) / 2 + 0.001)

    def colour(self, layer: int, uv_N2: Tensor) -> Tensor:
        """(N, 3) colours, 0 to 1, of the foreground's (0) or the background's (1) atlas; places outside are clamped."""
        features_NF = self.grids[layer]((uv_N2.clamp(-1, 1) + 1) / 2)
        return self.colours[layer](features_NF).sigmoid()

    def forward(self, xyt_N3: Tensor) -> Tensor:
        """(N, 3) colours of points."""
        at = self.layers_at(xyt_N3)
        return torch.lerp(self.colour(1, at.back_N2), self.colour(0, at.front_N2), at.opacity_N[:, None])

    def groups(self) -> list[dict[str, object]]:
        """Parameters with their learning rates."""
        tables = [p for grid in (self.opacity_grid, *self.grids) for p in grid.parameters()]
        known = {id(p) for p in tables}
        others = [p for p in self.parameters() if id(p) not in known]
        return [{"params": tables, "lr": TABLE_RATE / 2}, {"params": others, "lr": RATE}]

    def losses(self, footage: Footage, pixels: int, generator: torch.Generator, done: float) -> Terms:
        """The weighted terms at ``pixels`` learned points; ``done`` is how much of the training is over, 0 to 1."""
        return atlas_losses(self, footage, pixels, generator, done)


def _last_zero(network: nn.Sequential) -> nn.Sequential:
    """The layers, which give 0 everywhere at first."""
    nn.init.zeros_(network[-1].weight)
    nn.init.zeros_(network[-1].bias)
    return network


def start_of(footage: Footage, masks_SHW: np.ndarray) -> Start:
    """Mappings that follow the middle of the masks and the camera, and fit on their atlases."""
    _, height, width = footage.size
    half = max(width, height) / 2
    front_T2, reach = object_path(footage, masks_SHW)
    camera_T23 = camera_path(footage)
    corners_34 = np.array([[0, width - 1, 0, width - 1], [0, 0, height - 1, height - 1], [1, 1, 1, 1]])
    seen_T24 = camera_T23 @ corners_34
    low_2, high_2 = seen_T24.min((0, 2)), seen_T24.max((0, 2))
    wide = max(1e-6, float((high_2 - low_2).max()) / 2 / half)
    scales = (min(LARGEST, 0.7 * half / reach), min(SPREAD, ROOM / wide))
    return Start(front_T2, camera_T23.astype(np.float32), ((low_2 + high_2) / 2).astype(np.float32), np.float32(scales))
