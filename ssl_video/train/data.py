"""From a set of videos to batches of a pretext, with randomness that is counted and not drawn in passing."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from ssl_video.datasets.base import Video, VideoRows, VideoSet
from ssl_video.datasets.manifest import is_as_noted
from ssl_video.datasets.many import first_labels, same_labels, some
from ssl_video.datasets.statistics import statistics_of
from ssl_video.errors import UserError
from ssl_video.train.distributed import Ranks
from ssl_video.train.loader import Loader
from ssl_video.train.objective import Objective, Redraw, Sample
from ssl_video.train.order import order_of
from ssl_video.train.span import long_enough, remedy
from ssl_video.video.augment import resize_frame
from ssl_video.video.info import Problem
from ssl_video.video.reader import ON_GPU, VideoError, get_reader
from ssl_video.video.upright import Each
from ssl_video.video.view import Skip

MAX_ATTEMPTS = 64
"""Draws for one place in a batch before training gives up: first the video itself, then others in its stead."""
REDRAWS = 4
"""Draws from one video before another one takes its place."""

Key = tuple[int, int, int]  # epoch, video, clip
LARGEST_CLIP = 1 << 27
"""Pixels of all frames of a clip that are read as they are; those of a larger one are made smaller."""


class ReadFrames(Protocol):
    """Reads frames of a video."""

    def __call__(self, video: Video, frames: Sequence[int], *, each: Each | None = None) -> np.ndarray:
        """frames_THWC, or what ``each`` makes of each frame. Raises VideoError."""
        ...


def read_video(video: Video, frames: Sequence[int], reader: str = "pyav", each: Each | None = None) -> np.ndarray:
    """frames_THWC of a scanned video, or what ``each`` makes of each frame as it is decoded.

    Without it, frames of more than ``LARGEST_CLIP`` pixels in all are made as small as that. Raises VideoError.
    """
    return get_reader(reader)(video.path, frames, video.info, as_read(video, len(frames), each))


def as_read(video: Video, frames: int, each: Each | None) -> Each | None:
    """What is made of each frame of a scanned video, one of so many that are held."""
    side, info = video.resized_to, video.info
    if not side and each is None and frames * info.width * info.height > LARGEST_CLIP:
        shrink = math.sqrt(LARGEST_CLIP / (frames * info.width * info.height))
        side = max(1, int(shrink * min(info.width, info.height)))
    if not side:
        return each

    def small(frame_HWC: np.ndarray) -> np.ndarray:
        resized_HWC = resize_frame(frame_HWC, side)
        return each(resized_HWC) if each else resized_HWC

    return small


def usable(videos: VideoSet, pretext: Objective, seed: int = 0) -> VideoSet:
    """The videos that can serve the pretext; the others join ``problems`` with the pretext's reason.

    Where batches are of one class, a video that is alone in its class cannot serve.

    Raises:
        UserError: if none can.
    """
    skips: dict[int, Skip] = {}
    surely_N = None if pretext.needs.statistics else long_enough(videos, pretext)
    undecided = range(len(videos.videos)) if surely_N is None else np.flatnonzero(~surely_N).tolist()
    for number in undecided:
        draw = _sample(pretext, videos.videos[number], np.random.default_rng([seed, number]))
        if isinstance(draw, Skip):
            skips[number] = draw
    serves_N = np.ones(len(videos.videos), bool)
    serves_N[list(skips)] = False
    kept = some(videos.videos, np.flatnonzero(serves_N)) if skips else videos.videos
    if not kept:
        first = skips[0]
        mend = first.remedy or remedy(videos, pretext) or "use longer videos or a shorter clip (see --help)"
        raise UserError(
            f"None of the {len(videos.videos)} videos of {videos.name} can serve this pretext (the first: "
            f"{first.reason}); {mend}."
        )
    problems = [Problem(videos.videos[number].source, skip.reason) for number, skip in skips.items()]
    return with_company(VideoSet(videos.name, kept, videos.classes, (*videos.problems, *problems)), pretext)


def with_company(videos: VideoSet, pretext: Objective) -> VideoSet:
    """Without the videos that are alone in their class, if the pretext compares the videos of a class.

    Raises:
        UserError: if all are.
    """
    if pretext.needs.grouping == "none" or not videos.labelled:
        return videos
    labels_N = first_labels(videos.videos)
    alone_N = np.bincount(labels_N)[labels_N] == 1
    kept = some(videos.videos, np.flatnonzero(~alone_N))
    if not kept:
        raise UserError(
            f"{type(pretext).__name__} compares videos of one class, but no class of {videos.name} has two usable "
            f"videos; add some."
        )
    alone = [
        Problem(v.source, f"is the only usable video of the class {videos.classes[v.labels[0]]}")
        for v in some(videos.videos, np.flatnonzero(alone_N))
    ]
    return VideoSet(videos.name, kept, videos.classes, (*videos.problems, *alone))


@dataclass
class ClipDataset(Dataset):
    """Samples of a pretext, addressed by (epoch, video, clip).

    A video that turns out to be unreadable, or of which ``REDRAWS`` samples in a row are unfit, is replaced by another
    one, and the reason travels with the batch under ``"problems"``; the number of tries is bounded. With ``views`` a
    batch shows each clip so many times, decoded once: ``transform`` draws other crops, say.
    """

    videos: VideoSet
    pretext: Objective
    seed: int
    read: ReadFrames = read_video
    views: int = 1

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self._samples(key, 1)[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[dict[str, Any]]:
        """As loaders ask for a batch: ``views`` samples of each key, side by side; the first is that of the key."""
        return [sample for key in keys for sample in self._samples(key, self.views)]

    def _samples(self, key: Key, views: int) -> list[dict[str, Any]]:
        epoch, number, clip = key
        problems: list[Problem] = []
        unfit = 0  # draws in a row that gave unfit frames of the same video
        for attempt in range(MAX_ATTEMPTS):
            rng = np.random.default_rng([self.seed, epoch, number, clip, attempt])
            video = self.videos.videos[number]
            outcome = self._draw(video, views, rng)
            if isinstance(outcome, list):
                return [sample | {"problems": [] if n else problems} for n, sample in enumerate(outcome)]
            unfit = unfit + 1 if isinstance(outcome, Redraw) else REDRAWS
            if unfit >= REDRAWS:
                problems.append(Problem(video.source, outcome.reason))
                number, unfit = int(rng.choice(self._stand_ins(video))), 0
        raise UserError(
            f"{MAX_ATTEMPTS} draws in a row gave no sample; the last: {problems[-1].path}: {problems[-1].reason}. "
            f"Run 'ssl-video data scan' on the data."
        )

    def _stand_ins(self, video: Video) -> Sequence[int]:
        videos = self.videos.videos
        if self.pretext.needs.grouping == "none":
            return range(len(videos))
        return same_labels(videos, video.labels)

    def _draw(self, video: Video, views: int, rng: np.random.Generator) -> list[dict[str, Any]] | Skip | Redraw:
        if isinstance(self.videos.videos, VideoRows) and _changed(video):  # nobody looked when the list was opened
            return Skip("it is not there, or has changed since it was scanned")
        sample = _sample(self.pretext, video, rng)
        if isinstance(sample, Skip):
            return sample
        try:
            frames_THWC = self.read(video.backwards if sample.reversed else video, sample.frames, each=sample.each)
        except VideoError as error:
            return Skip(str(error))
        samples: list[dict[str, Any]] = []
        for _ in range(views):
            outcome = self.pretext.transform(frames_THWC, sample, rng)
            if not isinstance(outcome, dict):
                return outcome
            samples.append({k: _stackable(v) for k, v in outcome.items()})
        return samples


def _changed(video: Video) -> bool:
    state, content = video.info.state, "" if video.copy_of else video.info.content
    return bool(state) and not is_as_noted(video.path, state, content)


def _stackable(value: Any) -> Any:
    """Arrays that are views, turned or flipped, as torch takes them."""
    return np.ascontiguousarray(value) if isinstance(value, np.ndarray) and value.ndim else value


def _sample(pretext: Objective, video: Video, rng: np.random.Generator) -> Sample | Skip:
    try:
        stats = statistics_of(video, pretext.needs.statistics)
    except VideoError as error:
        return Skip(str(error))
    return pretext.sample(video, stats, rng)


class BatchKeys(Sampler[list[Key]]):
    """The keys of every micro-batch of one rank, from ``start`` on, without end.

    An epoch is a permutation, keyed by (seed, epoch), of all videos times ``clips_per_video`` (``order_of``). Place p
    of the whole sequence depends on p alone, so a run resumes where it was, with any number of workers; with any number
    of ranks the ranks' batches together are the single process's batch.

    ``groups`` gives every video's group; then the batches of all ranks together are of one group each. A group's last
    batch of an epoch is filled up with its first keys.
    """

    def __init__(
        self,
        videos: int,
        clips_per_video: int,
        batch_size: int,
        *,
        seed: int,
        start: int = 0,
        ranks: Ranks = Ranks(),
        groups: Sequence[int] | np.ndarray | None = None,
    ):
        self.clips_per_video, self.batch_size, self.seed = clips_per_video, batch_size, seed
        self.start, self.ranks = start, ranks
        self.keys, self.whole = videos * clips_per_video, batch_size * ranks.world_size
        groups_N = np.zeros(0, int) if groups is None else np.repeat(groups, clips_per_video)
        found = np.unique(groups_N)
        self.members = [np.flatnonzero(groups_N == group) for group in found] if len(found) > 1 else []
        self.blocks = 0, 1

    def in_blocks(self, block: int, window: int) -> "BatchKeys":
        """The keys in an order of ``block`` neighbouring videos (``order.Blocks``); 0: shuffled as a whole.

        Raises UserError where batches are of one group each.
        """
        if block and self.members:
            raise UserError("--block orders videos by where they lie, but this pretext by their classes; leave it out.")
        self.blocks = block * self.clips_per_video, window
        return self

    def __iter__(self) -> Iterator[list[Key]]:
        batch, epoch, order = self.start, -1, order_of(self.seed, 0, 0)
        per_epoch = sum(map(self._filled_up, self.members)) if self.members else self.keys
        while True:
            first = batch * self.whole + self.ranks.rank * self.batch_size
            keys: list[Key] = []
            while len(keys) < self.batch_size:  # a batch may end in a later epoch than it begins in
                place = first + len(keys)
                if place // per_epoch != epoch:
                    epoch = place // per_epoch
                    ours = self.seed, epoch, self.keys, *self.blocks
                    order = self._grouped(epoch) if self.members else order_of(*ours)
                last = min(place % per_epoch + self.batch_size - len(keys), per_epoch)
                videos, clips = np.divmod(order[np.arange(place % per_epoch, last)], self.clips_per_video)
                keys += [(epoch, *key) for key in zip(videos.tolist(), clips.tolist(), strict=True)]
            yield keys
            batch += 1

    def _grouped(self, epoch: int) -> np.ndarray:
        """The keys of an epoch, one group after the other within each whole batch, these in random order."""
        rng = np.random.default_rng([self.seed, epoch])
        parts = [np.resize(rng.permutation(m), (self._filled_up(m) // self.whole, self.whole)) for m in self.members]
        return rng.permutation(np.concatenate(parts)).ravel()

    def _filled_up(self, members: np.ndarray) -> int:
        return -(-len(members) // self.whole) * self.whole


def grouping(videos: VideoSet, pretext: Objective) -> np.ndarray | None:
    """Every video's group, if the pretext asks for batches of one. Raises UserError if there are no labels."""
    if pretext.needs.grouping == "none":
        return None
    if not videos.labelled:
        raise UserError(
            f"{type(pretext).__name__} needs batches of one class, but {videos.name} has no labels; sort the videos "
            f"into a folder for each class, or name a labelled set (a csv of path,label, say)."
        )
    return first_labels(videos.videos)


def samples_to_fit(dataset: ClipDataset) -> Iterator[dict[str, Any]]:
    """One sample a video, in random order, drawn apart from those of training."""
    for number in np.random.default_rng([dataset.seed]).permutation(len(dataset.videos.videos)):
        yield dataset[2**32 - 1, int(number), 0]


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack the samples; the lists of problems are joined."""
    problems = [p for s in samples for p in s.pop("problems")]
    return default_collate(samples) | {"problems": problems}


def batches(
    dataset: ClipDataset, keys: Sampler[list[Key]] | list[list[Key]], workers: int, pin: bool = False
) -> DataLoader:
    """A loader over ``keys``. Workers use one thread each: they are many."""
    return Loader(
        dataset,
        batch_sampler=keys,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        multiprocessing_context=_started_by(dataset.read) if workers else None,
    )


def _started_by(read: ReadFrames) -> str | None:
    """How the workers start: those that decode on a GPU anew, since CUDA does not outlive a fork."""
    return "spawn" if isinstance(read, partial) and read.keywords.get("reader") == ON_GPU else None


def clips_in(batch: Mapping[str, Any]) -> int:
    """How many clips a batch shows, a tuple of single frames counting as one: of arrays whose names end in HWC."""
    shapes = [x.shape for name, x in batch.items() if name.endswith("HWC")]
    return sum(math.prod(shape[:-4]) for shape in shapes)


def tensors(batch: Mapping[str, Any], device: torch.device) -> dict[str, torch.Tensor]:
    """The batch's tensors on the device."""
    return {k: v.to(device, non_blocking=True) for k, v in batch.items() if isinstance(v, torch.Tensor)}
