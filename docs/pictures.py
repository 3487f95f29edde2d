"""Draw the pictures of the documentation: ``python docs/pictures.py``, into docs/pictures/."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ssl_video.backbones.base import build_backbone
from ssl_video.datasets.base import Video
from ssl_video.datasets.synthetic import CLASSES, draw
from ssl_video.pretexts.base import Sample, build_pretext
from ssl_video.video.info import VideoInfo

OUT = Path(__file__).parent / "pictures"


def speediness() -> None:
    """One video of each of four classes, as the pretext samples it: at normal speed and sped up."""
    options = {"frames": 16, "short_side": 56, "crop": 48, "min_size": 48, "max_size": 48}
    pretext = build_pretext("speediness", build_backbone("r2plus1d_4"), options)
    names = ("bounce", "pendulum", "orbit", "pulse")
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * len(names), 1)
    for row, name in enumerate(names):
        frames_THWC = draw("clips", CLASSES["clips"].index(name)).frames_THWC
        video = Video(name, info=VideoInfo(len(frames_THWC), 25.0, 56, 56, len(frames_THWC) / 25, "raw"))
        rng = np.random.default_rng(row)
        sample = pretext.sample(video, {}, rng)
        assert isinstance(sample, Sample)
        clips_VTHWC = pretext.transform(frames_THWC[list(sample.frames)], sample, rng)["clips_VTHWC"]
        for view, label in enumerate(("normal", "sped up")):
            strip = np.pad(clips_VTHWC[view], ((0, 0), (0, 0), (0, 2), (0, 0)), constant_values=255)
            ax = axes[2 * row + view]
            ax.imshow(np.concatenate(list(strip), axis=1))
            ax.set_ylabel(f"{name}\n{label}", rotation=0, ha="right", va="center", fontsize=9)
            ax.set_xticks([])
            ax.set_yticks([])
            for spine in ax.spines.values():
                spine.set_visible(False)
    figure.savefig(OUT / "speediness.png", dpi=80)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    speediness()
