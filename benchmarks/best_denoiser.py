"""What could be known of a noisy clip: the best denoiser of drawn prompts, and a run beside it.

    python benchmarks/best_denoiser.py [RUN] [--drawn 400] [--clips 40]

The drawn world can be drawn again and again. Of one colour, shape and background (``--prompt``) ``--drawn`` clips of
each motion are drawn, and other clips get noise. No denoiser does better than the mean of the drawn clips, weighted by
how well each explains a noisy one, as far as the drawn clips are dense: where there is little noise they are not, and
the best loss is lower than what stands here.

Printed are, by noise (a fraction of pi / 2), the loss where the motion is told, where it is not, and where another one
is told; how probable the right motion is to one who is not told; and with RUN, of video_diffusion with captions, its
own loss on the same noisy clips. Some two minutes of a CPU core and 1 GB for 4,000 clips.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import ssl_video as sv
from benchmarks.kept import table
from benchmarks.words import loss
from ssl_video.datasets.drawing.prompts import MOTIONS, Prompt, prompt_of, prompt_scene
from ssl_video.model import Model
from ssl_video.pretexts.diffusion_core import RIGHT, mixed

FRAMES, STRIDE, SIZE, LENGTH = 16, 2, 32, 64
NOISE = (0.85, 0.9, 0.95, 0.97, 0.99, 1.0)
AT_ONCE = 500
HEAD = ("noise", "motion told", "not told", "another told", "probability of the right one")
RED_CIRCLE = Prompt("red", "circle", "swings", "dark")


@dataclass(frozen=True)
class Drawn:
    """Clips as rows of numbers from -1 to 1, and the number of the motion of each."""

    clips_ND: Tensor
    motion_N: Tensor


def clips(prompt: Prompt, each: int, seed: int) -> Drawn:
    """``each`` of every motion, which take turns, from a random frame on."""
    rng, rows = np.random.default_rng(seed), []
    motions = [number for _ in range(each) for number in range(len(MOTIONS))]
    for number in motions:
        scene = prompt_scene(rng, replace(prompt, motion=list(MOTIONS)[number]), SIZE, LENGTH)
        first = int(rng.integers(LENGTH - (FRAMES - 1) * STRIDE))
        frames_THWC = scene.frames_THWC[first::STRIDE][:FRAMES].astype(np.float32) / 127.5 - 1
        rows.append(torch.from_numpy(frames_THWC.transpose(3, 0, 1, 2).ravel()).half())
    return Drawn(torch.stack(rows), torch.tensor(motions))


def row(known: Drawn, test: Drawn, noise: float) -> list[float]:
    """What the best denoiser that knows ``known`` loses of ``test``, see HEAD."""
    theta, x_ND = noise * RIGHT, test.clips_ND.float()
    e_ND = torch.randn(x_ND.shape, generator=torch.Generator().manual_seed(0))
    x_t, _ = mixed(x_ND, e_ND, theta)
    a, s = math.cos(theta), math.sin(theta)
    parts = known.clips_ND.split(AT_ONCE)
    dot_NK = torch.cat([x_t @ part.float().T for part in parts], 1)
    square_K = torch.cat([part.float().square().sum(1) for part in parts])
    log_NK = (a * dot_NK - a * a / 2 * square_K) / s**2

    def lost(seen_NK: Tensor) -> float:
        weight_NK = log_NK.masked_fill(~seen_NK, -torch.inf).softmax(1)
        best_ND = sum(w @ part.float() for w, part in zip(weight_NK.split(AT_ONCE, 1), parts, strict=True))
        return float(((best_ND - x_ND) / s).square().mean())  # v = (cos x_t - x) / sin

    right_NK = known.motion_N == test.motion_N[:, None]
    another_NK = known.motion_N == (test.motion_N[:, None] + 1) % len(MOTIONS)
    told, not_told, another = lost(right_NK), lost(torch.ones_like(right_NK)), lost(another_NK)
    return [told, not_told, another, float((log_NK.softmax(1) * right_NK).sum(1).mean())]


def lines(prompt: Prompt, each: int, count: int, model: Model | None) -> Iterator[list[object]]:
    """A row of the table for each noise."""
    known, test = clips(prompt, each, 0), clips(prompt, max(1, count // len(MOTIONS)), 1)
    prompts = [replace(prompt, motion=list(MOTIONS)[n]) for n in test.motion_N.tolist()]
    clip_BCTHW = test.clips_ND.float().unflatten(1, (3, FRAMES, SIZE, SIZE))
    for noise in NOISE:
        own = [] if model is None else [loss(model, clip_BCTHW, prompts, noise)]
        numbers = [f"{number:.4f}" for number in (*row(known, test, noise), *own)]
        yield [f"{noise:g}", *numbers]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?")
    parser.add_argument("--prompt", default=RED_CIRCLE.caption, help="its motion does not matter")
    parser.add_argument("--drawn", type=int, default=400)
    parser.add_argument("--clips", type=int, default=40)
    given = parser.parse_args()
    model = sv.load_model(given.run) if given.run else None
    head = (*HEAD, "the run, motion told") if model else HEAD
    print(table(head, lines(prompt_of(given.prompt), given.drawn, given.clips, model)))


if __name__ == "__main__":
    main()
