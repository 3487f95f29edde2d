"""Label propagation: what is drawn on the first frame of a video is carried to the others by affinity, and compared.

The settings of some papers are presets; where a paper and its released code differ, they are those of the code, whose
numbers the published ones are:

* ``crw-...``: A. Jabri, A. Owens, A. Efros: "Space-Time Correspondence as a Contrastive Random Walk", NeurIPS 2020.
* ``siam-davis``: A. Eymaël et al.: "Efficient Image Pre-Training with Siamese Cropped Masked Autoencoders", ECCV 2024,
  for transformers of single frames.
* ``timecycle-davis``: X. Wang, A. Jabri, A. Efros: "Learning Correspondence from the Cycle-Consistency of Time", CVPR
  2019.
"""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np

from ssl_video.bounds import Bounded, Bounds, Count, Natural, Positive
from ssl_video.datasets.base import Video
from ssl_video.datasets.masks import MOST, VOID, Masks, masks_in, masks_of, objects_in
from ssl_video.datasets.points import points_of
from ssl_video.errors import UserError
from ssl_video.eval.affinity import Affinity, Radius
from ssl_video.eval.base import EVALUATIONS, Evaluation, Outcome, Task
from ssl_video.eval.carry import carry_masks, carry_points
from ssl_video.eval.dense import FrameFeatures, calibrate_on_maps, lab_features, network_features, resized_mask
from ssl_video.eval.points import correct_points, pck
from ssl_video.eval.regions import boundary_f, confusion, jaccard, mean_iou, statistics
from ssl_video.eval.takes import Takes, Videos
from ssl_video.model import A_MODEL, Model
from ssl_video.progress import bar
from ssl_video.video.info import Problem, VideoError
from ssl_video.video.reader import iterate_frames


@dataclass(frozen=True)
class PropagationConfig(Bounded):
    """Options of label propagation."""

    measure: Literal["masks", "parts", "points"] = "masks"
    """masks: J and F, an object at a time. parts: mean IoU of classes over all pixels. points: PCK."""
    features: Literal["model", "lab", "identity"] = "model"
    """The model's, Lab colours, or none: the first frame's labels stay where they are."""
    results: str | None = None
    """A folder with a folder of masks for each video, of any method: these are measured, and nothing is carried."""
    stage: str | None = None
    """Stage of the network; None: layer3, the last but one of a ResNet, where there is such a stage, else the last."""
    calibrate: bool = False
    """Recompute batch-norm statistics on frames of the training list (or the only list) first, as they are resized
    here: what an untrained network needs to be a fair baseline."""
    side: Natural = 0
    """Shorter side to which frames are resized, in pixels; 0: they keep their size."""
    square: bool = False
    """Make both sides that long."""
    context: Natural = 20
    """Previous frames from which labels are carried, besides the first one."""
    radius: Radius = 12.0
    """In previous frames, cells at this distance or farther are left out (rule joint only)."""
    top_k: Count = field(default=10, metadata={"formerly": "topk"})
    """Cells that share the weight: of all frames together (joint), or of each one (per-frame)."""
    temperature: Positive = 0.05
    """Affinities are divided by it before the softmax."""
    rule: Literal["joint", "per-frame"] = "joint"
    """joint: one softmax over the top_k cells of all frames. per-frame: one over each frame; its top_k are averaged."""
    least_pixels: Count = 1
    """Objects of fewer pixels in the first frame, resized as ``side`` says, are not carried; they count as lost."""
    first_frame: bool = False
    """Count the first frame, which is given (parts only)."""
    points: Literal["exact", "rounded"] = "exact"
    """exact: a point lies between cells, too. rounded: on a cell, which stands for its first pixel; the code of CRW."""
    classes: Annotated[int, Bounds(least=2, most=MOST)] = 20
    """Number of classes, the background included (parts only)."""

    def __post_init__(self):
        super().__post_init__()
        if self.results is not None and self.measure == "points":
            raise UserError("The folder of results holds masks; measure masks or parts.")
        if self.results is not None and self.features != "model":
            raise UserError(f"Masks of others are measured as they are; leave out results or features={self.features}.")

    @property
    def affinity(self) -> Affinity:
        """The numbers of the propagation itself."""
        return Affinity(self.context, self.radius, self.top_k, self.temperature, self.rule)


CRW_DAVIS = PropagationConfig()
TIMECYCLE_DAVIS = PropagationConfig(  # its code does not count an object's first pixel, and wants more than ten others
    side=320, square=True, context=7, top_k=5, temperature=512**-0.5, rule="per-frame", least_pixels=12
)


@EVALUATIONS.register("propagation")
class Propagation(Evaluation[PropagationConfig]):
    """J and F of masks, IoU of parts or PCK of points that are carried from the first frame of a video to the others.

    Every video of the test list, or of the only list, is one sequence. The first frame and, for J and F, the last are
    not counted, nor are frames without an annotation.
    """

    Config = PropagationConfig
    presets: ClassVar = {
        "default": CRW_DAVIS,
        "crw-davis": CRW_DAVIS,
        "crw-davis-240": replace(CRW_DAVIS, side=240),
        "crw-jhmdb": replace(CRW_DAVIS, measure="points", side=320, square=True, context=7, points="rounded"),
        "crw-vip": replace(CRW_DAVIS, measure="parts", side=560, square=True, context=4, first_frame=True),
        "siam-davis": replace(CRW_DAVIS, side=480, radius=20, top_k=7, temperature=0.7),
        "timecycle-davis": TIMECYCLE_DAVIS,
    }
    takes: ClassVar[Takes] = Videos()
    takes_model = "optional"

    def measure(self, model: Model | None, task: Task, config: PropagationConfig, seed: int) -> Outcome:
        """Raises UserError if there is no model where one is needed, or no sequence that can be measured."""
        if model is not None and config.calibrate and config.features == "model" and config.results is None:
            model = calibrate_on_maps(model, task.train.videos, config.side, config.square)
        features = features_of(config, model)
        score, metrics_of = MEASURES[config.measure]
        videos = (task.test or task.train).videos
        found: dict[str, _Measured] = {}
        problems = []
        for video in bar(videos, "propagation", "video"):
            try:
                found[_name(video, found)] = score(video, features, config)
            except VideoError as error:
                problems.append(Problem(video.source, str(error)))
        if not found:
            first = f"; the first, {problems[0].path}: {problems[0].reason}" if problems else ""
            raise UserError(f"None of {len(videos)} videos can be measured{first}.")
        counts = {
            "sequences": len(found),
            "frames": sum(one.frames for one in found.values()),
            "frames_without_annotation": sum(one.missing for one in found.values()),
        }
        if config.measure == "masks":
            counts["objects"] = sum(len(one.scores) for one in found.values())
        per_video = {name: metrics_of(one.scores) for name, one in found.items()}
        whole = metrics_of(np.concatenate([one.scores for one in found.values()]))
        return Outcome(whole, counts, problems, per_video=per_video)


def _name(video: Video, taken: Container[str]) -> str:
    """A video's name; with its folder if that is taken."""
    path = Path(video.source)
    name = path.name if path.is_dir() else path.stem
    return f"{path.parent.name}/{name}" if name in taken else name


def features_of(config: PropagationConfig, model: Model | None) -> FrameFeatures | None:
    """The features that the options name, None where none are needed. Raises UserError."""
    if config.results is not None and not (config.results and Path(config.results).is_dir()):
        raise UserError(f"There is no folder {config.results!r} with masks to measure.")
    if config.results is not None or config.features == "identity":
        return None
    if config.features == "lab":
        return lab_features(config.side, config.square)
    if model is None:
        raise UserError(f"propagation needs --model: {A_MODEL}; 'features=lab' and 'features=identity' do without.")
    return network_features(model, config.stage, config.side, config.square)


@dataclass(frozen=True)
class _Measured:
    """What was found in one video: an array whose first axis counts what means are taken over, and frames."""

    scores: np.ndarray
    frames: int
    missing: int


def _mask_scores(video: Video, features: FrameFeatures | None, config: PropagationConfig) -> _Measured:
    """(objects, 6): statistics of J, then of F."""
    masks, first_HW = _first_mask(video)
    numbers = objects_in(first_HW)
    if video.frames < 3:
        count = "1 frame" if video.frames == 1 else f"{video.frames} frames"
        raise VideoError(f"it has {count}, and the first and the last one are not measured")
    values: list[list[tuple[float, float]]] = []
    for frame, mask_HW in enumerate(_carried_masks(video, masks, first_HW, features, config)):
        truth_HW = _mask(masks, frame, first_HW) if 0 < frame < video.frames - 1 else None
        if truth_HW is not None:  # void is no object: it counts as background
            pairs = [(mask_HW == n, truth_HW == n) for n in numbers]
            values.append([(jaccard(*pair), boundary_f(*pair)) for pair in pairs])
    if not values:
        raise VideoError("none of its frames between the first and the last one has a mask")
    values_2NF = np.array(values).transpose(2, 1, 0)
    scores = [statistics(j_F) + statistics(f_F) for j_F, f_F in zip(*values_2NF, strict=True)]
    return _Measured(np.array(scores), len(values), video.frames - 2 - len(values))


def _mask_metrics(scores_N6: np.ndarray) -> dict[str, float]:
    means = scores_N6.mean(0).tolist()
    names = ("J_mean", "J_recall", "J_decay", "F_mean", "F_recall", "F_decay")
    return {"J&F": (means[0] + means[3]) / 2, **dict(zip(names, means, strict=True))}


def _part_scores(video: Video, features: FrameFeatures | None, config: PropagationConfig) -> _Measured:
    """(1, classes, classes): pixels by true and carried class."""
    masks, first_HW = _first_mask(video)
    pixels_KK = np.zeros((config.classes, config.classes), np.int64)
    start, measured = int(not config.first_frame), 0
    for frame, mask_HW in enumerate(_carried_masks(video, masks, first_HW, features, config)):
        truth_HW = _mask(masks, frame, first_HW) if frame >= start else None
        if truth_HW is None:
            continue
        for what, numbers_HW in (("mask", truth_HW), ("result", mask_HW)):
            if max(objects_in(numbers_HW), default=0) >= config.classes:
                raise VideoError(f"the {what} of frame {frame} has classes above {config.classes - 1}")
        pixels_KK += confusion(np.where(mask_HW == VOID, 0, mask_HW), truth_HW, config.classes)
        measured += 1
    if not measured:
        raise VideoError("none of its frames but the first one has a mask")
    if not pixels_KK.any():
        raise VideoError(f"its masks have no pixel of the classes 0 to {config.classes - 1}")
    return _Measured(pixels_KK[None], measured, video.frames - start - measured)


def _point_scores(video: Video, features: FrameFeatures | None, config: PropagationConfig) -> _Measured:
    """(frames, points, distances): whether a point is correct."""
    truth_TJ2 = points_of(video)
    if truth_TJ2 is None:
        raise VideoError("it has no points beside it")
    known_T = np.isfinite(truth_TJ2.sum(2)).any(1)  # of some point, both x and y
    if not known_T[0]:
        raise VideoError("its first frame has no points")
    if features is None:
        carried = repeat(truth_TJ2[0], video.frames)
    else:
        rounded = config.points == "rounded"
        carried = carry_points(iterate_frames(video.path), truth_TJ2[0], features, config.affinity, rounded)
    correct = [correct_points(points_J2, truth_TJ2[t]) for t, points_J2 in enumerate(carried) if t and known_T[t]]
    if not correct:
        raise VideoError("none of its frames but the first one has points")
    return _Measured(np.array(correct), len(correct), video.frames - 1 - len(correct))


MEASURES: dict[str, tuple[Callable[..., _Measured], Callable[[np.ndarray], dict[str, float]]]] = {
    "masks": (_mask_scores, _mask_metrics),
    "parts": (_part_scores, lambda pixels_VKK: {"mIoU": mean_iou(pixels_VKK.sum(0))}),
    "points": (_point_scores, pck),
}
"""What is found in a video, and the metrics of what was found in one or several."""


def _carried_masks(
    video: Video, masks: Masks, first_HW: np.ndarray, features: FrameFeatures | None, config: PropagationConfig
) -> Iterator[np.ndarray]:
    """mask_HW of each frame. Raises VideoError."""
    if config.results is not None:
        return _results(video, masks, first_HW, Path(config.results))
    numbers = objects_in(first_HW)
    if config.least_pixels > 1:
        shown_HW = resized_mask(first_HW, config.side, config.square)
        numbers = [n for n in numbers if np.count_nonzero(shown_HW == n) >= config.least_pixels]
    if features is None:
        return repeat(np.where(np.isin(first_HW, numbers), first_HW, 0).astype(np.uint8), video.frames)
    return carry_masks(iterate_frames(video.path), first_HW, numbers, features, config.affinity)


def _results(video: Video, masks: Masks, first_HW: np.ndarray, folder: Path) -> Iterator[np.ndarray]:
    """The masks that lie in ``folder / NAME``; where the truth is one object only, all their objects are that one."""
    found = masks_in(folder / Path(video.source).name, video)
    for frame in range(video.frames):
        mask_HW = first_HW if frame == 0 else _mask(found, frame, first_HW)
        if mask_HW is None and frame < video.frames - 1:
            raise VideoError(f"{folder} has no mask for frame {frame} of it")
        if mask_HW is None:  # the last frame is measured for parts only
            mask_HW = np.zeros_like(first_HW)
        yield ((mask_HW > 0) & (mask_HW != VOID)).astype(np.uint8) if masks.binary else mask_HW


def _first_mask(video: Video) -> tuple[Masks, np.ndarray]:
    """The masks of a video and that of its first frame. Raises VideoError."""
    masks = masks_of(video)
    if masks is None:
        raise VideoError("it has no masks beside it")
    first_HW = masks[0]
    if first_HW is None:
        raise VideoError("its first frame has no mask")
    if not objects_in(first_HW):
        raise VideoError("the mask of its first frame is empty")
    if not video.copy_of and first_HW.shape != (video.info.height, video.info.width):
        size = f"{first_HW.shape[1]}x{first_HW.shape[0]}"
        raise VideoError(f"its first mask has {size} pixels, its frames {video.info.width}x{video.info.height}")
    return masks, first_HW


def _mask(masks: Masks, frame: int, first_HW: np.ndarray) -> np.ndarray | None:
    """The mask of a frame, if there is one. Raises VideoError if it has another size than the first one."""
    mask_HW = masks[frame]
    if mask_HW is not None and mask_HW.shape != first_HW.shape:
        raise VideoError(f"the mask of frame {frame} has another size than that of the first frame")
    return mask_HW
