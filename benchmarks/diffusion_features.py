"""What the features of video diffusion are worth, by stage and noise: linear probe, kNN and label propagation.

    OMP_NUM_THREADS=2 python benchmarks/diffusion_features.py RUN --data SPEC [--propagation davis:ROOT] --out WORK

RUN is a run of video_diffusion. At every one of ``--stages`` of its network, and with every ``--noise`` (a fraction of
pi / 2) that it is shown, features are extracted once for both probes. Label propagation shows it every frame by itself,
its shorter side ``--side``, and leaves out stages finer than every fourth pixel, whose maps have 10^5 cells. Beside
them stand the same network untrained (``random:RUN``, without noise), other models (``--beside``: net:clips, or a run
of speediness) at a stage of their own choice, and of propagation Lab colours. What a model cannot do is left empty.

A table in Markdown is printed, and kept in ``table.md``; WORK holds the numbers as they come, and the same line goes on
with what is missing. A stage at a noise costs the features of ``--clips`` clips of every video (about 0.03 CPU s a
clip of 16x32x32), and of propagation over six sequences some minutes of one core; six stages at five noises take about
half an hour on two cores for the probes, and propagation an hour more. ``--quick``: one stage, two noises, one clip.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import torch

from benchmarks.kept import Kept, check_same, table
from ssl_video.errors import UserError
from ssl_video.eval.base import Task, evaluate
from ssl_video.eval.harness import Reading, task_on
from ssl_video.files import write_text
from ssl_video.model import load_model
from ssl_video.progress import showing

NOISE = (0.0, 0.05, 0.1, 0.2, 0.4)
FINEST = 4
"""Pixels from cell to cell that propagation needs at least."""
HEAD = ("network", "stage", "noise", "linear top-1", "kNN top-1", "propagation J&F")
Numbers = dict[str, float | None]


@dataclass(frozen=True)
class Row:
    """A model, one of its stages ("": its own choice), and the noise that it is shown (None: no such network)."""

    model: str
    stage: str = ""
    noise: float | None = None

    @property
    def spec(self) -> str:
        """What ``load_model`` takes."""
        return f"{self.model}?noise={self.noise:g}" if self.noise else self.model


def rows_of(run: str, stages: Sequence[str], noises: Sequence[float], beside: Sequence[str]) -> Iterator[Row]:
    """The rows of the table, the run's own first."""
    yield from (Row(run, stage, noise) for stage in stages for noise in noises)
    yield from (Row(f"random:{run}", stage, 0.0) for stage in stages)
    yield from map(Row, beside)


def probed(row: Row, task: Task, clips: int) -> Numbers:
    """Linear probe and kNN on the same features."""
    options = {"clips": clips} | ({"stage": row.stage} if row.stage else {})
    torch.manual_seed(0)  # of random weights
    model = load_model(row.spec)
    found: Numbers = {}
    for protocol in ("linear", "knn"):
        try:
            found[protocol] = evaluate(protocol, model, task, options=options).metrics["top1"]
        except UserError as error:
            print(f"{row.spec}: {error}", flush=True)
            found[protocol] = None
    return found


def propagated(row: Row | None, task: Task, side: int) -> float | None:
    """J&F of a row's network, or for None of Lab colours; None where there is no such map."""
    if row is None:
        return evaluate("propagation", None, task, options={"features": "lab", "side": side}).metrics["J&F"]
    torch.manual_seed(0)
    model = load_model(row.spec)
    stage = row.stage or None
    if stage and model.backbone.taps[stage].strides[1] < FINEST:
        return None
    try:
        options = {"side": side} | ({"stage": stage} if stage else {})
        return evaluate("propagation", model, task, options=options).metrics["J&F"]
    except UserError as error:
        print(f"{row.spec}: {error}", flush=True)
        return None


@dataclass(frozen=True)
class On:
    """On what is measured: a task with labels, perhaps one with masks, clips a video, and the side of frames."""

    probes: Task
    masks: Task | None
    clips: int
    side: int


def measured(rows: Sequence[Row], on: On, kept: Kept) -> list[tuple[object, ...]]:
    """The table's rows."""
    found = []
    for row in rows:
        name = f"{row.spec} {row.stage}".strip()
        numbers: Numbers = dict(kept.get(f"probes of {name}", lambda row=row: probed(row, on.probes, on.clips)))
        if on.masks is not None:
            numbers["J&F"] = kept.get(f"propagation of {name}", lambda row=row: propagated(row, on.masks, on.side))
        noise = "" if row.noise is None else f"{row.noise:g}"
        shown = ("" if n is None else n for n in (numbers["linear"], numbers["knn"], numbers.get("J&F")))
        found.append((row.model, row.stage, noise, *shown))
    if on.masks is not None:
        found.append(("Lab colours", "", "", "", "", kept.get("Lab", lambda: propagated(None, on.masks, on.side))))
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--data", required=True)
    parser.add_argument("--propagation", help="SPEC of videos with masks")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stages", help="with commas; by default all")
    parser.add_argument("--noise", default=",".join(map(str, NOISE)))
    parser.add_argument("--beside", nargs="*", default=["net:clips"], help="models")
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--side", type=int, default=240)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    stages = given.stages.split(",") if given.stages else list(load_model(given.run).backbone.stages)
    noises = [float(n) for n in given.noise.split(",")]
    if given.quick:
        stages, noises, given.clips, given.side = stages[-2:-1], noises[:2], 1, 64
    check_same(given.out, {"data": given.data, "clips": given.clips, "side": given.side})
    with showing():
        masks = None if given.propagation is None else task_on(given.propagation, "propagation", Reading())
        on = On(task_on(given.data, "linear", Reading()), masks, given.clips, given.side)
        rows = list(rows_of(given.run, stages, noises, given.beside))
        found = table(HEAD, measured(rows, on, Kept(given.out / "results.json")))
    write_text(given.out / "table.md", f"{found}\n")
    print(found)


if __name__ == "__main__":
    main()
