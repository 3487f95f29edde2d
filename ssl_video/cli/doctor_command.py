"""``ssl-video doctor``: what is installed, what is missing, and which package brings it."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ssl_video._version import __version__
from ssl_video.cli.parsing import parse


@dataclass(frozen=True)
class DoctorConfig:
    """No options."""

    examples: ClassVar = (
        "ssl-video doctor",
        "ssl-video doctor --plugin my_backbone.py",
        "ssl-video doctor > versions.txt",
    )


def main(argv: Sequence[str]) -> int:
    """The command; 0 if everything that ssl-video cannot do without is there."""
    parse(DoctorConfig, argv, "doctor", "Say what is installed and what is missing.")
    from ssl_video.apps.doctor import findings

    print(f"ssl-video {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    found = findings()
    for finding in found:
        print(f"  {finding.name:<20} {finding.said}")
    return 0 if all(finding.good for finding in found) else 1
