"""Features of every cell of a frame, for affinities between frames: a network's, or the colours themselves."""

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_video.backbones.base import Backbone
from ssl_video.datasets.base import Video
from ssl_video.datasets.many import in_fixed_order
from ssl_video.errors import UserError
from ssl_video.eval.calibration import BYTES, batch_norms, settle
from ssl_video.model import Model
from ssl_video.train.data import read_video
from ssl_video.video.augment import resize
from ssl_video.video.info import VideoError
from ssl_video.video.upright import ELONGATED

FrameFeatures = Callable[[np.ndarray], Tensor]
"""frame_HWC, uint8 RGB, to features_Dhw of length 1 in every cell."""

CALIBRATED_ON = 64
"""Videos of which a frame each gives the batch-norm statistics."""
LAB_CELL = 8
"""Side of a cell of ``lab_features``, in pixels."""


def network_features(model: Model, stage: str | None = None, side: int = 0, square: bool = False) -> FrameFeatures:
    """The map of single frames at a stage of a network, as ``map_of_frame`` has it.

    Args:
        model: the network.
        stage: None: ``layer3``, the last but one of a ResNet, where the network has such a stage; else the last.
        side: the shorter side to which frames are resized, in pixels; 0: none is resized.
        square: make both sides that long.

    Raises:
        UserError: if the network has no such map, no such stage, or weights or features that are not finite.
    """
    model.check_weights()
    backbone, clip = model.backbone, model.backbone.clip
    if 0 in backbone.strides or clip.fixed_size:
        raise UserError(
            f"{model.name} has no map of frames of any size; take another, best one that sees frames one by one, such "
            "as a run of contrastive_random_walk, cycle_tracking or colorization, dense_resnet_8 or "
            "resnet18?output_stride=8."
        )
    if clip.modality != "rgb":
        raise UserError(
            f"Labels are carried over RGB frames, but {model.name} takes {clip.modality}; "
            "name a network of RGB by --model."
        )
    if stage is None and "layer3" in backbone.stages:
        stage = "layer3"

    return lambda frame_HWC: map_of_frame(model, resized(frame_HWC, side, square), stage)


def map_of_frame(model: Model, frame_HWC: np.ndarray, stage: str | None = None) -> Tensor:
    """(D, h, w) features of length 1 of a uint8 frame at a stage, the last by default.

    A network of clips is shown the frame as a clip that stands still, and its map is the mean over time. For one that
    cuts frames into patches the frame is resized to a whole number of them, so that nothing of the border is left out.
    """
    map_Dthw = model.dense_map(still_clip(model.backbone, frame_HWC), stage)[0]
    return F.normalize(map_Dthw.float().mean(1), dim=0)


def still_clip(backbone: Backbone, frame_HWC: np.ndarray) -> Tensor:
    """clip_1THWC of a frame, as long as the network needs for one cell in time, and no shorter than it takes."""
    frames = max(backbone.strides[0], backbone.clip.smallest[0])
    patch = backbone.strides[1:] if "tubelets" in backbone.stages else (1, 1)
    return torch.from_numpy(whole_patches(frame_HWC, patch)).expand(1, frames, -1, -1, -1)


def takes_single_frames(backbone: Backbone) -> bool:
    """Whether a frame is a clip to the network, so that a map of it costs no more than it must."""
    return backbone.strides[0] == 1 and backbone.clip.smallest[0] == 1


def whole_patches(frame_HWC: np.ndarray, patch: tuple[int, int]) -> np.ndarray:
    """A frame resized, where it must be, to the nearest size that patches of (height, width) fill; at least one."""
    height, width = (max(1, round(n / side)) * side for n, side in zip(frame_HWC.shape[:2], patch, strict=True))
    if (height, width) == frame_HWC.shape[:2]:
        return np.ascontiguousarray(frame_HWC)
    return resize(frame_HWC[None], (height, width))[0]


def calibrate_on_maps(model: Model, videos: Sequence[Video], side: int = 0, square: bool = False) -> Model:
    """A copy of the model whose batch-norm statistics are those of frames of ``videos``, resized as for the maps.

    As ``calibration.calibrate_batch_norm``: the middle frames of up to ``CALIBRATED_ON`` videos, whichever places these
    have in the list, fewer if they would take more than 256 MB. Where none can be read the model is as it was.
    """
    if not batch_norms(model.backbone):
        return model
    frames: list[Tensor] = []
    for video in in_fixed_order(videos)[:CALIBRATED_ON]:
        if sum(frame.nbytes for frame in frames) > BYTES:
            break
        with suppress(VideoError):  # whoever measures it says so
            (frame_HWC,) = read_video(video, [video.frames // 2])
            frames.append(still_clip(model.backbone, resized(frame_HWC, side, square)))
    if not frames:
        return model
    backbone = copy.deepcopy(model.backbone).eval()
    calibrated = replace(model, backbone=backbone)
    settle(backbone, [calibrated.normalise, backbone], frames)
    return calibrated


def lab_features(side: int = 0, square: bool = False) -> FrameFeatures:
    """The Lab colours of the four quarters of each cell of 8x8 pixels, with ``side`` and ``square`` as above.

    Colours are laid on a sphere, so that the product of two cells is about 1 - d^2 / 2, where d is the distance of
    their twelve values over 280: cells of the nearest colours have the largest affinity.
    """

    def features(frame_HWC: np.ndarray) -> Tensor:
        import cv2

        small_HWC = resized(frame_HWC, side, square)
        h, w = (-(-pixels // LAB_CELL) for pixels in small_HWC.shape[:2])
        quarters_HWC = cv2.resize(small_HWC, (2 * w, 2 * h), interpolation=cv2.INTER_AREA)
        lab_HWC = cv2.cvtColor(quarters_HWC.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        lab_HWC -= np.array([50, 0, 0], np.float32)
        lab_HWC /= 280  # no colour is longer than 140, so no four quarters are longer than 1
        cells_Dhw = F.pixel_unshuffle(torch.from_numpy(lab_HWC).permute(2, 0, 1), 2)
        rest_hw = (1 - cells_Dhw.square().sum(0)).clamp_min(0).sqrt()
        return torch.cat([cells_Dhw, rest_hw[None]])

    return features


def resized(frame_HWC: np.ndarray, side: int, square: bool) -> np.ndarray:
    """A frame of ``shown_size``, bilinear; as it is if ``side`` is 0."""
    if not side:
        return np.ascontiguousarray(frame_HWC)
    height, width = frame_HWC.shape[:2]
    return resize(frame_HWC[None], shown_size(height, width, side, square))[0]


def resized_mask(mask_HW: np.ndarray, side: int, square: bool) -> np.ndarray:
    """A mask of ``shown_size``: each pixel is the one of ``mask_HW`` that its centre lies in."""
    height, width = mask_HW.shape
    h, w = shown_size(height, width, side, square)
    rows, columns = (((np.arange(n) + 0.5) * (was / n)).astype(int) for n, was in ((h, height), (w, width)))
    return mask_HW[np.ix_(rows, columns)]


def shown_size(height: int, width: int, side: int, square: bool) -> tuple[int, int]:
    """Height and width of which the shorter one, or with ``square`` both, are ``side`` pixels; as given if that is 0.

    A very wide or narrow frame is enlarged less: until its longer side has ``ELONGATED`` times ``side`` pixels.
    """
    if not side or square:
        return (side, side) if side else (height, width)
    scale = side / min(height, width)
    if scale > 1:
        scale = max(1.0, min(scale, ELONGATED * side / max(height, width)))
    return max(1, round(height * scale)), max(1, round(width * scale))
