"""``ssl-video app``: a local web page on a run."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from ssl_video.apps.options import Limits
from ssl_video.bounds import Bounded, Bounds
from ssl_video.cli import tell
from ssl_video.cli.parsing import Device, IndexFolder, ModelName, parse
from ssl_video.errors import UserError


@dataclass(frozen=True)
class AppConfig(Bounded, flags="--"):
    """Options of the page."""

    usual: ClassVar = ("model", "index", "port", "host", "device")
    examples: ClassVar = (
        "ssl-video app",
        "ssl-video app --model runs/my_run --index runs/my_run/index",
        "ssl-video app --model random:r2plus1d_4 --port 8000",
    )
    placed: ClassVar = ("--model", "--index")

    model: ModelName | None = None
    """A run's folder, a .safetensors file, net:NAME?weights=FILE or random:NAME; without it, the runs and indices below
    this folder are offered; where there are none, it is net:clips, which comes with ssl-video."""
    index: IndexFolder | None = None
    """Folder that 'ssl-video index' made by this very model; without it no neighbours are shown."""
    host: str = "127.0.0.1"
    """Address to listen at; by default only this machine can reach the page."""
    port: Annotated[int, Bounds(least=0, most=65535)] = 0
    """Port to listen at; 0: the first free one from 7860 on."""
    limits: Annotated[Limits, tyro.conf.arg(name="")] = Limits()
    device: Device = "auto"


def main(argv: Sequence[str]) -> int:
    """The command; the page is there until it is interrupted."""
    about = "Open a local web page on a run: drop a video and see what the run makes of it."
    config = parse(AppConfig, argv, "app", about)
    from ssl_video.apps.search import Index, load_search_model
    from ssl_video.apps.web_layout import serve
    from ssl_video.apps.web_page import check_address, check_gradio
    from ssl_video.model import default_model
    from ssl_video.train.distributed import choose_device

    check_gradio()
    check_address(config.host, config.port)  # before seconds are spent on the model and on gradio
    if config.model is None:
        config = _chosen(config)
    device = choose_device(config.device)
    index = None if config.index is None else Index(config.index, config.model, device)
    if index is not None:
        model = index.model
    elif config.model is None:
        model = default_model("clips", device, tell, "--model")
    else:
        model = load_search_model(None, device, config.model)
    serve(model, index, config.limits, (config.host, config.port), _tell)
    return 0


def _chosen(config: AppConfig) -> AppConfig:
    """With one of the runs and indices below this folder, which a person chooses; as it is if there are none.

    Raises UserError if nobody chooses.
    """
    from ssl_video.apps.offers import offers_below

    offers = offers_below(Path())
    if not offers:
        return config
    for number, offer in enumerate(offers, 1):
        print(f"{number:>3}  ssl-video app {shlex.join(offer.words)}")
    if not sys.stdin.isatty():
        raise UserError("Name a run, and an index that it made; these lie below this folder.")
    answer = input(f"Which one (1 to {len(offers)})? ")
    if not answer.isdecimal() or not 1 <= int(answer) <= len(offers):
        raise UserError(f"{answer!r} is none of these; type a number from 1 to {len(offers)}.")
    chosen = offers[int(answer) - 1]
    return replace(config, model=chosen.model, index=chosen.index)


def _tell(url: str) -> None:
    print(f"The page is at {url}; end it with Ctrl-C.", flush=True)
