"""Every clip of a video in one pass: frames are decoded once, and no more are kept than the longest clip spans."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ssl_video.datasets.base import Video
from ssl_video.errors import UserError
from ssl_video.model import Model
from ssl_video.video.reader import VideoError, iterate_frames


def frames_of(video: Video) -> Iterator[np.ndarray]:
    """The frames of a scanned video, one at a time. Raises UserError if it does not decode as it did when scanned."""
    count = 0
    try:
        for frame_HWC in islice(iterate_frames(video.path), video.frames):
            yield frame_HWC
            count += 1
    except VideoError as error:
        raise UserError(f"{video.source} cannot be used: {error}.") from None
    if count < video.frames:
        raise UserError(f"{video.source} ends after {count} of the {video.frames} frames that a scan found in it.")


def windows(
    frames: Iterable[np.ndarray], offsets: Sequence[np.ndarray], step: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    """(kind, first frame, clip_THWC) of all clips whose frames lie inside, every ``step``-th frame for each kind.

    ``offsets`` are the frames of a clip counted from its first, ascending from 0, for each kind.
    """
    spans = [int(o[-1]) + 1 for o in offsets]
    ring: deque[np.ndarray] = deque(maxlen=max(spans))
    for number, frame_HWC in enumerate(frames):
        ring.append(frame_HWC)
        for kind, (offsets_T, span) in enumerate(zip(offsets, spans, strict=True)):
            first = number - span + 1
            if first >= 0 and first % step == 0:
                yield kind, first, np.stack([ring[len(ring) - span + o] for o in offsets_T])


def over_windows(
    function: Callable[[Tensor], Tensor],
    frames: Iterable[np.ndarray],
    offsets: Sequence[np.ndarray],
    step: int,
    batch: int,
) -> Iterator[tuple[int, int, Tensor]]:
    """(kind, first frame, what ``function`` makes of the clip) of all ``windows``, ``batch`` clips at a time."""
    clips = windows(frames, offsets, step)
    while waiting := list(islice(clips, batch)):
        with torch.no_grad():
            results = function(torch.from_numpy(np.stack([clip for _, _, clip in waiting]))).float().cpu()
        yield from ((kind, first, result) for (kind, first, _), result in zip(waiting, results, strict=True))


def offsets_at(model: Model, video: Video, speed: float) -> np.ndarray:
    """(T,) frames of a clip, counted from its first, of the video played at ``speed`` times its rate."""
    return np.floor(model.view.offsets(video) * speed).astype(np.int64)


def check_length(model: Model, video: Video, offsets_T: np.ndarray) -> None:
    """Raise UserError if the video is shorter than a clip: it is neither looped nor held."""
    span = int(offsets_T[-1]) + 1
    if video.frames < span:
        raise UserError(
            f"{video.source} has {video.frames} frames, but a clip of {model.name} spans {span}; name a longer video."
        )
