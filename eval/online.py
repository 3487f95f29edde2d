"""Monitors of a training, for the loop to call; they use a held-out fraction of the training list."""

from dataclasses import replace

import torch

from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.many import in_fixed_order
from ssl_video.eval.accuracy import accuracies
from ssl_video.eval.calibration import calibrate_batch_norm
from ssl_video.eval.features import Extraction, extract
from ssl_video.eval.linear import ridge_scores
from ssl_video.eval.pretext import PretextConfig, check_loss, measured
from ssl_video.model import Model
from ssl_video.train.loop import Monitor
from ssl_video.train.objective import Objective

AT_MOST = 200
"""Videos of each list that a monitor takes."""
CLIPS = 64
"""Clips for the batch-norm statistics of the probe."""


def monitors_for(train: VideoSet, held_out: VideoSet, device: torch.device) -> list[Monitor]:
    """The pretext's own numbers on held-out videos; with one label each, a ridge probe from ``train`` to these."""
    some = thinned(held_out, AT_MOST)

    def pretext_on_held_out(pretext: Objective, _step: int) -> dict[str, float]:
        numbers, _ = measured(pretext, some, device, PretextConfig(clips=2), seed=0, workers=0)
        check_loss("the network in training on held-out videos", numbers)
        return {f"held_out_{name}": value for name, value in numbers.items()}

    probed, tested = thinned(train, AT_MOST), thinned(held_out, AT_MOST)

    def probe(pretext: Objective, _step: int) -> dict[str, float]:
        model = Model("The network in training", pretext.exported(), pretext.view, {}, device)
        model = calibrate_batch_norm(model, probed, at_most=CLIPS, workers=0)
        x, x_test = (extract(model, videos, Extraction(2, "rich"), workers=0) for videos in (probed, tested))
        scores = ridge_scores(x.mean_ND, x.labels_N, x_test.mean_ND, len(train.classes))
        return {"probe_top1": accuracies(scores, x_test.labels_N)["top1"]}

    one_label = train.labelled and held_out.labelled and not (train.multi_label or held_out.multi_label)
    return [pretext_on_held_out, probe] if one_label else [pretext_on_held_out]


def thinned(videos: VideoSet, at_most: int) -> VideoSet:
    """Not more than so many, chosen whichever places they have in the list."""
    chosen = videos.videos if len(videos.videos) <= at_most else in_fixed_order(videos.videos)[:at_most]
    return replace(videos, videos=chosen)
