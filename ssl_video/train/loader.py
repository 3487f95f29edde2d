"""Loader processes that end when the program does."""

import atexit
import functools
import signal
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from ssl_video.processes import end_with_parent


def start_worker(_worker: int) -> None:
    """What every loader worker does first."""
    torch.set_num_threads(1)
    end_with_parent()  # which may be killed while this one waits to hand over what no process will take
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole process group; the parent decides what follows
        signal.signal(number, signal.SIG_IGN)


class Loader(DataLoader):
    """torch's, whose workers do not outlive the program: at exit Python waits for them, and they ignore SIGTERM."""

    def __init__(self, dataset: Dataset, **options: Any):
        super().__init__(dataset, worker_init_fn=start_worker, **options)

    def __iter__(self) -> Any:
        iterator: Any = super().__iter__()
        if self.num_workers:
            _at_exit()
            _started.extend(iterator._workers)
        return iterator


_started: list[BaseProcess] = []  # and not the iterators, which may be gone while their workers are not


@functools.cache
def _at_exit() -> None:
    atexit.register(_end_workers)


def _end_workers() -> None:
    workers = [worker for worker in _started if worker.is_alive()]
    if workers:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes the death of a worker for an error
    for worker in workers:
        worker.kill()
