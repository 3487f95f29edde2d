"""Draw the pictures of the documentation: ``python docs/pictures.py [RUN]``, into docs/pictures/.

With RUN, the folder of a run of ``ssl-video pretrain --config small``, those of what a trained network is used for.
"""

import dataclasses
import itertools
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pictures_of_correspondence import (
    affinity_of_a_point,
    colorization,
    contrastive_random_walk,
    cycle_tracking,
    draw_strip,
    label_propagation,
    tracking,
)

from ssl_video.apps.cam_maps import activation_maps, correlation, flow_magnitudes, head_of
from ssl_video.apps.cam_pictures import Painter, draw_pictures
from ssl_video.apps.explain_flow import draw_sheet, wheel
from ssl_video.apps.index_update import Work, index_videos
from ssl_video.apps.inputs import Strip, strips
from ssl_video.apps.options import CamOptions, IndexOptions, SpeedinessOptions
from ssl_video.apps.search import load_search_model
from ssl_video.apps.speediness_curve import draw_speediness, speediness_curves
from ssl_video.apps.speedup import allowed_speeds, draw_plan, plan_speed, versions
from ssl_video.backbones.base import build_backbone
from ssl_video.datasets.base import Video
from ssl_video.datasets.spec import load_splits, scanned
from ssl_video.datasets.synthetic import CLASSES, draw, synthesize
from ssl_video.encoders.tracks import TrackConfig, track
from ssl_video.model import Model, load_model
from ssl_video.pretexts.base import Sample, build_pretext
from ssl_video.pretexts.cubic_puzzles import PERMUTATIONS
from ssl_video.pretexts.dense_predictive_coding import DensePredictiveCodingConfig
from ssl_video.pretexts.order_prediction import ORDERS
from ssl_video.pretexts.temporal_cycle_consistency import similarities, soft_nearest_neighbours
from ssl_video.pretexts.tuple_verification import TOO_EARLY, TOO_LATE, TRIPLE
from ssl_video.video.flow import colour_wheel, encode, farneback
from ssl_video.video.info import VideoInfo
from ssl_video.video.reader import read_frames

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
        video = _as_video(name, frames_THWC)
        rng = np.random.default_rng(row)
        sample = pretext.sample(video, {}, rng)
        assert isinstance(sample, Sample)
        clips_VTHWC = pretext.transform(frames_THWC[list(sample.frames)], sample, rng)["clips_VTHWC"]
        for view, label in enumerate(("normal", "sped up")):
            strip = np.pad(clips_VTHWC[view], ((0, 0), (0, 0), (0, 2), (0, 0)), constant_values=255)
            draw_strip(axes[2 * row + view], np.concatenate(list(strip), axis=1), f"{name}\n{label}")
    figure.savefig(OUT / "speediness.png", dpi=80)


def clip_order() -> None:
    """The clips of one video in three of the six orders, each clip by its first and last frame."""
    options = {"frames": 12, "gap": 6, "short_side": 120, "crop": 104}
    pretext = build_pretext("clip_order", build_backbone("r2plus1d_4"), options)
    frames_THWC = _drawn("bounce")
    video = _as_video("bounce", frames_THWC)
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    for row, (ax, class_) in enumerate(zip(figure.subplots(3, 1), (0, 1, 3), strict=True)):
        drawn = pretext.sample(video, {}, np.random.default_rng(3))
        assert isinstance(drawn, Sample)
        sample = Sample(drawn.frames, {"class": class_})
        clips_VTHWC = pretext.transform(frames_THWC[list(sample.frames)], sample, np.random.default_rng(row))[
            "clips_VTHWC"
        ]
        ends_VSHWC = np.pad(clips_VTHWC[:, [0, -1]], ((0, 0), (0, 0), (0, 0), (0, 3), (0, 0)), constant_values=255)
        pairs = [
            np.pad(np.concatenate(list(ends), 1), ((0, 0), (0, 15), (0, 0)), constant_values=255) for ends in ends_VSHWC
        ]
        order = itertools.permutations(("1st", "2nd", "3rd"))
        draw_strip(ax, np.concatenate(pairs, 1), f"class {class_}\n" + ", ".join(list(order)[class_]))
    figure.savefig(OUT / "clip_order.png", dpi=80)


def cubic_puzzles() -> None:
    """The pieces of one puzzle over space and of one over time, in their order and shuffled."""
    frames_THWC = _drawn("orbit")
    figure = Figure(figsize=(7, 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(4, 1)
    for row, kind in enumerate(("space", "time")):
        options = {"frames": 8, "cell_frames": 14, "crop": 48, "cell": 60, "short_side": 120, "puzzles": kind}
        pretext = build_pretext("cubic_puzzles", build_backbone("r2plus1d_4"), options)
        sample = pretext.sample(_as_video("orbit", frames_THWC), {}, np.random.default_rng(2))
        assert isinstance(sample, Sample)
        for place, class_ in enumerate((0, 9)):
            shown = Sample(sample.frames, {**sample.data, "class": class_})
            read_THWC = frames_THWC[list(sample.frames)]
            pieces_PTHWC = pretext.transform(read_THWC, shown, np.random.default_rng(0))["pieces_PTHWC"]
            middles = np.pad(pieces_PTHWC[:, 4], ((0, 0), (0, 0), (0, 4), (0, 0)), constant_values=255)
            order = ", ".join(str(p + 1) for p in PERMUTATIONS[class_])
            draw_strip(axes[2 * row + place], np.concatenate(list(middles), 1), f"{kind}\nclass {class_}\n{order}")
    figure.savefig(OUT / "cubic_puzzles.png", dpi=80)


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


def tuple_verification() -> None:
    """Five frames of one video, and the tuples that are made of them."""
    frames_THWC = _drawn("orbit")
    options = {"tau_max": 12, "tau_min": 4, "size": 120, "motion": "difference"}
    pretext = build_pretext("tuple_verification", build_backbone("single_frame"), options)
    motion = {"frame_difference": np.ones(len(frames_THWC), np.float32)}
    sample = pretext.sample(_as_video("orbit", frames_THWC), motion, np.random.default_rng(15))
    assert isinstance(sample, Sample)
    rows = {", ".join("abcde"): range(5)}
    for label, shown in (("in order", TRIPLE), ("shuffled", TOO_EARLY), ("shuffled", TOO_LATE)):
        rows[f"{label}\n" + ", ".join("abcde"[place] for place in shown)] = shown
    figure = Figure(figsize=(7, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    for ax, (label, places) in zip(figure.subplots(len(rows), 1), rows.items(), strict=True):
        strip = np.full((5, 120, 124, 3), 255, np.uint8)
        strip[: len(places), :, :120] = frames_THWC[[sample.frames[place] for place in places]]
        draw_strip(ax, np.concatenate(list(strip), 1), label)
    figure.savefig(OUT / "tuple_verification.png", dpi=80)


def order_prediction() -> None:
    """Four frames of one video, and what the pretext shows of them in three of the twelve orders."""
    frames_THWC = _drawn("bounce")
    options = {"short_side": 120, "window": 100, "crop": 80, "motion": "difference"}
    pretext = build_pretext("order_prediction", build_backbone("single_frame"), options)
    motion = {"frame_difference": np.ones(len(frames_THWC), np.float32)}
    sample = pretext.sample(_as_video("bounce", frames_THWC), motion, np.random.default_rng(0))
    assert isinstance(sample, Sample)
    read_THWC = frames_THWC[list(sample.frames)]
    rows = {"frames": read_THWC}
    for class_ in (0, 3, 10):
        shown = Sample(sample.frames, {"shown": ORDERS[class_], "class": class_})
        order = ", ".join(str(place + 1) for place in ORDERS[class_])
        rows[f"class {class_}\n{order}"] = pretext.transform(read_THWC, shown, np.random.default_rng(0))["frames_SHWC"]
    figure = Figure(figsize=(6, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    for ax, (label, strip) in zip(figure.subplots(len(rows), 1), rows.items(), strict=True):
        strip = np.pad(strip, ((0, 0), (0, 0), (0, 4), (0, 0)), constant_values=255)
        draw_strip(ax, np.concatenate(list(strip), 1), label)
    figure.savefig(OUT / "order_prediction.png", dpi=80)


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


def report() -> None:
    """What a report shows of one sample of each of three pretexts: two of frames and one of flow."""
    options = {"frames": 8, "short_side": 88, "crop": 80}
    speed = {**options, "window": 3.0, "min_size": 80, "max_size": 80}
    frames_THWC = _drawn("pendulum")
    flow_THWC = encode(farneback(frames_THWC))
    chosen = (
        ("speediness", "r2plus1d_4", speed, frames_THWC),
        ("clip_order", "r2plus1d_4", {**options, "gap": 6}, frames_THWC),
        (
            "arrow_of_time",
            "flow_stack",
            {**options, "frames": 10, "stabilise": False, "zero_borders": False},
            flow_THWC,
        ),
    )
    rows: list[tuple[str, Strip]] = []
    for name, backbone, given, shown_THWC in chosen:
        pretext = build_pretext(name, build_backbone(backbone), given)
        rng = np.random.default_rng(2)
        sample = pretext.sample(_as_video(name, shown_THWC), {}, rng)
        assert isinstance(sample, Sample)
        if sample.reversed:  # flow of the video played backwards
            shown_THWC = encode(farneback(frames_THWC[::-1]))
        arrays = pretext.transform(shown_THWC[list(sample.frames)], sample, rng)
        assert isinstance(arrays, dict)
        rows += [(name, strip) for strip in strips(arrays)]
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    for ax, (name, strip) in zip(figure.subplots(len(rows), 1), rows, strict=True):
        draw_strip(ax, strip.picture_HWC, f"{name}\n" + strip.label.replace(", ", "\n"))
    figure.savefig(OUT / "report.png", dpi=80)


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


def _as_video(name: str, frames_THWC: np.ndarray) -> Video:
    count, height, width = frames_THWC.shape[:3]
    return Video(name, info=VideoInfo(count, 25.0, width, height, count / 25, "raw"))


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


def search() -> None:
    """Three drawn videos as queries, and the four that an index by an untrained network finds for each."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 5)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        videos = scanned(load_splits(str(synthesize(root / "videos", train=64, test=3, frames=32))).train)
        model = load_search_model(None, spec="random:r2plus1d_4")
        index = index_videos(videos, model, root / "index", IndexOptions(clips=2), Work(workers=0))
        for row, video in zip(axes, videos.videos[8:11], strict=True):
            shown = [(video.path, 0.5, "query")]
            shown += [(n.path, n.start_s, f"{n.score:.2f}") for n in index.search(video, k=4)]
            for ax, (path, start_s, title) in zip(row, shown, strict=True):
                ax.imshow(read_frames(path, [round(start_s * 25)])[0])
                ax.set_title(title, fontsize=10)
                ax.set_axis_off()
    figure.savefig(OUT / "search.png", dpi=80)


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


def speedup(model: Model, folder: Path) -> None:
    """A drawn video that drifts at its speed, at three times that, and again at its own: its curve, and its plan."""
    drift = draw("clips", CLASSES["clips"].index("drift"), size=96, frames=310).frames_THWC
    video = _stored(folder / "drift.npy", np.concatenate([drift[:80], drift[80:230:3], drift[230:]]))
    curves = speediness_curves(model, video, versions(4.0), SpeedinessOptions(2))
    draw_speediness(OUT / "speediness_curve.png", curves, 25.0, "drift: three times as fast from 3.2 to 5.2 s")
    plan = plan_speed(allowed_speeds(curves), 2.0, 4.0, alpha=12.5**2)
    draw_plan(OUT / "speedup.png", plan, curves.strip, 25.0, "drift: three times as fast from 3.2 to 5.2 s")


def cam(model: Model, folder: Path) -> None:
    """Four drawn videos side by side, looked at as one: what looks sped up is not what moves most."""
    tiles, shown = [], (("drift", 1), ("drift", 2), ("pulse", 1), ("pulse", 2))
    for name, speed in shown:
        tiles.append(draw("clips", CLASSES["clips"].index(name), size=96, frames=64 * speed).frames_THWC[::speed])
    frames_THWC = np.concatenate(tiles, axis=2)
    video = _stored(folder / "tiles.npy", frames_THWC)
    head = head_of(model, video)
    evidence, motion = activation_maps(model, video, head, CamOptions(short_side=144, step=2)), flow_magnitudes(video)
    for (name, speed), evidence_Nhw, motion_Nhw in zip(
        shown, *(np.array_split(maps.values_Nhw, len(shown), axis=2) for maps in (evidence, motion)), strict=True
    ):
        motion_Nhw = F.interpolate(torch.from_numpy(motion_Nhw.astype(np.float32))[None], evidence_Nhw.shape[1:])[0]
        moving_Nhw = motion_Nhw.numpy() >= np.quantile(motion_Nhw, 0.9)  # the tenth of the cells that moves most
        print(
            f"{name} {speed}x: motion {motion_Nhw.numpy()[moving_Nhw].mean():.2f} frame sides/s, "
            f"evidence for normal {evidence_Nhw[moving_Nhw].mean():.2f}"
        )
    print(f"correlation of the two over all cells: {correlation(evidence, motion):.2f}")
    paint = Painter(evidence, motion)
    number = 20
    pictures = [np.array_split(picture, len(shown), axis=1) for picture in paint(frames_THWC[number], number)]
    titles = [f"{name}, {speed}x" for name, speed in shown]
    draw_pictures(OUT / "cam.png", list(zip(*pictures, strict=True)), titles, paint, head, "")


def _stored(path: Path, frames_THWC: np.ndarray) -> Video:
    np.save(path, frames_THWC)
    return dataclasses.replace(_as_video(path.stem, frames_THWC), path=str(path))


def of_a_run(run: str) -> None:
    """All pictures that need a trained network."""
    model = load_model(run)
    with tempfile.TemporaryDirectory() as folder:
        speedup(model, Path(folder))
        cam(model, Path(folder))


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    if len(sys.argv) > 1:
        of_a_run(sys.argv[1])
        sys.exit()
    speediness()
    clip_order()
    cubic_puzzles()
    dense_predictive_coding()
    tuple_verification()
    order_prediction()
    flow()
    arrow_of_time()
    report()
    trajectories()
    temporal_cycle_consistency()
    contrastive_random_walk()
    affinity_of_a_point()
    tracking()
    colorization()
    cycle_tracking()
    label_propagation()
    search()
