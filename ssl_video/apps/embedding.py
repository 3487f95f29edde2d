"""Videos, or frames at hand, as vectors."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.spec import one_video
from ssl_video.errors import UserError
from ssl_video.eval.features import Extraction, clip_starts, extract
from ssl_video.model import Model, check_features

BATCH = 32
"""Clips in one forward pass."""


def embed_videos(paths: Sequence[Path], model: Model, clips: int, readout: str, workers: int = 0) -> np.ndarray:
    """(N, D) mean features of the clips of video files. Raises UserError if one of them cannot be read."""
    videos = VideoSet("the videos", tuple(one_video(path) for path in paths))
    found = extract(model, videos, Extraction(clips, readout), workers=workers, none_is_an_error=False)
    if found.problems:
        raise UserError(f"{found.problems[0].path} cannot be embedded: {found.problems[0].reason}.")
    return found.mean_ND


def embed_frames(frames: Any, model: Model, clips: int, readout: str) -> np.ndarray:
    """(N, D) mean features of the clips of videos whose frames are at hand.

    ``frames`` are those of ``as_bytes``, or a sequence of such, of any lengths and sizes. Raises UserError for others,
    and for a network whose features are not finite.
    """
    several = isinstance(frames, list | tuple) and any(getattr(x, "ndim", 0) != 3 for x in frames)  # 3: pictures
    channels = model.backbone.clip.channels
    videos = [frames_THWC for x in (frames if several else [frames]) for frames_THWC in as_bytes(x, channels)]
    model.check_weights()
    found_ND = np.stack([_embed(frames_THWC, model, clips, readout) for frames_THWC in videos])
    check_features(model.name, list(found_ND))
    return found_ND


def as_bytes(frames: Any, channels: int) -> np.ndarray:
    """frames_NTHWC as uint8, of an array or tensor of shape (N, T, H, W, C) or (T, H, W, C), or a sequence of frames.

    uint8 stays as it is; floats are RGB in 0 to 1. Raises UserError for anything else, normalised clips above all: the
    network's own mean and deviation are applied later.
    """
    try:
        frames = np.stack(list(map(_array, frames))) if isinstance(frames, list | tuple) else _array(frames)
    except ValueError:
        raise UserError("A video is one or more frames, all of one size.") from None
    if frames.ndim == 4:
        frames = frames[None]
    if frames.ndim != 5 or frames.shape[-1] != channels or 0 in frames.shape:
        raise UserError(
            f"Frames are arrays of shape (T, H, W, {channels}) or (N, T, H, W, {channels}), not {frames.shape}; for "
            f"clips with their channels first write x.movedim(1, -1)."
        )
    if frames.dtype == np.uint8:
        return frames
    if not np.issubdtype(frames.dtype, np.floating) or not np.isfinite(frames).all():
        raise UserError(f"Frames are uint8, or finite floats of RGB in 0 to 1, not {frames.dtype}.")
    low, high = float(frames.min()), float(frames.max())
    if low < 0 or high > 1:
        raise UserError(
            f"Frames of floats are RGB in 0 to 1, but these go from {low:.3g} to {high:.3g}; give them as they were "
            f"before they were normalised, or as uint8."
        )
    return np.round(frames * 255).astype(np.uint8)


def _array(x: Any) -> np.ndarray:
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)


def _embed(frames_THWC: np.ndarray, model: Model, clips: int, readout: str) -> np.ndarray:
    parts = [model.clip_features(x, readout).float().cpu() for x in _clips(frames_THWC, model, clips)]
    return torch.cat(parts).mean(0).numpy()


def _clips(frames_THWC: np.ndarray, model: Model, clips: int) -> Iterator[Tensor]:
    """Evenly spaced clips (K, T, H, W, C). A view by frames a second takes every frame: the rate is not known."""
    view, count = model.view, len(frames_THWC)
    offsets_T = np.arange(view.frames) * (view.stride if view.fps is None else 1)
    starts_K = clip_starts(count, int(offsets_T[-1]) + 1, clips)
    prepared_THWC = view.prepare(frames_THWC)
    for first in range(0, len(starts_K), BATCH):
        positions_KT = np.minimum(starts_K[first : first + BATCH, None] + offsets_T, count - 1)
        yield torch.from_numpy(prepared_THWC[positions_KT])
