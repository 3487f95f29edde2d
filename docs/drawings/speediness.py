"""One video of each of four classes, as the pretext samples it: at normal speed and sped up."""

from pathlib import Path

import numpy as np

from drawings import as_video, draw_strip, frames_of
from ssl_video.backbones.base import build_backbone
from ssl_video.figures import figure_to
from ssl_video.pretexts.base import Sample, build_pretext


def draw(out: Path) -> None:
    options = {"frames": 16, "short_side": 56, "crop": 48, "min_size": 48, "max_size": 48}
    pretext = build_pretext("speediness", build_backbone("r2plus1d_4"), options)
    names = ("bounce", "pendulum", "orbit", "pulse")
    with figure_to(out, 11, 6.4) as figure:
        axes = figure.subplots(2 * len(names), 1)
        for row, name in enumerate(names):
            frames_THWC = frames_of(name, 56)
            video = as_video(name, frames_THWC)
            rng = np.random.default_rng(row)
            sample = pretext.sample(video, {}, rng)
            assert isinstance(sample, Sample)
            clips_VTHWC = pretext.transform(frames_THWC[list(sample.frames)], sample, rng)["clips_VTHWC"]
            for view, label in enumerate(("normal", "sped up")):
                strip = np.pad(clips_VTHWC[view], ((0, 0), (0, 0), (0, 2), (0, 0)), constant_values=255)
                draw_strip(axes[2 * row + view], np.concatenate(list(strip), axis=1), f"{name}\n{label}")
