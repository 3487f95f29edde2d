"""A command killed at its N-th write to the disk, and the same line again."""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ssl_video.processes import LOCK
from tests import warm

KILLER = """
import os, signal, sys
left = int(sys.argv.pop(1))
def before(real):
    def call(*args, **more):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)
    return call
os.fsync, os.replace, os.rename = map(before, (os.fsync, os.replace, os.rename))
from ssl_video.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""SIGKILL instead of the N-th fsync or renaming."""
NEVER = 10**9


def command(words: Sequence[str], folder: Path, kill_at: int = NEVER) -> "subprocess.CompletedProcess[str]":
    """Run ``ssl-video WORDS`` in a folder, with a cache there; its code is -9 if it was killed."""
    env = os.environ | {"SSL_VIDEO_CACHE": str(folder / "cache")}
    return warm.run(["-c", KILLER, str(kill_at), *words], cwd=folder, env=env)


def names(folder: Path) -> set[str]:
    """The files below a folder, without the numbers that count how often something was written.

    The lock of a process that was killed may lie there: it holds nobody, since its process is gone.
    """
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    found = (str(path.relative_to(folder)) for path in files)
    return {re.sub(r"(segment|removed|trained)-\d+", r"\1-N", re.sub(r"[0-9a-f]{16}", "KEY", name)) for name in found}


def kill_and_repeat(words: Sequence[str], folder: Path, out: str, kill_at: int, whole: set[str]) -> str | None:
    """What is wrong after a kill at ``kill_at`` and the same line again: "" if nothing; None if it was not killed."""
    if command(words, folder, kill_at).returncode != -9:
        return None
    again = command(words, folder)
    if again.returncode == 2 and "--resume" in again.stderr:  # a training says how it goes on
        again = command([*words, "--resume"], folder)
    if again.returncode != 0:
        return f"code {again.returncode}: {again.stderr[-400:]}"
    return f"{sorted(names(folder / out) ^ whole)} differ" if names(folder / out) != whole else ""
