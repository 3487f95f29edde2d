"""What processes that train together say to each other, how often, and what they share."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_video.constants import constant
from ssl_video.eval import features as features_module
from ssl_video.eval import pretext as pretext_module
from ssl_video.eval.online import monitors_for
from ssl_video.eval.pretext import PretextConfig, measured
from ssl_video.run import Run
from ssl_video.train import loop as loop_module
from ssl_video.train.config import TrainingConfig
from ssl_video.train.data import ClipDataset
from ssl_video.train.distributed import Ranks
from ssl_video.train.log import Meter
from ssl_video.train.loop import train
from tests import warm
from tests.nets import drawn_frames, video_set
from tests.train_script import config_for, make_pretext

ROOT = Path(__file__).resolve().parents[1]
LOG_EVERY, STEPS = 4, 16
COUNTED = """
import json, os, signal, sys
from dataclasses import replace
from pathlib import Path
import torch.distributed as dist
from tests.train_script import *
from ssl_video.train.loop import Interrupted

called, per_step, answer = [], [], {"code": 0}
for name in ("all_reduce", "broadcast", "all_gather", "all_gather_object", "broadcast_object_list", "barrier"):
    def counted(*args, real=getattr(dist, name), name=name, **options):
        called.append("default" if options.get("group") is None else "side")
        return real(*args, **options)
    setattr(dist, name, counted)

ranks = join(CPU)
pretext = make_pretext()
def after_step(progress):
    per_step.append([len(called), called.count("default")])
    if progress.step == 6 and ranks.rank == 1 and "stop" in sys.argv:
        os.kill(os.getpid(), signal.SIGTERM)
pretext.after_step = after_step
every = {"log_every": 4, "monitor_every": 100, "checkpoint_every": 100}
config = replace(config_for(0, 16), **every)
dataset = ClipDataset(video_set(), pretext, seed=0, read=drawn_frames)
try:
    train(pretext, dataset, config, Run(sys.argv[1]), ranks, [lambda _objective, _step: {}])
except Interrupted:
    answer["code"] = 130
Path(f"{sys.argv[1]}-{ranks.rank}.json").write_text(json.dumps(answer | {"per_step": per_step}))
leave()
"""


def two_processes(folder: Path, *words: str) -> list[dict]:
    """What two processes that trained noted of it."""
    warm.run_together(["-c", COUNTED, str(folder / "run"), *words])
    return [json.loads((folder / f"run-{rank}.json").read_text()) for rank in (0, 1)]


def test_between_two_records_the_devices_meet_once_outside_of_the_gradients(tmp_path):
    for noted in two_processes(tmp_path):
        both, default = zip(*noted["per_step"], strict=True)
        between = [default[step + LOG_EVERY] - default[step] for step in range(STEPS - LOG_EVERY)]
        assert len(default) == STEPS and max(between) == 1
        assert both[-1] - default[-1] >= STEPS // LOG_EVERY - 1  # the stop flag, on the side


def test_a_signal_to_one_process_stops_all_of_them_after_the_same_step(tmp_path):
    noted = two_processes(tmp_path, "stop")
    assert [one["code"] for one in noted] == [130, 130]
    steps = {len(one["per_step"]) for one in noted}
    assert len(steps) == 1 and 6 < steps.pop() <= 6 + 5
    assert Run(tmp_path / "run").last_step() == len(noted[0]["per_step"])


class Reads(TorchDispatchMode):
    """Counts how often a number is read from a tensor, for which a device would be waited for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += "_local_scalar_dense" in str(func)
        return func(*args, **(kwargs or {}))


def test_no_number_is_read_from_the_device_between_two_records(tmp_path, monkeypatch):
    elsewhere = torch.device("cuda")
    monkeypatch.setattr(loop_module, "Meter", lambda clips, below, _device: Meter(clips, below, elsewhere))
    config = config_for(0, STEPS)
    every = {"log_every": LOG_EVERY, "checkpoint_every": 100, "monitor_every": 100}
    config = replace(config, **every, optim=replace(config.optim, ema=None))
    pretext, reads, counts = make_pretext(), Reads(), []
    pretext.config = replace(pretext.config, random_size=False)  # that number is drawn, and read, on the CPU
    pretext.after_step = lambda progress: counts.append(reads.count)
    with reads:
        train(pretext, ClipDataset(video_set(), pretext, 0, drawn_frames), config, Run(tmp_path))
    between = [counts[step] - counts[step - 1] for step in range(1, STEPS) if step % LOG_EVERY]
    assert between == [0] * len(between) and counts[-1] > 0


def test_constants_are_made_once_for_a_device_and_not_by_a_tracer():
    values, cpu = ((1.0, 2.0), (3.0, 4.5)), torch.device("cpu")
    assert constant(values, cpu) is constant(values, cpu)
    assert torch.equal(constant(values, cpu), torch.tensor(values))
    assert constant(values, cpu, torch.float64).dtype == torch.float64

    class Shifted(torch.nn.Module):
        def forward(self, x):
            return x + constant((7.5, 8.5), x.device)

    program = torch.export.export(Shifted(), (torch.zeros(2),))
    assert torch.equal(program.module()(torch.zeros(2)), torch.tensor([7.5, 8.5]))
    assert type(constant((7.5, 8.5), cpu)) is torch.Tensor
    assert torch.equal(Shifted()(torch.zeros(2)), torch.tensor([7.5, 8.5]))


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The paths of the drawn videos that were read."""
    seen: list[str] = []

    def read(video, frames, each=None):
        seen.append(video.path)
        return drawn_frames(video, frames)

    monkeypatch.setattr(features_module, "read_video", read)
    monkeypatch.setattr(pretext_module, "ClipDataset", partial(ClipDataset, read=read))
    return seen


def of_two_ranks(monkeypatch, function):
    """What ``function`` of the ranks gives on the first of two, and what the second one hands to it in this order."""
    from_second: list[object] = []

    def hand_over(self, thing):
        from_second.append(thing)
        raise StopIteration

    handed = 0

    def take_over(self, thing):
        nonlocal handed
        handed += 1
        return [thing, from_second[handed - 1]]

    monkeypatch.setattr(Ranks, "gathered", hand_over)
    with pytest.raises(StopIteration):
        function(Ranks(1, 2))
    monkeypatch.setattr(Ranks, "gathered", take_over)
    return function(Ranks(0, 2))


def test_ranks_share_the_test_of_a_pretext_and_find_what_one_process_finds(monkeypatch, reads):
    pretext, config = make_pretext().eval(), PretextConfig(clips=2, batch_size=5)

    def found(ranks: Ranks):
        reads.clear()
        return measured(pretext, video_set(12), ranks, config, 0, 0), len(reads)

    alone, read_alone = found(Ranks())
    shared, read_by_first = of_two_ranks(monkeypatch, found)
    assert shared == alone
    assert read_by_first <= 0.65 * read_alone


def test_ranks_share_the_videos_of_the_probe(monkeypatch, reads):
    pretext = make_pretext().eval()
    train_set, held_out = video_set(10), video_set(6)

    def probed(ranks: Ranks):
        _, probe = monitors_for(train_set, held_out, ranks, TrainingConfig(workers=0))
        return probe(pretext, 1)

    alone = probed(Ranks())
    reads.clear()

    def gathered(self, thing):
        return [thing]  # only its own part

    monkeypatch.setattr(Ranks, "gathered", gathered)
    monkeypatch.setattr("ssl_video.eval.online.calibrate_batch_norm", lambda model, *_a, **_b: model)
    probed(Ranks(1, 2))
    assert len(set(reads)) == 5 and alone.keys() == {"probe_top1"}


@pytest.mark.parametrize("batch_size, every, shown", [(8, 500, 80), (2, 10, 50), (64, 500, 90)])
def test_monitors_show_a_fiftieth_of_what_is_trained_on_between_them(monkeypatch, reads, batch_size, every, shown):
    monkeypatch.setattr("ssl_video.eval.online.calibrate_batch_norm", lambda model, *_a, **_b: model)
    _, probe = monitors_for(
        video_set(90), video_set(6), Ranks(), TrainingConfig(workers=0, batch_size=batch_size, monitor_every=every)
    )
    reads.clear()
    probe(make_pretext().eval(), 1)
    assert len(reads) == shown + 6
