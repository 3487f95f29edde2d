"""A page on a run: its curves, what its network saw, and nearest neighbours before and after the training."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ssl_video.apps.inputs import in_colours, jpeg, strips
from ssl_video.apps.page import Block, Heading, Picture, Table, Words
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.errors import UserError
from ssl_video.eval.base import Task
from ssl_video.eval.features import Extraction
from ssl_video.eval.knn import unit
from ssl_video.eval.linear import standardise
from ssl_video.eval.retrieval import recall_at
from ssl_video.eval.shards import train_and_test_features
from ssl_video.model import Model
from ssl_video.pretexts.base import Pretext
from ssl_video.train.data import ClipDataset, read_video
from ssl_video.train.report import draw_curves, last_values, read_metrics, speed
from ssl_video.video.augment import crop, resize_short_side
from ssl_video.video.cache import FLOW_CODEC
from ssl_video.video.reader import VideoError, iterate_frames

SIDE = 96
"""Pixels a side of the pictures of neighbours."""
AT_MOST = 300
"""Videos that are looked through for neighbours."""
SAME, OTHER = (40, 160, 70), (200, 200, 200)
"""Frames around neighbours of the query's class, and around others."""


@dataclass(frozen=True)
class Lists:
    """Videos of which to show samples and among which to look for neighbours, as the network sees them.

    ``asked`` are those asked with, none of which is in ``gallery``; ``what`` says in a sentence what they are.
    """

    gallery: VideoSet
    asked: VideoSet
    what: str


def progress_of(run: Path) -> list[Block]:
    """Curves, last values and throughput, from metrics.jsonl alone."""
    records = read_metrics(run)
    if not records:
        return [Words("No step was noted yet: metrics.jsonl is absent or empty.")]
    replaced = max(int(r.get("replaced", 0)) for r in records)
    blocks: list[Block] = [
        Words(f"{records[-1]['step']} steps are noted. {speed(records)} {replaced} videos were replaced by others."),
        Heading("Learning"),
        Picture("curves.png", draw_curves(records)),
        Table(("last value of", ""), last_values(records)),
    ]
    if any("feature_std" in r for r in records):
        blocks.append(
            Words(
                "`feature_std` near 0 or `effective_rank` near 1 means that the features collapse: all videos become "
                "the same point, or points on one line."
            )
        )
    return blocks


def samples_of(pretext: Pretext, videos: VideoSet, count: int, seed: int) -> list[Block]:
    """``count`` training samples of a pretext, each of another video. Raises UserError if the videos give none."""
    pretext.train()
    dataset = ClipDataset(videos, pretext, seed)
    chosen = np.unique(np.linspace(0, len(videos.videos) - 1, count).round().astype(int))
    blocks: list[Block] = []
    for place, number in enumerate(chosen.tolist()):
        sample = dataset[0, number, 0]
        replaced = " (or of a video in its place)" if sample.pop("problems") else ""
        rows = [
            (strip.label, Picture(f"sample_{place + 1}_{row}.jpg", jpeg(strip.picture_HWC)))
            for row, strip in enumerate(strips(sample), 1)
        ]
        if not rows:
            raise UserError(f"{type(pretext).__name__} gives no frames that could be shown.")
        blocks.append(Table((_name(videos.videos[number], videos) + replaced, ""), rows))
    return blocks


def neighbours_of(
    models: Mapping[str, Model], lists: Lists, *, queries: int, neighbours: int, workers: int
) -> list[Block]:
    """The nearest videos of a few of those asked with, by each of the models, and the retrieval numbers of them all.

    Features and their standardisation are those of ``ssl-video evaluate retrieval``, of 4 clips a video. Raises
    UserError if no video can be read.
    """
    gallery, asked = _thin(lists.gallery), _thin(lists.asked)
    task = Task("", 1, gallery, asked, workers)
    ranked = {name: _rank(model, task) for name, model in models.items()}
    first = next(iter(ranked.values()))
    blocks: list[Block] = [
        Words(
            f"Asked with: {len(first.asked)} ({lists.what}). Looked through: {len(first.gallery)}. The number at a "
            "neighbour is the cosine similarity."
            + (" A green frame: the same class." if gallery.labelled else "")
            + (f" {first.unreadable} could not be read." if first.unreadable else "")
        )
    ]
    for m in np.unique(np.linspace(0, len(first.asked) - 1, queries).round().astype(int)).tolist():
        head = ("", *map(str, range(1, min(neighbours, len(first.gallery)) + 1)))
        video = first.asked[m]
        query = _thumbnail(video, f"query_{m}.jpg", _name(video, asked), (255, 255, 255))
        rows = [("asks", query, *[""] * (len(head) - 2))]
        rows += [
            (name, *_nearest(found, m, neighbours, f"query_{m}_{row}", gallery))
            for row, (name, found) in enumerate(ranked.items(), 1)
        ]
        blocks.append(Table(head, rows))
    if first.recalls:
        rows = [(name, *(f"{value:.3f}" for value in found.recalls.values())) for name, found in ranked.items()]
        blocks.append(Table(("of all that ask", *first.recalls), rows))
    return blocks


@dataclass(frozen=True)
class _Ranked:
    """Readable videos of both lists, cosines between them, and recall at k where every video has one label."""

    gallery: list[Video]
    asked: list[Video]
    similarity_MN: np.ndarray
    recalls: dict[str, float]
    unreadable: int


def _rank(model: Model, task: Task) -> _Ranked:
    gallery, asked = train_and_test_features(model, task, Extraction(4, "rich"), calibrate=True)
    x_gallery, x_asked = (unit(x) for x in standardise(gallery.mean_ND, asked.mean_ND))
    recalls = {}
    if all(len(v.labels) == 1 for v in (*gallery.videos, *asked.videos)):
        recalls = recall_at(x_asked, x_gallery, asked.labels_N, gallery.labels_N, (1, 5))
    unreadable = len(gallery.problems) + len(asked.problems)
    return _Ranked(gallery.videos, asked.videos, x_asked @ x_gallery.T, recalls, unreadable)


def _nearest(found: _Ranked, m: int, neighbours: int, name: str, videos: VideoSet) -> list[Picture]:
    own, pictures = found.asked[m].labels, []
    for rank, n in enumerate(np.argsort(-found.similarity_MN[m], kind="stable")[:neighbours].tolist(), 1):
        video = found.gallery[n]
        frame = SAME if own and video.labels == own else OTHER
        caption = f"{found.similarity_MN[m, n]:.2f} {_name(video, videos)}"
        pictures.append(_thumbnail(video, f"{name}_{rank}.jpg", caption, frame))
    return pictures


def _thumbnail(video: Video, name: str, caption: str, frame: tuple[int, int, int]) -> Picture:
    """The middle frame of a video, cut to a square, in a coloured frame; gray if it cannot be read any more."""
    try:
        if video.info is not None and video.info.codec == FLOW_CODEC:  # the fields of a video that is shown itself
            picture_HWC = next(islice(iterate_frames(video.source), video.frames // 2, None))
        else:
            picture_HWC = read_video(video, [video.frames // 2])[0]
    except (VideoError, StopIteration):
        picture_HWC = np.full((SIDE, SIDE, 3), 128, np.uint8)
    picture_HWC = in_colours(crop(resize_short_side(np.array(picture_HWC)[None], SIDE), SIDE, None))[0]
    framed_HWC = np.full((SIDE + 8, SIDE + 8, 3), frame, np.uint8)
    framed_HWC[4:-4, 4:-4] = picture_HWC
    return Picture(name, jpeg(framed_HWC), caption)


def _thin(videos: VideoSet) -> VideoSet:
    step = -(-len(videos.videos) // AT_MOST)
    return VideoSet(videos.name, videos.videos[::step], videos.classes)


def _name(video: Video, videos: VideoSet) -> str:
    """The file's name and the names of its classes."""
    classes = ", ".join(videos.classes[i] for i in video.labels)
    return Path(video.source).name + (f" ({classes})" if classes else "")
