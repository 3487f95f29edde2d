"""The model of whoever names none: a small network that comes with ssl-video."""

from collections.abc import Callable
from typing import Literal

import torch

from ssl_video.backbones.weights.packaged import in_words
from ssl_video.model.base import Model
from ssl_video.model.loading import load_model
from ssl_video.progress import announce

Task = Literal["clips", "dense", "speed"]
"""What it is for, and so its name: clips (search, vectors), frames with a fine map (tracking), speed."""


def default_name(task: Task) -> str:
    """The name of the model that serves where none is named: ``net:clips``."""
    return f"net:{task}"


def default_model(
    task: Task, device: torch.device | str = "cpu", say: Callable[[str], None] = announce, option: str = "model"
) -> Model:
    """The network that comes with ssl-video for a task; ``say`` gets a line on which it is.

    ``option`` is what another one is named by. Raises UserError if its file was altered.
    """
    name = default_name(task)
    model = load_model(name, device)
    say(f"No model was named: {name} is used, {in_words(task)}, which comes with ssl-video; name another by {option}.")
    return model
