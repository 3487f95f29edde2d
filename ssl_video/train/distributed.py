"""One process or many, started by torchrun."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from ssl_video.errors import UserError
from ssl_video.processes import LOOK_S, end_with_parent

T = TypeVar("T")
CPU = torch.device("cpu")
TIME_OUT = timedelta(minutes=30)
"""How long a rank waits for another within a collective: a batch may come from a slow disk, all else waits outside."""
_meetings = itertools.count()


@dataclass(frozen=True)
class Ranks:
    """Which process this is, of how many, and its device."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        """True on the one process that writes files and talks to the terminal."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """True on every rank if ``flag`` is true on one."""
        if self.world_size == 1:
            return flag
        shared = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return bool(shared.item())

    def mean(self, numbers: dict[str, float]) -> dict[str, float]:
        """The means over all ranks."""
        if self.world_size == 1:
            return numbers
        shared = torch.tensor(list(numbers.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(shared)
        return dict(zip(numbers, (shared / self.world_size).tolist(), strict=True))

    @contextmanager
    def first_then_others(self) -> Iterator[None]:
        """The first rank works while the others wait, so that they find its scan and its copies done.

        If it fails they go on and meet the same mistake.
        """
        if not self.first:
            self.barrier()
        try:
            yield
        finally:
            if self.first:
                self.barrier()

    def share(self, thing: T) -> T:
        """What the first rank has, on every rank: what several processes see is decided by one."""
        if self.world_size == 1:
            return thing
        self.barrier()
        box = [thing]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def first_does(self, work: Callable[[], T]) -> T:
        """What ``work`` gives on the first rank, on every rank. Raises its UserError on all of them."""
        if self.world_size == 1:
            return work()
        done: tuple[T | None, str] = (None, "")
        if self.first:
            try:
                done = (work(), "")
            except UserError as error:
                done = (None, str(error))
        result, wrong = self.share(done)
        if wrong:
            raise UserError(wrong)
        return cast(T, result)

    def barrier(self) -> None:
        """Wait for all ranks, for as long as it takes: no collective, and its time-out, begins before all are here.

        Raises:
            UserError: when the process that keeps what they tell each other has ended.
        """
        if self.world_size == 1:
            return
        meeting = f"ssl_video/met/{next(_meetings)}"
        try:
            if _store().add(meeting, 1) == self.world_size:
                _store().set(f"{meeting}/all", "1")
            pause_s = 0.001
            while not _store().check([f"{meeting}/all"]):  # its own wait complains of every second that passes
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LOOK_S)
        except dist.DistError as error:
            raise UserError(f"Another process of this training has ended ({error}); run the same line again.") from None


def join(device: torch.device) -> Ranks:
    """Join the process group that torchrun announced in the environment, if it did. A rank ends with its torchrun."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        return Ranks(device=device)
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if "TORCHELASTIC_RUN_ID" in os.environ:  # what ranks that were started by hand outlive is not ours to say
            end_with_parent()
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIME_OUT)
    return Ranks(dist.get_rank(), dist.get_world_size(), device)


def _store() -> Any:
    """By which the processes find each other: it serves every backend, and has no time-out but ours."""
    return dist.distributed_c10d._get_default_store()


def leave() -> None:
    """Leave the process group, if one was joined."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The process group of torchrun, if it announced one, left at the end."""
    try:
        yield join(device)
    finally:
        leave()


def choose_device(requested: str) -> torch.device:
    """``auto`` takes a CUDA device if there is one. Raises UserError for a device that is not there."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if requested == "auto":
        return torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(requested)
    except RuntimeError:
        raise UserError(f"There is no device {requested!r}; use auto, cpu, cuda or cuda:N.") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"--device {requested} needs a GPU, and torch sees none; use --device cpu or auto.")
        device = torch.device("cuda", local if device.index is None else device.index)
        if device.index >= torch.cuda.device_count():
            raise UserError(
                f"There is no GPU {device.index}; torch sees {torch.cuda.device_count()}, counted from cuda:0; "
                "name one of these by --device."
            )
    return device
