"""``python -m ssl_video.torchrun``: torchrun, quiet about a process that has said itself, in a sentence, why it ended.

torchrun answers any exit code but 0 with a traceback of its own and a table of processes, some forty lines below the
one that counts; from within a process nothing can be done about that. A signal that it was sent itself is no error: the
code is 130 then, as that of a training that has saved its state.
"""

import logging
import os
import sys
from collections.abc import Sequence

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

SAID = (2, 130)
"""Exit codes of ``ssl_video.cli.main`` for what was told: a user's mistake, and an interrupted run."""


def main(argv: Sequence[str] | None = None) -> int:
    """The arguments are torchrun's, as is what is done; the exit code is that of the first process that failed."""
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")  # with new processes, also a new store of answers
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    try:
        run.run(run.parse_args(list(sys.argv[1:] if argv is None else argv)))
    except SignalException:  # it has passed the signal on, and waited for its processes
        return 130
    except ChildFailedError as failed:
        _, first = failed.get_first_failure()
        if first.exitcode not in SAID:
            raise
        return first.exitcode
    return 0


if __name__ == "__main__":
    sys.exit(main())
