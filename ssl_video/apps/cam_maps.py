"""Where in space and time a linear head finds what it says: class activation maps of a whole video.

B. Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016; in space and time as in the papers
of the arrow of time (CVPR 2018) and SpeedNet (CVPR 2020).
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_video.apps.options import CamOptions
from ssl_video.apps.windows import check_length, frames_of, offsets_at, over_windows
from ssl_video.capabilities import HeatMaps, SpeedLogits
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.flow import for_modality
from ssl_video.errors import UserError, nearest
from ssl_video.model import Model, check_features
from ssl_video.progress import bar
from ssl_video.video.augment import resize_short_side
from ssl_video.video.flow import flow_method

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
    """``values_Nhw`` of every frame, over a central fraction (``height``, ``width``) of the picture."""

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
        speed: at which the video is played to the network; a name for what speediness finds depends on it.

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
    """The class whose logit is largest on average over some ten clips of a video. Raises UserError."""
    assert model.classifier is not None
    looked_at, offsets_T = _looked_at(model, video, 1.0)
    frames = (model.view.prepare(frame_HWC[None])[0] for frame_HWC in frames_of(looked_at))
    step = max(1, looked_at.frames // 10)
    logits = [x for _, _, x in over_windows(model.logits, frames, [offsets_T], step, 4)]
    check_features(model.name, logits, "clip")
    return model.classifier.classes[int(torch.stack(logits).mean(0).argmax())]


def activation_maps(
    model: Model,
    video: Video,
    head: Head,
    options: CamOptions = CamOptions(),
    *,
    progress: bool = False,
) -> Maps:
    """Evidence of a head for every frame and place of a scanned video, which is decoded once.

    A clip's map is stretched in time over its frames; a frame's is the mean over the clips that show it. The network
    sees whole frames, of ``options.short_side`` pixels (by default as in training), unless it takes one size only:
    then at their centre.

    Raises:
        UserError: if the video is shorter than a clip.
    """
    looked_at, offsets_T = _looked_at(model, video, options.speed)
    spec = model.backbone.clip
    side = model.view.short_side if options.short_side is None else options.short_side
    covered = (1.0, 1.0)
    if spec.fixed_size:
        side_seen = model.view.size / model.view.short_side * min(video.info.height, video.info.width)
        covered = (side_seen / video.info.height, side_seen / video.info.width)

    def prepared() -> Iterator[np.ndarray]:
        for frame_HWC in frames_of(looked_at):
            whole = frame_HWC[None]
            yield (model.view.prepare(whole) if spec.fixed_size else resize_short_side(whole, side))[0]

    def maps(clips_BTHWC: Tensor) -> Tensor:
        maps_Bthw = head.maps(model.dense_map(clips_BTHWC)).float()
        size = (len(offsets_T), *maps_Bthw.shape[2:])
        return F.interpolate(maps_Bthw[:, None], size=size, mode="trilinear")[:, 0]

    shown = bar(prepared(), "frames", "frame", progress, video.frames)
    sum_Nhw, count_N = np.zeros(0), np.zeros(video.frames)
    for _, first, map_Thw in over_windows(maps, shown, [offsets_T], options.step, options.batch_size):
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
    weight_N11 = (at_N - before_N)[:, None, None].astype(np.float32)
    return values_Nhw[known[before_N]] * (1 - weight_N11) + values_Nhw[known[after_N]] * weight_N11


def flow_magnitudes(video: Video, method: str = "farneback") -> Maps:
    """How fast each place of a scanned video moves to the next frame, in fractions of its shorter side a second.

    Raises:
        UserError: if the method is unknown, needs what is not there, or the video has one frame.
    """
    flow = flow_method(method)
    if video.frames < 2:
        raise UserError(f"{video.source} has one frame only, and flow needs two; leave --flow out.")
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
