"""``ssl-video report``: a page on a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import tyro

from ssl_video.apps.options import ReportOptions
from ssl_video.cli import tell
from ssl_video.cli.parsing import Device, Folder, RunFolder, parse


@dataclass(frozen=True)
class ReportConfig:
    """Options of the page."""

    usual: ClassVar = ("out", "data", "queries", "neighbours", "device")
    examples: ClassVar = (
        "ssl-video report runs/my_run",
        "ssl-video report runs/my_run --out page --queries 8",
        "ssl-video report runs/my_run --data other_videos",
    )

    run: tyro.conf.Positional[RunFolder]
    """Folder of the run."""
    out: Folder | None = None
    """Folder of the page, by default the run's."""
    options: Annotated[ReportOptions, tyro.conf.arg(name="")] = ReportOptions()
    device: Device = "auto"


def main(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(ReportConfig, argv, "report", "Write a page on a run: curves, inputs, neighbours.")
    from ssl_video.apps.run_report import write_report
    from ssl_video.run import Run
    from ssl_video.train.distributed import choose_device

    device = choose_device(config.device)
    for path in write_report(Run(config.run), config.out, config.options, device, tell):
        tell(f"{path} is written.")
    return 0
