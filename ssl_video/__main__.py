"""``python -m ssl_video`` (what torchrun needs) is the ``ssl-video`` command."""

import atexit
import os
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import NoReturn


def run() -> NoReturn:
    """Run the command, and end the process with its code at once.

    By itself Python frees what torch has imported one by one, which takes a second. This is asked for before anything
    else is imported, so that what others do at the end of a process is done by then.
    """
    ends_with = 1  # an error, whose traceback has been printed by then

    def end() -> None:
        code = ends_with
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):  # its reader has gone, or it was closed
                code = code or 120  # as Python says it
        os._exit(code)

    atexit.register(end)
    wait_briefly(os.environ)
    from ssl_video.cli import main

    try:
        ends_with = main()
    except SystemExit as ended:  # after a page of help
        with suppress(TypeError, ValueError):
            ends_with = int(ended.code or 0)
    raise SystemExit(ends_with)


def wait_briefly(environ: MutableMapping[str, str]) -> None:
    """Let threads of torch that wait for each other give up their core early, if nothing is said.

    By default they ask 300,000 times before they do, and the processes that read wait for that core. GNU's OpenMP reads
    this once, when torch is imported.
    """
    if "OMP_WAIT_POLICY" not in environ:
        environ.setdefault("GOMP_SPINCOUNT", "10000")


if __name__ == "__main__":
    run()
