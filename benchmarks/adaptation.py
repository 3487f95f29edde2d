"""Does adapting a network to a video help to track in it? ``python benchmarks/adaptation.py ROOT RUN STEPS NAME ...``

ROOT is that of DAVIS (``JPEGImages/480p``, ``Annotations/480p``), RUN a pretraining run, and each NAME a sequence. Each
is tracked by ``sv.track``, without steps and after STEPS of them; J and F are means over all frames but the first and
the last, with all objects of a mask taken as one. Times are of the whole call, which loads the model; ``cpu`` leaves
waiting out.
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import ssl_video as sv
from ssl_video.apps.options import TrackOptions
from ssl_video.datasets.masks import VOID, read_mask
from ssl_video.eval.regions import boundary_f, jaccard


def measure(root: Path, run: str, name: str, steps: int) -> str:
    """A line of the table."""
    truth = sorted((root / "Annotations" / "480p" / name).glob("*.png"))
    with TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        wall, cpu = time.perf_counter(), time.process_time()
        pictures, options = root / "JPEGImages" / "480p" / name, TrackOptions(adapt_steps=steps)
        sv.track(pictures, run, out, mask=truth[0], options=options)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        pairs = [(_objects(out / "masks" / file.name), _objects(file)) for file in truth[1:-1]]
    j, f = (np.mean([score(*pair) for pair in pairs]) for score in (jaccard, boundary_f))
    return f"| {name} | {steps} | {j:.3f} | {f:.3f} | {cpu:.0f} | {wall:.0f} |"


def _objects(file: Path) -> np.ndarray:
    mask_HW = read_mask(file)
    return (mask_HW > 0) & (mask_HW != VOID)


if __name__ == "__main__":
    root, run, steps, *names = sys.argv[1:]
    table = [measure(Path(root), run, name, n) for name in names for n in (0, int(steps))]
    print("| sequence | steps | J | F | cpu s | wall s |\n|---|---|---|---|---|---|", *table, sep="\n")
