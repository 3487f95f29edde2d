"""``ssl-video app``: a local web page on a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from ssl_video.apps.index_folder import open_index
from ssl_video.apps.search import load_search_model
from ssl_video.apps.web_page import Limits, check_gradio, serve
from ssl_video.cli.parsing import parse
from ssl_video.errors import UserError
from ssl_video.train.distributed import choose_device


@dataclass(frozen=True)
class AppConfig:
    """Options of the page."""

    run: tyro.conf.Positional[str]
    """A run's folder, a .safetensors file or random:NAME."""
    index: tyro.conf.Positional[Path | None] = None
    """Folder that 'ssl-video index' made by this very run; without it no neighbours are shown."""
    host: str = "127.0.0.1"
    """Address to listen at; by default nobody but this machine can reach the page."""
    port: int = 0
    """Port to listen at; 0: the first free one from 7860 on."""
    max_megabytes: float = 200.0
    """The largest video that is taken."""
    max_minutes: float = 5.0
    """The longest video that is taken."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def run(argv: Sequence[str]) -> int:
    """The command; the page is there until it is interrupted."""
    config = parse(
        AppConfig, argv, "app", "Open a local web page on a run: drop a video and see what the run makes of it."
    )
    if not 0 < config.max_megabytes <= 1e6 or not 0 < config.max_minutes <= 1e4:
        raise UserError("--max-megabytes and --max-minutes must be greater than 0, at most 1e6 and 1e4.")
    if not 0 <= config.port < 65536:
        raise UserError("--port is from 0 to 65535.")
    check_gradio()
    stored = None if config.index is None else open_index(config.index)
    model = load_search_model(stored, choose_device(config.device), config.run)
    serve(model, stored, Limits(config.max_megabytes, config.max_minutes), config.host, config.port)
    return 0
