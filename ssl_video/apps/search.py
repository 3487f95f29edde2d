"""Asking an index of videos: which are nearest to a video, or to a range of it, by what the network sees in them.

A clip's features are standardised over the clips of the index's first build and scaled to length 1, so that the inner
product of two is a cosine. ``index_update`` makes an index, ``index_folder`` says what lies on disk, ``nearest`` how
vectors are found.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ssl_video.apps import nearest
from ssl_video.apps.index_folder import AGAIN, Stored, open_index
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.errors import UserError
from ssl_video.eval.features import extract
from ssl_video.eval.knn import unit
from ssl_video.eval.shards import fingerprint
from ssl_video.model import Model, load_model
from ssl_video.video.reader import VideoError


@dataclass(frozen=True)
class Neighbour:
    """A video found, the time in it that matches best, and the cosine similarity there."""

    path: str
    start_s: float
    end_s: float
    score: float


@dataclass(frozen=True)
class Question:
    """A scanned video to ask with, or the part of it between two times in seconds."""

    video: Video
    within_s: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """The video, and the range behind an @."""
        return self.video.source + ("" if self.within_s is None else "@{:g}-{:g}".format(*self.within_s))


@dataclass(frozen=True)
class Asking:
    """How to search: whole videos or moments; candidates compared exactly; cells searched, 0 for the index's own."""

    top_k: int = 5
    moments: bool = False
    rerank: int = nearest.RERANK
    nprobe: int = 0


def split_range(text: str) -> tuple[str, tuple[float, float] | None]:
    """``VIDEO@12.5-15`` as the video and the times; a file that is really called so is that file.

    Raises:
        UserError: if the range ends before it starts.
    """
    match = re.fullmatch(r"(.+)@(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", text)
    if match is None or Path(text).exists():
        return text, None
    start, end = float(match[2]), float(match[3])
    if not start < end:
        raise UserError(f"The range {match[2]}-{match[3]} of {match[1]} ends before it starts.")
    return match[1], (start, end)


def query(index: Path, video: Video, top_k: int, model: Model | None = None) -> list[Neighbour]:
    """The ``top_k`` videos of the index nearest to a scanned ``video``, best first; the file asked with is left out.

    Raises:
        UserError: if there is no index, it is damaged or of another model, or the video cannot be read.
    """
    stored = open_index(index)
    if model is not None:
        check_model(stored, model)
    try:
        return ask(stored, model or load_search_model(stored), Question(video), Asking(top_k))
    except VideoError as error:
        raise UserError(f"{video.source} cannot be asked with: {error}.") from None


def load_search_model(stored: Stored | None, device: torch.device | str = "cpu", spec: str = "") -> Model:
    """The model of an index, or the one that ``spec`` names. A random network has the same weights every time.

    Raises:
        UserError: if it is not there, or not the one that the index was built by.
    """
    if not spec:
        assert stored is not None
        spec = stored.header.model
        if not spec.startswith(("random:", "net:")) and not Path(spec).exists():
            raise UserError(
                f"{stored.folder} was built by {spec}, which is not there any more; name a copy of it by --model."
            )
    torch.manual_seed(0)
    model = load_model(spec, device)
    check_model(stored, model)
    return model


def check_model(stored: Stored | None, model: Model) -> None:
    """Raise UserError if the vectors of the index are not those of this network."""
    if stored is not None and fingerprint(model) != stored.header.weights:
        raise UserError(
            f"{stored.folder} was built by another model than {model.name} as it is now (it says: "
            f"{stored.header.model}); use that one, or {AGAIN}."
        )


def ask(stored: Stored, model: Model, question: Question, asking: Asking = Asking()) -> list[Neighbour]:
    """What is nearest to a video, best first.

    The question is the mean over its clips. A video of the index counts with its best clip, and the file asked with is
    left out; with ``moments`` every clip counts, but for those that overlap a better one or the range asked with.

    Raises:
        VideoError: if the video cannot be read, or the range lies outside it.
        UserError: if the index turns out to be damaged.
    """
    header = stored.header
    within = None if question.within_s is None else _frames(question.video, question.within_s)
    one = VideoSet(question.name, (question.video,))
    asked = extract(
        model, one, clips=header.clips, readout=header.readout, workers=0, within=within, none_is_an_error=False
    )
    if not asked.videos:
        raise VideoError(asked.problems[0].reason)
    mean, scale = np.array(header.mean, np.float32), np.array(header.scale, np.float32)
    vector_1D = unit((asked.mean_ND - mean) * scale)
    own = place_of(question.video), question.within_s
    cells, fetch = nearest.cells_of(stored.faiss_index), 4 * asking.top_k * (1 if asking.moments else 8)
    nprobe = min(asking.nprobe or header.nprobe, cells)
    while True:  # look further as long as too few are found: clips of one video crowd each other out
        fetch = min(fetch, header.rows)
        try:
            cosines, rows = nearest.search(
                stored.vectors_RD, stored.faiss_index, vector_1D, fetch, rerank=asking.rerank, nprobe=nprobe
            )
        except ValueError:
            raise UserError(f"The vectors of {stored.folder} were changed since it was made; {AGAIN}.") from None
        found = _pick(stored, cosines[0], rows[0], own, asking)
        if len(found) == asking.top_k or (fetch == header.rows and nprobe == cells):
            return found
        fetch, nprobe = 4 * fetch, min(4 * nprobe, cells)


def _pick(
    stored: Stored,
    cosines_K: np.ndarray,
    rows_K: np.ndarray,
    own: tuple[str, tuple[float, float] | None],
    asking: Asking,
) -> list[Neighbour]:
    found: list[Neighbour] = []
    taken: dict[str, list[tuple[float, float]]] = {}
    everywhere = (0.0, float("inf"))
    taken[own[0]] = [own[1] if asking.moments and own[1] else everywhere]
    for cosine, row in zip(cosines_K.tolist(), rows_K.tolist(), strict=True):
        if row < 0 or stored.owner_R[row] < 0:  # fewer than asked for; a video that was removed
            continue
        entry = stored.entries[stored.owner_R[row]]
        start, end = entry.times_s[row - entry.first]
        before = taken.setdefault(entry.path, [])
        if any(start < e and s < end for s, e in before):
            continue
        before.append((start, end) if asking.moments else everywhere)
        found.append(Neighbour(entry.path, start, end, cosine))
        if len(found) == asking.top_k:
            break
    return found


def _frames(video: Video, within_s: tuple[float, float]) -> tuple[int, int]:
    assert video.info is not None
    fps = _fps(video)
    first, end = (round(t * fps) for t in within_s)
    if first >= video.frames:
        raise VideoError(f"it ends after {video.frames / fps:.2f} s")
    return first, max(first + 1, min(end, video.frames))


def seconds(video: Video, frame: int) -> float:
    """The time at which a frame of a scanned video begins, or the video ends."""
    return round(min(frame, video.frames) / _fps(video), 3)


def _fps(video: Video) -> float:
    assert video.info is not None
    return video.info.fps or 25.0


def place_of(video: Video) -> str:
    """What an index calls a video: the absolute path of the user's file, links resolved."""
    return str(Path(video.source).resolve())
