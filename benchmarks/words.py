"""Which words of a caption does a run of video_diffusion read? ``python benchmarks/words.py RUN [--clips 60]``

RUN has learned drawn prompts with captions. Clips that no training has seen get noise; the loss with their captions is
compared with that where one word is exchanged for another of its kind, the noise being the same. Printed is by how many
percent it is higher, by noise (a fraction of pi / 2) and word: 0 where the network does not read the word, or does not
need it. A minute or two of a CPU core.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import ssl_video as sv
from benchmarks.kept import table
from ssl_video.capabilities import Condition, Generates
from ssl_video.datasets.drawing.plain import BACKGROUNDS, COLOURS, SHAPES
from ssl_video.datasets.drawing.prompts import MOTIONS, Prompt
from ssl_video.datasets.synthetic import draw, drawn_prompt
from ssl_video.model import Model
from ssl_video.pretexts.denoising import denoiser
from ssl_video.pretexts.diffusion_core import RIGHT, mixed
from ssl_video.pretexts.texts import numbered

FIRST, AT_ONCE = 1_000_000, 20
NOISE = (0.6, 0.75, 0.85, 0.9, 0.95)
WORDS = {"colour": tuple(COLOURS), "shape": tuple(SHAPES), "motion": tuple(MOTIONS), "background": tuple(BACKGROUNDS)}


def exchanged(prompts: Sequence[Prompt], word: str) -> list[Prompt]:
    """Each with another word of that kind."""
    others = WORDS[word]
    places = [(others.index(getattr(p, word)) + 1 + n % (len(others) - 1)) % len(others) for n, p in enumerate(prompts)]
    return [replace(p, **{word: others[place]}) for p, place in zip(prompts, places, strict=True)]


@torch.no_grad()
def loss(model: Model, clip_BCTHW: Tensor, prompts: Sequence[Prompt], noise: float) -> float:
    """Mean over the clips, with the same noise at every call."""
    network = denoiser(None, model.backbone, model.name)
    e_BCTHW = torch.randn(clip_BCTHW.shape, generator=torch.Generator().manual_seed(0))
    theta, total = noise * RIGHT, 0.0
    x_t, v = mixed(clip_BCTHW, e_BCTHW, theta)
    vocabulary = model.need(Generates).vocabulary
    for some in torch.arange(len(prompts)).split(AT_ONCE):
        text = numbered([prompts[n].caption for n in some.tolist()], vocabulary, torch.device("cpu"))
        found = network.denoise(x_t[some], Condition(torch.full((len(some),), theta), text=text))[0]
        total += float((found - v[some]).square().mean()) * len(some)
    return total / len(prompts)


def lines(model: Model, clips: int) -> Iterator[list[object]]:
    """A row for each noise."""
    view, numbers = model.view, range(FIRST, FIRST + clips)
    prompts = [drawn_prompt(n) for n in numbers]
    frames = [draw("prompts", n, size=view.size).frames_THWC for n in numbers]
    first = (len(frames[0]) - view.frames * view.stride) // 2
    clips_NTHWC = np.stack([f[first :: view.stride][: view.frames] for f in frames])
    clip_BCTHW = torch.from_numpy(clips_NTHWC).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    for noise in NOISE:
        right = loss(model, clip_BCTHW, prompts, noise)
        more = [100 * (loss(model, clip_BCTHW, exchanged(prompts, word), noise) / right - 1) for word in WORDS]
        yield [f"{noise:g}", right, *(f"{percent:.1f} %" for percent in more)]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--clips", type=int, default=60)
    given = parser.parse_args()
    print(table(("noise", "loss", *WORDS), lines(sv.load_model(given.run), given.clips)))


if __name__ == "__main__":
    main()
