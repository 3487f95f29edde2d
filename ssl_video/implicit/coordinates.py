"""A network that is a video: from a place and a time to a colour.

After V. Sitzmann et al.: "Implicit Neural Representations with Periodic Activation Functions", NeurIPS 2020, with the
encodings of later work. What makes it more than a store of frames is that colours keep along motion: between learned
frames it is told what the flow would bring there (``footage.draw_between``).
"""

from typing import Literal

import torch
from torch import Tensor, nn

from ssl_video.implicit.encodings import Fourier, HashGrid, layers, resolutions
from ssl_video.implicit.footage import Footage, colours_at, draw_between, draw_pixels

Encoding = Literal["hash", "fourier"]
LEVELS, FEATURES, COARSEST, HIDDEN = 8, 4, (8, 8, 4), 64
WAVES, CYCLES = 128, (0.12, 0.12, 0.08)
"""Frequencies, and their standard deviation in cycles a pixel and a frame."""
TABLE_RATE, RATE = 2e-2, 2e-3
"""Learning rates of what a grid holds and of layers."""


class CoordinateNetwork(nn.Module):
    """(x, y, t) to a colour.

    Args:
        size: frames, rows and columns of the video.
        encoding: hash (a grid of features, down to a cell a pixel and a frame) or fourier (waves).
    """

    last_3: Tensor

    def __init__(self, size: tuple[int, int, int], encoding: Encoding = "hash"):
        super().__init__()
        last = [max(1, n - 1) for n in size[::-1]]
        if encoding == "hash":
            coarsest = [min(a, b) for a, b in zip(COARSEST, last, strict=True)]
            self.encoding: HashGrid | Fourier = HashGrid(resolutions(coarsest, last, LEVELS), FEATURES)
        else:
            self.encoding = Fourier([c * n for c, n in zip(CYCLES, last, strict=True)], WAVES)
        self.colour = layers([self.encoding.width, HIDDEN, HIDDEN, 3])
        self.register_buffer("last_3", torch.tensor(last, dtype=torch.float32), persistent=False)

    def forward(self, xyt_N3: Tensor) -> Tensor:
        """(N, 3) colours of points, about 0 to 1."""
        return self.colour(self.encoding(xyt_N3 / self.last_3)) + 0.5

    def groups(self) -> list[dict[str, object]]:
        """Parameters with their learning rates."""
        return [
            {"params": list(self.encoding.parameters()), "lr": TABLE_RATE},
            {"params": list(self.colour.parameters()), "lr": RATE},
        ]

    def losses(self, footage: Footage, pixels: int, generator: torch.Generator, done: float) -> dict[str, Tensor]:
        """Mean squared errors at ``pixels`` learned points, and at half as many between learned frames.

        ``done`` is how much of the training is over, which counts for nothing here.
        """
        _, xyt_N3 = draw_pixels(footage, pixels, generator)
        colours_N3 = colours_at(footage.frames_THWC, xyt_N3[:, :2], xyt_N3[:, 2].long())
        if len(footage.trained_S) == 1:
            return {"colour": (self(xyt_N3) - colours_N3).square().mean()}
        between_M3, moved_M3 = draw_between(footage, max(1, pixels // 2), generator)
        errors = (self(torch.cat([xyt_N3, between_M3])) - torch.cat([colours_N3, moved_M3])).square().mean(1)
        return {"colour": errors[:pixels].mean(), "between": errors[pixels:].mean()}
