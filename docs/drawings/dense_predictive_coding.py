"""The blocks of one clip, one a column: five to look at, three to predict."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from drawings import as_video, frames_of
from ssl_video.backbones.base import build_backbone
from ssl_video.figures import figure_to
from ssl_video.pretexts.base import Sample, build_pretext
from ssl_video.pretexts.dense_predictive_coding import DensePredictiveCodingConfig


def draw(out: Path) -> None:
    config = DensePredictiveCodingConfig(stride=1, short_side=96, crop=96)
    pretext = build_pretext("dense_predictive_coding", build_backbone("r2d3d_18"), asdict(config)).eval()
    frames_THWC = frames_of("orbit", size=96)
    video = as_video("orbit", frames_THWC)
    rng = np.random.default_rng(0)
    sample = pretext.sample(video, {}, rng)
    assert isinstance(sample, Sample)
    clip_THWC = pretext.transform(frames_THWC[list(sample.frames)], sample, rng)["clip_THWC"]
    seen = config.blocks - config.predict
    with figure_to(out, 11, 1.9) as figure:
        for n, ax in enumerate(figure.subplots(1, config.blocks)):
            picture_HWC = np.full((96 + 6 * (config.frames - 1),) * 2 + (3,), 255, np.uint8)
            for i, frame_HWC in enumerate(clip_THWC[n * config.frames : (n + 1) * config.frames]):
                first = 6 * i  # the frames of a block lie on each other, the last one on top
                picture_HWC[first : first + 96, first : first + 96] = frame_HWC
            if n >= seen:  # the 3x3 places of a map of 96 pixels
                picture_HWC[-96:, [56, 88]] = picture_HWC[[56, 88], -96:] = 255
            ax.imshow(picture_HWC)
            ax.set_title(f"block {n + 1}\n{'aggregated' if n < seen else 'predicted'}")
            ax.set_axis_off()
