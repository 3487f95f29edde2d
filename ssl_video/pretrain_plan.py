"""What a pretraining will do, said before its first step: videos, steps, time on this machine, and what is written."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ssl_video.checkpoints import KEEP
from ssl_video.errors import UserError
from ssl_video.pretexts.base import Pretext
from ssl_video.pretrain_config import PretrainConfig
from ssl_video.progress import are, count, duration, size
from ssl_video.run import Lists
from ssl_video.train.config import OptimConfig
from ssl_video.train.data import ClipDataset
from ssl_video.train.distributed import Ranks
from ssl_video.train.pace import Pace, measure_pace
from ssl_video.train.parallel import sharded

STEPS_TO_TIME = 20
"""A training of fewer steps is not timed before it starts: it would take a good part of the training itself."""


@dataclass(frozen=True)
class Plan:
    """What a pretraining will do.

    ``steps`` are those that are left, of ``total``; ``pace`` is None where it was not measured. ``checkpoint`` is the
    size of one in bytes, ``weights`` that of the files of weights together.
    """

    videos: int
    held_out: int
    left_out: int
    parameters: int
    steps: int
    total: int
    pace: Pace | None
    out: Path
    checkpoint: int
    weights: int

    @property
    def seconds(self) -> float | None:
        """How long the training takes on this machine, without its monitors; None if it was not measured."""
        return None if self.pace is None else self.steps * self.pace.step_s

    def sentences(self) -> Iterator[str]:
        """In words."""
        yield f"{are(self.videos, 'video')} trained on, {self.held_out} held out, {self.left_out} left out."
        steps = (
            count(self.steps, "step") if self.steps == self.total else f"{self.steps} of {self.total} steps are left"
        )
        yield f"{self.parameters / 1e6:.2f} M parameters, {steps}, into {self.out}"
        if self.seconds is not None and self.pace is not None:
            each = f"{self.pace.step_s:.2g} s a step, measured on steps that were thrown away"
            yield f"Estimated time on this machine: about {duration(self.seconds)} ({each})."
        kept = f"the newest {KEEP} checkpoints of {size(self.checkpoint)}"
        yield f"Written to {self.out}: {kept}, weights of {size(self.weights)}, lists, records and a report."


def plan_of(
    config: PretrainConfig,
    pretext: Pretext,
    lists: Lists,
    dataset: ClipDataset,
    out: Path,
    done: int = 0,
    ranks: Ranks = Ranks(),
) -> Plan:
    """The plan of a training, ``done`` steps of which are done, into the folder ``out``.

    A training with ``STEPS_TO_TIME`` steps to do is timed (``measure_pace``), which takes some seconds and changes
    nothing of it; one whose weights are sharded is not: one process may not hold it, and one that goes on without what
    its start read (a teacher, say, which its checkpoint has) is not either. Raises UserError if no sample can be read.
    """
    training = config.training
    total = training.steps_over(len(lists.training.videos))
    timed = total - done >= STEPS_TO_TIME and not sharded(training, ranks)
    pace = None
    try:
        pace = measure_pace(pretext, dataset, training, ranks) if timed else None
    except UserError:
        if not done:
            raise
    own = sum(t.numel() * t.element_size() for t in pretext.state_dict().values())
    trained = sum(p.numel() * p.element_size() for p in pretext.parameters() if p.requires_grad)
    of_backbone = sum(t.numel() * t.element_size() for t in pretext.exported().state_dict().values())
    return Plan(
        videos=len(lists.training.videos),
        held_out=len(lists.held_out.videos),
        left_out=len(lists.training.problems),
        parameters=sum(p.numel() for p in pretext.parameters()),
        steps=total - done,
        total=total,
        pace=pace,
        out=out,
        checkpoint=_checkpoint(training.optim, own, trained),
        weights=own + of_backbone,
    )


def _checkpoint(optim: OptimConfig, own: int, trained: int) -> int:
    """Bytes: the weights, their moving average, and what the optimiser keeps of each that is trained."""
    moments = 2 if optim.name in ("adam", "adamw") else 1
    return own * (1 if optim.ema is None else 2) + moments * trained
