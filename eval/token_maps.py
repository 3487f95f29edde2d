"""The maps of a frozen network, one token a cell: extracted once, kept in half precision in a file of this process.

Nothing is held in memory but a batch. The file has no name, so that nothing is left behind, however the process ends.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_video.backbones.positions import halves_1d
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.flow import for_modality
from ssl_video.errors import UserError
from ssl_video.eval.base import Task
from ssl_video.eval.calibration import Moments, calibrate_batch_norm
from ssl_video.eval.features import ClipsOfVideos, Extraction, apply_to_clips, check_some, clip_starts
from ssl_video.eval.shards import fingerprint, lists_of
from ssl_video.model import Model
from ssl_video.progress import announce, count, size
from ssl_video.video.info import Problem

Grid = tuple[int, int, int]
MOST_ROWS = 1 << 24
"""Clips of one list: their numbers pass through single precision."""
AT_ONCE = 1 << 22
"""Numbers of tokens that are looked at together where statistics are taken."""


@dataclass
class TokenMaps:
    """Tokens of the clips of the videos that could be read.

    ``rows`` says of each video which rows of ``packed`` are its clips: (crops, K) numbers. ``starts``: (K,) their first
    frames. ``packed``: (rows, t h w, D + 1) as ``packed`` makes them, mapped from a file, cells of ``grid`` row by row.
    ``spans``: what a clip covers of each video, in frames.
    """

    videos: list[Video]
    rows: list[np.ndarray]
    starts: list[np.ndarray]
    spans: list[int]
    packed: np.ndarray
    grid: Grid
    problems: list[Problem] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.packed.shape[2] - 1

    @property
    def labels_N(self) -> np.ndarray:
        """(N,) classes of the videos."""
        return np.array([v.label for v in self.videos])

    def clips(self, video: int, clips: int, crop: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(clips,) rows of a video's clips, and their first frames; of fewer, some come more than once."""
        chosen = np.linspace(0, len(self.starts[video]) - 1, clips).round().astype(int)
        return self.rows[video][crop][chosen], self.starts[video][chosen]

    def times(self, video: int, starts_K: np.ndarray) -> Tensor:
        """(K, t) when the rows of maps of clips begin, from the beginning of the video, in rows of a map."""
        t = self.grid[0]
        return torch.from_numpy(starts_K[:, None] * t / self.spans[video] + np.arange(t))


@dataclass(frozen=True)
class Preparation:
    """What is done with tokens before a head sees them: (x - mean) * scale, and sines of time of this amplitude."""

    mean_D: Tensor
    scale_D: Tensor
    amplitude: float

    @classmethod
    def of(cls, maps: TokenMaps, standardise: bool, time: bool) -> "Preparation":
        """Standardised channels, or none; time is as large as the tokens' mean standard deviation, by these maps."""
        rows_R = np.concatenate([rows.ravel() for rows in maps.rows])
        parts = np.array_split(rows_R, -(-len(rows_R) * maps.packed[0].size // AT_ONCE))
        found = [Moments.of(unpacked(maps.packed[part]).flatten(0, 1)) for part in parts if len(part)]
        whole = found[0]
        for more in found[1:]:
            whole = whole.with_more(more)
        std_D = (whole.squares_C / whole.count).sqrt()
        mean_D, typical = whole.mean_C, float(std_D.square().mean().sqrt()) or 1.0
        if not standardise:
            return cls(torch.zeros(len(std_D)), torch.ones(len(std_D)), typical * time)
        varied_D = std_D > 1e-6 * max(1e-12, float(mean_D.abs().max()))
        scale_D = torch.where(varied_D, 1 / std_D.clamp_min(1e-30), 0.0)
        return cls(mean_D.float(), scale_D.float(), float(time))

    def tokens(self, maps: TokenMaps, videos: Sequence[int], clips: int, crop: int = 0) -> Tensor:
        """(B, clips t h w, D) tokens of so many clips of each of the videos, one behind the other."""
        t, h, w = maps.grid
        found = []
        for video in videos:
            rows_K, starts_K = maps.clips(video, clips, crop)
            x_KND = (unpacked(maps.packed[rows_K]) - self.mean_D) * self.scale_D
            if self.amplitude:
                sines = halves_1d(maps.times(video, starts_K).flatten(), maps.width + maps.width % 2)[:, : maps.width]
                added_KtD = (self.amplitude * sines).float().unflatten(0, (clips, t))
                x_KND = x_KND + added_KtD.repeat_interleave(h * w, 1)
            found.append(x_KND.flatten(0, 1))
        return torch.stack(found)


def packed(x_KND: Tensor) -> Tensor:
    """(K, N, D + 1) in half precision: each token over a power of two, so that it is at most 1, and the exponent.

    So a network's scale does not matter: half precision alone ends at 65504, and is coarse below 0.00006.
    """
    exponent = torch.frexp(x_KND.abs().amax(-1, keepdim=True)).exponent.clamp(-120, 120)
    return torch.cat([torch.ldexp(x_KND, -exponent), exponent], -1).half()


def unpacked(rows_KNE: np.ndarray) -> Tensor:
    """(K, N, D) in single precision, of what ``packed`` made."""
    rows = torch.from_numpy(np.ascontiguousarray(rows_KNE)).float()
    return torch.ldexp(rows[..., :-1], rows[..., -1:])


def train_and_test_maps(
    model: Model, task: Task, what: Extraction, *, pool: int, calibrate: bool, test_crops: bool
) -> tuple[TokenMaps, TokenMaps]:
    """Token maps of both lists of a task, each row of tubelets averaged to at most ``pool`` x ``pool`` cells.

    They are extracted once for all tasks that hold the same store. ``calibrate``: as for ``train_and_test_features``.
    Training videos are shown in one crop, with ``test_crops`` test videos in those of ``what``.

    Raises:
        UserError: if no video can be read, the network has no such stage or no map, what it gives is not finite, or the
            disk has no room for the maps.
    """
    assert task.test is not None
    test = task.test
    check_map(model, what.stage)
    weights, what = fingerprint(model), replace(what, batch=task.batch)

    def make() -> tuple[TokenMaps, TokenMaps]:
        shown = calibrate_batch_norm(model, task.train, workers=task.workers) if calibrate else model
        crops = what.crops if test_crops else 1
        return (
            extract_maps(shown, task.train, replace(what, crops=1), pool, task.folder, task.workers),
            extract_maps(shown, test, replace(what, crops=crops), pool, task.folder, task.workers),
        )

    key = ("maps", weights, what, pool, calibrate, test_crops, lists_of(task))
    return task.features.get(key, make)


def check_map(model: Model, stage: str | None) -> None:
    """Raise UserError if a stage (None: the last) of the network is not there, or gives one vector a clip."""
    backbone = model.backbone
    backbone.check_stage(stage)
    strides = backbone.strides if stage is None else backbone.taps[stage].strides
    if not any(strides):
        raise UserError(
            f"{model.name} gives one vector a clip{f' at its stage {stage}' if stage else ''}, and attention needs a "
            "map of tokens to choose from; take another --option stage=NAME, or the protocol linear."
        )


def extract_maps(
    model: Model, videos: VideoSet, what: Extraction, pool: int, folder: Path | None, workers: int
) -> TokenMaps:
    """The maps of every video of a scanned set; the file lies in ``folder``, by default where temporary files do.

    Raises UserError: see ``train_and_test_maps``.
    """
    shown = for_modality(videos, model.backbone.clip.modality)
    total = sum(len(clip_starts(v.frames, model.view.span(v), what.clips)) for v in shown.videos) * what.crops
    if total > MOST_ROWS:
        raise UserError(f"{videos.name} has {total} clips, and maps are kept of up to {MOST_ROWS}; lower clips.")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        writer = _Writer(model, what.stage, pool, total, file, folder)
        found = apply_to_clips(writer, model, ClipsOfVideos(shown.videos, model.view, what), workers)
        found.problems += shown.problems[len(videos.problems) :]
        check_some(found, videos)
        file.flush()
        kept = np.memmap(file, np.float16, "r").reshape(writer.rows, -1, writer.width + 1)
    rows = [rows_K1.astype(int).reshape(what.crops, -1) for rows_K1 in found.clips_KD]
    starts = [starts_K[: r.shape[1]] for starts_K, r in zip(found.starts, rows, strict=True)]
    spans = [model.view.span(v) for v in found.videos]
    return TokenMaps(found.videos, rows, starts, spans, kept, writer.grid, found.problems)


@dataclass
class _Writer:
    """Writes the maps of clips behind those that are there, and gives the numbers of their rows."""

    model: Model
    stage: str | None
    pool: int
    total: int
    file: IO[bytes]
    folder: Path | None
    rows: int = 0
    grid: Grid = (0, 0, 0)
    width: int = 0

    def __call__(self, clips_KTHWC: Tensor) -> Tensor:
        """(K, 1) numbers of rows."""
        map_KDthw = self.model.dense_map(clips_KTHWC, self.stage).float()
        K, self.width, t, h, w = map_KDthw.shape
        self.grid = t, min(h, self.pool), min(w, self.pool)
        tokens_KND = F.adaptive_avg_pool3d(map_KDthw, self.grid).flatten(2).transpose(1, 2)
        kept = packed(tokens_KND).cpu().numpy()
        if not self.rows:
            self._check_room(kept[0].nbytes * self.total)
        self.file.write(kept.tobytes())
        self.rows += K
        return torch.arange(self.rows - K, self.rows)[:, None]

    def _check_room(self, needed: int) -> None:
        """Announce how many bytes will be written where. Raises UserError if the disk has no room for them."""
        place = self.folder or Path(tempfile.gettempdir())
        free = shutil.disk_usage(place).free
        if needed > free:
            raise UserError(
                f"{place} has {size(free)} free, the maps need {size(needed)}: name another folder by --run, or lower "
                "the options clips, crops or pool."
            )
        announce(f"Writing maps of {count(self.total, 'clip')}, {size(needed)}, to {place}, until the command ends.")


@torch.no_grad()
def sees_single_frames(model: Model, stage: str | None = None) -> bool:
    """True if each row of the network's map is of one frame alone: what other frames show does not change it.

    Tried on noise, of which the first frame is changed, then the last.
    """
    view, clip = model.view, model.backbone.clip
    shape = (view.frames, view.size, view.size, clip.channels)
    noise_THWC = torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    first_THWC, last_THWC = noise_THWC.clone(), noise_THWC.clone()
    first_THWC[0] = 255 - first_THWC[0]
    last_THWC[-1] = 255 - last_THWC[-1]
    maps = [model.dense_map(x_THWC[None], stage)[0].float() for x_THWC in (noise_THWC, first_THWC, last_THWC)]
    whole_Dthw, first_Dthw, last_Dthw = maps
    if whole_Dthw.shape[1] != view.frames:
        return False
    rounding = 1e-5 * float(whole_Dthw.abs().max())
    return torch.allclose(whole_Dthw[:, 1:], first_Dthw[:, 1:], atol=rounding) and torch.allclose(
        whole_Dthw[:, :-1], last_Dthw[:, :-1], atol=rounding
    )
