"""How long does a training wait for a checkpoint? The copy of its state against the whole of the writing, in one run.

    python benchmarks/saving.py [--parameters 100e6] [--rounds 3] [--folder FOLDER]

A network of so many parameters with the state of AdamW: three numbers of four bytes for each. "at once" is what
``Run.save_checkpoint`` takes, as a training without a thread would call it; "beside" is what ``Saver.save`` takes, and
then the steps, products of matrices, that are done while the thread writes, against as many alone. Ends with 1 if the
training waits for more than 0.3 of the writing.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from ssl_video.run import Run
from ssl_video.train.saving import Saver

SIDE = 1000
MOST = 0.3


def state_of(parameters: int) -> dict:
    """Weights and moments in layers of ``SIDE`` squared."""
    network = nn.Sequential(*(nn.Linear(SIDE, SIDE, bias=False) for _ in range(round(parameters / SIDE**2))))
    optimizer = torch.optim.AdamW(network.parameters())
    for p in network.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    return {"pretext": network.state_dict(), "optimizer": optimizer.state_dict()}


def step(x: torch.Tensor) -> None:
    """Some tenths of a second of computing."""
    for _ in range(4):
        torch.mm(x, x)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=float, default=100e6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk that is measured; by default a temporary one")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    state, x = state_of(int(arguments.parameters)), torch.randn(SIDE, SIDE)
    ratios = []
    try:
        with Saver(Run(folder / "beside")) as saver:
            for number in range(1, arguments.rounds + 1):
                since = time.perf_counter()
                Run(folder / "once").save_checkpoint(number, state | {"step": number})
                at_once_s = time.perf_counter() - since
                since = time.perf_counter()
                saver.save(number, state | {"step": number})
                copied_s = time.perf_counter() - since
                steps, since = 0, time.perf_counter()
                while saver.thread is not None and saver.thread.is_alive():
                    step(x)
                    steps += 1
                beside_s = (time.perf_counter() - since) / max(1, steps)
                saver.wait()
                since = time.perf_counter()
                for _ in range(max(1, steps)):
                    step(x)
                alone_s = (time.perf_counter() - since) / max(1, steps)
                ratios.append(copied_s / at_once_s)
                print(
                    f"round {number}: at once {at_once_s:.2f} s, beside {copied_s:.2f} s, ratio {ratios[-1]:.3f}; "
                    f"{steps} steps while it wrote, each {beside_s / alone_s:.2f} of one alone",
                    flush=True,
                )
    finally:
        shutil.rmtree(folder)
    print(
        f"{arguments.parameters / 1e6:.0f} M parameters, median ratio {statistics.median(ratios):.3f} (at most {MOST})"
    )
    return 0 if statistics.median(ratios) <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
