"""The embedded default over three seeds: ``python benchmarks/default.py [SEEDS]``; prints a table in Markdown.

Each seed trains a network of its own on the same files; the random network has that seed's weights too. The controls
show the trained network one frame of every clip, repeated (still), or the frames in another order (shuffled).
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev

import ssl_video as sv

CONTROLS = ("still", "shuffle")
ROWS = (
    ("linear", "top1", ("pretrained", "random", *(f"pretrained, {control}" for control in CONTROLS))),
    ("retrieval", "recall@1", ("pretrained", "random")),
)


def run(seed: int, out: Path) -> tuple[dict[tuple[str, str], dict[str, float]], float]:
    """Results of one seed, by (protocol, model), and the wall time in seconds."""
    start = time.perf_counter()
    trained = sv.pretrain("synthetic", recipe="default", out=out, seed=seed)
    elapsed_s = time.perf_counter() - start
    kind = {True: "random", False: "pretrained"}
    found = {(r["protocol"], kind[r["model"].startswith("random:")]): r["metrics"] for r in trained.probe()}
    for control in CONTROLS:
        result = sv.evaluate(trained, "linear", data="synthetic", **{control: True})
        found["linear", f"pretrained, {control}"] = result.metrics
    return found, elapsed_s


def main() -> None:
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    with tempfile.TemporaryDirectory() as folder:
        runs = [run(seed, Path(folder) / f"seed{seed}") for seed in seeds]
    print("| | network | " + " | ".join(f"seed {s}" for s in seeds) + " | mean | s.d. |")
    print("|---|---|" + "---|" * (len(seeds) + 2))
    for protocol, metric, models in ROWS:
        for model in models:
            values = [results[protocol, model][metric] for results, _ in runs]
            spread = f"{stdev(values):.3f}" if len(values) > 1 else "-"
            entries = " | ".join(f"{v:.3f}" for v in values)
            print(f"| {protocol} {metric} | {model} | {entries} | {mean(values):.3f} | {spread} |")
    print("\nwall time, s (the first run makes the data): " + ", ".join(f"{elapsed_s:.0f}" for _, elapsed_s in runs))


if __name__ == "__main__":
    main()
