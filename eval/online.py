"""Monitors of a training, for the loop to call; they use a held-out fraction of the training list."""

from dataclasses import replace

import torch

from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.many import in_fixed_order
from ssl_video.eval.accuracy import accuracies
from ssl_video.eval.calibration import calibrate_batch_norm
from ssl_video.eval.features import Extraction, Features, check_some, extract
from ssl_video.eval.pretext import PretextConfig, check_loss, measured
from ssl_video.eval.ridge import ridge_scores
from ssl_video.model import Model
from ssl_video.train.config import TrainingConfig
from ssl_video.train.distributed import Ranks
from ssl_video.train.loop import Monitor
from ssl_video.train.objective import Objective
from ssl_video.train.precision import choose_precision

AT_MOST, AT_LEAST, SHARE = 200, 50, 50
"""Videos of each list that a monitor takes: a 50th of the samples between two monitors, but so many."""
CLIPS = 64
"""Clips for the batch-norm statistics of the probe."""


def monitors_for(train: VideoSet, held_out: VideoSet, ranks: Ranks, config: TrainingConfig) -> list[Monitor]:
    """The pretext's own numbers on held-out videos; with one label each, a ridge probe from ``train`` to these.

    The ranks share the videos, which as many processes of each read as in training; what they find is the same on all.
    The probe's features have the training's precision.
    """
    between = config.monitor_every * config.batch_size * config.optim.accumulate
    at_most, workers = min(AT_MOST, max(AT_LEAST, between // SHARE)), config.workers
    probed, tested = thinned(train, at_most), thinned(held_out, at_most)
    dtype = choose_precision(config.precision, ranks.device)

    def pretext_on_held_out(pretext: Objective, _step: int) -> dict[str, float]:
        numbers, _ = measured(pretext, tested, ranks, PretextConfig(clips=2), seed=0, workers=workers)
        check_loss("the network in training on held-out videos", numbers)
        return {f"held_out_{name}": value for name, value in numbers.items()}

    def probe(pretext: Objective, _step: int) -> dict[str, float]:
        model = Model("The network in training", pretext.exported(), pretext.view, {}, ranks.device)
        model = calibrate_batch_norm(model, probed, at_most=CLIPS, workers=workers)
        with torch.autocast(ranks.device.type, dtype, enabled=dtype is not None):
            x, x_test = (_features(model, videos, ranks, workers) for videos in (probed, tested))
        scores = ridge_scores(x.mean_ND, x.labels_N, x_test.mean_ND, len(train.classes))
        return {"probe_top1": accuracies(scores, x_test.labels_N)["top1"]}

    one_label = train.labelled and held_out.labelled and not (train.multi_label or held_out.multi_label)
    return [pretext_on_held_out, probe] if one_label else [pretext_on_held_out]


def _features(model: Model, videos: VideoSet, ranks: Ranks, workers: int) -> Features:
    """Features of all videos on every rank, each of which extracts those of a part."""
    part = replace(videos, videos=videos.videos[ranks.rank :: ranks.world_size])
    found = extract(model, part, Extraction(2, "rich"), workers=workers, none_is_an_error=ranks.world_size == 1)
    whole = Features([], [], [], [])
    for one in ranks.gathered(found):
        for all_of_it, more in zip(vars(whole).values(), vars(one).values(), strict=True):
            all_of_it.extend(more)
    check_some(whole, videos)
    return whole


def thinned(videos: VideoSet, at_most: int) -> VideoSet:
    """Not more than so many, chosen whichever places they have in the list."""
    chosen = videos.videos if len(videos.videos) <= at_most else in_fixed_order(videos.videos)[:at_most]
    return replace(videos, videos=chosen)
