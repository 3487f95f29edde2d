"""What many videos cost: ten million digests of a run, neighbours among 100,000 videos, a classifier on a million.

    OMP_NUM_THREADS=1 python benchmarks/growth.py [digests] [neighbours] [ridge]

Each is measured in a process of its own: seconds of the processor, and how far its memory rose above what it held
before, of which the features are given.
"""

import argparse
import resource
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


def neighbours() -> str:
    """The votes for 20,000 videos of the 5 nearest of 100,000, 64 numbers each."""
    from ssl_video.eval.knn import knn_scores

    rng = np.random.default_rng(0)
    x_ND, x_test_MD = (rng.standard_normal((rows, 64), np.float32) for rows in (100_000, 20_000))
    labels_N = rng.integers(400, size=len(x_ND))
    knn_scores(x_ND[:100], labels_N[:100], x_test_MD[:100], 400, 5, 0.1)  # what is loaded once
    used = costs(lambda: knn_scores(x_ND, labels_N, x_test_MD, 400, 5, 0.1))
    return f"kNN, 20,000 x 100,000 x 64 (arrays of {(x_ND.nbytes + x_test_MD.nbytes) / 1e6:.0f} MB): {used}"


def ridge() -> str:
    """A ridge classifier of 101 classes on a million videos, 128 numbers each."""
    from ssl_video.eval.ridge import ridge_scores

    x_ND = np.random.default_rng(0).standard_normal((1_000_000, 128), np.float32)
    labels_N = np.arange(len(x_ND)) % 101
    ridge_scores(x_ND[:1000], labels_N[:1000], x_ND[:100], 101)
    used = costs(lambda: ridge_scores(x_ND, labels_N, x_ND[:1000], 101))
    return f"ridge, 1,000,000 x 128, 101 classes (array of {x_ND.nbytes / 1e6:.0f} MB): {used}"


def costs(function: Callable[[], object]) -> str:
    """Seconds of the processor, and MB by which the peak of memory rose."""
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    function()
    rose = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return f"{time.process_time() - start:.1f} s, {rose / 1e3:.0f} MB more"


MEASURED: dict[str, Callable[[], str]] = {"digests": digests, "neighbours": neighbours, "ridge": ridge}


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
