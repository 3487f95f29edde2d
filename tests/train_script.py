"""A training process for tests to start, kill and resume.

usage: train_script.py RUN STEPS WORKERS [kill=N] [term=N] [double]
"""

import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from ssl_video.pretexts.base import build_pretext
from ssl_video.run import Run
from ssl_video.train.config import OptimConfig, TrainingConfig
from ssl_video.train.data import ClipDataset
from ssl_video.train.distributed import join, leave
from ssl_video.train.loop import Interrupted, train
from ssl_video.train.objective import Progress
from tests.nets import drawn_frames, tiny_backbone, video_set

CPU = torch.device("cpu")


class FrozenNorm(nn.BatchNorm3d):
    """Batch norm that stays in eval mode."""

    def train(self, mode: bool = True):
        return super().train(False)


def make_pretext(double: bool = False):
    backbone = tiny_backbone()
    if double:
        backbone.stages["stem"][1] = FrozenNorm(8)
    torch.manual_seed(1)
    options = {"frames": 4, "short_side": 12, "crop": 8, "min_size": 6, "max_size": 8}
    pretext = build_pretext("speediness", backbone, options)
    return pretext.double() if double else pretext


def config_for(workers: int, steps: int = 10, **options) -> TrainingConfig:
    optim = OptimConfig(lr=0.01, clip_norm=1.0, ema=0.9)
    every = {"log_every": 2, "checkpoint_every": 3, "monitor_every": 4}
    return TrainingConfig(steps=steps, batch_size=4, workers=workers, optim=optim, **every, **options)


def run(folder: Path, steps: int, workers: int, kill: int = -1, term: int = -1, double: bool = False):
    pretext = make_pretext(double)

    def after_step(progress: Progress) -> None:
        step = progress.step - 1
        if step == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == term:
            os.kill(os.getpid(), signal.SIGTERM)

    pretext.after_step = after_step
    folder.mkdir(parents=True, exist_ok=True)
    dataset = ClipDataset(video_set(), pretext, seed=0, read=drawn_frames)
    ranks = join(CPU)
    trained = train(pretext, dataset, config_for(workers, steps), Run(folder), ranks)
    if ranks.first:
        torch.save({"pretext": pretext.state_dict(), "average": trained.state_dict()}, folder / "end.pt")
    leave()


if __name__ == "__main__":
    flags = dict(a.split("=") if "=" in a else (a, "1") for a in sys.argv[4:])
    numbers = {k: int(v) for k, v in flags.items()}
    try:
        run(
            Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), **(numbers | {"double": bool(numbers.get("double"))})
        )
    except Interrupted:
        sys.exit(130)
