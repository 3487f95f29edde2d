"""How videos are drawn from a network that denoises. Light to import: a command's flags are made of it."""

from dataclasses import dataclass
from typing import Literal

from ssl_video.bounds import Bounded, Count, Fraction, Natural, NotNegative
from ssl_video.errors import UserError


@dataclass(frozen=True)
class Sampling(Bounded):
    """How videos are drawn from a network that denoises. Raises UserError for fresh noise in steps of heun."""

    steps: Count = 50
    """Steps from noise to video."""
    guidance: NotNegative = 1.0
    """How far beyond what the text alone would give: 1 is the text, 0 none, 3 three times the difference."""
    solver: Literal["ddim", "heun"] = "ddim"
    """ddim, or heun, of second order at twice the passes."""
    eta: Fraction = 0.0
    """Fraction of fresh noise in each step (ddim): 0 is deterministic once it has started."""
    clip: bool = True
    """Keep what is predicted of the clean video within the range of pixels."""
    overlap: Natural = 2
    """Frames that neighbouring windows of a long video have in common."""
    overlap_side: Natural = 8
    """Pixels that neighbouring windows of a large video have in common."""

    def __post_init__(self):
        super().__post_init__()
        if self.solver == "heun" and self.eta:
            eta = self._named("eta")
            raise UserError(f"{eta} is fresh noise in steps of ddim, and heun has none; leave one of them out.")
