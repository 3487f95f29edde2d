"""How resizing in time should begin: as a copy of the nearest frame, or at random (He), as Lumiere's appendix asks.

    OMP_NUM_THREADS=2 python benchmarks/resizing.py WORK --data SPEC [--images RUN] [--seeds 0,1,2] [--steps 600]

For every seed two networks are trained by the small recipe of video_diffusion, which differ by
``backbone.resize_init`` alone: the same clips, the same noise, the same other weights. With ``--images``, a run of
single frames (``--pretext.frames 1 --backbone.no-temporal``), its network is kept as it is and what was added for video
is trained, which is the paper's setting.

Printed are the losses at ``--at`` steps, means over the seeds with their standard deviation: in training, each the mean
over the steps since the record before, and of held-out videos where that was watched; and in how many seeds identity is
lower. ``WORK/resizing.png`` has the curves. WORK keeps the runs; the same line goes on with what is missing.

A step of 8 clips of 16x32x32 takes about 0.65 CPU seconds: six runs of 600 steps are over in 25 minutes on two cores.
``--quick``: one seed, four steps of a small network.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import ssl_video as sv
from benchmarks.kept import check_same, table
from ssl_video.figures import COLOURS, figure_to
from ssl_video.files import write_text
from ssl_video.records import Record
from ssl_video.run import Run

INITS = ("identity", "he")
LOSSES = {"loss": "training", "held_out_loss": "held out"}
Curves = Mapping[str, Sequence[Sequence[Record]]]
"""Records of a run for each seed, by how its resizing began."""


def curves_of(given: argparse.Namespace, seeds: Sequence[int]) -> Curves:
    """Train what is missing."""
    every = max(1, given.steps // 24)
    options: dict[str, object] = {"steps": given.steps, "log_every": every, "monitor_every": 4 * every}
    if given.images:
        options |= {"backbone__weights": str(Run(given.images).backbone_file), "pretext__freeze_spatial": True}
    if given.quick:
        options |= {"batch_size": 2, "backbone__channels": (8, 16)}
    found: dict[str, list[list[Record]]] = {init: [] for init in INITS}
    for seed in seeds:
        for init in INITS:
            print(f"{init}, seed {seed}", flush=True)
            run = sv.pretrain(
                given.data,
                recipe="video_diffusion:small",
                out=given.work / f"{init}-{seed}",
                resume="auto",
                seed=seed,
                backbone__resize_init=init,
                **options,
            )
            found[init].append(run.records())
    return found


def at_step(records: Sequence[Record], name: str, step: int) -> float | None:
    """The last value of a loss that was noted at that step or before; None if there is none."""
    values = [record[name] for record in records if name in record and record["step"] <= step]
    return values[-1] if values else None


def rows_of(curves: Curves, steps: Sequence[int]) -> list[tuple[object, ...]]:
    """The rows of the table."""
    rows = []
    for name, words in LOSSES.items():
        for step in steps:
            found = {init: [at_step(records, name, step) for records in runs] for init, runs in curves.items()}
            if any(value is None for values in found.values() for value in values):
                continue
            better = sum(a < b for a, b in zip(*found.values(), strict=True))
            shown = [f"{fmean(values):.4f} ± {pstdev(values):.4f}" for values in found.values()]
            rows.append((words, step, *shown, f"{better} of {len(found['he'])}"))
    return rows


def draw(out: Path, curves: Curves) -> None:
    """Both losses over steps, a line a seed."""
    with figure_to(out, 8, 3.2) as figure:
        panels = figure.subplots(1, 2)
        for axes, (name, words) in zip(panels, LOSSES.items(), strict=True):
            for colour, (init, runs) in zip(COLOURS, curves.items(), strict=False):
                for number, records in enumerate(runs):
                    points = [(record["step"], record[name]) for record in records if name in record]
                    if points:
                        axes.plot(*zip(*points, strict=True), color=colour, label=None if number else init)
            axes.set(title=f"loss, {words}", xlabel="step")
            axes.grid()
        panels[0].legend()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", help="a run of single frames")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--at", help="steps, with commas; by default four of them")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.quick:
        given.steps, given.seeds = 4, "0"
    options = {"data": given.data, "images": given.images, "steps": given.steps, "quick": given.quick}
    check_same(given.work, options)
    curves = curves_of(given, [int(seed) for seed in given.seeds.split(",")])
    steps = [given.steps * n // 6 for n in (1, 2, 4, 6)] if given.at is None else map(int, given.at.split(","))
    found = table(("loss", "step", *INITS, "identity lower"), rows_of(curves, [*steps]))
    write_text(given.work / "table.md", f"{found}\n")
    draw(given.work / "resizing.png", curves)
    print(found)


if __name__ == "__main__":
    main()
