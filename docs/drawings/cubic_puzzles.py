"""The pieces of one puzzle over space and of one over time, in their order and shuffled."""

from pathlib import Path

import numpy as np

from drawings import as_video, draw_strip, frames_of
from ssl_video.backbones.base import build_backbone
from ssl_video.figures import figure_to
from ssl_video.pretexts.base import Sample, build_pretext
from ssl_video.pretexts.cubic_puzzles import PERMUTATIONS


def draw(out: Path) -> None:
    frames_THWC = frames_of("orbit")
    with figure_to(out, 7, 7.2) as figure:
        axes = figure.subplots(4, 1)
        for row, kind in enumerate(("space", "time")):
            options = {"frames": 8, "cell_frames": 14, "crop": 48, "cell": 60, "short_side": 120, "puzzles": kind}
            pretext = build_pretext("cubic_puzzles", build_backbone("r2plus1d_4"), options)
            sample = pretext.sample(as_video("orbit", frames_THWC), {}, np.random.default_rng(2))
            assert isinstance(sample, Sample)
            for place, class_ in enumerate((0, 9)):
                shown = Sample(sample.frames, {**sample.data, "class": class_})
                read_THWC = frames_THWC[list(sample.frames)]
                pieces_PTHWC = pretext.transform(read_THWC, shown, np.random.default_rng(0))["pieces_PTHWC"]
                middles = np.pad(pieces_PTHWC[:, 4], ((0, 0), (0, 0), (0, 4), (0, 0)), constant_values=255)
                order = ", ".join(str(p + 1) for p in PERMUTATIONS[class_])
                draw_strip(axes[2 * row + place], np.concatenate(list(middles), 1), f"{kind}\nclass {class_}\n{order}")
