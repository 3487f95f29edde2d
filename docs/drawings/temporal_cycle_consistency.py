"""A cycle from a frame of one throw through another throw and back, by the place of the ball."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.patches import Rectangle

from ssl_video.datasets import synthetic
from ssl_video.figures import figure_to
from ssl_video.pretexts.temporal_cycle_consistency import similarities, soft_nearest_neighbours


def draw(out: Path) -> None:
    scenes = [synthetic.draw("sequences", 6 * n, size=96) for n in (1, 2)]  # every sixth is a throw
    shown = np.arange(3, 64, 6)
    frames_STHWC = np.stack([scene.frames_THWC[shown] for scene in scenes])
    places_ST2 = np.stack([[np.argwhere(mask == 1).mean(0) / 96 for mask in s.masks_THW[shown]] for s in scenes])
    u_T2, v_T2 = torch.from_numpy(places_ST2)
    start, temperature = 3, 0.004
    through_12 = soft_nearest_neighbours(u_T2[[start]], v_T2, "l2", temperature)
    alpha = similarities(u_T2[[start]], v_T2, "l2", temperature).softmax(1)[0]
    beta = similarities(through_12, u_T2, "l2", temperature).softmax(1)[0]
    with figure_to(out, 11, 5.2) as figure:
        axes = figure.subplots(4, 1, gridspec_kw={"height_ratios": [2, 1, 2, 1]})
        side = frames_STHWC.shape[3]
        for ax, frames_THWC, name in zip(axes[::2], frames_STHWC, ("one video", "another"), strict=True):
            ax.imshow(np.concatenate(list(frames_THWC), axis=1))
            ax.set_ylabel(name)
        box = {"fill": False, "edgecolor": "red", "linewidth": 3}
        axes[0].add_patch(Rectangle((start * side + 1, 1), side - 3, side - 3, **box))
        axes[2].add_patch(Rectangle((int(alpha.argmax()) * side + 1, 1), side - 3, side - 3, **box))
        for ax, weights, name in ((axes[1], beta, "back: beta"), (axes[3], alpha, "there: alpha")):
            ax.bar(np.arange(len(shown)), weights, color="tab:red")
            ax.set_xlim(-0.5, len(shown) - 0.5)
            ax.set_ylim(0, 1)
            ax.set_ylabel(name)
        for ax in axes:
            ax.set_xticks([])
            ax.set_yticks([])
