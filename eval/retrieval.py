"""Video retrieval: each test video is a query, the training videos are searched."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from ssl_video.bounds import Count
from ssl_video.datasets.base import Video
from ssl_video.encoders.base import Encoder
from ssl_video.errors import UserError
from ssl_video.eval.base import EVALUATIONS, Evaluation, Outcome, Task
from ssl_video.eval.blocks import Blocks, Standard, nearest
from ssl_video.eval.features import FeatureOptions
from ssl_video.eval.knn import unit
from ssl_video.eval.results import BEST, Prediction, names_of
from ssl_video.eval.shards import train_and_test_features
from ssl_video.model import Model


@dataclass(frozen=True)
class RetrievalConfig(FeatureOptions):
    """Options of the retrieval protocol."""

    centre: Literal["none", "own", "train"] = "train"
    """own: subtract each list's own mean; train: standardise both lists by the training list."""
    ks: tuple[Count, ...] = (1, 5, 10, 20, 50)
    """Numbers of neighbours k."""
    other_groups: bool = False
    """Leave neighbours of the query's own group out."""

    def __post_init__(self):
        super().__post_init__()
        if not self.ks:
            raise UserError("Retrieval needs numbers of neighbours; name one or more as ks, such as ks=1,5.")


@EVALUATIONS.register("retrieval")
class Retrieval(Evaluation[RetrievalConfig]):
    """Recall at k: the fraction of test videos of whose k nearest training videos at least one has the same class.

    ``vcop`` follows Xu et al., "Self-Supervised Spatiotemporal Learning via Video Clip Order Prediction", CVPR 2019:
    ten clips, the last feature map max-pooled and flattened, cosine on raw features. ``coclr`` follows Han, Xie and
    Zisserman, NeurIPS 2020: windows overlapping by half, average-pooled, each list centred by its own mean, cosine.
    Numbers of the two are not comparable with each other. No video is dropped, and nothing is drawn at random.
    """

    Config = RetrievalConfig
    presets: ClassVar = {
        "default": RetrievalConfig(),
        "vcop": RetrievalConfig(clips=10, readout="conv5", calibrate=False, centre="none"),
        "coclr": RetrievalConfig(clips=0, readout="avg", calibrate=False, centre="own"),
    }
    takes_encoders: ClassVar[bool] = True

    def measure(self, model: Model | Encoder, task: Task, config: RetrievalConfig, seed: int) -> Outcome:
        """Queries are the test list, the gallery is the training list."""
        gallery, queries = train_and_test_features(model, task, config.extraction, calibrate=config.calibrate)
        x_gallery, x_queries = gallery.mean_ND, queries.mean_ND
        of_gallery = of_queries = np.asarray
        if config.centre == "own":
            of_gallery, of_queries = (replace(Standard.of(x), scale_D=np.float32(1)) for x in (x_gallery, x_queries))
        elif config.centre == "train":
            of_gallery = of_queries = Standard.of(x_gallery)
        groups = group_numbers(queries.videos, gallery.videos) if config.other_groups else None
        centred, searched = Blocks(x_queries, of_queries), Blocks(x_gallery, of_gallery)
        found = neighbours(Blocks(centred, unit), Blocks(searched, unit), max(config.ks), groups)
        recalls = recalls_of(found, queries.labels_N, gallery.labels_N, config.ks)
        counts = {"queries": len(queries.videos), "gallery": len(gallery.videos), "classes": len(task.train.classes)}
        predictions = nearest_classes(found, queries.videos, gallery.videos, task.train.classes)
        return Outcome(recalls, counts, gallery.problems + queries.problems, predictions=predictions)


@dataclass(frozen=True)
class Neighbours:
    """The rows of a gallery that are nearest to a query, the nearest first, and their inner products with it."""

    rows_k: np.ndarray
    similarities_k: np.ndarray


Groups = tuple[np.ndarray, np.ndarray]
"""(M,) and (N,) numbers of the groups of queries and of a gallery; a negative one is of no group."""


def group_numbers(queries: Sequence[Video], gallery: Sequence[Video]) -> Groups:
    """The numbers of the videos' groups."""
    numbers = {group: n for n, group in enumerate(dict.fromkeys(v.group for v in (*queries, *gallery) if v.group))}
    of_queries, of_gallery = (np.array([numbers.get(v.group, -1) for v in videos]) for videos in (queries, gallery))
    return of_queries, of_gallery


def neighbours(
    queries_MD: np.ndarray | Blocks, gallery_ND: np.ndarray | Blocks, k: int, groups: Groups | None = None
) -> list[Neighbours]:
    """The ``k`` nearest of each query, by exact inner-product search; fewer if the gallery, or what is allowed, has.

    With ``groups`` a query's own group is left out: as many more are searched as the largest group has videos.

    Raises ValueError for vectors that are not finite.
    """
    of_queries, of_gallery = groups or (np.full(len(queries_MD), -1), np.full(len(gallery_ND), -1))
    more = int(np.bincount(of_gallery[of_gallery >= 0], minlength=1).max()) if groups else 0
    found = []
    for here, rows_Bk, similarities_Bk in nearest(Blocks(queries_MD), Blocks(gallery_ND), k + more):
        for group, rows_k, similarities_k in zip(of_queries[here], rows_Bk, similarities_Bk, strict=True):
            those = (of_gallery[rows_k] != group) | (group < 0)
            found.append(Neighbours(rows_k[those][:k], similarities_k[those][:k]))
    return found


def recalls_of(
    found: Sequence[Neighbours], labels_M: np.ndarray, labels_N: np.ndarray, ks: Sequence[int]
) -> dict[str, float]:
    """``recall@k`` for each k; a k beyond the gallery counts all of it."""
    hits_M = [labels_N[one.rows_k] == label for one, label in zip(found, labels_M, strict=True)]
    return {f"recall@{k}": sum(bool(hits[:k].any()) for hits in hits_M) / len(found) for k in ks}


def nearest_classes(
    found: Sequence[Neighbours], queries: Sequence[Video], gallery: Sequence[Video], classes: Sequence[str]
) -> list[Prediction]:
    """For each query that has a neighbour, the classes of the nearest ones."""
    return [
        Prediction(query.source, names_of(query, classes), ranked[0], float(one.similarities_k[0]), ranked)
        for query, one in zip(queries, found, strict=True)
        if (ranked := tuple(names_of(gallery[row], classes) for row in one.rows_k[:BEST]))
    ]


def recall_at(
    queries_MD: np.ndarray,
    gallery_ND: np.ndarray,
    labels_M: np.ndarray,
    labels_N: np.ndarray,
    ks: tuple[int, ...],
    groups: Groups | None = None,
) -> dict[str, float]:
    """``recall@k`` for each k, see ``neighbours`` and ``recalls_of``."""
    return recalls_of(neighbours(queries_MD, gallery_ND, max(ks), groups), labels_M, labels_N, ks)
