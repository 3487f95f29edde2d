"""Two clips of each of three videos, as the pretext shows them in training: other times, crops and colours."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from drawings import as_video, draw_strip, frames_of
from ssl_video.backbones.base import build_backbone
from ssl_video.figures import figure_to
from ssl_video.pretexts.base import Context, Progress, Sample, build_pretext
from ssl_video.pretexts.clip_contrast import ClipContrast, ClipContrastConfig


def draw(out: Path) -> None:
    config = ClipContrastConfig(stride=2, short_side=112, crop=96, blur=(0.5, 0.5), hidden=8)
    pretext = build_pretext("clip_contrast", build_backbone("r2plus1d_4"), asdict(config))
    assert isinstance(pretext, ClipContrast)
    names, clips, times = ("bounce", "pendulum", "orbit"), [], []
    for seed, name in enumerate(names):
        frames_THWC, rng = frames_of(name, 112), np.random.default_rng(seed)
        sample = pretext.sample(as_video(name, frames_THWC), {}, rng)
        assert isinstance(sample, Sample)
        clips.append(pretext.transform(frames_THWC[list(sample.frames)], sample, rng)["clips_VTHWC"])
        times.append(np.array(sample.frames)[sample.data["positions_VT"]][:, 0])
    clips_BVTHWC = torch.as_tensor(np.stack(clips))
    x_NCTHW = pretext._normalised(clips_BVTHWC, Context(Progress(0, 1), torch.Generator().manual_seed(1)))
    mean, std = (torch.tensor(x)[:, None, None, None] for x in (pretext.backbone.clip.mean, pretext.backbone.clip.std))
    shown_NTHWC = ((x_NCTHW * std + mean).clamp(0, 1) * 255).byte().permute(0, 2, 3, 4, 1).numpy()
    with figure_to(out, 11, 8.6) as figure:
        axes = figure.subplots(2 * len(names), 1)
        for row, (ax, clip_THWC) in enumerate(zip(axes, shown_NTHWC, strict=True)):
            strip = np.pad(clip_THWC, ((0, 0), (0, 0), (0, 2), (0, 0)), constant_values=255)
            first = times[row // 2][row % 2]
            draw_strip(ax, np.concatenate(list(strip), axis=1), f"{names[row // 2]}\nfrom frame {first}")
