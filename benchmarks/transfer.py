"""A recipe on a labelled set: one pretraining a split, more seeds on the first, each judged beside its random network.

    python benchmarks/transfer.py ucf101:ROOT [--config small] [--splits 1 2 3] [--seeds 3] [--out runs/transfer]

Prints a table in Markdown. Every run sees the training list of its split only; ``random`` is the same network, with the
same seed, untrained; ``still`` shows one frame of every clip, repeated: what is left there was not learned from motion.
Runs that are finished are not repeated, so an interrupted comparison resumes where it was.
"""

import argparse
from pathlib import Path
from statistics import mean, stdev

import torch

import ssl_video as sv
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.eval.base import Task, evaluate
from ssl_video.eval.results import write_results
from ssl_video.model import load_model
from ssl_video.run import Run

ROWS = (
    ("pretext", {}, "accuracy"),
    ("linear", {}, "top1"),
    ("linear", {"still": True}, "top1"),
    ("knn", {}, "top1"),
    ("retrieval", {}, "recall@1"),
    ("retrieval", {}, "recall@5"),
)
COLUMNS = ("pretrained", "random")


def pretrained(data: str, recipe: str, split: int, seed: int, out: Path) -> Run:
    """A finished run."""
    run = Run(out / f"split{split}-seed{seed}")
    if not run.finished:
        sv.pretrain(
            data, recipe=recipe, split=split, seed=seed, fit_span=False, probe=False, out=run.folder, resume=True
        )
    return run


def numbers(run: Run, task: Task, seed: int) -> dict[str, list[float]]:
    """A number for every row, of the run and of its random network."""
    found: dict[str, list[float]] = {}
    results = []
    for column, name in zip(COLUMNS, (str(run), f"random:{run}"), strict=True):
        torch.manual_seed(seed)
        model = load_model(name)
        made = {(p, *o): evaluate(p, model, task, options=o, seed=seed) for p, o, _ in ROWS}
        results += made.values()
        found[column] = [made[(p, *o)].metrics[metric] for p, o, metric in ROWS]
    write_results(run.folder / "transfer.json", results)
    return found


def spread(values: list[float]) -> str:
    return f"{mean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--config", default="small")
    parser.add_argument("--splits", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    arguments = parser.parse_args()

    first = arguments.splits[0]
    runs = [(split, 0) for split in arguments.splits] + [(first, seed) for seed in range(1, arguments.seeds)]
    found = {}
    for split, seed in runs:
        run = pretrained(arguments.data, arguments.config, split, seed, arguments.out)
        splits = load_splits(arguments.data, split)
        assert splits.test is not None
        task = Task(arguments.data, split, scanned(splits.train), scanned(splits.test))
        found[split, seed] = numbers(run, task, seed)
        print(
            f"split {split}, seed {seed}: {len(task.train.videos)} training videos, {len(splits.test.videos)} of test"
        )

    over_seeds = [key for key in found if key[0] == first]
    over_splits = [key for key in found if key[1] == 0]
    print(f"\n| | network | split {first}, {len(over_seeds)} seeds | {len(over_splits)} splits, seed 0 | every run |")
    print("|---|---|---|---|---|")
    for row, (protocol, options, metric) in enumerate(ROWS):
        for column in COLUMNS:
            value = {key: numbers_of[column][row] for key, numbers_of in found.items()}
            name = f"{protocol} {metric}{' (still)' if options else ''}"
            entries = (spread([value[k] for k in keys]) for keys in (over_seeds, over_splits))
            print(f"| {name} | {column} | {' | '.join(entries)} | {', '.join(f'{v:.3f}' for v in value.values())} |")


if __name__ == "__main__":
    main()
