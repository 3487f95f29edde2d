"""Packages that only some trainings need: whether they are there is said before anything is done."""

from importlib.util import find_spec

from ssl_video.errors import needs
from ssl_video.train.config import TrainingConfig


def check_packages(config: TrainingConfig) -> None:
    """Raise UserError if a package that the options ask for is not installed."""
    for package in ("tensorboard", "wandb"):
        if getattr(config, package) and find_spec(package) is None:
            raise needs(f"--{package}", package, package)
