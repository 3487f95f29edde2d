"""YouTube-8M (Abu-El-Haija et al., 2016, arXiv 1609.08675): features of videos, one a second, and no pixels.

The published files are TFRecord shards ``train*.tfrecord``, ``validate*.tfrecord`` and ``test*.tfrecord``, in
``frame/`` (else ``video/``) of the root, in folders below these, or in the root itself. Frame-level records hold 1024
numbers of an Inception network and 128 of an audio network for each second, after PCA and whitening, as one byte a
number. Video-level records hold their means as floats. The labels of the test list are held back, so that the
validation list serves as the test list. ``vocabulary.csv`` in the root names the classes; without it they are the
numbers 0 to 3861.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssl_video.datasets.base import DATASETS, FeatureShards, FeatureSplits
from ssl_video.datasets.listing import csv_lines, first_folder, list_of_split, read_text
from ssl_video.datasets.tfrecord import Feature, Steps, TFRecordError, parse_example, read_records
from ssl_video.errors import UserError
from ssl_video.video.info import Problem

CLASSES = 3862
"""Classes of the versions of 2018 and later."""
DIMENSIONS = {"rgb": 1024, "audio": 128}


@dataclass(frozen=True)
class FeatureSequence:
    """Features of one video: a row a second, or one row of means. ``labels`` are indices of classes, maybe none."""

    id: str
    labels: tuple[int, ...]
    features_TD: np.ndarray


@dataclass(frozen=True)
class FeatureSet:
    """The sequences in the shards of a list, read one after the other, never all in memory."""

    listed: FeatureShards
    audio: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.listed.classes

    def __iter__(self) -> Iterator[FeatureSequence | Problem]:
        """Every sequence in the order of the files, and a problem for what cannot be read."""
        return self.read(self.listed.shards)

    def shuffled(self, seed: int) -> Iterator[FeatureSequence | Problem]:
        """As iteration, with the shards in a random order."""
        return self.read(random.Random(seed).sample(self.listed.shards, len(self.listed.shards)))

    def read(self, shards: Iterable[str]) -> Iterator[FeatureSequence | Problem]:
        """The sequences of these shards."""
        for shard in shards:
            for number, record in enumerate(read_records(shard)):
                if isinstance(record, TFRecordError):
                    yield Problem(f"{shard}, record {number}", str(record))
                    continue
                try:
                    yield sequence_of(record, len(self.classes), self.audio)
                except TFRecordError as error:
                    yield Problem(f"{shard}, record {number}", str(error))


@DATASETS.register("youtube8m")
def load_youtube8m(root: Path, split: int) -> FeatureSplits:
    """Shards of features for training, and those for validation as the test list; no videos. Raises UserError."""
    root = list_of_split({1: root}, split, root)
    folder = first_folder(root, ("frame", "video")).resolve()
    shards: dict[str, list[str]] = {"train": [], "validate": [], "test": []}
    for path in sorted(folder.rglob("*.tfrecord")):
        kind = next((k for k in shards if path.name.startswith(k)), None)
        if kind is not None:
            shards[kind].append(str(path))
    if not shards["train"]:
        raise UserError(f"There is no file train*.tfrecord in {folder} or below; put the training shards there.")
    vocabulary = root / "vocabulary.csv"
    numbered = tuple(str(c) for c in range(CLASSES))
    classes = parse_vocabulary(read_text(vocabulary), vocabulary) if vocabulary.is_file() else numbered
    name = root.resolve().name
    train = FeatureShards(f"{name} train", tuple(shards["train"]), classes)
    kind = "validate" if shards["validate"] else "test"
    test = FeatureShards(f"{name} {kind}", tuple(shards[kind]), classes) if shards[kind] else None
    unused = (root / "video").is_dir() and folder.name == "frame"
    warning = f"The video-level features in {root / 'video'} are not used; name that folder as the root to use them."
    return FeatureSplits(train, test, (warning,) if unused else ())


def parse_vocabulary(text: str, source: Path) -> tuple[str, ...]:
    """The column Name of a csv, in the order of the column Index. Raises UserError unless that counts from 0."""
    lines = csv_lines(text, source)
    header = [c.strip() for c in lines[0][1]] if lines else []
    if "Index" not in header or "Name" not in header:
        raise UserError(f"{source} has no columns Index and Name; take vocabulary.csv as it was published.")
    index, name = header.index("Index"), header.index("Name")
    named: dict[int, str] = {}
    for number, row in lines[1:]:
        if len(row) != len(header) or not row[index].strip().isdecimal() or len(row[index]) > 18:
            raise UserError(f"{source}, line {number}: this is not an index with its {len(header)} columns.")
        named[int(row[index])] = row[name].strip() or row[index].strip()
    if sorted(named) != list(range(len(named))) or not named:
        raise UserError(f"{source}: the classes are not numbered from 0 to {len(named) - 1}.")
    return tuple(named[i] for i in range(len(named)))


def sequence_of(record: bytes, classes: int, audio: bool = True) -> FeatureSequence:
    """A record of either kind. Raises TFRecordError if it is none, or if a label is not below ``classes``."""
    features, lists = parse_example(record)
    kinds = ("rgb", "audio") if audio else ("rgb",)
    parts = []
    for kind in kinds:
        if kind in lists:
            parts.append(_frames(lists[kind], kind))
        elif f"mean_{kind}" in features:
            mean = features[f"mean_{kind}"]
            if not isinstance(mean, np.ndarray) or mean.dtype != np.float32 or len(mean) != DIMENSIONS[kind]:
                raise TFRecordError(f"mean_{kind} does not hold {DIMENSIONS[kind]} numbers")
            parts.append(mean[None])
        else:
            raise TFRecordError(f"there is neither {kind!r} nor 'mean_{kind}' in the record")
    length = min(len(p) for p in parts)  # of some videos the sound is a second longer or shorter
    features_TD = np.concatenate([p[:length] for p in parts], axis=1)
    if not np.isfinite(features_TD).all():
        raise TFRecordError("the features are not finite")
    labels = features.get("labels", np.zeros(0, np.int64))
    if not isinstance(labels, np.ndarray) or labels.dtype != np.int64:
        labels = np.zeros(0, np.int64) if isinstance(labels, tuple) and not labels else np.array([-1])
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise TFRecordError(f"a label is not one of 0 to {classes - 1}; put vocabulary.csv of its version in the root")
    return FeatureSequence(_text(features.get("id", features.get("video_id", ()))), _unique(labels), features_TD)


def dequantised(bytes_TD: np.ndarray) -> np.ndarray:
    """float32 features, from about -2 to about 2, of bytes.

    As the publishers do it: byte * 4/255 + 4/512 - 2.
    """
    return bytes_TD.astype(np.float32) * np.float32(4 / 255) + np.float32(4 / 512 - 2)


def _frames(steps: Steps, kind: str) -> np.ndarray:
    if not isinstance(steps, np.ndarray) and not steps:
        raise TFRecordError(f"{kind!r} is empty")
    if not isinstance(steps, np.ndarray) or steps.shape[1] != DIMENSIONS[kind]:
        raise TFRecordError(f"{kind!r} does not hold {DIMENSIONS[kind]} bytes a second")
    return dequantised(steps)


def _unique(labels: np.ndarray) -> tuple[int, ...]:
    return tuple(sorted({int(label) for label in labels}))


def _text(feature: Feature) -> str:
    return feature[0].decode("utf-8", "replace") if isinstance(feature, tuple) and feature else ""
