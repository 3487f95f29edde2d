"""The paths of periodic motions, as they were drawn and as they are read from the frames, and what key frames see."""

from pathlib import Path

import numpy as np

from ssl_video.datasets.drawing.periodic import CYCLES
from ssl_video.datasets.drawing.readers import read_cycle
from ssl_video.datasets.synthetic import draw as draw_scene
from ssl_video.figures import COLOURS, figure_to

EVERY = 8


def draw(out: Path) -> None:
    with figure_to(out, 9, 4.4) as figure:
        for column, (ax, label) in enumerate(zip(figure.subplots(2, 2).flat, CYCLES, strict=True)):
            scene = next(s for n in range(column, 200, 4) if (s := draw_scene("periodic", n)).notes["period"] < 11)
            read = read_cycle(scene.frames_THWC)
            assert read is not None
            known_T = (
                scene.notes["scale_T"] if label == "pulse" else scene.notes["centre_T2"][:, int(label == "bounce")]
            )
            known_T = known_T / np.median(known_T) if label == "pulse" else known_T
            read_T = read.scale_T if label == "pulse" else read.centre_T2[:, int(label == "bounce")]
            ax.plot(known_T, color=COLOURS[5], linewidth=3, label="drawn")
            ax.plot(read.times_T, read_T, color=COLOURS[6], linewidth=0.8, label="read from the frames")
            ax.plot(
                np.arange(0, 64, EVERY),
                known_T[::EVERY],
                "o--",
                color=COLOURS[1],
                markersize=4,
                label="every 8th frame",
            )
            ax.set_title(f"{label}: period {float(scene.notes['period']):.2f} frames, read {read.period:.2f}")
            ax.set_ylabel({"pulse": "scale", "bounce": "y (pixels)"}.get(label, "x (pixels)"))
            if column > 1:
                ax.set_xlabel("frame")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3)
