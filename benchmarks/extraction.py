"""What extraction of features costs beside reading and the network alone.

    python benchmarks/extraction.py [--backbone resnet18] [--frames 8] [--size 112] [--rounds 5]

Reading alone: the clips of the videos through the same loader, by the same two processes, and nothing done with them.
Network alone: one batch of clips in memory, again and again. On cores that both share, a clip cannot take less time
than the sum of the two; on a GPU it cannot be less than the slower one. Rounds take turns; medians.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.eval.features import ClipsOfVideos, Extraction, extract, in_order
from ssl_video.model import Model, load_model
from ssl_video.train.distributed import choose_device
from ssl_video.video.info import Problem
from ssl_video.video.view import View

BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--videos", type=int, default=48)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="auto")
    a = parser.parse_args()
    device = choose_device(a.device)
    with tempfile.TemporaryDirectory() as folder:
        synthesize(Path(folder), SyntheticConfig(train=a.videos, test=1, size=160, frames=96))
        videos = scanned(load_splits(folder).train)
        network = load_model(f"random:{a.backbone}", device)
        view = View(a.frames, 2, round(a.size * 8 / 7), a.size)
        model = Model(network.name, network.backbone, view, {}, device)
        what = ClipsOfVideos(videos.videos, view, Extraction(a.clips, batch=BATCH))
        batch = torch.randint(0, 255, (BATCH, a.frames, a.size, a.size, 3), dtype=torch.uint8)
        speeds: dict[str, list[float]] = {"reading": [], "network": [], "extraction": []}
        for _ in range(a.rounds):
            start = time.perf_counter()
            clips = sum(len(c) for _, _, c in in_order(what, a.workers) if not isinstance(c, Problem))
            speeds["reading"].append(clips / (time.perf_counter() - start))
            start = time.perf_counter()
            for _ in range(-(-clips // BATCH)):
                model.clip_features(batch).cpu()
            speeds["network"].append(-(-clips // BATCH) * BATCH / (time.perf_counter() - start))
            start = time.perf_counter()
            extract(model, videos, what.what, workers=a.workers)
            speeds["extraction"].append(clips / (time.perf_counter() - start))
    median = {name: statistics.median(values) for name, values in speeds.items()}
    shared = 1 / (1 / median["reading"] + 1 / median["network"])
    bound = min(median["reading"], median["network"]) if device.type == "cuda" else shared
    print(f"{a.backbone}, {a.frames}x{a.size}x{a.size}, {device}, {a.workers} workers, torch {torch.__version__}")
    for name, value in median.items():
        print(f"{name:<12}{value:>8.1f} clips/s")
    print(f"extraction / bound {median['extraction'] / bound:.2f}")


if __name__ == "__main__":
    main()
