"""Video retrieval: test videos ask, training videos answer."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ssl_video.encoders.base import Encoder
from ssl_video.eval.base import EVALUATIONS, Evaluation, Outcome, Task
from ssl_video.eval.knn import unit
from ssl_video.eval.linear import standardise
from ssl_video.eval.shards import train_and_test_features
from ssl_video.model import Model


@dataclass(frozen=True)
class RetrievalConfig:
    """Options of the retrieval protocol."""

    clips: int = 8
    """Clips of a video, evenly spaced; 0: windows that overlap by half."""
    readout: str = "rich"
    """How a feature map becomes a vector: avg, max, rich or conv5."""
    calibrate: bool = True
    """Recompute batch-norm statistics on the training list first."""
    centre: Literal["none", "own", "train"] = "train"
    """own: subtract each list's own mean; train: standardise both lists by the training list."""
    ks: tuple[int, ...] = (1, 5, 10, 20, 50)
    """Numbers of neighbours looked at."""
    other_groups: bool = False
    """Leave neighbours of the query's own group out."""


@EVALUATIONS.register("retrieval")
class Retrieval(Evaluation):
    """Recall at k: the part of test videos of whose k nearest training videos at least one has the same class.

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

    def run(self, model: Model | Encoder, task: Task, config: RetrievalConfig, seed: int) -> Outcome:
        """Queries are the test list, the gallery is the training list."""
        gallery, queries = train_and_test_features(
            model, task, clips=config.clips, readout=config.readout, calibrate=config.calibrate
        )
        x_gallery, x_queries = gallery.mean_ND, queries.mean_ND
        if config.centre == "own":
            x_gallery, x_queries = x_gallery - x_gallery.mean(0), x_queries - x_queries.mean(0)
        elif config.centre == "train":
            x_gallery, x_queries = standardise(x_gallery, x_queries)
        banned = None
        if config.other_groups:
            banned = np.array([[bool(q.group) and q.group == g.group for g in gallery.videos] for q in queries.videos])
        recalls = recall_at(unit(x_queries), unit(x_gallery), queries.labels_N, gallery.labels_N, config.ks, banned)
        counts = {"queries": len(queries.videos), "gallery": len(gallery.videos), "classes": len(task.train.classes)}
        return Outcome(recalls, counts, gallery.problems + queries.problems)


def recall_at(
    queries_MD: np.ndarray,
    gallery_ND: np.ndarray,
    labels_M: np.ndarray,
    labels_N: np.ndarray,
    ks: tuple[int, ...],
    banned_MN: np.ndarray | None = None,
) -> dict[str, float]:
    """``recall@k`` for each k, by exact inner-product search; a k beyond the gallery looks at all of it."""
    import faiss

    index = faiss.IndexFlatIP(gallery_ND.shape[1])
    index.add(np.ascontiguousarray(gallery_ND, np.float32))  # pyright: ignore[reportCallIssue]
    depth = len(gallery_ND) if banned_MN is not None else min(max(ks), len(gallery_ND))
    _, ranked_Mk = index.search(np.ascontiguousarray(queries_MD, np.float32), depth)  # pyright: ignore[reportCallIssue]
    recalls = dict.fromkeys(ks, 0)
    for query, ranked in enumerate(ranked_Mk):
        allowed = ranked if banned_MN is None else ranked[~banned_MN[query][ranked]]
        hits = labels_N[allowed] == labels_M[query]
        for k in ks:
            recalls[k] += bool(hits[:k].any())
    return {f"recall@{k}": hits / len(queries_MD) for k, hits in recalls.items()}
