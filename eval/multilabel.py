"""Measures for videos with several labels: pure functions of scores_NK and targets_NK (N videos, K classes)."""

import numpy as np


def multilabel_numbers(scores_NK: np.ndarray, targets_NK: np.ndarray) -> tuple[dict[str, float], dict[str, int]]:
    """hit@1, hit@5, mAP and GAP@20, and from how many classes mAP is the mean.

    Where no video has a label, mAP and GAP@20 are not defined, and left out.
    """
    mean_ap, counted = mean_average_precision(scores_NK, targets_NK)
    metrics = {
        "hit@1": hit_at(scores_NK, targets_NK, 1),
        "hit@5": hit_at(scores_NK, targets_NK, 5),
        "mAP": mean_ap,
        "GAP@20": global_average_precision(scores_NK, targets_NK, 20),
    }
    return {k: v for k, v in metrics.items() if not np.isnan(v)}, {"classes_in_mAP": counted}


def targets_of(labels: list[tuple[int, ...]], classes: int) -> np.ndarray:
    """(N, classes) True where a video has a label."""
    targets_NK = np.zeros((len(labels), classes), bool)
    for row, classes_of_video in enumerate(labels):
        targets_NK[row, list(classes_of_video)] = True
    return targets_NK


def best(scores_NK: np.ndarray, targets_NK: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, k) highest scores of every video, falling, and whether each is that of a true class; k is at most K."""
    order_Nk = np.argsort(-scores_NK, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores_NK, order_Nk, 1), np.take_along_axis(targets_NK.astype(bool), order_Nk, 1)


def hit_at(scores_NK: np.ndarray, targets_NK: np.ndarray, k: int) -> float:
    """The fraction of the videos of whose k best classes at least one is true (Karpathy et al., CVPR 2014)."""
    return float(best(scores_NK, targets_NK, k)[1].any(1).mean())


def average_precision(scores_N: np.ndarray, targets_N: np.ndarray, positives: int | None = None) -> float:
    """Sum of precision times gain in recall down the list, equal scores taken together; NaN without positives.

    ``positives`` are the true ones there are, where not all of them are in the list.
    """
    from sklearn.metrics import average_precision_score

    listed = int(np.count_nonzero(targets_N))
    positives = listed if positives is None else positives
    if not positives:
        return float("nan")
    if not listed:  # of which scikit-learn would warn
        return 0.0
    return float(average_precision_score(targets_N, scores_N)) * listed / positives


def mean_average_precision(scores_NK: np.ndarray, targets_NK: np.ndarray) -> tuple[float, int]:
    """The mean of the classes' average precisions, and of how many: classes without a positive are left out."""
    counted = np.flatnonzero(np.asarray(targets_NK).any(0))
    precisions = [average_precision(scores_NK[:, c], targets_NK[:, c]) for c in counted]
    return float(np.mean(precisions)) if precisions else float("nan"), len(counted)


def global_average_precision(scores_NK: np.ndarray, targets_NK: np.ndarray, k: int = 20) -> float:
    """YouTube-8M's GAP: the average precision of the k best scores of all videos in one list.

    Recall counts all true labels, also those that are not among a video's k best.
    """
    scores_Nk, hits_Nk = best(scores_NK, targets_NK, k)
    return average_precision(scores_Nk.ravel(), hits_Nk.ravel(), int(np.count_nonzero(targets_NK)))
