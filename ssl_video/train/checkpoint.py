"""Checkpoints to resume from, and the weights that a run gives to the world."""

import json
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ssl_video.errors import UserError
from ssl_video.files import written_aside

KEEP = 2
"""Checkpoints of a run that are kept: the newest, and one more in case the newest cannot be read."""


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((run / "checkpoints").glob("step_*.pt"))


def save_checkpoint(run: Path, step: int, state: dict[str, Any]) -> None:
    """Write ``state`` aside, rename it, and remove all but the newest ``KEEP`` checkpoints.

    Raises:
        UserError: when it cannot be written (a full disk); the checkpoints that are there stay as they are.
    """
    path = run / "checkpoints" / f"step_{step:08d}.pt"
    try:
        with written_aside(path) as aside:
            torch.save(state, aside)
    except (OSError, RuntimeError) as error:
        there = checkpoints(run)
        rest = f"the last good one is {there[-1].name}" if there else "there is no earlier one"
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"The checkpoint of step {step} could not be written ({reason}); {rest}: make room and use --resume."
        ) from None
    halves = path.parent.glob(".step_*.tmp.pt")  # of a run that was killed while it wrote
    for old in (*checkpoints(run)[:-KEEP], *halves):
        old.unlink(missing_ok=True)


def load_checkpoint(run: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, or None if the run has none. Raises UserError if none can be read."""
    there = checkpoints(run)
    for path in reversed(there):
        try:
            with warnings.catch_warnings():  # torch's remarks on strange files; we answer below
                warnings.simplefilter("ignore")
                return torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError):
            continue
    if there:
        raise UserError(f"No checkpoint in {run / 'checkpoints'} can be read; start the run anew with another --out.")
    return None


def resume(run: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> int:
    """Load the run's newest checkpoint, if it has one; the number of steps that were done. Raises UserError."""
    state = load_checkpoint(run)
    if state is None:
        return 0
    for name, module in modules.items():
        module.load_state_dict(state[name])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def cut_metrics(path: Path, step: int) -> None:
    """Drop the lines of metrics.jsonl after ``step``: a resumed run writes them again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] > step:
                break
        except (ValueError, KeyError, TypeError):
            break  # a line cut off by a crash
        kept.append(line + "\n")
    with written_aside(path) as aside:
        aside.write_text("".join(kept), encoding="utf-8")


def save_weights(path: Path, tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> None:
    """safetensors with ``header`` as JSON in its metadata."""
    with written_aside(path) as aside:
        save_file(
            {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, aside, {"ssl_video": json.dumps(header)}
        )


def load_weights_file(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and header of a file written by ``save_weights``. Raises UserError; nothing in the file is executed."""
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("ssl_video", "null"))
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a whole safetensors file ({' '.join(str(error).split())}).") from None
    if not isinstance(header, dict):
        raise UserError(f"{path} was not written by ssl-video: it does not say of which architecture it is.")
    return weights, header


def step_of(path: Path) -> int:
    """The step in a checkpoint's name."""
    match = re.fullmatch(r"step_(\d+)\.pt", path.name)
    assert match, path
    return int(match[1])
