"""Tracking before and after some steps on the very video, a column for each start and a line for each sequence.

It shows what ``python benchmarks/adaptation.py ROOT WORK`` has left in WORK.
"""

import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from ssl_video.figures import COLOURS, QUIET, figure_to

WORDS = {"random:net:dense": "random weights", "net:dense": "net:dense"}
Found = dict[str, dict[str, dict[str, list[float]]]]
"""J&F, a number a seed, by start, sequence and steps."""


def draw(out: Path, left: str) -> None:
    found = read(Path(left) / "results.json")
    with figure_to(out, 8, 2.9) as figure:
        panels = figure.subplots(1, len(found), sharey=True)
        for axes, (start, sequences) in zip(panels, found.items(), strict=True):
            for row, by_steps in enumerate(sequences.values()):
                means = [fmean(values) for values in by_steps.values()]
                axes.plot(means, [row] * len(means), color=QUIET, zorder=1)
                for colour, values in zip(COLOURS, by_steps.values(), strict=False):
                    axes.scatter(values, [row] * len(values), 18, color=colour, zorder=2)
            steps = next(iter(sequences.values()))
            for colour, count in zip(COLOURS, steps, strict=False):
                axes.scatter([], [], 18, color=colour, label=f"{count} steps")
            axes.set(title=WORDS.get(start, "a run"), xlabel="J&F", xlim=(0, 1), yticks=range(len(sequences)))
            axes.set_yticklabels(sequences)
            axes.grid()
        panels[0].invert_yaxis()
        panels[-1].legend(loc="upper left", fontsize=7)


def read(file: Path) -> Found:
    """What the benchmark has kept, in the order in which it was measured."""
    found: Found = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for key, numbers in json.loads(file.read_text("utf-8")).items():
        name, start, steps, _ = key.split(", ")
        found[start][name][steps.removesuffix(" steps")].append(fmean((numbers["J"], numbers["F"])))
    return found
