"""What a synthetic set depends on. Light to import, since flags are made of it."""

from dataclasses import dataclass
from typing import Literal

from ssl_video.errors import UserError, nearest

Kind = Literal["clips", "sequences", "tracks"]

SIZES: dict[Kind, int] = {"clips": 56, "sequences": 64, "tracks": 128}
SMALLEST: dict[Kind, int] = {"clips": 32, "sequences": 32, "tracks": 128}
FRAMES = 64


@dataclass(frozen=True)
class SyntheticConfig:
    """Options of a synthetic set, all that its videos depend on. Raises UserError if no set can be drawn with them."""

    kind: Kind = "clips"
    """clips: motion classes; sequences: one pass of an action with its phase; tracks: objects with masks."""
    size: int | None = None
    """Side of the square frames in pixels, even; by default 56, 64 or 128, by kind."""
    frames: int = FRAMES
    """Frames of a video, at 25 frames per second."""
    sprites: int | None = None
    """Objects in a video; by default a random number, and one in sequences."""
    train: int = 400
    """Training videos; classes take turns."""
    test: int = 160
    """Test videos, which share nothing with training videos but the classes."""
    seed: int = 0
    """Seed of everything drawn."""

    def __post_init__(self):
        if self.kind not in SIZES:
            raise UserError(f"There is no kind of synthetic set called {self.kind!r}; {nearest(self.kind, SIZES)}")
        smallest = SMALLEST[self.kind]
        if self.side % 2 or self.side < smallest:
            raise UserError(f"The size of {self.kind} must be even and at least {smallest} pixels, not {self.size}.")
        if self.frames < 8:
            raise UserError(f"A video needs at least 8 frames, not {self.frames}.")
        if self.kind == "sequences" and self.sprites not in (None, 1):
            raise UserError(f"Sequences have one object, not {self.sprites}; leave out the number of sprites.")
        if self.sprites is not None and not 1 <= self.sprites <= 20:
            raise UserError(f"The number of sprites must be between 1 and 20, not {self.sprites}.")
        if self.train < 1 or self.test < 0:
            raise UserError(f"There must be at least 1 training and 0 test videos, not {self.train} and {self.test}.")
        if self.seed < 0:
            raise UserError(f"The seed must not be negative, but it is {self.seed}.")

    @property
    def side(self) -> int:
        """Side of the frames in pixels."""
        return SIZES[self.kind] if self.size is None else self.size
