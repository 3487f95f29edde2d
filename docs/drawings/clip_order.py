"""The clips of one video in three of the six orders, each clip by its first and last frame."""

import itertools
from pathlib import Path

import numpy as np

from drawings import as_video, draw_strip, frames_of
from ssl_video.backbones.base import build_backbone
from ssl_video.figures import figure_to
from ssl_video.pretexts.base import Sample, build_pretext


def draw(out: Path) -> None:
    options = {"frames": 12, "gap": 6, "short_side": 120, "crop": 104}
    pretext = build_pretext("clip_order", build_backbone("r2plus1d_4"), options)
    frames_THWC = frames_of("bounce")
    video = as_video("bounce", frames_THWC)
    with figure_to(out, 9, 5) as figure:
        for row, (ax, class_) in enumerate(zip(figure.subplots(3, 1), (0, 1, 3), strict=True)):
            drawn = pretext.sample(video, {}, np.random.default_rng(3))
            assert isinstance(drawn, Sample)
            sample = Sample(drawn.frames, {"class": class_})
            clips_VTHWC = pretext.transform(frames_THWC[list(sample.frames)], sample, np.random.default_rng(row))[
                "clips_VTHWC"
            ]
            ends_VSHWC = np.pad(clips_VTHWC[:, [0, -1]], ((0, 0), (0, 0), (0, 0), (0, 3), (0, 0)), constant_values=255)
            pairs = [
                np.pad(np.concatenate(list(ends), 1), ((0, 0), (0, 15), (0, 0)), constant_values=255)
                for ends in ends_VSHWC
            ]
            order = itertools.permutations(("1st", "2nd", "3rd"))
            draw_strip(ax, np.concatenate(pairs, 1), f"class {class_}\n" + ", ".join(list(order)[class_]))
