"""``ssl-video explain``: pictures of what a video or a network holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from ssl_video.cli.parsing import parse
from ssl_video.errors import UserError, nearest


@dataclass(frozen=True)
class FlowConfig:
    """Options of the pictures of flow."""

    video: tyro.conf.Positional[Path]
    """The video."""
    method: str = "farneback"
    """farneback, dis or raft, with options as in 'raft?size=large&weights=FILE'."""
    out: Path = Path()
    """Folder of the pictures."""
    short_side: int = 240
    """Shorter side of the frames for which flow is computed, in pixels; smaller videos keep their size."""
    columns: int = 6
    """Frames on the sheet, evenly spaced."""
    at_most: int = 300
    """Frames from the start of the video that are looked at."""


def run(argv: Sequence[str]) -> int:
    """The command: one of its actions."""
    actions = {"flow": flow}
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: ssl-video explain {'|'.join(actions)} [options]")
        return 0
    if argv[0] not in actions:
        raise UserError(f"'ssl-video explain' has no action {argv[0]!r}; {nearest(argv[0], actions)}")
    return actions[argv[0]](argv[1:])


def flow(argv: Sequence[str]) -> int:
    """Draw a video's optical flow."""
    from ssl_video.apps.explain_flow import explain_flow
    from ssl_video.video.reader import VideoError

    config = parse(FlowConfig, argv, "explain flow", "Draw the optical flow of a video: a sheet, and a video.")
    if min(config.columns, config.at_most, config.short_side) < 1:
        raise UserError("--columns, --at-most and --short-side must be 1 or more.")
    try:
        written = explain_flow(
            config.video,
            config.out,
            config.method,
            short_side=config.short_side,
            columns=config.columns,
            at_most=config.at_most,
        )
    except VideoError as error:
        raise UserError(f"{config.video} cannot be used: {error}.") from None
    for path in written:
        print(f"{path} is written.")
    return 0
