"""The pictures of correspondence; ``pictures.py`` draws all."""

import itertools
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ssl_video.apps.explain_affinity import affinity_of, draw_affinity
from ssl_video.apps.paint import paint_mask
from ssl_video.backbones.base import build_backbone
from ssl_video.datasets.base import Video
from ssl_video.datasets.masks import objects_in
from ssl_video.datasets.synthetic import draw
from ssl_video.eval.affinity import Affinity
from ssl_video.eval.carry import carry_masks
from ssl_video.eval.dense import lab_features, network_features
from ssl_video.eval.propagation import CRW_DAVIS
from ssl_video.model import load_model
from ssl_video.pretexts.base import Context, Progress, build_pretext
from ssl_video.pretexts.contrastive_random_walk import cut_patches, transitions
from ssl_video.pretexts.cycle_tracking import affinity, cut, long_cycles, matrices
from ssl_video.video.colours import in_colours, rgb_to_lab
from ssl_video.video.info import VideoInfo

OUT = Path(__file__).parent / "pictures"


def draw_strip(ax: Any, picture_HWC: np.ndarray, label: str) -> None:
    """A row of pictures without axes, with its name on the left."""
    ax.imshow(picture_HWC)
    ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def contrastive_random_walk() -> None:
    """A walk over three frames and back: where a walker may be, and the matrices that took him there."""
    patch, stride, size, start = 24, 12, 96, 19
    frames_THWC = draw("tracks", 2, size=128).frames_THWC[10:25:6, 16:-16, 16:-16]
    frames_TCHW = torch.from_numpy(np.ascontiguousarray(frames_THWC)).permute(0, 3, 1, 2) / 255.0
    pixels_TND = cut_patches(frames_TCHW, patch, stride).flatten(1).unflatten(0, (len(frames_THWC), -1))
    nodes_BTNE = torch.nn.functional.normalize(pixels_TND - pixels_TND.mean((0, 1)), dim=2)[None]
    (P0, P1), (R0, R1) = transitions(nodes_BTNE, 0.1)[0]
    side = (size - patch) // stride + 1
    at_N = torch.eye(side**2)[start]
    figure = Figure(figsize=(11, 4.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 5)
    names = ("P0: 0 to 1", "P1: 1 to 2", "R1: 2 to 1", "R0: 1 to 0", "all four: where walks end")
    steps = (P0, P1, R1, R0)
    for column, frame in enumerate((0, 1, 2, 1, 0)):
        ax = axes[0, column]
        ax.imshow(frames_THWC[frame])
        for node, chance in enumerate(at_N.tolist()):
            y, x = (stride * n + patch / 2 for n in divmod(node, side))
            ax.scatter(x, y, s=260 * chance + 1, color="red", edgecolors="white", linewidths=0.7)
        ax.set_title(f"frame {frame}", fontsize=9)
        matrix_NN = torch.linalg.multi_dot(steps) if column == 4 else steps[column]
        axes[1, column].imshow(matrix_NN, cmap="gray_r", vmin=0, vmax=0.6)
        axes[1, column].set_title(names[column], fontsize=9)
        if column < 4:
            at_N = at_N @ steps[column]
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    figure.savefig(OUT / "contrastive_random_walk.png", dpi=80)


def affinity_of_a_point() -> None:
    """A point of a drawn object in later frames, as an untrained network finds it."""
    frames_THWC = draw("tracks", 2, size=192).frames_THWC
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tracks.npy"
        np.save(path, frames_THWC)
        info = VideoInfo(len(frames_THWC), 25.0, 192, 192, len(frames_THWC) / 25, "raw")
        video = Video(str(path), info=info)
        torch.manual_seed(0)
        model = load_model("random:dense_resnet_8")
        draw_affinity(affinity_of(model, video, (136, 64), 10, (16, 22, 28, 34)), OUT / "affinity.png")


def tracking() -> None:
    """Masks of the first frame of drawn tracks, carried to later ones by an untrained network."""
    scene = draw("tracks", 2, size=192)
    frames_THWC, mask_HW = scene.frames_THWC[10:], scene.masks_THW[10]
    torch.manual_seed(0)
    features = network_features(load_model("random:dense_resnet_8"))
    carried = carry_masks(frames_THWC, mask_HW, objects_in(mask_HW), features, CRW_DAVIS.affinity)
    masks_THW = list(islice(carried, 41))
    figure = Figure(figsize=(11, 2.4), layout="constrained")
    FigureCanvasAgg(figure)
    for ax, t in zip(figure.subplots(1, 5), range(0, 41, 10), strict=True):
        ax.imshow(paint_mask(frames_THWC[t], masks_THW[t]))
        ax.set_title("the given mask" if t == 0 else f"{t} frames later", fontsize=9)
        ax.set_axis_off()
    figure.savefig(OUT / "track.png", dpi=80)


def colorization() -> None:
    """Colours copied into gray frames of drawn tracks, by a small network that is trained here, briefly, on others."""
    options = {"dilations": (), "short_side": 128, "crop": 128}
    torch.manual_seed(0)
    pretext = build_pretext("colorization", build_backbone("dense_resnet_8"), options).train()
    clips_NTHWC = torch.stack([_track(number, "train") for number in range(48)])
    pretext.fit(({"clip_THWC": clip} for clip in clips_NTHWC), np.random.default_rng(0))
    optimizer = torch.optim.AdamW(pretext.parameters(), 0.001)
    for step in range(300):
        ctx = Context(Progress(step, 1), torch.Generator().manual_seed(step))
        some_BTHWC = clips_NTHWC[torch.randperm(len(clips_NTHWC), generator=ctx.generator)[:2]]
        optimizer.zero_grad()
        pretext({"clip_THWC": some_BTHWC}, ctx).loss.backward()
        optimizer.step()
    pretext.eval()
    shown_BTHWC = torch.stack([_track(number, "test") for number in (0, 1, 2)])
    gray_BHWC = in_colours(shown_BTHWC, "gray")[:, -1] / 255
    copied_B2hw = pretext.colorize(shown_BTHWC).permute(0, 3, 1, 2)
    side = shown_BTHWC.shape[2]
    copied_BHW2 = F.interpolate(copied_B2hw, size=(side, side), mode="bilinear").permute(0, 2, 3, 1)
    figure = Figure(figsize=(9.5, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    titles = ("reference", "reference", "reference", "target, as shown", "copied colours", "true colours")
    rows = figure.subplots(len(shown_BTHWC), len(titles))
    for axes, clip_THWC, gray_HWC, ab_HW2 in zip(rows, shown_BTHWC, gray_BHWC, copied_BHW2, strict=True):
        lightness_HW1 = rgb_to_lab(clip_THWC[-1])[..., :1]
        coloured_HWC = cv2.cvtColor(torch.cat([lightness_HW1, ab_HW2], -1).numpy(), cv2.COLOR_LAB2RGB).clip(0, 1)
        for ax, picture in zip(axes, [*clip_THWC[:-1], gray_HWC, coloured_HWC, clip_THWC[-1]], strict=True):
            ax.imshow(picture)
            ax.set_axis_off()
    for ax, title in zip(rows[0], titles, strict=True):
        ax.set_title(title, fontsize=9)
    figure.savefig(OUT / "colorization.png", dpi=80)


def _track(number: int, split: Literal["train", "test"]) -> torch.Tensor:
    """Four frames of a drawn track, as far from each other as the pretext takes them from 25 a second."""
    return torch.from_numpy(draw("tracks", number, split=split).frames_THWC[20:33:4])


def cycle_tracking() -> None:
    """A patch tracked back over three frames and forward again, by the colours of its cells."""
    scene = draw("tracks", 6, size=144)
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
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 4)
    for row, (name, colour) in enumerate((("back", "white"), ("forward", "yellow"))):
        for n, (ax, place_2) in enumerate(zip(axes[row], places[name], strict=True)):
            ax.imshow(frames_THWC[n])
            left, top = (72 * (place_2 + 1) - 18 - 0.5).tolist()
            ax.add_patch(Rectangle((left, top), 36, 36, fill=False, edgecolor=colour, linewidth=2))
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_title("the patch's frame" if n == 3 else f"{3 - n} back", fontsize=9)
        axes[row, 0].set_ylabel({"back": "back: right to left", "forward": "forward: left to right"}[name], fontsize=9)
    x0, y0 = 72 * (x + 1) - 18.5, 72 * (y + 1) - 18.5
    axes[1, 3].add_patch(Rectangle((x0, y0), 36, 36, fill=False, edgecolor="white", linewidth=2, linestyle="--"))
    figure.savefig(OUT / "cycle_tracking.png", dpi=80)


def label_propagation() -> None:
    """Masks of a drawn track: what is drawn on the first frame, carried by Lab colours, and the exact ones."""
    scene, shown = draw("tracks", 2, frames=40), (0, 8, 16, 24, 32)
    first_HW = scene.masks_THW[0]
    carried_THW = list(carry_masks(scene.frames_THWC, first_HW, objects_in(first_HW), lab_features(320), Affinity()))
    colours_K3 = np.array([[0, 0, 0], [255, 60, 60], [60, 220, 60], [90, 120, 255], [255, 210, 40], [230, 90, 230]])
    rows = {"exact": scene.masks_THW, "carried": carried_THW, "identity": [first_HW] * len(carried_THW)}
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    for ax, (label, masks) in zip(figure.subplots(len(rows), 1), rows.items(), strict=True):
        pictures = []
        for t in shown:
            mask_HW1, colour_HWC = masks[t][..., None], colours_K3[masks[t] % len(colours_K3)]
            picture_HWC = np.where(mask_HW1 > 0, 0.35 * scene.frames_THWC[t] + 0.65 * colour_HWC, scene.frames_THWC[t])
            pictures.append(np.pad(picture_HWC.astype(np.uint8), ((0, 0), (0, 4), (0, 0)), constant_values=255))
        draw_strip(ax, np.concatenate(pictures, axis=1), label)
    figure.savefig(OUT / "propagation.png", dpi=80)
