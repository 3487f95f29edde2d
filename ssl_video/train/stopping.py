"""How a training takes signals, and how its processes agree that one of them was asked to stop."""

import signal
from types import FrameType
from typing import Any

import torch

from ssl_video.train.distributed import Ranks

EVERY = 4
"""Steps between two questions to all ranks, on the CPUs, whose answer is read a step later: no device waits for it."""


class StopSignals:
    """In this context SIGTERM and Ctrl-C set ``requested``, so that a step can end and be saved; a second one acts."""

    def __init__(self, ranks: Ranks = Ranks()):
        self.ranks = ranks
        self._asked: tuple[Any, torch.Tensor] | None = None

    def __enter__(self) -> "StopSignals":
        self.requested = False
        self.before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            for number in self.before:
                signal.signal(number, self._request)
        except ValueError:  # not the main thread: the program around us keeps its signals
            self.before = {}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        if kind is None:
            self._answer()
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def stopping(self, step: int) -> bool:
        """True on all ranks after the same step, at most ``EVERY`` + 1 steps after one of them was asked to stop."""
        if self.ranks.world_size == 1:
            return self.requested
        answer = self._answer()
        if step % EVERY == 0:
            flag = torch.tensor(int(self.requested))
            self._asked = self.ranks.begin_max(flag), flag
        return answer

    def _answer(self) -> bool:
        """What the ranks were asked last, if that was not read yet."""
        if self._asked is None:
            return False
        work, flag = self._asked
        work.wait()
        self._asked = None
        return bool(flag)

    def _request(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.requested = True
