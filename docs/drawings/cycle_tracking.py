"""A patch tracked back over three frames and forward again, by the colours of its cells."""

import itertools
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle

from ssl_video.datasets import synthetic
from ssl_video.figures import figure_to
from ssl_video.pretexts.cycle_tracking import affinity, cut, long_cycles, matrices


def draw(out: Path) -> None:
    scene = synthetic.draw("tracks", 6, size=144)
    shown, cells, side = [0, 8, 16, 24], 48, 12
    frames_THWC = scene.frames_THWC[shown]
    pixels_TCHW = torch.from_numpy(frames_THWC).permute(0, 3, 1, 2).double()
    maps_TDhw = F.unfold(F.avg_pool2d(pixels_TCHW, 3), 3, padding=1).unflatten(2, (cells, cells))  # 3x3 colours a cell
    maps_TDhw -= maps_TDhw.mean((0, 2, 3), keepdim=True)
    y, x = (2 * np.argwhere(scene.masks_THW[24] == 3).mean(0) / 144 - 1).tolist()
    start_123 = matrices(torch.tensor([[x, y, 0.0]]).double(), side / cells)
    walked = []

    def localise(frame_NDhw: torch.Tensor, query_NDhw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The place where the affinities of the query's cells agree; nothing is learned here."""
        affinity_NPhw = affinity(frame_NDhw, query_NDhw, 0.02)
        votes_Nhw, room = affinity_NPhw.unflatten(1, (cells, cells)), cells - side + 1
        shifts = itertools.product(range(side), repeat=2)
        agreed_NP = torch.stack([votes_Nhw[:, i : i + room, j : j + room, i, j] for i, j in shifts]).sum(0).flatten(1)
        top_left_N2 = torch.stack([agreed_NP.argmax(1) % room, agreed_NP.argmax(1) // room], 1)
        pose_N3 = F.pad((2 * top_left_N2.double() + side) / cells - 1, (0, 1))
        walked.append(pose_N3[0, :2])  # the longest cycle goes first
        return matrices(pose_N3, side / cells), affinity_NPhw

    patch_1Dhw = cut(maps_TDhw[-1:], start_123, side)
    long_cycles(maps_TDhw[:-1].unsqueeze(0), maps_TDhw[-1:], patch_1Dhw, localise, side)
    places = {"back": [*walked[2::-1], torch.tensor([x, y])], "forward": [walked[2], *walked[3:]]}
    with figure_to(out, 9, 4.8) as figure:
        axes = figure.subplots(2, 4)
        for row, (name, colour) in enumerate((("back", "white"), ("forward", "yellow"))):
            for n, (ax, place_2) in enumerate(zip(axes[row], places[name], strict=True)):
                ax.imshow(frames_THWC[n])
                left, top = (72 * (place_2 + 1) - 18 - 0.5).tolist()
                ax.add_patch(Rectangle((left, top), 36, 36, fill=False, edgecolor=colour, linewidth=2))
                ax.set_xticks([])
                ax.set_yticks([])
                ax.set_title("the patch's frame" if n == 3 else f"{3 - n} back")
            axes[row, 0].set_ylabel({"back": "back: right to left", "forward": "forward: left to right"}[name])
        x0, y0 = 72 * (x + 1) - 18.5, 72 * (y + 1) - 18.5
        axes[1, 3].add_patch(Rectangle((x0, y0), 36, 36, fill=False, edgecolor="white", linewidth=2, linestyle="--"))
