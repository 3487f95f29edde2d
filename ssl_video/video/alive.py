"""How a child process says that it gets on, so that a long video is not taken for a decoder that hangs."""

import time
from collections.abc import Callable

EVERY_S = 1.0
"""Seconds from one word to the next, at least."""
_say: Callable[[], None] | None = None
_said_at = 0.0


def listened_to(say: Callable[[], None]) -> None:
    """From now on ``say`` is called while work gets on, at most once in ``EVERY_S``."""
    global _say
    _say = say


def beat() -> None:
    """One packet, frame or picture more is done. Nothing happens where nobody listens."""
    global _said_at
    if _say is not None and (now := time.monotonic()) - _said_at >= EVERY_S:
        _said_at = now
        _say()
