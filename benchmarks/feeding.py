"""What a GPU needs: samples a second that one core reads, by source and recipe, and the cores that keep a GPU busy.

    OMP_NUM_THREADS=1 python benchmarks/feeding.py [--recipes levjepa:paper ...] [--seconds 4] [--tflops 989]

Sources are drawn moving textures of 340x256, ten seconds long, h264 with a key frame every 12 or 250 frames, and copies
of them as 'data cache' makes them, h264 and raw, of the recipe's own shorter side (256 pixels at most). A sample is
what the recipe's pretext takes of a video: frames read, resized, cropped and changed, in processor time of one
process with one decoding thread.

With a CUDA device a step of each recipe is timed on it, with ``--batch-size`` samples. Without one the GPU's columns
are computed and say so: three times the operations of a sample's forward pass, as torch counts them (a teacher's too,
though it has no backward pass), over ``--tflops`` of the GPU (989 in bf16 without sparsity: H100, H200) times the share
that is reached.
"""

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.prepare import copy_videos
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.pretexts.base import Context, Progress
from ssl_video.pretrain_config import PretrainConfig, changed
from ssl_video.pretraining import dataset_of, untrained
from ssl_video.recipes import load_recipe
from ssl_video.train.data import ClipDataset, collate, tensors, usable
from ssl_video.train.distributed import Ranks, choose_device
from ssl_video.train.pace import measure_pace
from ssl_video.video.scan import scan_one
from ssl_video.video.writer import Encoding, write_video

RECIPES = ("speediness", "contrastive_random_walk", "clip_contrast", "videomae", "vjepa", "levjepa")
SIZE, FRAMES, VIDEOS = (256, 340), 300, 4


def draw(folder: Path, gop: int) -> Path:
    """Videos of two textures, one of which moves over the other."""
    for number in range(VIDEOS):
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (2, 32, 43, 3), np.uint8)
        still, moved = (np.kron(c, np.ones((8, 8, 1), np.uint8))[: SIZE[0], : SIZE[1]] for c in coarse)
        inside = np.zeros((*SIZE, 1), bool)
        inside[64:192, 80:240] = True
        frames = (np.where(np.roll(inside, (t, 2 * t), (0, 1)), np.roll(moved, t, 1), still) for t in range(FRAMES))
        write_video(folder / f"{number}.mp4", frames, 30, Encoding({"crf": "23"}, gop=gop))
    return folder


def size_and_scan(folder: Path) -> str:
    """Bytes of a file, and the processor time of a scan of it, on average."""
    paths, start = sorted(folder.glob("*.mp4")), time.process_time()
    for path in paths:
        scan_one(str(path))
    scan_s = (time.process_time() - start) / len(paths)
    megabytes = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
    return f"A video of key frames every 12 has {megabytes:.2f} MB, and is scanned in {scan_s:.2f} s of a core."


def videos_of(spec: Path) -> VideoSet:
    return scanned(load_splits(str(spec)).train)


def config_of(recipe: str, batch_size: int) -> PretrainConfig:
    here = {"batch_size": batch_size, "workers": 0, "views": 1, "device": "auto", "fit_span": False}
    return PretrainConfig.from_mapping(changed(load_recipe(recipe), here))


def samples_a_second(dataset: ClipDataset, seconds: float) -> float:
    """Of one core: samples over the processor time that they take."""
    dataset[0, 0, 0]  # what is loaded once
    start, count = time.process_time(), 0
    while (spent_s := time.process_time() - start) < seconds:
        dataset[0, count % len(dataset.videos.videos), count]
        count += 1
    return count / spent_s


def operations(dataset: ClipDataset) -> float:
    """Of one sample in a step: three times those of its forward pass, two for each multiplication that is added."""
    batch = tensors(collate([dataset[0, 0, 0]]), torch.device("cpu"))
    context = Context(Progress(0, 1), torch.Generator().manual_seed(0))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:  # with gradients large clips take many GB
        dataset.pretext.train()(batch, context)
    return 3 * counter.get_total_flops()


def row(recipe: str, folder: Path, sources: dict[str, Path], arguments: argparse.Namespace) -> str:
    config = config_of(recipe, arguments.batch_size)
    pretext = untrained(config)
    side = min(256, pretext.view.short_side)
    places = dict(sources)
    for kind in ("h264", "raw"):
        made = folder / f"{kind}-{side}"
        if not made.exists():
            copy_videos(str(sources["gop 12"]), made, kind=kind, short_side=side, workers=1)
        places[kind] = made / "manifest.csv"
    datasets = {name: dataset_of(config, pretext, usable(videos_of(place), pretext)) for name, place in places.items()}
    read = {name: samples_a_second(dataset, arguments.seconds) for name, dataset in datasets.items()}
    ranks = Ranks(device=choose_device("auto"))
    if ranks.device.type == "cuda":
        step_s = measure_pace(pretext, datasets["raw"], config.training, ranks).computing_s
        needed, how = config.training.batch_size / step_s, ""
    else:
        needed = arguments.tflops * 1e12 * arguments.reached / operations(datasets["raw"])
        how = " (computed)"
    rates = " | ".join(f"{value:.1f}" for value in read.values())
    cores = " | ".join(str(math.ceil(needed / value)) for value in read.values())
    return f"| {recipe} | {rates} | {needed:,.0f}{how} | {cores} |"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=[f"{name}:paper" for name in RECIPES])
    parser.add_argument("--seconds", type=float, default=4.0, help="of processor time, of each source and recipe")
    parser.add_argument("--batch-size", type=int, default=32, help="samples of a step on the GPU")
    parser.add_argument("--tflops", type=float, default=989.0)
    parser.add_argument("--reached", type=float, default=0.4)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        os.environ["SSL_VIDEO_CACHE"] = str(folder / "cache")
        sources = {f"gop {gop}": draw(folder / f"gop{gop}", gop) for gop in (12, 250)}
        print(size_and_scan(sources["gop 12"]) + "\n")
        names = " | ".join([*sources, "h264 copies", "raw copies"])
        print(f"| samples a second of a core: | {names} | samples a second of a GPU | cores a GPU: {names} |")
        print("|---" * 10 + "|")
        for recipe in arguments.recipes:
            print(row(recipe, folder, sources, arguments), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
