"""Features of whole videos from a frozen backbone: extracted once, used by every protocol that trains on them."""

import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ssl_video.bounds import Bounded, Count, Natural
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.flow import for_modality
from ssl_video.errors import UserError
from ssl_video.eval.multilabel import targets_of
from ssl_video.model import Model, check_features
from ssl_video.progress import Bar
from ssl_video.train.data import as_read, read_video
from ssl_video.train.loader import Loader
from ssl_video.video.info import Problem, problem_of
from ssl_video.video.kinds import Crops
from ssl_video.video.pictures import of_pictures
from ssl_video.video.reader import VideoError, iterate_frames
from ssl_video.video.upright import Each
from ssl_video.video.view import View

T = TypeVar("T")

PORTION = 1 << 23
"""Bytes of the clips of a video that are held at a time in a reading process, and travel together."""

OfClips = Callable[[torch.Tensor], torch.Tensor]
"""uint8 clips (K, T, H, W, C) to one row each."""


@dataclass(frozen=True)
class Extraction(Bounded):
    """Which clips of a video are shown to a network, and what is kept of each."""

    clips: Natural = 8
    """Clips of a video, see ``clip_starts``; a video shorter than a clip gives one, its last frame repeated."""
    readout: str = "avg"
    """How a feature map becomes a vector, see ``ssl_video.model.pool``."""
    stage: str | None = None
    """The stage of the network whose map it is; None: the last."""
    crops: Crops = 1
    """Crops of each clip, 1, 3 or 10 (``View.crops``); they count as clips, those of one crop together."""
    still: bool = False
    """A control: every clip shows its middle frame only, repeated."""
    shuffle: bool = False
    """A control: the frames of all clips of a video are exchanged at random."""
    reversed: bool = False
    """A control: the frames of every clip come in the opposite order."""
    within: tuple[int, int] | None = None
    """Frames between which all clips lie, see ``clip_starts``; None: the whole video."""
    batch: Count = 32
    """Clips in one forward pass."""

    def noted(self) -> dict[str, Any]:
        """What features that are kept depend on. Options that version 0.1 had not are there if they are used."""
        names = ("clips", "readout", "still", "shuffle", "crops")
        more = {n: v for n, v in (("stage", self.stage), ("within", self.within)) if v is not None}
        more |= {"reversed": True} if self.reversed else {}
        return {name: getattr(self, name) for name in names} | more


@dataclass(frozen=True)
class FeatureOptions(Bounded):
    """Options of protocols on the features of a frozen network."""

    clips: Natural = 8
    """Clips of a video, evenly spaced; 0: windows that overlap by half."""
    readout: str = "rich"
    """How a feature map becomes a vector: avg, max, rich or conv5; cls: the class token of a network that has one."""
    stage: str | None = None
    """The stage of the network that is read; None: the last."""
    calibrate: bool = True
    """Recompute batch-norm statistics on the training list first, for every network alike."""

    @property
    def extraction(self) -> Extraction:
        """What is extracted of a video."""
        return Extraction(self.clips, self.readout, self.stage)


@dataclass
class Features:
    """Features of the videos that could be read: one array (K, D) a video, K clips."""

    videos: list[Video]
    clips_KD: list[np.ndarray]
    starts: list[np.ndarray]
    problems: list[Problem]

    @property
    def mean_ND(self) -> np.ndarray:
        """(N, D) mean over each video's clips."""
        out_ND = np.empty((len(self.clips_KD), self.clips_KD[0].shape[1]), self.clips_KD[0].dtype)
        for mean_D, clips_KD in zip(out_ND, self.clips_KD, strict=True):  # not a list of a million small arrays
            mean_D[:] = clips_KD.mean(0)
        return out_ND

    @property
    def labels_N(self) -> np.ndarray:
        """(N,) class indices, where every video has one label."""
        return np.array([v.label for v in self.videos])

    def some(self, numbers: Sequence[int]) -> "Features":
        """Those of the videos at these places, and all problems."""
        videos = [self.videos[n] for n in numbers]
        return Features(videos, [self.clips_KD[n] for n in numbers], [self.starts[n] for n in numbers], self.problems)

    def targets_NK(self, classes: int) -> np.ndarray:
        """(N, K) True where a video has a label, one or several."""
        return targets_of([v.labels for v in self.videos], classes)


class FeatureStore:
    """What was extracted of training and test lists already, features or maps, by whatever it depends on.

    Two protocols on one network, whose tasks hold one store, extract them once.
    """

    def __init__(self):
        self._found: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is there under ``key``, else what ``make`` makes, which is there from then on."""
        if key not in self._found:
            self._found[key] = make()
        return self._found[key]


def clip_starts(frames: int, span: int, clips: int, within: tuple[int, int] | None = None) -> np.ndarray:
    """First frames of the clips of a video with ``frames`` frames; a clip covers ``span`` frames.

    ``clips`` of them, evenly spaced from the first to the last possible start (fewer if these coincide); 0 means
    windows that overlap by half over the whole video. ``within`` two frames, the second not included, they lie between
    these; a range that is shorter than a clip has one, around its middle.
    """
    first, end = (0, frames) if within is None else within
    last = max(0, min(end, frames) - span)
    if first > last:  # the middle of what is too short for a clip, as far as the video has room around it
        first = last = min(max(0, (first + end - span) // 2), max(0, frames - span))
    if clips == 0:
        return np.arange(first, last + 1, max(1, span // 2))
    return np.unique(np.round(np.linspace(first, last, clips)).astype(int))


@dataclass
class ClipsOfVideos(IterableDataset):
    """For each video (its number, first frames of clips, uint8 clips (K, T, H, W, C)), or why it cannot be read.

    Clips of more than ``PORTION`` bytes come in portions, and the reason may come behind some of them. A process reads
    whole videos: every so manyth.
    """

    videos: Sequence[Video]
    view: View
    what: Extraction

    def __len__(self) -> int:
        return len(self.videos)

    def __iter__(self) -> Iterator[tuple[int, np.ndarray, torch.Tensor | Problem]]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for number in range(first, len(self.videos), step):
            yield from self.of_video(number)

    def of_video(self, number: int) -> Iterator[tuple[int, np.ndarray, torch.Tensor | Problem]]:
        """The portions of one video, or the problem."""
        video, view, what = self.videos[number], self.view, self.what
        starts = clip_starts(video.frames, view.span(video), what.clips, what.within)
        positions_KT = np.minimum(starts[:, None] + view.offsets(video), video.frames - 1)
        if what.still:
            positions_KT = np.repeat(positions_KT[:, [view.frames // 2]], view.frames, axis=1)
        if what.shuffle:
            rng = np.random.default_rng([7, video.number])
            positions_KT = rng.permuted(positions_KT.ravel()).reshape(positions_KT.shape)
        if what.reversed:
            positions_KT = positions_KT[:, ::-1]
        at_once = max(1, PORTION // (3 * what.crops * view.frames * view.size**2))
        places = range(0, len(starts), at_once)
        parts = [np.unique(positions_KT[n : n + at_once]) for n in places]
        try:
            for n, part, frames_THWC in zip(places, parts, read_parts(video, parts, view.small), strict=True):
                shown_KT = np.searchsorted(part, positions_KT[n : n + at_once])
                clips_VKTHWC = view.crops(frames_THWC, what.crops)[:, shown_KT]
                clips_KTHWC = clips_VKTHWC.reshape(-1, *clips_VKTHWC.shape[2:])
                yield number, starts[n : n + at_once], torch.from_numpy(clips_KTHWC)  # tensors are shared, not copied
        except VideoError as error:
            yield number, starts, problem_of(video.source, error)


def read_parts(video: Video, parts: Sequence[np.ndarray], each: Each) -> Iterator[np.ndarray]:
    """frames_THWC of each of the parts of a video, ascending numbers of frames, as ``each`` makes them.

    A file in which frames can only be counted is decoded once, if the parts lie one behind the other.
    """
    mixed = any(a[0] > b[0] or a[-1] > b[-1] for a, b in itertools.pairwise(parts))
    found_at_once = video.info.pts_step or video.path.endswith(".npy")
    if len(parts) == 1 or mixed or found_at_once or of_pictures(video.path):
        for part in parts:
            yield read_video(video, part.tolist(), each=each)
        return
    frames = enumerate(iterate_frames(video.path, each=as_read(video, 1, each)))
    wanted, held, read = set(np.concatenate(parts).tolist()), dict[int, np.ndarray](), -1
    for part in parts:
        while read < part[-1]:
            read, frame_HWC = next(frames, (read, None))
            if frame_HWC is None:
                raise VideoError(f"there is no frame {part[-1]}: the file ends before it")
            if read in wanted:
                held[read] = frame_HWC
        held = {number: frame_HWC for number, frame_HWC in held.items() if number >= part[0]}
        yield np.stack([held[number] for number in part.tolist()])


def extract(
    model: Model,
    videos: VideoSet,
    what: Extraction = Extraction(),
    *,
    workers: int = 2,
    none_is_an_error: bool = True,
    done: Bar | None = None,
) -> Features:
    """Features of every video of a scanned set, read by ``workers`` processes; ``done`` counts the videos.

    Raises:
        UserError: if no video can be read and ``none_is_an_error``, the network has no such stage, or its features are
            not finite.
    """

    def features_of(clips_KTHWC: torch.Tensor) -> torch.Tensor:
        return model.clip_features(clips_KTHWC, what.readout, what.stage)

    found = _shown(features_of, model, videos, what, workers, done)
    if none_is_an_error:
        check_some(found, videos)
    return found


def predict(
    model: Model, videos: VideoSet, *, clips: int, crops: Crops = 1, workers: int = 2, batch: int = 32
) -> Features:
    """As ``extract``, but the logits of the model's classifier, (K, classes) a video. Raises UserError without one."""
    found = _shown(model.logits, model, videos, Extraction(clips, crops=crops, batch=batch), workers)
    check_some(found, videos)
    return found


def _shown(
    function: OfClips, model: Model, videos: VideoSet, what: Extraction, workers: int, done: Bar | None = None
) -> Features:
    """What ``function`` makes of the clips of the videos, or of their flow, as the model sees them."""
    shown = for_modality(videos, model.backbone.clip.modality)
    found = apply_to_clips(function, model, ClipsOfVideos(shown.videos, model.view, what), workers, done)
    found.problems += shown.problems[len(videos.problems) :]
    return found


def check_some(found: Features, videos: VideoSet) -> None:
    """Raise UserError if no video could be read."""
    if not found.videos:
        raise UserError(f"No video of {videos.name} could be read; the first: {found.problems[0].reason}.")


def apply_to_clips(
    function: OfClips, model: Model, shown: ClipsOfVideos, workers: int, done: Bar | None = None
) -> Features:
    """What ``function`` of a model makes of the clips of every video that can be read, a batch at a time.

    Raises UserError for what is not finite (``check_features``).
    """
    model.check_weights()
    batch = shown.what.batch
    waiting: list[tuple[int, torch.Tensor]] = []  # numbers of videos and clips that are not computed yet
    parts: dict[int, list[np.ndarray]] = {}  # features of the portions of each video
    starts: dict[int, list[np.ndarray]] = {}
    problems: dict[int, Problem] = {}

    def compute() -> None:
        clips_KTHWC = torch.cat([clips for _, clips in waiting])
        rows = [function(clips_KTHWC[i : i + batch]).float().cpu() for i in range(0, len(clips_KTHWC), batch)]
        ends = np.cumsum([len(clips) for _, clips in waiting])[:-1]
        computed = np.split(torch.cat(rows).numpy(), ends)
        check_features(model.name, computed, before=len(parts))
        for (number, _), part_KD in zip(waiting, computed, strict=True):
            parts.setdefault(number, []).append(part_KD)
        waiting.clear()

    with Bar("clips", len(shown), "video") if done is None else nullcontext(done) as counted:
        for number, some, clips_KTHWC in in_order(shown, workers):
            if number not in starts:
                counted.update()
            starts.setdefault(number, []).append(some)
            if isinstance(clips_KTHWC, Problem):
                problems[number] = clips_KTHWC
                continue
            waiting.append((number, clips_KTHWC))
            if sum(len(clips) for _, clips in waiting) >= batch:
                compute()
    if waiting:
        compute()
    numbers = [number for number in sorted(parts) if number not in problems]
    return Features(
        [shown.videos[number] for number in numbers],
        [_joined(parts[number], shown.what.crops) for number in numbers],
        [np.tile(np.concatenate(starts[number]), shown.what.crops) for number in numbers],
        [problems[number] for number in sorted(problems)],
    )


def _joined(parts: Sequence[np.ndarray], crops: int) -> np.ndarray:
    """(K, D) of portions, in each of which all clips of the first crop come first, then those of the next."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([p.reshape(crops, -1, p.shape[1]) for p in parts], 1).reshape(-1, parts[0].shape[1])


def in_order(shown: ClipsOfVideos, workers: int) -> Iterator[tuple[int, np.ndarray, torch.Tensor | Problem]]:
    """The items of ``shown``, read by ``workers`` processes, in order."""
    yield from Loader(shown, batch_size=None, num_workers=workers, collate_fn=_as_is)


def _as_is(item: Any) -> Any:
    return item
