"""Checkpoints written while the training goes on: its state is copied, and a thread writes the copy."""

import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_video.checkpoints import Piece, save_shard
from ssl_video.readback import in_short
from ssl_video.run import Run
from ssl_video.tensors import each_tensor, local
from ssl_video.train.distributed import Ranks


class Saver:
    """Writes one checkpoint at a time, in this context, at whose end it waits for the last one.

    The memory of the copy is kept for the next one. Of a state that is whole the first rank alone has a copy; of one
    with sharded tensors every rank has its part.
    """

    def __init__(self, run: Run, ranks: Ranks = Ranks()):
        self.run, self.ranks = run, ranks
        self.copies: dict[Any, Tensor] = {}
        self.thread: threading.Thread | None = None
        self.failed: BaseException | None = None
        self.ended = threading.Event()  # the training failed: what others would write may never come

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        if kind is not None:
            self.ended.set()
        self.wait(quietly=kind is not None)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Begin to write a checkpoint, on all ranks; it returns when the state may change again.

        Raises:
            UserError: if the one before could not be written; also by ``check`` and ``wait``.
        """
        self.wait()
        shards = any_sharded(state)
        aside: Path | None = self.ranks.first_does(lambda: self.run.saved.aside(step)) if shards else None
        if not (shards or self.ranks.first):
            return
        copied = self._copied(state)

        def write() -> None:
            try:
                if aside is None:
                    self.run.save_checkpoint(step, copied)
                else:
                    self._write_shard(step, aside, copied)
            except BaseException as error:  # told to the thread that trains
                self.failed = error

        self.thread = threading.Thread(target=write, name=f"checkpoint {step}")
        self.thread.start()

    def check(self) -> None:
        """Raise what went wrong in writing, if that is known already."""
        if self.failed is not None:
            failed, self.failed = self.failed, None
            raise failed

    def wait(self, quietly: bool = False) -> None:
        """Until what was begun is written. Raises as ``check``, unless ``quietly``, beside another error."""
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        if not quietly:
            self.check()

    def _write_shard(self, step: int, aside: Path, copied: Mapping[str, Any]) -> None:
        """Write this rank's; the first one waits for the others and gives the folder its name."""
        wrong = ""
        try:
            save_shard(aside, self.ranks.rank, self.ranks.world_size, copied)
        except (OSError, RuntimeError) as error:
            wrong = in_short(error)
        said = self.ranks.tell_first(aside.name, wrong, self.ended.is_set)
        if any(said):
            shutil.rmtree(aside, ignore_errors=True)
            raise self.run.saved.not_written(step, next(filter(None, said)))
        if self.ranks.first:
            self.run.saved.show(step, aside)

    def _copied(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state, its tensors on the CPU; on other ranks than the first sharded ones alone."""
        taken: dict[Any, Tensor] = {}

        def copy(x: Tensor) -> Tensor | Piece | None:
            if is_sharded(x):
                return Piece(self._copy(local(x.detach()), taken))
            return self._copy(x.detach(), taken) if self.ranks.first else None

        copied = each_tensor(state, copy)
        self.copies = taken
        return copied

    def _copy(self, x: Tensor, taken: dict[Any, Tensor]) -> Tensor:
        """One copy of tensors that are one, in the place of the copy before."""
        place = x.device, x.untyped_storage().data_ptr(), x.storage_offset(), x.shape, x.stride(), x.dtype
        if place not in taken:
            own = self.copies.get(place)
            taken[place] = (torch.empty_like(x, device="cpu") if own is None else own).copy_(x)
        return taken[place]


def is_sharded(x: Tensor) -> bool:
    """True for a tensor of which each process holds a part."""
    return local(x) is not x


def any_sharded(state: Mapping[str, Any]) -> bool:
    """True for a state with such tensors."""
    found: list[bool] = []
    each_tensor(state, lambda x: found.append(is_sharded(x)))
    return any(found)
