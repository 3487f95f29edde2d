"""Draw the pictures of the documentation: ``python docs/pictures.py``, into docs/pictures/."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ssl_video.apps.explain_flow import draw_sheet
from ssl_video.backbones.base import build_backbone
from ssl_video.datasets.base import Video
from ssl_video.datasets.synthetic import CLASSES, draw
from ssl_video.encoders.tracks import TrackConfig, track
from ssl_video.pretexts.base import Sample, build_pretext
from ssl_video.pretexts.temporal_cycle_consistency import similarities, soft_nearest_neighbours
from ssl_video.video.flow import farneback
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


def flow() -> None:
    """Frames of six classes and their flow."""
    names = ("orbit", "pendulum", "bounce", "spin", "pulse", "drift")
    pairs_NTHWC = np.stack([_drawn(name)[20:22] for name in names])
    flows = np.stack([farneback(pair)[0] for pair in pairs_NTHWC])
    draw_sheet(pairs_NTHWC[:, 0], flows, names, 3.0, OUT / "flow.png")


def trajectories() -> None:
    """Tracks of a video that a panning camera took, with the camera's motion and without it."""
    frames_THWC = _panned()
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for ax, camera in zip(figure.subplots(1, 2), (False, True), strict=True):
        found = track(frames_THWC, TrackConfig(scales=1, camera=camera))
        ax.imshow(frames_THWC[15])
        for points_L2 in found.points_PL2[found.starts_P == 0]:
            ax.plot(*points_L2.T, color="green", linewidth=0.8)
            ax.plot(*points_L2[-1], ".", color="red", markersize=2)
        kept = "without the camera's motion" if camera else "all that moves"
        ax.set_title(f"{kept}: {len(found.starts_P)} tracks", fontsize=9)
        ax.set_axis_off()
    figure.savefig(OUT / "trajectories.png", dpi=80)


def temporal_cycle_consistency() -> None:
    """A cycle from a frame of one throw through another throw and back, by the place of the ball."""
    scenes = [draw("sequences", 6 * n, size=96) for n in (1, 2)]  # every sixth is a throw
    shown = np.arange(3, 64, 6)
    frames_STHWC = np.stack([scene.frames_THWC[shown] for scene in scenes])
    places_ST2 = np.stack([[np.argwhere(mask == 1).mean(0) / 96 for mask in s.masks_THW[shown]] for s in scenes])
    u_T2, v_T2 = torch.from_numpy(places_ST2)
    start, temperature = 3, 0.004
    through_12 = soft_nearest_neighbours(u_T2[[start]], v_T2, "l2", temperature)
    alpha = similarities(u_T2[[start]], v_T2, "l2", temperature).softmax(1)[0]
    beta = similarities(through_12, u_T2, "l2", temperature).softmax(1)[0]
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
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
    figure.savefig(OUT / "temporal_cycle_consistency.png", dpi=80)


def _drawn(name: str) -> np.ndarray:
    return draw("clips", CLASSES["clips"].index(name), size=120).frames_THWC


def _panned() -> np.ndarray:
    """A window that moves over one still picture, and in it a ball that flies."""
    rng = np.random.default_rng(0)
    still = np.kron(rng.integers(150, 210, (40, 60, 1)), np.ones((8, 8, 3)))
    ball = np.kron(rng.integers(0, 256, (4, 4, 1)), np.ones((8, 8, 3))) * (1.0, 0.4, 0.2)
    y, x = np.mgrid[:160, :220]
    frames = []
    for n in range(16):
        frame_HWC = still[60 + n :, 20 + 3 * n :][:160, :220].copy()
        left, top = 10 + 9 * n, round(100 - 12 * n + 0.7 * n**2)
        inside = np.hypot(x - left - 16, y - top - 16) < 16
        frame_HWC[inside] = ball[(y - top)[inside], (x - left)[inside]]
        frames.append(frame_HWC.astype(np.uint8))
    return np.stack(frames)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    speediness()
    flow()
    trajectories()
    temporal_cycle_consistency()
