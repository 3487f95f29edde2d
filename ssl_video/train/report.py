"""The page a run leaves behind: what was done, and its curves."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_video.files import write_text, written_aside

CURVES = (
    ("loss", ("loss", "held_out_loss")),
    ("accuracy of the pretext", ("accuracy", "held_out_accuracy")),
    ("on-line probe (top-1, held-out part of the training list)", ("probe_top1",)),
    ("feature spread: standard deviation", ("feature_std",)),
    ("feature spread: effective rank", ("effective_rank",)),
    ("learning rate", ("lr",)),
)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def write_report(run: Path, data: Mapping[str, Any], again: str) -> None:
    """Write report.md and report.png into the run's folder; ``again`` is a sentence on how to repeat the run."""
    records = read_metrics(run)
    draw_curves(records, run / "report.png")
    last = records[-1]
    speed = [r["clips_per_s"] for r in records]
    waiting = [r["waiting"] for r in records]
    lines = [
        f"# {run.name}",
        "",
        f"Trained on {data['videos']} videos of `{data['spec']}` (split {data['split']}, data hash {data['hash']}) for "
        f"{last['step']} steps. The whole configuration is in `config.yaml`. {again}",
        "",
        f"Median speed {sorted(speed)[len(speed) // 2]:.1f} videos/s, of which "
        f"{100 * sum(waiting) / len(waiting):.0f} % of the time was spent waiting for data.",
        "",
        "| last value of | |",
        "|---|---|",
        *(f"| {name} | {_latest(records, name):.4g} |" for _, names in CURVES for name in names if _has(records, name)),
        "",
        "![curves](report.png)",
        "",
    ]
    write_text(run / "report.md", "\n".join(lines))


def draw_curves(records: list[dict[str, Any]], path: Path) -> None:
    """One panel a quantity, over steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no pyplot: no global state, no display
    from matplotlib.figure import Figure

    panels = [(title, names) for title, names in CURVES if any(_has(records, n) for n in names)]
    figure = Figure(figsize=(10, 2.6 * -(-len(panels) // 2)), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (title, names) in enumerate(panels, 1):
        axes = figure.add_subplot(-(-len(panels) // 2), 2, place)
        for name in names:
            points = [(r["step"], r[name]) for r in records if name in r]
            if points:
                axes.plot(*zip(*points, strict=True), marker="." if len(points) < 40 else "", label=name)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend(fontsize=8)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=110)


def _has(records: list[dict[str, Any]], name: str) -> bool:
    return any(name in r for r in records)


def _latest(records: list[dict[str, Any]], name: str) -> float:
    return next(r[name] for r in reversed(records) if name in r)
