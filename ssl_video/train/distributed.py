"""One process or many, started by torchrun."""

import contextlib
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore, rendezvous  # pyright: ignore[reportPrivateImportUsage]

from ssl_video.errors import UserError
from ssl_video.files import aside_of
from ssl_video.processes import LOOK_S, end_with_parent

T = TypeVar("T")
CPU = torch.device("cpu")
TIME_OUT = timedelta(minutes=30)
"""How long a rank waits for another within a collective: a batch may come from a slow disk, all else waits outside."""
SEES_S = 45.0
"""How long a rank waits for what another wrote to a shared disk: a network's disk may show it some seconds late."""
LAST_S = 10.0
"""How long the first rank, which ends last, waits for the others to leave."""
LATE_S = 60.0
"""How long it waits, when a training has failed, for the others' parts of a checkpoint: they may still write."""
_meetings = itertools.count()
_side: dict[str, Any] = {}


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

    def mean(self, numbers: dict[str, float]) -> dict[str, float]:
        """The means over all ranks."""
        if self.world_size == 1:
            return numbers
        shared = torch.tensor(list(numbers.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(shared)
        return dict(zip(numbers, (shared / self.world_size).tolist(), strict=True))

    def begin_max(self, x: Tensor) -> Any:
        """Begin to put the largest of all ranks' ``x`` into it, between the CPUs; ``wait()`` for what is returned."""
        return dist.all_reduce(x, dist.ReduceOp.MAX, group=_side_group(), async_op=True)

    def gathered(self, thing: T) -> list[T]:
        """What every rank has, in their order, on every rank, between the CPUs; for as long as it takes."""
        if self.world_size == 1:
            return [thing]
        self.barrier()
        things: list[Any] = [None] * self.world_size
        dist.all_gather_object(things, thing, group=_side_group())
        return things

    def equalise(self, module: nn.Module) -> None:
        """Give all ranks the first one's buffers, statistics of batch norms, which are each one's own between steps."""
        if self.world_size == 1:
            return
        state = {name: x.cpu() for name, x in module.named_buffers()} if self.first else {}
        self.barrier()
        box = [state]
        dist.broadcast_object_list(box, src=0, group=_side_group())
        for name, x in module.named_buffers():
            x.data.copy_(box[0][name])

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

    def all_say(self, words: str) -> list[str]:
        """What every rank says here, in their order, on every rank; outside collectives, as ``barrier``."""
        if self.world_size == 1:
            return [words]
        meeting = f"ssl_video/said/{next(_meetings)}"
        _store().set(f"{meeting}/{self.rank}", words)
        self.barrier()
        return [_store().get(f"{meeting}/{rank}").decode() for rank in range(self.world_size)]

    def tell_first(self, name: str, words: str, vain: Callable[[], bool] = lambda: False) -> list[str]:
        """What every rank says under a name that is used once, on the first one, which waits for all; [] on the others.

        In no order with other meetings: for threads beside the one that trains. Once that one has failed, and what is
        waited for may be in ``vain``, it is waited for ``LATE_S`` more, and UserError raised.
        """
        if self.world_size == 1:
            return [words]
        keys = [f"ssl_video/told/{name}/{rank}" for rank in range(self.world_size)]
        _store().set(keys[self.rank], words)
        if not self.first:
            return []
        until = float("inf")
        while not _store().check(keys):
            until = min(until, time.monotonic() + LATE_S) if vain() else until
            if time.monotonic() > until:
                raise UserError("Another process has ended, and has not written its part of the checkpoint.")
            time.sleep(0.01)
        return [_store().get(key).decode() for key in keys]

    def all_see(self, folder: Path) -> None:
        """Raise UserError, on every rank, unless all of them see what the first one writes into ``folder``.

        They do not where it lies on a disk of the first one's machine; a shared disk has ``SEES_S`` to show it.
        """
        if self.world_size == 1:
            return
        mark = aside_of(folder / "shared")  # which is cleared away if this process dies here
        name = self.first_does(lambda: _written(mark))
        blind = self.all_say("" if self.first or _appears(folder / name) else socket.gethostname())
        if self.first:
            mark.unlink(missing_ok=True)
        if any(blind):
            rank = next(rank for rank, host in enumerate(blind) if host)
            raise UserError(
                f"Process {rank} of {self.world_size}, on {blind[rank]}, does not see what the first one writes into "
                f"{folder.absolute()}; name a folder on a disk that all machines have there."
            )

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
        backend = "nccl" if device.type == "cuda" else "gloo"
        store, rank, world_size = next(rendezvous("env://", timeout=TIME_OUT))
        if os.environ.get("LOCAL_WORLD_SIZE") == str(world_size):  # torchrun's store outlives processes that are lost
            store = PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=TIME_OUT)
    return Ranks(dist.get_rank(), dist.get_world_size(), device)


def _side_group() -> Any:
    """Of all ranks, between the CPUs: what is told there makes no device wait."""
    if "group" not in _side:
        _side["group"] = dist.new_group(backend="gloo", timeout=TIME_OUT)
    return _side["group"]


def _written(mark: Path) -> str:
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return mark.name


def _appears(path: Path) -> bool:
    """True once a file is there."""
    until = time.monotonic() + SEES_S
    while path.name not in _names(path.parent):
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_S)
    return True


def _names(folder: Path) -> set[str]:
    """What lies in a folder, read anew: that a single file is missing would be remembered by some network's disks."""
    try:
        return {entry.name for entry in folder.iterdir()}
    except OSError:
        return set()


def _store() -> Any:
    """By which the processes find each other: it serves every backend, and has no time-out but ours."""
    return dist.distributed_c10d._get_default_store()


def leave() -> None:
    """Leave the process group, if one was joined."""
    if dist.is_initialized():
        with contextlib.suppress(dist.DistError):  # the others have ended already
            _end_last()
        _side.clear()
        dist.destroy_process_group()


def _end_last() -> None:
    """Without torchrun, which keeps it, the store ends with the first rank, and others may have to look into it yet."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return
    left, until = _store().add("ssl_video/left", 1), time.monotonic() + LAST_S
    while dist.get_rank() == 0 and left < dist.get_world_size() and time.monotonic() < until:
        time.sleep(0.05)
        left = _store().add("ssl_video/left", 0)


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
