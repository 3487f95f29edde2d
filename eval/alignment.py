"""How well embeddings of frames align the videos of an action in time.

The measures of D. Dwibedi et al.: "Temporal Cycle-Consistency Learning", CVPR 2019, section 4, and the retrieval of
frames of later work. Each is computed action by action (the classes of the set, if it has classes) and averaged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from ssl_video.bounds import Bounded, Bounds, Count, Natural
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.phases import NONE, FramePhases, numbered, phases_of
from ssl_video.errors import UserError
from ssl_video.eval.base import EVALUATIONS, Evaluation, Outcome, Task
from ssl_video.eval.frames import calibrate_on_frames, embed_frames
from ssl_video.eval.takes import Takes, Videos
from ssl_video.model import Model


@dataclass(frozen=True)
class AlignmentConfig(Bounded):
    """Options of the alignment protocol."""

    stride: Count = 5
    """Of every video, Kendall's tau takes every stride-th frame; of retrieval, every stride-th is a query."""
    fractions: tuple[Annotated[float, Bounds(above=0, most=1)], ...] = (0.1, 0.5, 1.0)
    """Fractions of the labelled training videos that the phase classifier is trained on, from the first one on."""
    ks: tuple[Count, ...] = (5, 10, 15)
    """Numbers of neighbours k of retrieval."""
    phases: Count = 5
    """Equal intervals into which phases from 0 to 1 are cut; named phases stay as they are."""
    episodes: Natural = 0
    """Draws of few-shot classification for each number of training videos; 0: none."""
    shots: tuple[Count, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    """Numbers of training videos of few-shot classification."""
    calibrate: bool = True
    """Recompute batch-norm statistics on the training list first."""
    stage: str | None = None
    """The stage of the network whose clips around a frame are read, instead of the pretext's own embeddings of frames;
    None: those, or else the last stage."""


@dataclass
class Embedded:
    """A video's embeddings_TD and its phases_T, ``NONE`` where a frame has none; None for a video without."""

    embeddings_TD: np.ndarray
    phases_T: np.ndarray | None

    def labelled(self) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings and phases of the frames that have a phase."""
        assert self.phases_T is not None
        has = self.phases_T != NONE
        return self.embeddings_TD[has], self.phases_T[has]


@EVALUATIONS.register("alignment")
class Alignment(Evaluation[AlignmentConfig]):
    """Kendall's tau, phase classification and progression, frame retrieval, on embeddings of all frames.

    tau needs no labels and takes all test videos; the others take those with phases beside them. Of one list only, tau
    and retrieval are on that list, and the classifier leaves one video out. ``penn`` and ``pouring`` are the published
    settings, ``few-shot`` adds 50 draws of 1 to 10 training videos.
    """

    Config = AlignmentConfig
    presets: ClassVar = {
        "default": AlignmentConfig(),
        "penn": AlignmentConfig(stride=5, calibrate=False),
        "pouring": AlignmentConfig(stride=2, calibrate=False),
        "few-shot": AlignmentConfig(episodes=50),
    }
    takes: ClassVar[Takes] = Videos()

    def measure(self, model: Model, task: Task, config: AlignmentConfig, seed: int) -> Outcome:
        """Raises UserError if no action has two videos to compare."""
        test_set, one_list = task.test or task.train, task.test is None
        if config.calibrate:
            model = calibrate_on_frames(model, task.train.videos, stage=config.stage)
        test_phases = _phases(test_set.videos, config.phases)
        train = _with_phases(task.train, config.phases) if not one_list and any(test_phases) else None
        train_phases = _phases(train.videos, config.phases) if train is not None else []

        test_embedded, problems = embed_frames(model, test_set.videos, config.stage)
        train_embedded: list[np.ndarray | None] = []
        if train is not None and train.videos:
            train_embedded, more = embed_frames(model, train.videos, config.stage)
            problems = problems + more
        rng = np.random.default_rng(seed)
        per_video: dict[str, dict[str, float]] = {}
        rows, counts = [], {"test": len(test_set.videos), "labelled": sum(p is not None for p in test_phases)}
        counts |= {"train": len(train_embedded), "actions": 0, "pairs": 0, "pairs_without_tau": 0}
        counts["labels_beyond_the_end"] = sum(p.beyond for p in (*test_phases, *train_phases) if p is not None)
        actions = [_action(v) for v in test_set.videos]
        for action in sorted(set(actions)):
            tested = [n for n, a in enumerate(actions) if a == action and test_embedded[n] is not None]
            trained = [] if train is None else [n for n, v in enumerate(train.videos) if _action(v) == action]
            trained = [n for n in trained if train_embedded[n] is not None]
            sequences = _sequences(
                [train_embedded[n] for n in trained] + [test_embedded[n] for n in tested],
                [train_phases[n] for n in trained] + [test_phases[n] for n in tested],
            )
            row, taus = measure(
                sequences[: len(trained)], sequences[len(trained) :], config, rng, leave_one_out=one_list
            )
            rows.append(row)
            counts["actions"] += bool(row)
            counts["pairs"] += len(taus)
            counts["pairs_without_tau"] += int(np.isnan(taus).sum())
            for n, taus_J in zip(tested, taus.reshape(len(tested), max(0, len(tested) - 1)), strict=True):
                if not np.isnan(taus_J).all():
                    per_video[test_set.videos[n].source] = {"kendalls_tau": float(np.nanmean(taus_J))}
        names = dict.fromkeys(name for row in rows for name in row)
        if not names and counts["pairs"]:
            raise UserError(
                f"All frames of a video have the same nearest neighbour: {model.name} tells none apart; "
                "name a trained one by --model."
            )
        if not names:
            raise UserError(
                f"alignment compares videos, but no class of {test_set.name} has two that can be read; "
                "name --data with more videos of a class."
            )
        metrics = {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
        return Outcome(metrics, counts, problems, per_video=per_video)


def measure(
    train: Sequence[Embedded],
    test: Sequence[Embedded],
    config: AlignmentConfig,
    rng: np.random.Generator,
    leave_one_out: bool,
) -> tuple[dict[str, float], np.ndarray]:
    """The metrics of one action, as far as its videos allow, and ``kendalls_taus`` of its test videos."""
    metrics: dict[str, float] = {}
    taus = kendalls_taus([s.embeddings_TD for s in test], config.stride)
    if not np.isnan(taus).all():
        metrics["kendalls_tau"] = float(np.nanmean(taus))
    labelled = [s.labelled() for s in test if s.phases_T is not None]
    training = [s.labelled() for s in train if s.phases_T is not None]
    if labelled and training:
        for fraction in config.fractions:
            first = training[: max(1, int(fraction * len(training)))]
            metrics[f"classification@{fraction:g}"] = classification_accuracy(first, labelled)
        phases = 1 + max(int(y_T.max()) for _, y_T in (*training, *labelled))
        if phases > 1 and sum(len(y_T) for _, y_T in labelled) > 1:  # R^2 of one frame is not defined
            metrics["progression"] = progression_score(training, labelled, phases)
        for shots in config.shots if config.episodes else ():
            if shots <= len(training):
                draws = few_shot(training, labelled, shots, config.episodes, rng)
                metrics |= {f"few_shot@{shots}": float(draws.mean()), f"few_shot@{shots}_ci95": half_interval(draws)}
    elif leave_one_out and len(labelled) > 1:
        others = [(labelled[:n] + labelled[n + 1 :], [labelled[n]]) for n in range(len(labelled))]
        metrics["classification_leave_one_out"] = float(np.mean([classification_accuracy(*split) for split in others]))
    if len(labelled) > 1:
        metrics |= {f"AP@{k}": frame_retrieval(labelled, k, config.stride) for k in config.ks}
    return metrics, taus


Frames = tuple[np.ndarray, np.ndarray]
"""Embeddings (T, D) and phases (T,) of the labelled frames of a video."""


def kendalls_taus(embeddings: Sequence[np.ndarray], stride: int) -> np.ndarray:
    """Kendall's tau-b of every ordered pair of videos, the first by the first; NaN if all neighbours are one frame.

    Of both, every stride-th frame takes part. It compares the order of those of the first with that of their nearest
    neighbours among those of the second (squared Euclidean distance): 1 where these come in the same order, -1 where
    the order is reversed.
    """
    from scipy.spatial.distance import cdist
    from scipy.stats import kendalltau

    strided, taus = [x_TD[::stride] for x_TD in embeddings], []
    for i, queries_TD in enumerate(strided):
        for j, keys_TD in enumerate(strided):
            if i != j:
                nearest = cdist(queries_TD, keys_TD, "sqeuclidean").argmin(1)
                constant = len(nearest) < 2 or np.ptp(nearest) == 0
                order: Any = None if constant else kendalltau(np.arange(len(nearest)), nearest)
                taus.append(np.nan if constant else float(order.statistic))
    return np.array(taus)


def classification_accuracy(train: Sequence[Frames], test: Sequence[Frames]) -> float:
    """Fraction of test frames whose phase an SVM (RBF, C = 1) gets right; trained on one phase, it says that one."""
    from sklearn.svm import SVC

    x_ND, y_N = joined(train)
    x_MD, y_M = joined(test)
    if len(np.unique(y_N)) == 1:
        return float((y_M == y_N[0]).mean())
    return float((SVC(decision_function_shape="ovo").fit(x_ND, y_N).predict(x_MD) == y_M).mean())


def few_shot(
    train: Sequence[Frames], test: Sequence[Frames], shots: int, episodes: int, rng: np.random.Generator
) -> np.ndarray:
    """(episodes,) accuracies of classifiers that are trained on ``shots`` videos, drawn anew each time."""
    draws = [rng.choice(len(train), shots, replace=False) for _ in range(episodes)]
    return np.array([classification_accuracy([train[n] for n in chosen], test) for chosen in draws])


def half_interval(values: np.ndarray) -> float:
    """Half of the 95 % confidence interval of the mean, by Student's t; 0 for one value."""
    from scipy.stats import t

    if len(values) < 2:
        return 0.0
    return float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def progression_score(train: Sequence[Frames], test: Sequence[Frames], phases: int) -> float:
    """Mean R^2 of the linear regressions from an embedding to the time since each of the ``phases`` - 1 events."""
    from sklearn.linear_model import LinearRegression

    x_ND, x_MD = joined(train)[0], joined(test)[0]
    y_NE = np.concatenate([progression_targets(y_T, phases) for _, y_T in train])
    y_ME = np.concatenate([progression_targets(y_T, phases) for _, y_T in test])
    return float(LinearRegression().fit(x_ND, y_NE).score(x_MD, y_ME))  # R^2 averaged over the events


def progression_targets(phases_T: np.ndarray, phases: int) -> np.ndarray:
    """(T, phases - 1) time since the end of each phase but the last, as a fraction of the video; negative before it.

    A phase ends with its last frame. One that the video has not ends with the first frame of a later phase; if there is
    none, with the video.
    """
    count = len(phases_T)
    ends = []
    for phase in range(phases - 1):
        own, later = np.flatnonzero(phases_T == phase), np.flatnonzero(phases_T > phase)
        ends.append(own[-1] if len(own) else later[0] if len(later) else count - 1)
    return (np.arange(count)[:, None] - np.array(ends)) / count


def frame_retrieval(videos: Sequence[Frames], k: int, stride: int) -> float:
    """AP@k: fraction of the k nearest frames of all other videos that are of the same phase, averaged over videos.

    Every stride-th frame is a query. If the others have fewer than k frames, all of them count.
    """
    from scipy.spatial.distance import cdist

    precisions = []
    for n, (x_TD, y_T) in enumerate(videos):
        gallery_ND, phases_N = joined([v for m, v in enumerate(videos) if m != n])
        ranked_Mk = cdist(x_TD[::stride], gallery_ND, "sqeuclidean").argsort(1, kind="stable")[:, :k]
        precisions.append((phases_N[ranked_Mk] == y_T[::stride, None]).mean())
    return float(np.mean(precisions))


def joined(videos: Sequence[Frames]) -> Frames:
    """All frames of all videos."""
    return np.concatenate([x_TD for x_TD, _ in videos]), np.concatenate([y_T for _, y_T in videos])


def _phases(videos: Sequence[Video], intervals: int) -> list[FramePhases | None]:
    return [phases_of(v, intervals) for v in videos]


def _with_phases(videos: VideoSet, intervals: int) -> VideoSet:
    kept = tuple(v for v in videos.videos if phases_of(v, intervals) is not None)
    return VideoSet(videos.name, kept, videos.classes)


def _action(video: Video) -> int:
    return video.labels[0] if video.labels else 0


def _sequences(embedded: Sequence[np.ndarray | None], phases: Sequence[FramePhases | None]) -> list[Embedded]:
    """The videos of one action, with numbers for their phases."""
    numbers = iter(numbered([p for p in phases if p is not None])[1])
    return [
        Embedded(x_TD, None if p is None else next(numbers))
        for x_TD, p in zip(embedded, phases, strict=True)
        if x_TD is not None
    ]
