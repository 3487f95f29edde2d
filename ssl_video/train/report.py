"""The page a run leaves behind: what was done, and its curves. ``ssl-video report`` makes a fuller one of it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from ssl_video.datasets.base import VideoSet
from ssl_video.figures import COLOURS, chance_line, figure_to, shortened
from ssl_video.files import write_text
from ssl_video.records import Record
from ssl_video.run import Run
from ssl_video.train.objective import Objective

Records = list[Record]

CURVES = (
    ("loss", ("loss", "held_out_loss")),
    ("accuracy of the pretext", ("accuracy", "held_out_accuracy")),
    ("on-line probe (top-1, held-out videos)", ("probe_top1",)),
    ("feature spread: standard deviation", ("feature_std",)),
    ("feature spread: effective rank", ("effective_rank",)),
    ("learning rate", ("lr",)),
)
NOT_LEARNING = ("step", "clips", "clips_per_s", "waiting", "replaced", "stop")


def write_report(run: Run, data: Mapping[str, Any], again: str, chance: Mapping[str, float]) -> None:
    """Write report.md and report.png into the run's folder.

    ``again`` is a sentence on how to repeat the run, and ``chance`` what guessing comes to (``chance_of``).
    """
    records = run.records()
    draw_curves(run.report_picture, {run.folder.name: records}, chance)
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


def minutes_of(records: Records, samples: int) -> float | None:
    """How long the recorded steps took, of so many samples each, without monitors; None if no speed was noted.

    It does not matter how often the training was interrupted: each record has the speed of the steps before it.
    """
    done, seconds = 0, 0.0
    for record in records:
        if record.get("clips_per_s", 0) <= 0:
            return None
        seconds += (record["step"] - done) * samples / record["clips_per_s"]
        done = record["step"]
    return seconds / 60 if done else None


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


def held_out_result(records: Records, chance: Mapping[str, float], count: int) -> str:
    """A sentence: what ``count`` held-out videos came to at the end, and what guessing would; "" if nothing did."""
    watched = [r for r in records if any(map(_of_held_out, r))]
    if not watched:
        return ""
    words = [
        f"{name.removeprefix('held_out_')} {value:.3g}" + (f" (chance {chance[name]:.3g})" if name in chance else "")
        for name, value in watched[-1].items()
        if _of_held_out(name)
    ]
    return f"On {count} held-out video{'s' * (count != 1)}, not trained on: {', '.join(words)}."


def _of_held_out(name: str) -> bool:
    return name.startswith(("held_out_", "probe_"))


def draw_curves(out: Path | IO[bytes], runs: Mapping[str, Records], chance: Mapping[str, float] | None = None) -> None:
    """A figure: one panel a quantity, over steps; of several runs, each in its colour, what is held out dashed.

    Args:
        out: a file, or a stream for a PNG.
        runs: records of each by its name.
        chance: what guessing comes to, by the name of the quantity (see ``chance_of``).
    """
    every = [record for records in runs.values() for record in records]
    shown, chance = panels(every), chance or {}
    rows = max(1, -(-len(shown) // 2))
    with figure_to(out, 10, 2.6 * rows + 0.3 * (len(runs) > 1)) as figure:
        for place, (title, names) in enumerate(shown, 1):
            axes = figure.add_subplot(rows, 2, place)
            for number, (run, records) in enumerate(runs.items()):
                for other, name in enumerate(names):
                    colour = COLOURS[(number if len(runs) > 1 else other) % len(COLOURS)]
                    words = _label(name) if len(runs) == 1 else shortened(run, 40) if not other else None
                    _draw_curve(axes, records, name, color=colour, linestyle="--" if other else "-", label=words)
            levels = dict.fromkeys(chance[name] for name in names if name in chance)
            for level in levels:
                chance_line(axes, level)
            axes.set_title(shortened(title, 70))
            axes.set(xlabel="step", xlim=(0, None))
            axes.grid()
            if len(runs) == 1 and (len(names) > 1 or levels):
                axes.legend()
        if len(runs) > 1 and shown:
            lines = [c for c in figure.axes[0].get_lines() if not str(c.get_label()).startswith("_")]
            figure.legend(handles=lines, loc="outside lower center", ncols=min(4, len(runs)))


def _draw_curve(axes: Any, records: Records, name: str, **how: Any) -> None:
    points = [(r["step"], r[name]) for r in records if name in r and math.isfinite(r[name])]
    if points:
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 40 else "", **how)


def _label(name: str) -> str:
    """Of which videos a curve is."""
    return "held-out videos" if _of_held_out(name) else "training videos"


def chance_of(objective: Objective, videos: VideoSet | None) -> dict[str, float]:
    """What guessing comes to: of the classes of the pretext and, by the probe, of the classes of the videos."""
    counts = [len(words) for words in objective.label_words().values()]
    found: dict[str, float] = {}
    if len(counts) == 1:
        found |= {"accuracy": 1 / counts[0], "held_out_accuracy": 1 / counts[0]}
    if videos is not None and videos.classes and not videos.multi_label:
        found["probe_top1"] = 1 / len(videos.classes)
    return found
