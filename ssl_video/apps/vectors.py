"""Vectors of videos for other programs: TensorBoard's projector, and data sets of FiftyOne.

One vector a video, from a search index or from extracted features.
"""

import base64
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssl_video.apps.index_folder import open_index
from ssl_video.apps.options import VectorFormat
from ssl_video.errors import UserError
from ssl_video.eval.knn import unit
from ssl_video.eval.shard_files import stored_shards
from ssl_video.files import folder_written_aside, legible, readable, write_text

TILE = 48
"""Pixels a side of a video's picture in the projector."""
LARGEST_SPRITE = 8192
"""Pixels a side of the largest sprite that TensorBoard shows."""


@dataclass(frozen=True)
class Vectors:
    """One vector a video: its path, the names of its classes, and the list it is of, "" where nobody knows."""

    paths: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    splits: tuple[str, ...]
    vectors_ND: np.ndarray


def load_vectors(folder: Path) -> Vectors:
    """The vectors of a search index (means of clips, of length 1) or of ``ssl-video extract`` (means of clips).

    Raises:
        UserError: if the folder is neither, or damaged, or holds no video.
    """
    if (folder / "header.json").is_file():
        found = _of_index(folder)
    elif lists := [f for f in (folder, folder / "train", folder / "test") if (f / "about.json").is_file()]:
        found = _of_features(lists)
    else:
        raise UserError(f"{folder} is no index and holds no features; make one by 'ssl-video index' or 'extract'.")
    if not found.paths:
        raise UserError(f"{folder} holds no video; there is nothing to export.")
    return found


def _of_index(folder: Path) -> Vectors:
    stored = open_index(folder)
    rows = [stored.vectors_RD[e.first : e.end].mean(0) for e in stored.entries]
    vectors_ND = unit(np.stack(rows)) if rows else np.zeros((0, stored.header.dim), np.float32)
    paths, labels = (tuple(getattr(e, name) for e in stored.entries) for name in ("path", "labels"))
    return Vectors(paths, labels, ("",) * len(paths), vectors_ND)


def _of_features(lists: list[Path]) -> Vectors:
    videos: list[tuple[str, tuple[str, ...], str]] = []
    means = []
    for folder in lists:
        for rows, vectors_KD in stored_shards(folder):
            ends = np.cumsum([len(row["starts"]) for row in rows])
            means += [clips_KD.mean(0) for clips_KD in np.split(vectors_KD, ends[:-1])]
            # features of an earlier version name no classes
            videos += [(r["path"], tuple(r.get("classes", map(str, r["labels"]))), folder.name) for r in rows]
    paths, labels, splits = zip(*videos, strict=True) if videos else ((), (), ())
    return Vectors(paths, labels, splits, np.array(means, np.float32))


def export_vectors(vectors: Vectors, out: Path, form: VectorFormat) -> list[str]:
    """Write the new or empty folder ``out``; the names of its files.

    Raises:
        UserError: if ``out`` is in use.
    """
    with folder_written_aside(out) as folder:
        {"projector": _projector, "fiftyone": _fiftyone}[form](vectors, folder)
    return sorted(path.name for path in out.iterdir())


def _projector(vectors: Vectors, folder: Path) -> None:
    """vectors.tsv, metadata.tsv, sprite.png and the file by which ``tensorboard --logdir`` finds them."""
    rows = ("\t".join(f"{x:.6g}" for x in row) for row in vectors.vectors_ND.tolist())
    write_text(folder / "vectors.tsv", "".join(f"{row}\n" for row in rows))
    lines = ["name\tpath\tlabel\tsplit"]
    for path, labels, split in zip(vectors.paths, vectors.labels, vectors.splits, strict=True):
        lines.append("\t".join(map(legible, (Path(path).name, path, ", ".join(labels), split))))
    write_text(folder / "metadata.tsv", "\n".join(lines) + "\n")
    config = 'embeddings {\n  tensor_name: "videos"\n  tensor_path: "vectors.tsv"\n  metadata_path: "metadata.tsv"\n'
    columns = int(np.ceil(len(vectors.paths) ** 0.5))
    if columns * TILE <= LARGEST_SPRITE:
        _sprite(vectors.paths, columns).save(folder / "sprite.png")
        config += f'  sprite {{\n    image_path: "sprite.png"\n    single_image_dim: {TILE}\n'
        config += f"    single_image_dim: {TILE}\n  }}\n"
    write_text(folder / "projector_config.pbtxt", config + "}\n")


def _sprite(paths: tuple[str, ...], columns: int) -> Any:
    """The first frames of the videos, row by row; gray where a file cannot be read any more."""
    from PIL import Image

    sheet = np.full((columns * TILE, columns * TILE, 3), 128, np.uint8)
    for number, tile in enumerate(_tiles(paths)):
        y, x = divmod(number, columns)
        if tile is not None:
            sheet[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE] = tile
    return Image.fromarray(sheet)


def _tiles(paths: tuple[str, ...]) -> Iterator[np.ndarray | None]:
    from ssl_video.video.augment import resize
    from ssl_video.video.info import VideoError
    from ssl_video.video.reader import read_frames

    for path in paths:
        try:
            frame_1HWC = read_frames(path, [0])
        except (VideoError, OSError):
            yield None
            continue
        h, w = frame_1HWC.shape[1:3]
        y, x, side = (h - min(h, w)) // 2, (w - min(h, w)) // 2, min(h, w)
        yield resize(frame_1HWC[:, y : y + side, x : x + side, :3], (TILE, TILE))[0]


def _fiftyone(vectors: Vectors, folder: Path) -> None:
    """A ``fiftyone.types.FiftyOneDataset`` on disk: samples as JSON, with the videos where they lie.

    It is the form without a version, of FiftyOne before 0.8, which FiftyOne has read ever since: the one that needs no
    database to be written.
    """
    samples = [
        {
            "filepath": str(Path(readable(path)).resolve()),
            "tags": [split] if split else [],
            "metadata": None,
            "ground_truth": _ground_truth(labels),
            "embedding": {"$binary": {"base64": _packed(vector), "subType": "00"}},
            "frames": "frames.json",
        }
        for path, labels, split, vector in zip(
            vectors.paths, vectors.labels, vectors.splits, vectors.vectors_ND, strict=True
        )
    ]
    classes = sorted({label for labels in vectors.labels for label in labels})
    metadata = {"media_type": "video", "info": {"classes": {"ground_truth": classes}} if classes else {}}
    write_text(folder / "metadata.json", json.dumps(metadata) + "\n")
    write_text(folder / "frames.json", json.dumps({"frames": {}}) + "\n")  # no labels of single frames
    write_text(folder / "samples.json", json.dumps({"samples": samples}) + "\n")


def _ground_truth(labels: tuple[str, ...]) -> dict[str, Any] | None:
    each = [{"_cls": "Classification", "label": label} for label in labels]
    if len(each) > 1:
        return {"_cls": "Classifications", "classifications": each}
    return each[0] if each else None


def _packed(vector_D: np.ndarray) -> str:
    """An array as FiftyOne keeps it: .npy, compressed, in base64."""
    file = io.BytesIO()
    np.save(file, vector_D, allow_pickle=False)
    return base64.b64encode(zlib.compress(file.getvalue())).decode("ascii")
