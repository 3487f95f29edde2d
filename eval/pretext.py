"""A run's own pretext task on videos it was not trained on."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ssl_video.backbones.weights.files import OTHER_WEIGHTS
from ssl_video.bounds import Bounded, Count
from ssl_video.datasets.base import VideoSet
from ssl_video.datasets.flow import for_modality
from ssl_video.datasets.many import in_fixed_order
from ssl_video.errors import UserError
from ssl_video.eval.base import EVALUATIONS, Evaluation, Outcome, Task
from ssl_video.eval.calibration import batch_norms, settle
from ssl_video.eval.takes import Takes, Videos
from ssl_video.model import Model
from ssl_video.pretexts.base import PRETEXTS, Pretext
from ssl_video.progress import bar
from ssl_video.train.data import ClipDataset, Key, batches, grouping, tensors, usable, with_company
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
    reversed: bool = False
    """A control: every clip, and every tuple of single frames, is shown backwards."""
    calibrate: bool = False
    """Recompute batch-norm statistics, those of the heads too, on the training list first."""

    def changed(self, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A batch as the controls show it."""
        shown = stilled(batch) if self.still else batch
        return backwards(shown) if self.reversed else shown


CALIBRATED_ON = 64
"""Videos of the training list whose samples the batch-norm statistics are those of."""


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

        def looked_at(videos: VideoSet) -> VideoSet:
            seen = for_modality(videos, model.backbone.clip.modality, reversed=pretext.needs.reversed)
            return usable(seen, pretext)

        if config.calibrate and batch_norms(pretext):
            pretext = calibrated(pretext, looked_at(task.train), model.device, config, task.workers)
        fit = looked_at(videos)
        metrics, per_video = measured(pretext, fit, Ranks(device=model.device), config, seed, task.workers)
        check_loss(model.name, metrics)
        problems = list(fit.problems[len(videos.problems) :])
        counts = {"videos": len(fit.videos), "samples": len(fit.videos) * config.clips}
        trained = model.run.get("data", {})
        counts |= {f"training {k.replace('_', ' ')}": trained[k] for k in ("videos", "left_out") if k in trained}
        return Outcome(metrics, counts, problems, per_video=per_video)


def check_loss(name: str, numbers: Mapping[str, float]) -> None:
    """Raise UserError if the loss among the numbers of the model called ``name`` is not finite."""
    if not math.isfinite(numbers["loss"]):
        raise UserError(f"The loss of the pretext of {name} is {numbers['loss']}, which is no result; {OTHER_WEIGHTS}.")


@dataclass
class _Shown:
    """What came of the batches that a rank has shown, by their numbers; ``right``: path and share of each sample."""

    means: dict[int, dict[str, float]] = field(default_factory=dict)
    right: dict[int, list[tuple[str, float]]] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)


@torch.no_grad()
def measured(
    pretext: Objective, videos: VideoSet, ranks: Ranks, config: PretextConfig, seed: int, workers: int
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Means of loss and metrics over ``clips`` samples of every video; ``pretext`` must be in eval mode.

    Metrics that are not defined are left out. Whether the loss is finite, the caller checks (``check_loss``). Of
    several ranks each shows every so manyth batch, and all get the numbers that one would have.

    Returns:
        The metrics, and by the paths of the videos the accuracy of each one's samples. A video that could not be read,
        in whose place another one was shown, has none, nor has any where no sample has one of its own.
    """
    assert not pretext.training
    groups = _groups(pretext, videos, config.clips, config.batch_size)
    mine, shown = range(len(groups))[ranks.rank :: ranks.world_size], _Shown()
    loader = batches(ClipDataset(videos, pretext, seed), [groups[number] for number in mine], workers)
    state = torch.get_rng_state()
    for number, batch in zip(mine, bar(loader, "pretext", "batch", total=len(mine)), strict=True):
        inputs = config.changed(tensors(batch, ranks.device))
        output = pretext(inputs, context_of(seed, Progress(number, 1), Ranks(device=ranks.device)))
        shown.means[number] = {name: float(x) for name, x in {"loss": output.loss, **output.metrics}.items()}
        shown.replaced |= {problem.path for problem in batch["problems"]}
        if output.right_B is not None:
            paths = [videos.videos[video].source for _, video, _ in groups[number]]
            shown.right[number] = list(zip(paths, output.right_B.tolist(), strict=True))
    torch.set_rng_state(state)
    parts = ranks.gathered(shown)
    sums: dict[str, float] = {}
    right: dict[str, list[float]] = {}
    for number, group in enumerate(groups):  # in the order in which one process would have shown them
        of_batch = parts[number % ranks.world_size]
        for name, mean in of_batch.means[number].items():
            sums[name] = sums.get(name, 0.0) + mean * len(group)
        for path, share in of_batch.right.get(number, ()):
            right.setdefault(path, []).append(share)
    replaced = set().union(*(part.replaced for part in parts))
    means = {name: total / sum(map(len, groups)) for name, total in sums.items()}
    defined = {name: mean for name, mean in means.items() if name == "loss" or math.isfinite(mean)}
    return defined, {path: {"accuracy": float(np.mean(x))} for path, x in right.items() if path not in replaced}


def _groups(pretext: Objective, videos: VideoSet, clips: int, batch: int) -> list[list[Key]]:
    """The keys of the batches in which all videos are shown, so many clips of each."""
    of_class_N = grouping(videos, pretext)
    groups_N = np.zeros(len(videos.videos), int) if of_class_N is None else of_class_N
    groups: list[list[Key]] = []
    for group in np.unique(groups_N):
        keys = [(0, int(v), c) for c in range(clips) for v in np.flatnonzero(groups_N == group)]
        groups += [keys[i : i + batch] for i in range(0, len(keys), batch)]
    return groups


@torch.no_grad()
def calibrated(
    pretext: Pretext, videos: VideoSet, device: torch.device, config: PretextConfig, workers: int
) -> Pretext:
    """A copy whose batch-norm statistics are those of samples of ``videos``, as the test shows them.

    As ``calibration.calibrate_batch_norm``, for the network and the heads together.
    """
    pretext = copy.deepcopy(pretext)
    some = with_company(replace(videos, videos=in_fixed_order(videos.videos)[:CALIBRATED_ON]), pretext)
    groups = _groups(pretext, some, 1, config.batch_size)
    shown: Sequence[Mapping[str, Tensor]] = [
        config.changed(tensors(batch, device)) for batch in batches(ClipDataset(some, pretext, 0), groups, workers)
    ]

    def run(number: Tensor) -> Tensor:
        return pretext(shown[int(number)], context_of(0, Progress(0, 1), Ranks(device=device))).loss

    state = torch.get_rng_state()
    settle(pretext, [run], [torch.tensor(n) for n in range(len(shown))], cut=False)
    torch.set_rng_state(state)
    return pretext


def stilled(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The batch with the middle frame in the place of every frame, in each array of frames, whose name ends in HWC."""
    return {name: _middle(x) if name.endswith("HWC") else x for name, x in batch.items()}


def backwards(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The batch with the frames in the opposite order, in each array of frames, whose name ends in HWC."""
    return {name: x.flip(-4) if name.endswith("HWC") else x for name, x in batch.items()}


def _middle(frames_XTHWC: Tensor) -> Tensor:
    return frames_XTHWC.narrow(-4, frames_XTHWC.shape[-4] // 2, 1).expand_as(frames_XTHWC).contiguous()
