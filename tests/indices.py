"""Indices of vectors that are given, without videos or a network."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np

from ssl_video.apps.index_build import write_index
from ssl_video.apps.index_folder import open_index
from ssl_video.apps.index_rows import Entry
from ssl_video.apps.index_stored import Described, Stored
from ssl_video.eval.knn import unit
from ssl_video.files import sha256

TIMES = ((0.0, 0.4), (0.4, 0.8), (0.8, 1.2), (1.2, 1.6))


def described(dim: int, index_type: str = "exact") -> Described:
    return Described("random:tiny", "0" * 16, "rich", 3, index_type, 0, dim, [0.0] * dim, [1.0] * dim)


def entries_of(first: int, count: int, clips: int = 3) -> list[Entry]:
    """Videos by their numbers, each of another content."""
    numbers = range(first, first + count)
    return [Entry(f"/v/{n}.mp4", 99, 10**18 + n, 0, TIMES[:clips], f"{n:016x}", ("a",)) for n in numbers]


def vectors_of(rows: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    """Of length 1."""
    return unit(np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32))


def made(
    folder: Path, entries: list[Entry], vectors_RD: np.ndarray, index_type: str = "exact", nprobe: int | None = None
) -> Stored:
    """An index of these videos, in one segment or more."""
    folder.mkdir(exist_ok=True)
    write_index(folder, described(vectors_RD.shape[1], index_type), [(entries, vectors_RD)])
    stored = open_index(folder)
    return stored if nprobe is None else replace(stored, header=replace(stored.header, nprobe=nprobe))


def as_format2(folder: Path, change: Callable[[dict], dict] = dict) -> None:
    """Write an index of one segment anew, as versions before did; ``change`` changes what is said of a video."""
    stored = open_index(folder)
    (segment,) = stored.segments
    lines = [json.dumps(change(asdict(entry))) + "\n" for entry in stored.entries]
    files = {"videos": "videos-1.jsonl", "vectors": "vectors-1.f32"}
    (folder / files["videos"]).write_text("".join(lines))
    np.array(segment.vectors_RD).tofile(folder / files["vectors"])
    if segment.faiss_bytes is not None:
        files["faiss"] = "index-1.faiss"
        shutil.copyfile(segment.folder / "index.faiss", folder / files["faiss"])
    about = {field.name: getattr(stored.header, field.name) for field in fields(Described)}
    digests = {kind: sha256(folder / name) for kind, name in files.items()}
    header = {"format": 2, "rows": stored.header.rows, "files": files, "sha256": digests, "digest": ""}
    (folder / "header.json").write_text(json.dumps(about | header))
    for path in (*folder.glob("segment-*"), *folder.glob("trained-*"), *folder.glob("removed-*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
