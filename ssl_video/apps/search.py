"""Nearest-neighbour search among videos: an index of clips, asked with a video.

An index is a folder: ``index.json`` says which model made the vectors, which clip each belongs to and the SHA-256 of
the faiss file; it is written last, so that a folder with a readable index.json is a whole index.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssl_video.datasets.base import Video, VideoSet
from ssl_video.errors import UserError
from ssl_video.eval.features import extract
from ssl_video.eval.knn import unit
from ssl_video.files import sha256, write_text, written_aside
from ssl_video.model import Model, load_model


@dataclass(frozen=True)
class Neighbour:
    """A video found, the time in it that matches best, and the cosine similarity there."""

    path: str
    start_s: float
    end_s: float
    score: float


def build_index(
    model: Model, videos: VideoSet, out: Path, *, clips: int = 8, readout: str = "rich", workers: int = 2
) -> int:
    """Index every clip of the videos; returns the number of videos in it.

    Vectors are standardised over the index and scaled to length 1, so that the inner product is a cosine.

    Raises:
        UserError: if ``out`` is in use, or no video can be read.
    """
    import faiss

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty; choose another --out.")
    found = extract(model, videos, clips=clips, readout=readout, workers=workers)
    vectors_ND = np.concatenate(found.clips_KD).astype(np.float32)
    mean, scale = vectors_ND.mean(0), 1 / np.maximum(vectors_ND.std(0), 1e-6)
    index = faiss.IndexFlatIP(vectors_ND.shape[1])
    index.add(np.ascontiguousarray(unit((vectors_ND - mean) * scale)))  # pyright: ignore[reportCallIssue]
    with written_aside(out / "vectors.faiss") as aside:
        faiss.write_index(index, str(aside))
    items = [
        {"path": str(Path(v.source).resolve()), "start_s": _seconds(v, s), "end_s": _seconds(v, s + model.view.span(v))}
        for v, starts in zip(found.videos, found.starts, strict=True)
        for s in starts
    ]
    about = {
        "format": 1,
        "model": model.name if model.name.startswith("random:") else str(Path(model.name).resolve()),
        "readout": readout,
        "clips": clips,
        "mean": mean.tolist(),
        "scale": scale.tolist(),
        "sha256": sha256(out / "vectors.faiss"),
        "items": items,
        "left_out": [asdict(p) for p in (*videos.problems, *found.problems)],
    }
    write_text(out / "index.json", json.dumps(about))
    return len(found.videos)


def query(index: Path, video: Video, top_k: int, model: Model | None = None) -> list[Neighbour]:
    """The ``top_k`` videos of the index nearest to ``video``, best first; the file asked with is left out.

    The query is the mean over the video's clips; a video of the index counts with its best clip.

    Raises:
        UserError: if the index is damaged or not one, or the video cannot be read.
    """
    import faiss

    about = _read(index)
    model = model or load_model(about["model"])
    one = VideoSet(video.path, (video,))
    asked = extract(model, one, clips=about["clips"], readout=about["readout"], workers=0)
    vector_1D = (asked.mean_ND - np.array(about["mean"])) * np.array(about["scale"])
    vectors = faiss.read_index(str(index / "vectors.faiss"))
    items, own = about["items"], str(Path(video.path).resolve())
    if vectors.ntotal != len(items) or vectors.d != vector_1D.shape[1]:
        raise UserError(f"{index} does not fit the model {about['model']}; make the index again.")
    scores, ranked = vectors.search(unit(vector_1D).astype(np.float32), len(items))
    best: dict[str, Neighbour] = {}
    for score, number in zip(scores[0], ranked[0], strict=True):
        item = items[number]
        if item["path"] != own and item["path"] not in best:
            best[item["path"]] = Neighbour(item["path"], item["start_s"], item["end_s"], float(score))
        if len(best) == top_k:
            break
    return list(best.values())


def _seconds(video: Video, frame: int) -> float:
    assert video.info is not None
    fps = video.info.fps or 25.0
    return round(min(int(frame), video.frames) / fps, 3)


def _read(index: Path) -> dict[str, Any]:
    try:
        about = json.loads((index / "index.json").read_text(encoding="utf-8"))
        expected, _ = about["sha256"], about["items"]
    except FileNotFoundError:
        raise UserError(f"{index} is no index (it holds no index.json); make one with 'ssl-video index'.") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{index / 'index.json'} is damaged; make the index again with 'ssl-video index'.") from None
    vectors = index / "vectors.faiss"
    if not vectors.exists() or sha256(vectors) != expected:  # faiss must not parse a file that was tampered with
        raise UserError(f"{vectors} is missing or was changed since the index was made; make the index again.")
    return about
