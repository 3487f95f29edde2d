"""Draw the pictures of the documentation: ``python docs/pictures.py``, into docs/pictures/."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ssl_video.apps.explain_flow import draw_sheet, wheel
from ssl_video.backbones.base import build_backbone
from ssl_video.datasets.base import Video
from ssl_video.datasets.synthetic import CLASSES, draw
from ssl_video.encoders.tracks import TrackConfig, track
from ssl_video.pretexts.base import Sample, build_pretext
from ssl_video.pretexts.dense_predictive_coding import DensePredictiveCodingConfig
from ssl_video.video.flow import colour_wheel, farneback
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


def dense_predictive_coding() -> None:
    """The blocks of one clip, one a column: five to look at, three to predict."""
    config = DensePredictiveCodingConfig(stride=1, short_side=96, crop=96)
    pretext = build_pretext("dense_predictive_coding", build_backbone("r2d3d_18"), asdict(config)).eval()
    frames_THWC = draw("clips", CLASSES["clips"].index("orbit"), size=96).frames_THWC
    video = Video("orbit", info=VideoInfo(len(frames_THWC), 25.0, 96, 96, len(frames_THWC) / 25, "raw"))
    rng = np.random.default_rng(0)
    sample = pretext.sample(video, {}, rng)
    assert isinstance(sample, Sample)
    clip_THWC = pretext.transform(frames_THWC[list(sample.frames)], sample, rng)["clip_THWC"]
    seen = config.blocks - config.predict
    figure = Figure(figsize=(11, 1.9), layout="constrained")
    FigureCanvasAgg(figure)
    for n, ax in enumerate(figure.subplots(1, config.blocks)):
        picture_HWC = np.full((96 + 6 * (config.frames - 1),) * 2 + (3,), 255, np.uint8)
        for i, frame_HWC in enumerate(clip_THWC[n * config.frames : (n + 1) * config.frames]):
            first = 6 * i  # the frames of a block lie on each other, the last one on top
            picture_HWC[first : first + 96, first : first + 96] = frame_HWC
        if n >= seen:  # the 3x3 places of a map of 96 pixels
            picture_HWC[-96:, [56, 88]] = picture_HWC[[56, 88], -96:] = 255
        ax.imshow(picture_HWC)
        ax.set_title(f"block {n + 1}\n{'aggregated' if n < seen else 'predicted'}", fontsize=9)
        ax.set_axis_off()
    figure.savefig(OUT / "dense_predictive_coding.png", dpi=80)


def flow() -> None:
    """Frames of six classes and their flow."""
    names = ("orbit", "pendulum", "bounce", "spin", "pulse", "drift")
    pairs_NTHWC = np.stack([_drawn(name)[20:22] for name in names])
    flows = np.stack([farneback(pair)[0] for pair in pairs_NTHWC])
    draw_sheet(pairs_NTHWC[:, 0], flows, names, 3.0, OUT / "flow.png")


def arrow_of_time() -> None:
    """The flow of one step forward, that of the step backward, and what a negated forward flow would be."""
    here_HWC, there_HWC = _drawn("stopgo")[20:22]
    forward_HW2, backward_HW2 = (
        farneback(np.stack(pair))[0] for pair in ((here_HWC, there_HWC), (there_HWC, here_HWC))
    )
    maximum = float(np.quantile(np.linalg.norm(forward_HW2, axis=2), 0.99))
    apart_HW = np.linalg.norm(backward_HW2 + forward_HW2, axis=2)
    pictures = {
        "frame": here_HWC,
        "next frame": there_HWC,
        "forward": colour_wheel(forward_HW2, maximum),
        "backward": colour_wheel(backward_HW2, maximum),
        "forward, negated": colour_wheel(-forward_HW2, maximum),
        f"their difference\n(black: {apart_HW.max():.1f} pixels)": 1 - apart_HW / apart_HW.max(),
        f"colours\n(rim: {maximum:.1f} pixels)": wheel(),
    }
    figure = Figure(figsize=(12, 2.4), layout="constrained")
    FigureCanvasAgg(figure)
    for ax, (title, picture) in zip(figure.subplots(1, len(pictures)), pictures.items(), strict=True):
        ax.imshow(picture, cmap="gray", vmin=0, vmax=1)
        ax.set_title(title, fontsize=9)
        ax.set_axis_off()
    figure.savefig(OUT / "arrow_of_time.png", dpi=80)


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
    dense_predictive_coding()
    flow()
    arrow_of_time()
    trajectories()
