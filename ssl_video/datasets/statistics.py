"""Numbers about the frames of a video that a pretext may need before it chooses frames, computed once and kept."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np

from ssl_video import processes
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.errors import UserError, nearest
from ssl_video.files import cache_dir, written_aside
from ssl_video.progress import bar
from ssl_video.readback import DAMAGE, read_array
from ssl_video.video import cues
from ssl_video.video.augment import resize_short_side
from ssl_video.video.cache import FLOW_CODEC
from ssl_video.video.content import state_of
from ssl_video.video.flow import farneback
from ssl_video.video.info import reason_of
from ssl_video.video.reader import VideoError, iterate_frames


def frame_difference(path: str, resized_to: int = 0) -> np.ndarray:
    """(T,) mean absolute difference of each frame's gray values to the frame before, in gray levels; 0 for the first.

    A cheap stand-in for the magnitude of motion; sub-sampled to at most about 64 pixels a side.
    """
    values, before = [], None
    for frame_HWC in _frames(path, resized_to):
        step = max(1, min(frame_HWC.shape[:2]) // 64)
        gray = frame_HWC[::step, ::step].mean(axis=2, dtype=np.float32)
        values.append(0.0 if before is None else float(np.abs(gray - before).mean()))
        before = gray
    return np.asarray(values, np.float32)


def flow_magnitude(path: str, resized_to: int = 0) -> np.ndarray:
    """(T,) mean magnitude of the optical flow (Farneback's) from the frame before to each frame; 0 for the first.

    In pixels a frame, of frames whose shorter side was resized to 64 pixels where it is longer. Raises UserError
    without OpenCV.
    """
    values, before = [], None
    for frame_HWC in _frames(path, resized_to):
        # a copy, because the frames of a raw copy are read-only, and torch warns of that
        small_HWC = resize_short_side(np.array(frame_HWC)[None], min(64, *frame_HWC.shape[:2]))[0]
        pair = None if before is None else np.stack([before, small_HWC])
        values.append(0.0 if pair is None else float(np.hypot(*farneback(pair)[0].transpose(2, 0, 1)).mean()))
        before = small_HWC
    return np.asarray(values, np.float32)


def black_borders(path: str, resized_to: int = 0) -> np.ndarray:
    """(T, 4) fractions of each frame that are black at its top, bottom, left and right."""
    return np.concatenate([cues.black_borders(frame_HWC[None]) for frame_HWC in _frames(path, resized_to)])


def _frames(path: str, resized_to: int) -> Iterator[np.ndarray]:
    """The frames as a training sees them: resized to a shorter side in pixels, unless it is 0."""
    for frame_HWC in iterate_frames(path):
        yield resize_short_side(frame_HWC[None], resized_to)[0] if resized_to else frame_HWC


STATISTICS: dict[str, Callable[[str, int], np.ndarray]] = {
    "flow_magnitude": flow_magnitude,
    "frame_difference": frame_difference,
    "black_borders": black_borders,
}


def statistics_of(video: Video, names: Sequence[str]) -> Mapping[str, np.ndarray]:
    """name -> array (T, ...) for each statistic named, from the cache or computed now: of frames, also for flow.

    Raises:
        UserError: if there is no such statistic.
        VideoError: if the video cannot be decoded.
    """
    path = video.at_hand if video.info.codec == FLOW_CODEC else video.path
    return {name: _statistic(name, path, video.resized_to) for name in names}


def measure(videos: VideoSet, names: Sequence[str], progress: bool = False) -> None:
    """Compute the statistics of all videos that are not kept yet, by a thread a core; ``progress`` shows a bar.

    A video that cannot be read is passed over: ``statistics_of`` says so later. Raises UserError.
    """

    def one(video: Video) -> None:
        with suppress(VideoError):
            statistics_of(video, names)

    if names:
        with ThreadPoolExecutor(processes.cores()) as pool:
            done = pool.map(one, videos.videos)
            list(bar(done, ", ".join(names), "video", progress, len(videos.videos)))


@lru_cache(maxsize=100_000)
def _statistic(name: str, path: str, resized_to: int) -> np.ndarray:
    if name not in STATISTICS:
        raise UserError(f"There is no statistic called {name!r}; {nearest(name, STATISTICS)}")
    try:
        state = state_of(path)
    except OSError as error:
        raise VideoError(reason_of(error)) from error
    seen = f"|{resized_to}" if resized_to else ""
    key = hashlib.sha256(os.fsencode(f"{name}|{Path(path).resolve()}|{state}{seen}")).hexdigest()[:24]
    kept = cache_dir() / "statistics" / f"{key}.npy"
    with suppress(OSError, *DAMAGE):  # not there, or damaged: it is computed
        return read_array(kept, None, mapped=False)
    values = STATISTICS[name](path, resized_to)
    with suppress(OSError):  # a full disk, or a file that is gone: what is computed is not kept
        if state_of(path) == state:
            with written_aside(kept) as aside:
                np.save(aside, values)
    return values
