"""What many videos cost: ten million digests of a run.

    OMP_NUM_THREADS=1 python benchmarks/growth.py [digests]

Each is measured in a process of its own, in seconds of the processor.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

DIGESTS = 10_000_000


def digests() -> str:
    """A run on ten million videos is written, read back, and asked for a video."""
    import torch

    from ssl_video.digests import Digests
    from ssl_video.run import Run

    numbers_N = np.unique(np.random.default_rng(0).integers(0, 2**63, DIGESTS, np.uint64))
    seen = Digests((numbers_N[:0], numbers_N))
    tensors = {"x": torch.zeros(1)}
    with tempfile.TemporaryDirectory() as folder:
        run, start = Run(Path(folder)), time.process_time()
        run.save_weights(tensors, tensors, {"videos": seen, "lists": []})
        written_s, start = time.process_time() - start, time.process_time()
        again = run.header()["videos"]
        assert f"{numbers_N[7]:016x}" in again and "f" * 16 not in again and len(again) == len(numbers_N)
        read_s = time.process_time() - start
        sizes = [path.stat().st_size / 1e6 for path in run.folder.iterdir()]
    return f"{len(numbers_N):,} digests: written in {written_s:.1f} s, read in {read_s:.1f} s, {sum(sizes):.0f} MB"


MEASURED: dict[str, Callable[[], str]] = {"digests": digests}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*MEASURED, []], default=list(MEASURED))
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name in arguments.names:
        if arguments.alone:
            print(MEASURED[name](), flush=True)
        else:
            subprocess.run([sys.executable, __file__, name, "--alone"], check=True)


if __name__ == "__main__":
    main()
