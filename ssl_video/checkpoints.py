"""The checkpoints of a training: a file each, or a folder into which every process has written its shards.

step_00000500.pt             all of the state
step_00000500/shard_*.pt     what each process held of it: rows of sharded tensors, and in the first one all the rest

torch.distributed.checkpoint has a pickle beside its shards that is executed when it is read, and no digests. Here each
file is one of ``tensors.save_state``.
"""

import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_video.errors import UserError
from ssl_video.files import aside_of, clear_dead, sync_folder
from ssl_video.readback import in_short, of_type
from ssl_video.tensors import UNREADABLE, each_tensor, is_whole, load_state, save_state

KEEP = 2
"""Checkpoints that are kept: the newest, and one more in case the newest cannot be read."""
SHARDED = "sharded"
"""Key of what stands for a sharded tensor in a state: its number among those of each shard."""


@dataclass(frozen=True)
class Piece:
    """The rows of a sharded tensor that this process holds, to be written."""

    rows: Tensor


@dataclass(frozen=True)
class Pieces:
    """A tensor whose rows stand in several files, one behind the other, and are read when they are taken."""

    parts: tuple[Tensor, ...]

    @property
    def shape(self) -> torch.Size:
        """Of all of it."""
        return torch.Size([sum(map(len, self.parts)), *self.parts[0].shape[1:]])

    def rows(self, first: int = 0, number: int | None = None) -> Tensor:
        """A copy of so many rows from the ``first`` on; of all that are left without a number."""
        last = len(self) if number is None else first + number
        taken, at = [self.parts[0][:0]], 0
        for part in self.parts:
            taken.append(part[max(0, first - at) : max(0, last - at)])
            at += len(part)
        return torch.cat(taken)

    def __len__(self) -> int:
        return self.shape[0]


@dataclass(frozen=True)
class Checkpoints:
    """Those of a folder, of which the newest ``KEEP`` that are whole are kept. Making one of these touches nothing."""

    folder: Path

    def there(self) -> list[Path]:
        """Oldest first."""
        return sorted(path for path in self.folder.glob("step_*") if path.suffix == ".pt" or path.is_dir())

    def last_step(self) -> int:
        """Steps done at the newest one, 0 without one."""
        there = self.there()
        return int(re.sub(r"\D", "", there[-1].stem)) if there else 0

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Write ``state`` aside, rename it, and remove all but the newest ones.

        Raises:
            UserError: when it cannot be written (a full disk); those that are there stay as they are.
        """
        path = self.folder / f"step_{step:08d}.pt"
        try:
            save_state(path, state)
        except (OSError, RuntimeError) as error:
            raise self.not_written(step, in_short(error)) from None
        self._prune(path)

    def aside(self, step: int) -> Path:
        """A folder for the shards of a step, hidden until ``show``. Raises UserError if it cannot be made."""
        aside = aside_of(self._sharded(step))
        try:
            aside.mkdir(parents=True)
        except OSError as error:
            raise self.not_written(step, in_short(error)) from None
        return aside

    def show(self, step: int, aside: Path) -> None:
        """Give the folder its name when all shards are in it, and remove all but the newest. Raises UserError."""
        path = self._sharded(step)
        try:
            sync_folder(aside)
            self._remove(path)  # of the same step, which could not be read, or it would have been resumed from
            aside.replace(path)
            sync_folder(self.folder)
        except OSError as error:
            raise self.not_written(step, in_short(error)) from None
        self._prune(path)

    def not_written(self, step: int, reason: str) -> UserError:
        """What is said of a checkpoint that could not be written."""
        there = self.there()
        rest = f"the last good one is {there[-1].name}" if there else "there is no earlier one"
        return UserError(
            f"The checkpoint of step {step} could not be written ({reason}); {rest}: make room and use --resume."
        )

    def newest(self, mapped: bool = False) -> tuple[Path, dict[str, Any]] | None:
        """The newest one that can be read, and its state (``read``); None if there is none.

        A warning names newer ones that cannot be read. Raises UserError if none can.
        """
        there = self.there()
        for path in reversed(there):
            try:
                return path, read(path, mapped)
            except UNREADABLE as error:
                warnings.warn(f"{path} is passed over: it cannot be read ({in_short(error)}).", stacklevel=3)
        if there:
            raise UserError(f"No checkpoint in {self.folder} can be read; start the run anew with another --out.")
        return None

    def _sharded(self, step: int) -> Path:
        return self.folder / f"step_{step:08d}"

    def _prune(self, path: Path) -> None:
        clear_dead(self.folder)
        before = [other for other in reversed(self.there()) if other < path and all(map(is_whole, files_of(other)))]
        for other in self.there():  # later ones could not be read, or the training would have begun there
            if other not in (path, *before[: KEEP - 1]):
                self._remove(other)

    def _remove(self, path: Path) -> None:
        """At once, so that no half of it is left under its name."""
        if not path.is_dir():
            path.unlink(missing_ok=True)
            return
        aside = aside_of(path)
        path.replace(aside)
        shutil.rmtree(aside, ignore_errors=True)


def files_of(path: Path) -> list[Path]:
    """The files of a checkpoint."""
    return sorted(path.glob("shard_*.pt")) if path.is_dir() else [path]


def save_shard(folder: Path, number: int, of: int, state: Mapping[str, Any]) -> None:
    """Write the ``Piece``s of ``state`` and, of the first process, all of the rest. Raises OSError or RuntimeError."""
    rows: list[Tensor] = []

    def numbered(piece: Piece) -> dict[str, int]:
        rows.append(piece.rows)
        return {SHARDED: len(rows) - 1}

    rest = each_tensor(state, numbered, Piece)
    shard = {"step": state["step"], "shards": of, "rows": rows} | ({} if number else {"state": rest})
    save_state(folder / f"shard_{number:05d}.pt", shard)


def read(path: Path, mapped: bool = False, compared: bool = True) -> dict[str, Any]:
    """The state of a checkpoint, sharded tensors as ``Pieces``, whose files are mapped anyway.

    ``compared``: with its digests, unless another process has done so just now. Raises one of ``UNREADABLE``.
    """
    if not path.is_dir():
        state = of_type(load_state(path, mapped), dict)
    else:
        shards = [of_type(load_state(file, True, compared), dict) for file in files_of(path)]
        if not shards or {shard["shards"] for shard in shards} != {len(shards)}:
            raise ValueError("shards are missing")
        parts = list(zip(*(shard["rows"] for shard in shards), strict=True))
        state = _joined(shards[0]["state"], [Pieces(part) for part in parts])
    if of_type(state["step"], int) < 0:
        raise ValueError("it is of no step")
    return state


def _joined(tree: Any, tensors: list[Pieces]) -> Any:
    if isinstance(tree, Mapping):
        sharded = tree.keys() == {SHARDED}
        return tensors[tree[SHARDED]] if sharded else {name: _joined(x, tensors) for name, x in tree.items()}
    return [_joined(x, tensors) for x in tree] if isinstance(tree, list) else tree


def in_parts(weights: Mapping[str, Tensor | Pieces]) -> Iterator[dict[str, Tensor]]:
    """The tensors that are whole, then what stands in each shard of the others."""
    yield {name: x for name, x in weights.items() if isinstance(x, Tensor)}
    pieces = {name: x.parts for name, x in weights.items() if isinstance(x, Pieces)}
    for number in range(max(map(len, pieces.values()), default=0)):
        yield {name: parts[number] for name, parts in pieces.items()}


def whole(state: dict[str, Any]) -> dict[str, Any]:
    """The state with all tensors in memory."""
    return each_tensor(state, Pieces.rows, Pieces)
