"""``ssl-video compare``: runs side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from ssl_video.cli import tell
from ssl_video.cli.parsing import RunFolder, parse


@dataclass(frozen=True)
class CompareConfig:
    """Which runs, and where their curves are drawn."""

    examples: ClassVar = (
        "ssl-video compare runs/one runs/other",
        "ssl-video compare runs/one runs/other --out curves.png",
        "ssl-video compare runs/one runs/other runs/third --out curves.pdf",
    )

    runs: tyro.conf.Positional[tuple[RunFolder, ...]]
    """Folders of trainings, two or more: of pretraining or of fine-tuning."""
    out: Path | None = None
    """Draw their curves on one sheet: FILE.png, .pdf or .svg."""


def main(argv: Sequence[str]) -> int:
    """The command."""
    config = parse(CompareConfig, argv, "compare", "What differs between runs, in configuration and results.")
    from ssl_video.apps.compare import compare_runs

    print(compare_runs(config.runs, config.out))
    if config.out is not None:
        tell(f"\n{config.out} is written.")
    return 0
