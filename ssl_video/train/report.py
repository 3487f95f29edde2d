"""The page a run leaves behind: what was done, and its curves. ``ssl-video report`` makes a fuller one of it."""

import io
import itertools
import math
from collections.abc import Mapping
from typing import Any

from ssl_video.files import write_text, written_aside
from ssl_video.run import Record, Run

Records = list[Record]

CURVES = (
    ("loss", ("loss", "held_out_loss")),
    ("accuracy of the pretext", ("accuracy", "held_out_accuracy")),
    ("on-line probe (top-1, held-out videos)", ("probe_top1",)),
    ("feature spread: standard deviation", ("feature_std",)),
    ("feature spread: effective rank", ("effective_rank",)),
    ("learning rate", ("lr",)),
)
NOT_LEARNING = ("step", "clips_per_s", "waiting", "replaced", "stop")


def write_report(run: Run, data: Mapping[str, Any], again: str) -> None:
    """Write report.md and report.png into the run's folder; ``again`` is a sentence on how to repeat the run."""
    records = run.records()
    with written_aside(run.report_picture) as aside:
        aside.write_bytes(draw_curves(records))
    lines = [
        f"# {run.folder.name}",
        "",
        f"Trained on {data['videos']} videos of `{data['spec']}` (split {data['split']}, data hash {data['hash']}) for "
        f"{records[-1]['step']} steps. The whole configuration is in `{run.config_file.name}`. {again}",
        "",
        speed(records),
        "",
        "| last value of | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in last_values(records)),
        "",
        f"![curves]({run.report_picture.name})",
        "",
    ]
    write_text(run.report_file, "\n".join(lines))


def speed(records: Records) -> str:
    """A sentence on throughput."""
    rates = sorted(r["clips_per_s"] for r in records if "clips_per_s" in r)
    waiting = [r["waiting"] for r in records if "waiting" in r]
    if not rates or not waiting:
        return "No speed was noted."
    percent = 100 * sum(waiting) / len(waiting)
    return (
        f"Median speed {rates[len(rates) // 2]:.1f} videos/s; {percent:.0f} % of the time was spent waiting for data."
    )


def panels(records: Records) -> list[tuple[str, list[str]]]:
    """(title, names) of the curves of which there is a point; names that only one pretext knows come last."""
    there = list(dict.fromkeys(name for r in records for name in r if name not in NOT_LEARNING))
    known = {name for _, names in CURVES for name in names}
    found = [(title, [n for n in names if n in there]) for title, names in CURVES]
    own = [n for n in there if n not in known and not n.startswith("held_out_")]
    found += [(name, [n for n in (name, f"held_out_{name}") if n in there]) for name in own]
    return [(title, names) for title, names in found if names]


def last_values(records: Records) -> list[tuple[str, str]]:
    """(name, last value) of every curve."""
    names = [name for _, names in panels(records) for name in names]
    return [(name, f"{next(r[name] for r in reversed(records) if name in r):.4g}") for name in names]


def draw_curves(records: Records) -> bytes:
    """A PNG: one panel a quantity, over steps."""
    return draw_runs({"": records})


def draw_runs(runs: Mapping[str, Records]) -> bytes:
    """A PNG of the curves of some runs by their names: one panel a quantity, over steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no pyplot: no global state, no display
    from matplotlib.figure import Figure

    shown = panels([record for records in runs.values() for record in records])
    rows = max(1, -(-len(shown) // 2))
    figure = Figure(figsize=(10, 2.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (title, names) in enumerate(shown, 1):
        axes = figure.add_subplot(rows, 2, place)
        for (run, records), name in itertools.product(runs.items(), names):
            points = [(r["step"], r[name]) for r in records if name in r and math.isfinite(r[name])]
            label = ": ".join(filter(None, (run, name if len(names) > 1 or not run else "")))
            if points:
                axes.plot(*zip(*points, strict=True), marker="." if len(points) < 40 else "", label=label)
        axes.set_title(title, fontsize=9, parse_math=False)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if len(axes.lines) > 1:
            axes.legend(fontsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, format="png")
    return picture.getvalue()
