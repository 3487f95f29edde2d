"""What a synthetic set depends on. Light to import, since flags are made of it."""

from dataclasses import dataclass
from typing import Annotated, Literal

from ssl_video.bounds import Bounded, Bounds, Count, Natural, Seed
from ssl_video.errors import UserError, nearest

Kind = Literal["clips", "sequences", "tracks", "prompts", "periodic"]

SIZES: dict[Kind, int] = {"clips": 56, "sequences": 64, "tracks": 128, "prompts": 32, "periodic": 32}
SMALLEST: dict[Kind, int] = {"clips": 32, "sequences": 32, "tracks": 128, "prompts": 32, "periodic": 32}
OF_ONE: tuple[Kind, ...] = ("sequences", "prompts", "periodic")
"""Kinds whose videos have one object."""
FRAMES = 64


@dataclass(frozen=True)
class SyntheticConfig(Bounded, flags="--"):
    """Options of a synthetic set, all that its videos depend on. Raises UserError if no set can be drawn with them."""

    kind: Kind = "clips"
    """clips: motion classes; sequences: one pass of an action with its phase; tracks: objects with masks;
    prompts: plain shapes with captions; periodic: plain shapes whose period and path are known."""
    size: Count | None = None
    """Side of the square frames in pixels, even; by default 32, 56, 64 or 128, by kind."""
    frames: Annotated[int, Bounds(least=8)] = FRAMES
    """Frames of a video, at 25 frames per second."""
    sprites: Annotated[int, Bounds(least=1, most=20)] | None = None
    """Objects in a video; by default a random number; one in sequences, prompts and periodic."""
    train: Count = 400
    """Training videos; classes take turns."""
    test: Natural = 160
    """Test videos, which share nothing with training videos but the classes."""
    seed: Seed = 0
    """Seed of everything drawn."""

    def __post_init__(self):
        if self.kind not in SIZES:
            raise UserError(f"There is no kind of synthetic set called {self.kind!r}; {nearest(self.kind, SIZES)}")
        super().__post_init__()
        smallest = SMALLEST[self.kind]
        if self.side % 2 or self.side < smallest:
            raise UserError(f"The size of {self.kind} must be even and at least {smallest} pixels, not {self.size}.")
        if self.kind in OF_ONE and self.sprites not in (None, 1):
            raise UserError(
                f"Videos of {self.kind} have one object, not {self.sprites}; leave the number of sprites out."
            )

    @property
    def side(self) -> int:
        """Side of the frames in pixels."""
        return SIZES[self.kind] if self.size is None else self.size
