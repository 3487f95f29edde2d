"""A walk over three frames and back: where a walker may be, and the matrices that took him there."""

from pathlib import Path

import numpy as np
import torch

from ssl_video.datasets import synthetic
from ssl_video.figures import figure_to
from ssl_video.pretexts.contrastive_random_walk import cut_patches
from ssl_video.pretexts.walks import transitions


def draw(out: Path) -> None:
    patch, stride, size, start = 24, 12, 96, 19
    frames_THWC = synthetic.draw("tracks", 2, size=128).frames_THWC[10:25:6, 16:-16, 16:-16]
    frames_TCHW = torch.from_numpy(np.ascontiguousarray(frames_THWC)).permute(0, 3, 1, 2) / 255.0
    pixels_TND = cut_patches(frames_TCHW, patch, stride).flatten(1).unflatten(0, (len(frames_THWC), -1))
    nodes_BTNE = torch.nn.functional.normalize(pixels_TND - pixels_TND.mean((0, 1)), dim=2)[None]
    (P0, P1), (R0, R1) = transitions(nodes_BTNE, 0.1)[0]
    side = (size - patch) // stride + 1
    at_N = torch.eye(side**2)[start]
    with figure_to(out, 11, 4.9) as figure:
        axes = figure.subplots(2, 5)
        names = ("P0: 0 to 1", "P1: 1 to 2", "R1: 2 to 1", "R0: 1 to 0", "all four: where walks end")
        steps = (P0, P1, R1, R0)
        for column, frame in enumerate((0, 1, 2, 1, 0)):
            ax = axes[0, column]
            ax.imshow(frames_THWC[frame])
            for node, chance in enumerate(at_N.tolist()):
                y, x = (stride * n + patch / 2 for n in divmod(node, side))
                ax.scatter(x, y, s=260 * chance + 1, color="red", edgecolors="white", linewidths=0.7)
            ax.set_title(f"frame {frame}")
            matrix_NN = torch.linalg.multi_dot(steps) if column == 4 else steps[column]
            axes[1, column].imshow(matrix_NN, cmap="gray_r", vmin=0, vmax=0.6)
            axes[1, column].set_title(names[column])
            if column < 4:
                at_N = at_N @ steps[column]
        for ax in axes.flat:
            ax.set_xticks([])
            ax.set_yticks([])
