"""The embedded default over three seeds: ``python benchmarks/default.py [SEEDS]``; prints a table in Markdown.

Each seed trains a network of its own on the same files; the random network has that seed's weights too.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev

ROWS = (("linear", "top1"), ("retrieval", "recall@1"))


def run(seed: int, out: Path) -> tuple[dict[tuple[str, str], dict[str, float]], float]:
    """Results of one seed, by (protocol, model), and the wall time in seconds."""
    start = time.perf_counter()
    words = ["pretrain", "--config", "default", "--seed", str(seed), "--out", str(out)]
    subprocess.run([sys.executable, "-m", "ssl_video", *words], check=True, stdout=sys.stderr)
    elapsed_s = time.perf_counter() - start
    results = json.loads((out / "probe.json").read_text())
    kind = {True: "random", False: "pretrained"}
    return {(r["protocol"], kind[r["model"].startswith("random:")]): r["metrics"] for r in results}, elapsed_s


def main() -> None:
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    with tempfile.TemporaryDirectory() as folder:
        runs = [run(seed, Path(folder) / f"seed{seed}") for seed in seeds]
    print("| | network | " + " | ".join(f"seed {s}" for s in seeds) + " | mean | s.d. |")
    print("|---|---|" + "---|" * (len(seeds) + 2))
    for protocol, metric in ROWS:
        for model in ("pretrained", "random"):
            values = [results[protocol, model][metric] for results, _ in runs]
            spread = f"{stdev(values):.3f}" if len(values) > 1 else "-"
            cells = " | ".join(f"{v:.3f}" for v in values)
            print(f"| {protocol} {metric} | {model} | {cells} | {mean(values):.3f} | {spread} |")
    print("\nwall time, s (the first run makes the data): " + ", ".join(f"{elapsed_s:.0f}" for _, elapsed_s in runs))


if __name__ == "__main__":
    main()
