"""Clips to be compared: drawn by a network, of videos, and of videos with a fault that a good measure has to see."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ssl_video.capabilities import Conditions, Generates, Sampling
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.errors import UserError
from ssl_video.eval.features import read_parts
from ssl_video.eval.knn import unit
from ssl_video.model import Model, check_features
from ssl_video.progress import Bar
from ssl_video.train.data import read_video
from ssl_video.video.info import Problem, problem_of
from ssl_video.video.reader import VideoError
from ssl_video.video.view import View

AT_ONCE = 16
"""Clips that a network draws, or is shown for features, at a time: always as many, so that numbers repeat."""
FILMS_NOTE = "generate.json"
"""The file beside films that were drawn by a network (``ssl-video generate``), whose frames are those of clips."""
PIECE = 256
"""Frames of a video that are held at a time."""


@dataclass(frozen=True)
class Clips:
    """uint8 clips (N, T, H, W, C), what is said of each, of real ones the video, and why videos were left out."""

    clips_NTHWC: np.ndarray
    captions: tuple[str | None, ...]
    videos: tuple[Video, ...] = ()
    problems: tuple[Problem, ...] = ()


def clips_of(videos: VideoSet, view: View, count: int, seed: int) -> Clips:
    """``count`` clips, the same number of each video or one more, at random places that depend on video and seed.

    Films that a network drew are read as they were (``as_drawn``). Of another video that is too short for the view's
    stride every frame is taken, too; if it has fewer frames than a clip, the last one is repeated.

    Raises:
        UserError: if no video can be read.
    """
    good, problems, found = list(videos.videos), dict[str, Problem](), list[tuple[Video, np.ndarray]]()
    turn = 0
    while len(found) < count and good:
        for video in tuple(good):
            if len(found) == count:
                break
            rng = np.random.default_rng([seed, video.number, turn])
            shown = as_drawn(video, view)
            offsets_T = shown.offsets(video)
            if video.frames <= offsets_T[-1]:
                offsets_T = np.arange(shown.frames)
            first = int(rng.integers(max(1, video.frames - int(offsets_T[-1]))))
            positions_T = np.minimum(first + offsets_T, video.frames - 1)
            try:
                found.append((video, shown.prepare(_frames(video, positions_T, shown))))
            except VideoError as error:
                problems[video.source] = problem_of(video.source, error)
                good.remove(video)
        turn += 1
    if not found:
        raise UserError(f"No video of {videos.name} could be read; the first: {next(iter(problems.values())).reason}.")
    kept = [(video, clip_THWC) for video, clip_THWC in found if video.source not in problems]
    captions, videos_N = tuple(v.caption for v, _ in kept), tuple(v for v, _ in kept)
    return Clips(np.stack([c for _, c in kept]), captions, videos_N, tuple(problems.values()))


def as_drawn(video: Video, view: View) -> View:
    """For a film that a network drew: every frame, whole where it is a square, of the size of the view's clips."""
    if not (Path(video.source).parent / FILMS_NOTE).is_file():
        return view
    return replace(view, stride=1, fps=None, short_side=view.size)


def _frames(video: Video, positions_T: np.ndarray, view: View) -> np.ndarray:
    distinct = np.unique(positions_T)
    frames_THWC = read_video(video, distinct.tolist(), each=view.small)
    return frames_THWC[np.searchsorted(distinct, positions_T)]


def pieces(videos: VideoSet, view: View) -> Iterator[np.ndarray]:
    """All frames of videos as clips of the view are cut from them, (T, size, size, C), in pieces with every clip whole.

    What cannot be read is passed over.
    """
    for video in videos.videos:
        span = view.span(video)
        starts = range(0, max(1, video.frames - span + 1), PIECE)
        parts = [np.arange(start, min(start + PIECE + span - 1, video.frames)) for start in starts]
        try:
            for frames_THWC in read_parts(video, parts, view.small):
                yield view.prepare(frames_THWC)
        except VideoError:
            continue


def drawn(model: Model, count: int, texts: Sequence[str] | None, sampling: Sampling, seed: int) -> np.ndarray:
    """``count`` uint8 clips (N, T, S, S, 3) that a model draws, of texts or of nothing; its view says T and S.

    Raises:
        UserError: if it draws nothing, or only around what is given of a clip, or does not know a word.
    """
    by, view = model.need(Generates), model.view
    if "unconditional" not in by.trained_for:
        raise UserError(f"{model.name} was trained to fill videos in, not to draw whole ones; name another run.")
    generator = torch.Generator().manual_seed(seed)
    parts = []
    with Bar("generate", count, "clip") as done:
        for first in range(0, count, AT_ONCE):
            some = min(AT_ONCE, count - first)
            told = Conditions(None if texts is None else tuple(texts[first : first + some]))
            shape = (some, view.frames, view.size, view.size)
            parts.append(by.generate(shape, told, sampling, generator, model.backbone).cpu().numpy())
            done.update(some)
    return np.concatenate(parts)


def frozen(clips_NTHWC: np.ndarray) -> np.ndarray:
    """Every clip shows its middle frame only."""
    middle = clips_NTHWC.shape[1] // 2
    return np.repeat(clips_NTHWC[:, middle : middle + 1], clips_NTHWC.shape[1], axis=1)


def shuffled(clips_NTHWC: np.ndarray, seed: int) -> np.ndarray:
    """The frames of every clip in a random order."""
    rng = np.random.default_rng(seed)
    return np.stack([clip_THWC[rng.permutation(len(clip_THWC))] for clip_THWC in clips_NTHWC])


def noise(clips_NTHWC: np.ndarray, seed: int) -> np.ndarray:
    """White noise of the mean and the standard deviation of the clips' pixels."""
    rng = np.random.default_rng(seed)
    values = rng.normal(clips_NTHWC.mean(), clips_NTHWC.std(), clips_NTHWC.shape)
    return values.round().clip(0, 255).astype(np.uint8)


def features_of(models: Sequence[Model], clips_NTHWC: np.ndarray) -> np.ndarray:
    """(N, D) features of networks side by side, each of length 1: flicker has features of motion of any length.

    They are means over space and time, of clips resized and cut to each network's own size. Of clips with more frames
    than it takes the middle ones are shown; of those with fewer the last one is repeated. Raises UserError for features
    that are not finite.
    """
    found = [_features_of(model, clips_NTHWC) for model in models]
    return np.concatenate([unit(each_ND) for each_ND in found], axis=1)


def _features_of(model: Model, clips_NTHWC: np.ndarray) -> np.ndarray:
    view, frames = model.view, clips_NTHWC.shape[1]
    first = max(0, (frames - view.frames) // 2)
    positions_T = np.minimum(first + np.arange(view.frames), frames - 1)
    rows = []
    for n in range(0, len(clips_NTHWC), AT_ONCE):
        shown = np.stack([view.prepare(clip_THWC[positions_T]) for clip_THWC in clips_NTHWC[n : n + AT_ONCE]])
        rows.append(model.clip_features(torch.from_numpy(shown)).float().cpu().numpy())
    found_ND = np.concatenate(rows)
    check_features(model.name, list(found_ND), "clip")
    return found_ND
