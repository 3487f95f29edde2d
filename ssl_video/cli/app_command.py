"""``ssl-video app``: a local web page on a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import tyro

from ssl_video.apps.options import Limits
from ssl_video.bounds import Bounded, Bounds
from ssl_video.cli.parsing import Device, IndexFolder, ModelName, parse


@dataclass(frozen=True)
class AppConfig(Bounded, flags="--"):
    """Options of the page."""

    usual: ClassVar = ("model", "index", "port", "host", "device")
    examples: ClassVar = (
        "ssl-video app --model runs/my_run",
        "ssl-video app --model runs/my_run --index runs/my_run/index",
        "ssl-video app --model random:r2plus1d_4 --port 8000",
    )
    placed: ClassVar = ("--model", "--index")

    model: ModelName
    """A run's folder, a .safetensors file, net:NAME?weights=FILE or random:NAME."""
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
    from ssl_video.apps.web_page import check_gradio, serve
    from ssl_video.train.distributed import choose_device

    check_gradio()
    device = choose_device(config.device)
    index = None if config.index is None else Index(config.index, config.model, device)
    model = load_search_model(None, device, config.model) if index is None else index.model
    serve(model, index, config.limits, (config.host, config.port), _tell)
    return 0


def _tell(url: str) -> None:
    print(f"The page is at {url}; end it with Ctrl-C.", flush=True)
