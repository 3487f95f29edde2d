"""Does adapting a network to a video help to track in it? ``python benchmarks/adaptation.py ROOT WORK [--run RUN]``

ROOT is that of DAVIS (``JPEGImages/480p``, ``Annotations/480p``); its sequences, all or ``--names``, are tracked by
``sv.track`` after 0, 100 and 500 steps (``--steps``) of the pretext of each start on the very video:

* ``random:net:dense``, the network that comes with ssl-video with fresh weights: what a video teaches by itself;
* ``net:dense``, as it comes;
* ``--run RUN``, a pretraining run, or several, and ``random:RUN`` if that is asked for.

A seed draws the samples of the steps and random weights; without steps a trained network has one result. J and F are
means over all frames but the first and the last, with all objects of a mask taken as one.

Printed: J and F of every sequence by start and steps, means over ``--seeds``; below them, by start and steps, the mean
of J&F over the sequences with its standard deviation over seeds, what the steps changed (of the same start without
any), in how many of all pairs of sequence and seed they helped and harmed by more than ``EVEN``, the worst and the best
change, and CPU seconds of a call, which loads the model. WORK keeps each number as it comes and ``table.md``; the same
line goes on with what is missing.

A hundred steps take about 25 CPU seconds and a track of DAVIS as long: six sequences, three seeds, two starts and a run
are about four hours of one core, most of them for 500 steps. ``--quick``: one sequence, one seed, 0 and 2 steps, small
frames.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean, pstdev
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
import torch

import ssl_video as sv
from benchmarks.kept import Kept, check_same, table
from ssl_video.apps.options import TrackOptions
from ssl_video.datasets.masks import VOID, read_mask
from ssl_video.eval.regions import boundary_f, jaccard
from ssl_video.files import write_text

EVEN = 0.01
"""Changes of J&F up to this are neither help nor harm."""
STARTS = ("random:net:dense", "net:dense")
CHANGES = ("start", "steps", "J&F", "sd of seeds", "change", "helped", "harmed", "worst", "best", "cpu s")
Found = dict[tuple[str, str, int, int], Mapping[str, float]]
"""J, F and CPU seconds by sequence, start, steps and seed."""


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    root: Path
    names: tuple[str, ...]
    starts: tuple[str, ...]
    steps: tuple[int, ...]
    seeds: tuple[int, ...]
    side: int | None = None


def measure(plan: Plan, name: str, start: str, steps: int, seed: int) -> dict[str, float]:
    """J, F and CPU seconds of one call."""
    truth = sorted((plan.root / "Annotations" / "480p" / name).glob("*.png"))
    with TemporaryDirectory() as folder:
        out, cpu = Path(folder) / "out", time.process_time()
        torch.manual_seed(seed)  # of random weights
        model = sv.load_model(start)
        options = TrackOptions(adapt_steps=steps, seed=seed, side=plan.side)
        sv.track(plan.root / "JPEGImages" / "480p" / name, model, out, mask=truth[0], options=options, progress=False)
        cpu = time.process_time() - cpu
        pairs = [(_objects(out / "masks" / file.name), _objects(file)) for file in truth[1:-1]]
    return {"J": _mean(jaccard, pairs), "F": _mean(boundary_f, pairs), "cpu": cpu}


def _mean(score, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    return float(np.mean([score(*pair) for pair in pairs]))


def _objects(file: Path) -> np.ndarray:
    mask_HW = read_mask(file)
    return (mask_HW > 0) & (mask_HW != VOID)


def all_of(plan: Plan, kept: Kept) -> Found:
    """Every number, measured now or before."""
    found: Found = {}
    for name, start, steps, seed in product(plan.names, plan.starts, plan.steps, plan.seeds):
        own = seed if steps or start.startswith("random:") else plan.seeds[0]  # nothing else is drawn at random
        label = f"{name}, {start}, {steps} steps, seed {own}"
        found[name, start, steps, seed] = kept.get(label, lambda key=(name, start, steps, own): measure(plan, *key))
    return found


def score(numbers: Mapping[str, float]) -> float:
    """J&F."""
    return (numbers["J"] + numbers["F"]) / 2


def by_sequence(plan: Plan, found: Found) -> str:
    """J and F of every sequence, a column for every start and number of steps."""
    columns = list(product(plan.starts, plan.steps))
    lines = {name: (name,) for name in plan.names} | {"mean": plan.names}
    rows = [(line, *(_both(plan, found, names, *column) for column in columns)) for line, names in lines.items()]
    return table(("sequence: J, F", *(f"{start}, {steps}" for start, steps in columns)), rows)


def _both(plan: Plan, found: Found, names: Sequence[str], start: str, steps: int) -> str:
    some = [found[name, start, steps, seed] for name in names for seed in plan.seeds]
    return ", ".join(f"{fmean(numbers[measure] for numbers in some):.3f}" for measure in "JF")


def by_start(plan: Plan, found: Found) -> str:
    """What the steps changed."""
    return table(CHANGES, [_line(plan, found, *column) for column in product(plan.starts, plan.steps)])


def _line(plan: Plan, found: Found, start: str, steps: int) -> tuple[object, ...]:
    pairs = list(product(plan.names, plan.seeds))
    means = [fmean(score(found[name, start, steps, seed]) for name in plan.names) for seed in plan.seeds]
    cpu = fmean(found[name, start, steps, seed]["cpu"] for name, seed in pairs)
    first = (start, steps, fmean(means), pstdev(means))
    if steps == plan.steps[0]:
        return (*first, "", "", "", "", "", round(cpu))
    changes = [
        score(found[name, start, steps, seed]) - score(found[name, start, plan.steps[0], seed]) for name, seed in pairs
    ]
    helped, harmed = sum(c > EVEN for c in changes), sum(c < -EVEN for c in changes)
    counts = (f"{n} of {len(pairs)}" for n in (helped, harmed))
    return (*first, fmean(changes), *counts, min(changes), max(changes), round(cpu))


def plan_of(given: argparse.Namespace) -> Plan:
    """What the options ask for."""
    names = given.names or sorted(f.name for f in (given.root / "JPEGImages" / "480p").iterdir() if f.is_dir())
    steps, seeds = (tuple(map(int, text.split(","))) for text in (given.steps, given.seeds))
    if given.quick:
        return Plan(given.root, tuple(names[:1]), STARTS[1:], (0, 2), (0,), 64)
    return Plan(given.root, tuple(names), (*STARTS, *given.run), steps, seeds)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--run", nargs="*", default=[])
    parser.add_argument("--names", nargs="*")
    parser.add_argument("--steps", default="0,100,500", help="with commas; changes are from the first")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    plan = plan_of(given)
    check_same(given.work, {"root": str(plan.root), "side": plan.side})
    found = all_of(plan, Kept(given.work / "results.json"))
    text = f"{by_sequence(plan, found)}\n\n{by_start(plan, found)}"
    write_text(given.work / "table.md", f"{text}\n")
    print(text)


if __name__ == "__main__":
    main()
