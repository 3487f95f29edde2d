"""Where in space and time a linear head finds what it says: class activation maps of a whole video.

B. Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016; in space and time as in the papers
of the arrow of time (CVPR 2018) and SpeedNet (CVPR 2020).
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_video.apps.windows import check_length, frames_of, offsets_at, over_windows
from ssl_video.capabilities import HeatMaps, SpeedLogits
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.flow import for_modality
from ssl_video.errors import UserError, nearest
from ssl_video.files import written_aside
from ssl_video.model import Model
from ssl_video.video.augment import resize_height, resize_short_side
from ssl_video.video.flow import flow_method
from ssl_video.video.writer import rate_of, write_video

PALETTE = np.array([(20, 70, 190), (30, 150, 160), (90, 180, 90), (235, 215, 60), (245, 170, 40), (240, 110, 20)])
"""From blue and green, for what looks fast, to yellow and orange, for what looks slow."""
GRID = 24
"""Cells along the shorter side of a frame that the magnitude of flow is kept for."""


@dataclass(frozen=True)
class Head:
    """``maps`` makes evidence (B, t, h, w) of features_BDthw: below 0 for what ``cool`` names, above for ``warm``."""

    maps: Callable[[Tensor], Tensor]
    cool: str
    warm: str


@dataclass(frozen=True)
class Maps:
    """``values_Nhw`` of every frame, over the part of the picture of (``height``, ``width``), 1 for all of it."""

    values_Nhw: np.ndarray
    height: float = 1.0
    width: float = 1.0

    @cached_property
    def limit(self) -> float:
        """The magnitude shown in full colour: one in a hundred is larger."""
        return max(1e-6, float(np.quantile(np.abs(self.values_Nhw).astype(np.float32), 0.99)))


def head_of(model: Model, video: Video, class_name: str | None = None, speed: float = 1.0) -> Head:
    """The model's linear head.

    Args:
        model: a run of a pretext with heat maps (``HeatMaps``), or a fine-tuned one.
        video: scanned; without ``class_name``, the class that the classifier sees in it is explained.
        class_name: of a fine-tuned model.
        speed: at which the video is looked at; a name for what speediness finds depends on it.

    Raises:
        UserError: if there is no such head or class.
    """
    if model.classifier is not None:
        classes = model.classifier.classes
        name = predicted_class(model, video) if class_name is None else class_name
        if name not in classes:
            raise UserError(f"{model.name} knows no class {name!r}; {nearest(name, classes)}")
        number, classifier = classes.index(name), model.classifier
        return Head(lambda features_BDthw: classifier.heat_maps(features_BDthw)[:, number], f"not {name}", name)
    if class_name is not None:
        raise UserError(f"{model.name} has no classes; --class is for fine-tuned models.")
    head = model.need(HeatMaps)
    if isinstance(head, SpeedLogits):  # played faster, what is normal looks sped up, and what was slowed normal
        cool, warm = ("looks sped up", "looks normal") if speed < 1.5 else ("normal", "slowed")
        return Head(lambda features_BDthw: -head.heat_map(features_BDthw), cool, warm)
    return Head(head.heat_map, *head.answers)


def predicted_class(model: Model, video: Video) -> str:
    """The class whose logit is largest in the mean over some ten clips of a video. Raises UserError."""
    assert model.classifier is not None
    looked_at, offsets_T = _looked_at(model, video, 1.0)
    frames = (model.view.prepare(frame_HWC[None])[0] for frame_HWC in frames_of(looked_at))
    step = max(1, looked_at.frames // 10)
    logits = [x for _, _, x in over_windows(model.logits, frames, looked_at.frames, [offsets_T], step, 4)]
    return model.classifier.classes[int(torch.stack(logits).mean(0).argmax())]


def activation_maps(
    model: Model,
    video: Video,
    head: Head,
    *,
    speed: float = 1.0,
    short_side: int | None = None,
    step: int = 1,
    batch: int = 4,
) -> Maps:
    """Evidence of a head for every frame and place of a scanned video, which is decoded once.

    A clip's map is stretched in time over its frames; a frame's is the mean over the clips that show it. The network
    looks at whole frames, of ``short_side`` pixels (by default as in training), unless it takes one size only: then at
    their centre.

    Raises:
        UserError: if the video is shorter than a clip.
    """
    looked_at, offsets_T = _looked_at(model, video, speed)
    spec, side = model.backbone.clip, short_side or model.view.short_side
    covered = (1.0, 1.0)
    if spec.fixed_size:
        part = model.view.size / model.view.short_side * min(video.info.height, video.info.width)
        covered = (part / video.info.height, part / video.info.width)

    def prepared() -> Iterator[np.ndarray]:
        for frame_HWC in frames_of(looked_at):
            whole = frame_HWC[None]
            yield (model.view.prepare(whole) if spec.fixed_size else resize_short_side(whole, side))[0]

    def maps(clips_BTHWC: Tensor) -> Tensor:
        maps_Bthw = head.maps(model.dense_map(clips_BTHWC)).float()
        size = (len(offsets_T), *maps_Bthw.shape[2:])
        return F.interpolate(maps_Bthw[:, None], size=size, mode="trilinear")[:, 0]

    sum_Nhw, count_N = np.zeros(0), np.zeros(video.frames)
    for _, first, map_Thw in over_windows(maps, prepared(), looked_at.frames, [offsets_T], step, batch):
        if not sum_Nhw.size:
            sum_Nhw = np.zeros((video.frames, *map_Thw.shape[1:]), np.float32)
        np.add.at(sum_Nhw, first + offsets_T, map_Thw.numpy())
        np.add.at(count_N, first + offsets_T, 1)
    seen = np.flatnonzero(count_N)
    sum_Nhw[seen] /= count_N[seen, None, None]
    return Maps(_between(sum_Nhw, seen), *covered)


def _looked_at(model: Model, video: Video, speed: float) -> tuple[Video, np.ndarray]:
    """What the network sees of a video, its frames or its flow, and the frames of a clip."""
    shown = for_modality(VideoSet(video.source, (video,)), model.backbone.clip.modality).videos[0]
    offsets_T = offsets_at(model, shown, speed)
    check_length(model, shown, offsets_T)
    return shown, offsets_T


def _between(values_Nhw: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Frames that are not ``known`` get what lies between their neighbours that are."""
    at_N = np.interp(np.arange(len(values_Nhw)), known, np.arange(len(known)))
    before_N = at_N.astype(int)
    after_N = np.minimum(before_N + 1, len(known) - 1)
    part_N11 = (at_N - before_N)[:, None, None].astype(np.float32)
    return values_Nhw[known[before_N]] * (1 - part_N11) + values_Nhw[known[after_N]] * part_N11


def flow_magnitudes(video: Video, method: str = "farneback") -> Maps:
    """How fast each place of a scanned video moves to the next frame, in parts of its shorter side a second.

    Raises:
        UserError: if the method is unknown, needs what is not there, or the video has one frame.
    """
    flow = flow_method(method)
    if video.frames < 2:
        raise UserError(f"{video.source} has one frame only, and flow needs two.")
    small = (resize_short_side(frame_HWC[None], 120) for frame_HWC in frames_of(video))
    found = []
    for pair in itertools.pairwise(small):
        speed_HW = np.hypot(*flow(np.concatenate(pair))[0].transpose(2, 0, 1)) * (video.info.fps / 120)
        h, w = (round(n * GRID / 120) for n in speed_HW.shape)
        found.append(F.adaptive_avg_pool2d(torch.from_numpy(speed_HW)[None], (h, w))[0].numpy().astype(np.float16))
    return Maps(np.stack([*found, found[-1]]))


def correlation(a: Maps, b: Maps) -> float:
    """Pearson's, over all frames and the cells of ``a``; b is averaged over these. 0 if one is constant."""
    h, w = a.values_Nhw.shape[1:]
    b_Nhw = F.adaptive_avg_pool2d(torch.from_numpy(b.values_Nhw.astype(np.float32)), (h, w)).numpy()
    a_N, b_N = a.values_Nhw.ravel().astype(np.float64), b_Nhw.ravel().astype(np.float64)
    return float(np.corrcoef(a_N, b_N)[0, 1]) if a_N.std() and b_N.std() else 0.0


def overlay(frame_HWC: np.ndarray, maps: Maps, number: int, colours_256: np.ndarray, low: float) -> np.ndarray:
    """A frame in gray under its map: colours of ``colours_256`` from ``low`` to the maps' limit; uint8, as large.

    What is near 0 is nearly clear.
    """
    H, W = frame_HWC.shape[:2]
    h, w = max(1, round(H * maps.height)), max(1, round(W * maps.width))
    value_hw = torch.from_numpy(maps.values_Nhw[number].astype(np.float32))[None, None]
    value_HW = F.interpolate(value_hw, size=(h, w), mode="bilinear")[0, 0].numpy()
    index_HW = np.clip((value_HW - low) / (maps.limit - low) * 255, 0, 255).astype(int)
    gray_HW1 = frame_HWC.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    out_HWC = np.repeat(gray_HW1[..., None], 3, 2)
    top, left = (H - h) // 2, (W - w) // 2
    strength_HW1 = 0.1 + 0.6 * np.minimum(np.abs(value_HW) / maps.limit, 1)[..., None]
    covered_HWC = out_HWC[top : top + h, left : left + w]
    covered_HWC += strength_HW1 * (colours_256[index_HW] - covered_HWC)
    return out_HWC.astype(np.uint8)


def evidence_colours() -> np.ndarray:
    """(256, 3) from blue and green to yellow and orange."""
    at = np.linspace(0, len(PALETTE) - 1, 256)
    return np.stack([np.interp(at, np.arange(len(PALETTE)), channel) for channel in PALETTE.T], axis=1)


def motion_colours() -> np.ndarray:
    """(256, 3) from black to white: the magnitude of flow has other colours than evidence."""
    from matplotlib import colormaps

    return 255 * colormaps["magma"](np.arange(256))[:, :3]


class Painter:
    """Draws a frame's maps: that of the head, and that of flow where it is asked for."""

    def __init__(self, evidence: Maps, motion: Maps | None):
        self.layers: list[tuple[Maps, np.ndarray, float]] = [(evidence, evidence_colours(), -evidence.limit)]
        if motion is not None:
            self.layers.append((motion, motion_colours(), 0.0))

    def __call__(self, frame_HWC: np.ndarray, number: int) -> list[np.ndarray]:
        """The frame and one picture a map, of one size."""
        return [frame_HWC, *(overlay(frame_HWC, maps, number, colours, low) for maps, colours, low in self.layers)]


def write_film(path: Path, video: Video, paint: Painter, height: int = 360) -> None:
    """A film of the frames beside their maps, ``height`` pixels high at most."""
    height = min(height, video.info.height)
    pictures = (
        np.concatenate(paint(resize_height(frame_HWC, height), number), axis=1)
        for number, frame_HWC in enumerate(frames_of(video))
    )
    write_video(path, pictures, rate_of(video.info.fps), options={"crf": "18"})


def draw_sheet(path: Path, video: Video, paint: Painter, head: Head, columns: int, title: str) -> None:
    """A PNG: evenly spaced frames, their maps below, and the legends at the right."""
    chosen = ((np.arange(columns) + 0.5) * video.frames / columns).astype(int)
    kept = set(chosen.tolist())
    painted = [
        paint(resize_height(frame_HWC, 240), number)
        for number, frame_HWC in enumerate(frames_of(video))
        if number in kept
    ]
    numbers = sorted(kept)
    titles = [f"{number / video.info.fps:.2f} s" for number in numbers]
    draw_pictures(path, painted, titles, paint, head, title)


def draw_pictures(
    path: Path, painted: Sequence[Sequence[np.ndarray]], titles: Sequence[str], paint: Painter, head: Head, title: str
) -> None:
    """A PNG of columns of pictures that ``paint`` made, with titles above and legends at the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize
    from matplotlib.figure import Figure

    rows, count = len(painted[0]), len(painted)
    h, w = painted[0][0].shape[:2]
    width = min(2.4, 1.8 * w / h)
    figure = Figure(figsize=(width * count + 1.2, rows * width * h / w + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, count + 1, squeeze=False, gridspec_kw={"width_ratios": [1] * count + [0.06]})
    axes[0, count].set_axis_off()
    for column, pictures in enumerate(painted):
        axes[0, column].set_title(titles[column], fontsize=9)
        for row, picture_HWC in enumerate(pictures):
            axes[row, column].imshow(picture_HWC)
            axes[row, column].set_axis_off()
    figure.suptitle(title, fontsize=10)
    for row, (maps, colours_256, low) in enumerate(paint.layers, 1):
        scale = ScalarMappable(Normalize(low, maps.limit), ListedColormap(colours_256 / 255))
        bar: Any = figure.colorbar(scale, cax=axes[row, count])
        if row == 1:
            bar.set_ticks([low, 0, maps.limit], labels=[head.cool, "0", head.warm])
        else:
            bar.set_label("motion,\nframe sides/s", fontsize=8)
        bar.ax.tick_params(labelsize=8)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=80)
