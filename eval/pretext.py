"""A run's own pretext task on videos it was not trained on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ssl_video.backbones.weights.files import OTHER_WEIGHTS
from ssl_video.bounds import Bounded, Count
from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.flow import for_modality
from ssl_video.errors import UserError
from ssl_video.eval.base import EVALUATIONS, Evaluation, Outcome, Task
from ssl_video.eval.takes import Takes, Videos
from ssl_video.model import Model
from ssl_video.pretexts.base import PRETEXTS
from ssl_video.progress import bar
from ssl_video.train.data import ClipDataset, Key, batches, grouping, tensors, usable
from ssl_video.train.distributed import Ranks
from ssl_video.train.loop import context_of
from ssl_video.train.objective import Objective, Progress


@dataclass(frozen=True)
class PretextConfig(Bounded):
    """Options of the pretext's own test."""

    clips: Count = 4
    """Samples of each video."""
    batch_size: Count = 16
    """Videos in a batch; matters for losses that couple samples."""
    still: bool = False
    """A control: every clip, and every tuple of single frames, shows its middle frame only, repeated."""


@EVALUATIONS.register("pretext")
class PretextTest(Evaluation[PretextConfig]):
    """Loss and accuracy of a run's pretext, by the paper's test protocol, on the test list (or the only list)."""

    Config = PretextConfig
    presets: ClassVar = {"default": PretextConfig()}
    takes: ClassVar[Takes] = Videos()

    def measure(self, model: Model, task: Task, config: PretextConfig, seed: int) -> Outcome:
        """No label of the data set is used."""
        if model.pretext is None:
            name = (model.run.get("pretext") or {}).get("name")
            what = "name a run's folder"
            if name:
                what = f"its pretext {name!r} is not known here; name its file by --plugin"
            if name in PRETEXTS.names():
                what = f"the file of its pretext {name!r} is missing, or was left out with a warning; take another run"
            raise UserError(f"{model.name} has no pretext to test: {what}.")
        model.check_weights()
        videos = task.test or task.train
        pretext = model.pretext.eval()
        looked_at = for_modality(videos, model.backbone.clip.modality, reversed=pretext.needs.reversed)
        fit = usable(looked_at, pretext)
        metrics = pretext_numbers(pretext, fit, model.device, config, seed, task.workers)
        check_loss(model.name, metrics)
        problems = list(fit.problems[len(videos.problems) :])
        counts = {"videos": len(fit.videos), "samples": len(fit.videos) * config.clips}
        trained = model.run.get("data", {})
        counts |= {f"training {k.replace('_', ' ')}": trained[k] for k in ("videos", "left_out") if k in trained}
        return Outcome(metrics, counts, problems)


def check_loss(name: str, numbers: Mapping[str, float]) -> None:
    """Raise UserError if the loss among the numbers of the model called ``name`` is not finite."""
    if not math.isfinite(numbers["loss"]):
        raise UserError(f"The loss of the pretext of {name} is {numbers['loss']}, which is no result; {OTHER_WEIGHTS}.")


@torch.no_grad()
def pretext_numbers(
    pretext: Objective, videos: VideoSet, device: torch.device, config: PretextConfig, seed: int, workers: int
) -> dict[str, float]:
    """Means of loss and metrics over ``clips`` samples of every video; ``pretext`` must be in eval mode.

    Metrics that are not defined are left out. Whether the loss is finite, the caller checks (``check_loss``).
    """
    assert not pretext.training
    groups_N = np.array(grouping(videos, pretext) or [0] * len(videos.videos))
    groups: list[list[Key]] = []
    for group in np.unique(groups_N):
        keys = [(0, int(v), c) for c in range(config.clips) for v in np.flatnonzero(groups_N == group)]
        groups += [keys[i : i + config.batch_size] for i in range(0, len(keys), config.batch_size)]
    dataset = ClipDataset(videos, pretext, seed)
    sums: dict[str, float] = {}
    state = torch.get_rng_state()
    for number, batch in enumerate(bar(batches(dataset, groups, workers), "pretext", "batch", total=len(groups))):
        shown = tensors(batch, device)
        output = pretext(
            stilled(shown) if config.still else shown, context_of(seed, Progress(number, 1), Ranks(device=device))
        )
        for name, value in {"loss": output.loss, **output.metrics}.items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(groups[number])
    torch.set_rng_state(state)
    means = {name: total / sum(map(len, groups)) for name, total in sums.items()}
    return {name: mean for name, mean in means.items() if name == "loss" or math.isfinite(mean)}


def stilled(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The batch with the middle frame in the place of every frame, in each array of frames, whose name ends in HWC."""
    return {name: _middle(x) if name.endswith("HWC") else x for name, x in batch.items()}


def _middle(frames_XTHWC: Tensor) -> Tensor:
    return frames_XTHWC.narrow(-4, frames_XTHWC.shape[-4] // 2, 1).expand_as(frames_XTHWC).contiguous()
