"""A query of each of three videos, and the two clips that it is compared with: at its speed, and at the other."""

from pathlib import Path

import numpy as np

from drawings import as_video, draw_strip, frames_of
from ssl_video.backbones.base import build_backbone
from ssl_video.figures import figure_to
from ssl_video.pretexts.base import Sample, build_pretext


def draw(out: Path) -> None:
    options = {"frames": 12, "short_side": 72, "crop": 64}
    pretext = build_pretext("relative_speed", build_backbone("r2plus1d_4"), options)
    names, words = ("bounce", "pendulum", "orbit"), ("query", "at its speed", "at the other")
    with figure_to(out, 11, 8.6) as figure:
        axes = figure.subplots(3 * len(names), 1)
        for number, name in enumerate(names):
            frames_THWC, rng = frames_of(name, 72), np.random.default_rng(number + 3)
            sample = pretext.sample(as_video(name, frames_THWC), {}, rng)
            assert isinstance(sample, Sample)
            clips_3THWC = pretext.transform(frames_THWC[list(sample.frames)], sample, rng)["clips_3THWC"]
            for row, (clip_THWC, word) in enumerate(zip(clips_3THWC, words, strict=True)):
                strip = np.pad(clip_THWC, ((0, 0), (0, 0), (0, 2), (0, 0)), constant_values=255)
                draw_strip(axes[3 * number + row], np.concatenate(list(strip), axis=1), f"{name}\n{word}")
