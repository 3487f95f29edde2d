"""``ssl-video report``: a page on a run."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import tyro

from ssl_video.apps.report_options import ReportOptions
from ssl_video.cli.parsing import parse


@dataclass(frozen=True, kw_only=True)
class Flags(ReportOptions):
    """Options of the page."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    out: Path | None = None
    """Folder of the page, by default the run's."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def main(argv: Sequence[str]) -> int:
    """The command."""
    flags = parse(Flags, argv, "report", "Write a page on a run: curves, inputs, neighbours.")
    from ssl_video.apps.run_report import write_report
    from ssl_video.run import Run
    from ssl_video.train.distributed import choose_device

    options = ReportOptions(**{f.name: getattr(flags, f.name) for f in fields(ReportOptions)})
    for path in write_report(Run(flags.run), flags.out, options, choose_device(flags.device), print):
        print(f"{path} is written.")
    return 0
