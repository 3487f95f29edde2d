"""Features of whole videos from a frozen backbone: extracted once, used by every probe."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ssl_video.datasets.base import Video, VideoSet
from ssl_video.encoders.base import Encoder
from ssl_video.errors import UserError
from ssl_video.eval.base import Task
from ssl_video.model import Model
from ssl_video.pretexts.base import View
from ssl_video.train.data import read_video, start_worker
from ssl_video.video.info import Problem
from ssl_video.video.reader import VideoError


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
        return np.stack([c.mean(0) for c in self.clips_KD])

    @property
    def labels_N(self) -> np.ndarray:
        """(N,) class indices."""
        return np.array([v.label for v in self.videos])


def clip_starts(frames: int, span: int, clips: int) -> np.ndarray:
    """First frames of the clips of a video with ``frames`` frames; a clip covers ``span`` frames.

    ``clips`` of them, evenly spaced from the first to the last possible start (fewer if these coincide); 0 means
    windows that overlap by half over the whole video.
    """
    last = max(0, frames - span)
    if clips == 0:
        return np.arange(0, last + 1, max(1, span // 2))
    return np.unique(np.round(np.linspace(0, last, clips)).astype(int))


@dataclass
class _ClipsOfVideos(Dataset):
    videos: Sequence[Video]
    view: View
    clips: int
    still: bool
    shuffle: bool

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, number: int) -> tuple[int, np.ndarray, np.ndarray | Problem]:
        video, view = self.videos[number], self.view
        span = (view.frames - 1) * view.stride + 1
        starts = clip_starts(video.frames, span, self.clips)
        positions_KT = np.minimum(starts[:, None] + np.arange(view.frames) * view.stride, video.frames - 1)
        if self.still:
            positions_KT = np.repeat(positions_KT[:, [view.frames // 2]], view.frames, axis=1)
        if self.shuffle:
            positions_KT = np.random.default_rng([7, number]).permuted(positions_KT.ravel()).reshape(positions_KT.shape)
        unique, inverse = np.unique(positions_KT, return_inverse=True)
        try:
            frames_THWC = view.prepare(read_video(video, unique.tolist()))
        except VideoError as error:
            return number, starts, Problem(video.source, str(error))
        return number, starts, frames_THWC[inverse.reshape(positions_KT.shape)]


def extract(
    model: Model,
    videos: VideoSet,
    *,
    clips: int = 8,
    readout: str = "avg",
    workers: int = 2,
    batch: int = 32,
    still: bool = False,
    shuffle: bool = False,
) -> Features:
    """Features of every video of a set.

    Args:
        model: the frozen network.
        videos: scanned videos.
        clips: clips of a video, see ``clip_starts``; a video shorter than a clip gives one, its last frame repeated.
        readout: how a feature map becomes a vector, see ``ssl_video.model.pool``.
        workers: reading processes.
        batch: clips in one forward pass.
        still: a control: every clip shows its middle frame only, repeated.
        shuffle: a control: the frames of all clips of a video are exchanged at random.

    Raises:
        UserError: if no video can be read.
    """
    found = Features([], [], [], [])
    for number, starts, clips_KTHWC in _in_order(model.view, videos, clips, workers, still, shuffle):
        if isinstance(clips_KTHWC, Problem):
            found.problems.append(clips_KTHWC)
            continue
        parts = [
            model.clip_features(torch.from_numpy(clips_KTHWC[i : i + batch]), readout).float().cpu()
            for i in range(0, len(clips_KTHWC), batch)
        ]
        found.videos.append(videos.videos[number])
        found.clips_KD.append(torch.cat(parts).numpy())
        found.starts.append(starts)
    if not found.videos:
        raise UserError(f"No video of {videos.name} could be read; the first: {found.problems[0].reason}.")
    return found


def train_and_test_features(
    model: Model | Encoder,
    task: Task,
    *,
    clips: int,
    readout: str,
    calibrate: bool,
    still: bool = False,
    shuffle: bool = False,
) -> tuple[Features, Features]:
    """Features of both lists of a task, remembered in ``task.memory``; see ``extract``.

    ``calibrate`` recomputes the batch-norm statistics on the training list first (``calibrate_batch_norm``). An encoder
    is fitted to the training list and gives one vector a video, of which ``clips``, ``readout`` and ``calibrate`` say
    nothing.

    Raises:
        UserError: if no video can be read, or a control is asked for that an encoder does not have.
    """
    assert task.test is not None
    if isinstance(model, Encoder):
        if still or shuffle:
            raise UserError(f"{model.name} sees whole videos; the controls still and shuffle are for networks.")
        return _encoded(model, task, task.test)
    key = (id(model), clips, readout, calibrate, still, shuffle)
    if key not in task.memory:
        calibrated = calibrate_batch_norm(model, task.train, workers=task.workers) if calibrate else model
        train, test = (
            extract(calibrated, part, clips=clips, readout=readout, workers=task.workers, still=still, shuffle=shuffle)
            for part in (task.train, task.test)
        )
        task.memory[key] = model, train, test  # the model is kept alive, so that its id stays its own
    return task.memory[key][1:]


def _encoded(encoder: Encoder, task: Task, test: VideoSet) -> tuple[Features, Features]:
    key = (id(encoder),)
    if key not in task.memory:
        encoder.fit(task.train, task.workers)
        both = []
        for part in (task.train, test):
            found = encoder.encode(part, task.workers)
            starts = [np.zeros(1, int)] * len(found.videos)
            both.append(Features(found.videos, [x[None] for x in found.features_ND], starts, found.problems))
        task.memory[key] = encoder, *both  # the encoder is kept alive, so that its id stays its own
    return task.memory[key][1:]


def calibrate_batch_norm(
    model: Model, videos: VideoSet, *, clips: int = 2, workers: int = 2, at_most: int = 512
) -> Model:
    """A copy of the model whose batch-norm statistics are those of ``videos`` at normal speed.

    Cumulative averages over batches in training mode; nothing else changes. It makes a random network a fair baseline
    (its running statistics are 0 and 1 otherwise), and puts a pretrained one on the same footing. Without batch-norm
    layers the model is returned as it is.
    """
    backbone = copy.deepcopy(model.backbone)
    norms = [m for m in backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return model
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    subset = VideoSet(videos.name, videos.videos[:: max(1, len(videos.videos) // at_most)], videos.classes)
    calibrated = replace(model, backbone=backbone)
    waiting: list[torch.Tensor] = []
    for number, (_, _, clips_KTHWC) in enumerate(_in_order(model.view, subset, clips, workers)):
        if isinstance(clips_KTHWC, np.ndarray):
            waiting.append(torch.from_numpy(clips_KTHWC))
        if waiting and (len(waiting) == 16 or number == len(subset.videos) - 1):
            with torch.no_grad():
                backbone(calibrated.normalise(torch.cat(waiting)))
            waiting.clear()
    backbone.eval()
    return calibrated


def _in_order(
    view: View, videos: VideoSet, clips: int, workers: int, still: bool = False, shuffle: bool = False
) -> Iterator[tuple[int, np.ndarray, np.ndarray | Problem]]:
    dataset = _ClipsOfVideos(videos.videos, view, clips, still, shuffle)
    yield from DataLoader(dataset, batch_size=None, num_workers=workers, worker_init_fn=start_worker, collate_fn=_as_is)


def _as_is(item: Any) -> Any:
    return item
