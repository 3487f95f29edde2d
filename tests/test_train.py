import errno
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ssl_video.errors import UserError
from ssl_video.pretexts.base import Output, Redraw
from ssl_video.processes import end_with_parent
from ssl_video.run import Run
from ssl_video.tensors import load_tensors, save_tensors
from ssl_video.train.config import OptimConfig, TrainingConfig
from ssl_video.train.data import MAX_ATTEMPTS, BatchKeys, ClipDataset, collate, grouping, usable
from ssl_video.train.distributed import Ranks
from ssl_video.train.log import Log, Meter, collapse_indicators
from ssl_video.train.loop import train
from ssl_video.train.objective import Context, Progress
from ssl_video.train.optim import LARS, build_optimizer, learning_rate, set_schedules
from ssl_video.train.trained import averaging
from ssl_video.video.reader import VideoError
from tests import warm
from tests.nets import drawn_frames, video_set
from tests.train_script import config_for, make_pretext, run

ROOT = Path(__file__).resolve().parents[1]
STEPS = 8


def script(folder, *words):
    return [str(ROOT / "tests" / "train_script.py"), str(folder), *map(str, words)]


def end_of(folder):
    return torch.load(folder / "end.pt", weights_only=True)


def assert_equal(a, b):
    for part in a:
        for key in a[part]:
            assert torch.equal(a[part][key], b[part][key]), f"{part} {key}"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder, STEPS, workers=0)
    return folder


def test_a_short_run_lowers_the_loss(tmp_path):
    run(tmp_path, 400, workers=0)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert sum(losses[-25:]) < 0.9 * sum(losses[:25])


@pytest.mark.parametrize(("kill", "workers"), [(0, 0), (4, 2), (6, 1)])
def test_a_killed_and_resumed_run_ends_bit_for_bit_as_the_whole_one(uninterrupted, tmp_path, kill, workers):
    assert warm.run(script(tmp_path, STEPS, workers, f"kill={kill}")).returncode == -9
    assert not (tmp_path / "end.pt").exists()
    run(tmp_path, STEPS, workers=0)
    assert_equal(end_of(uninterrupted), end_of(tmp_path))
    records = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (uninterrupted, tmp_path)
    ]
    assert [r["step"] for r in records[0]] == [r["step"] for r in records[1]]


def test_sigterm_saves_the_state_of_the_step_and_leaves(uninterrupted, tmp_path):
    assert warm.run(script(tmp_path, STEPS, 1, "term=3")).returncode == 130
    assert Run(tmp_path).checkpoints()[-1].name == "step_00000004.pt"
    run(tmp_path, STEPS, workers=0)
    assert_equal(end_of(uninterrupted), end_of(tmp_path))


def test_two_processes_train_as_one(tmp_path):
    run(tmp_path / "one", 4, workers=0, double=True)
    warm.run_together(script(tmp_path / "two", 4, 0, "double"))
    one, two = end_of(tmp_path / "one"), end_of(tmp_path / "two")
    for key, value in one["pretext"].items():
        assert torch.allclose(value, two["pretext"][key], rtol=1e-9, atol=1e-12), key
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


def test_a_rank_draws_its_share_of_what_one_process_draws_and_no_more():
    def context(rank, world_size):
        return Context(Progress(0, 1), torch.Generator().manual_seed(5), rank, world_size)

    whole, parts = context(0, 1), [context(rank, 2) for rank in (0, 1)]
    for _ in range(2):  # the second call is not the first again
        drawn = whole.normal(6, 4)
        assert torch.equal(drawn, torch.cat([part.normal(3, 4) for part in parts]))
    assert len({round(x, 6) for x in whole.uniform(50, 2).ravel().tolist()}) == 100
    numbers = whole.uniform(4000, low=2.0, high=6.0)
    assert numbers.min() >= 2 and numbers.max() < 6 and abs(numbers.mean() - 4) < 0.1
    assert abs(whole.normal(4000).std() - 1) < 0.05 and whole.uniform(3).shape == (3,)


def test_gathering_over_ranks_keeps_the_gradient_of_the_whole_batch(tmp_path):
    (tmp_path / "gather.py").write_text(
        "import warnings\n"
        "import torch\n"
        "from ssl_video.train.objective import Context, Progress\n"
        "warnings.simplefilter('error', FutureWarning)\n"
        "from ssl_video.train.distributed import join, leave\n"
        "ranks = join(torch.device('cpu'))\n"
        "ctx = Context(Progress(0, 1), torch.Generator().manual_seed(0), ranks.rank, ranks.world_size)\n"
        "x = ctx.normal(2, 3).double().requires_grad_()\n"
        "whole = ctx.gather(x)\n"
        "((whole @ whole.T).logsumexp(1).sum() / ranks.world_size).backward()\n"
        "torch.save(x.grad, f'{__file__}.{ranks.rank}.pt')\n"
        "leave()\n"
    )
    warm.run_together([str(tmp_path / "gather.py")])
    x = Context(Progress(0, 1), torch.Generator().manual_seed(0)).normal(4, 3).double().requires_grad_()
    (x @ x.T).logsumexp(1).sum().backward()
    shares = [torch.load(tmp_path / f"gather.py.{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert torch.allclose(torch.cat(shares), x.grad)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(1, 3), st.sampled_from([1, 2, 4]), st.integers(0, 7), st.integers(0, 99))
def test_keys_do_not_depend_on_ranks_and_resuming(videos, clips, ranks, start, seed):
    def take(which):
        keys = iter(BatchKeys(videos, clips, 4 // which.world_size, seed=seed, ranks=which))
        return [next(keys) for _ in range(5)]

    whole = take(Ranks())
    parts = [take(Ranks(r, ranks)) for r in range(ranks)]
    assert [[key for p in parts for key in p[i]] for i in range(5)] == whole
    resumed = iter(BatchKeys(videos, clips, 4, seed=seed, start=start))
    once = iter(BatchKeys(videos, clips, 4, seed=seed))
    for _ in range(start):
        next(once)
    assert next(resumed) == next(once)
    flat = [key for batch in whole for key in batch][: videos * clips]
    assert len({k[1:] for k in flat if k[0] == 0}) == len([k for k in flat if k[0] == 0])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.integers(1, 2), st.sampled_from([1, 2]))
def test_grouped_batches_are_of_one_group_and_an_epoch_holds_every_key(groups, clips, ranks):
    options = {"seed": 0, "groups": groups}
    parts = [iter(BatchKeys(len(groups), clips, 4 // ranks, ranks=Ranks(r, ranks), **options)) for r in range(ranks)]
    seen = []
    while not seen or seen[-1][0][0] == 0:
        seen.append([key for part in parts for key in next(part)])
    for batch in seen:
        assert len({groups[video] for _, video, _ in batch}) == 1
    in_epoch = {key[1:] for batch in seen for key in batch if key[0] == 0}
    assert in_epoch == {(v, c) for v in range(len(groups)) for c in range(clips)}


def test_batches_of_one_class_need_labels():
    pretext = make_pretext()
    pretext.needs = replace(pretext.needs, grouping="class")
    assert list(grouping(video_set(4), pretext)) == [0, 1, 0, 1]
    unlabelled = replace(video_set(4), videos=tuple(replace(v, labels=()) for v in video_set(4).videos))
    with pytest.raises(UserError, match="a folder for each class"):
        grouping(unlabelled, pretext)


def test_a_pretext_is_fitted_once_before_the_first_step(tmp_path):
    pretext, fitted = make_pretext(), []

    def fit(samples, rng):
        fitted.append([next(samples)["clips_VTHWC"].shape for _ in range(3)])

    pretext.fit = fit
    dataset = ClipDataset(video_set(), pretext, 0, drawn_frames)
    train(pretext, dataset, config_for(0, 3), Run(tmp_path))
    train(pretext, dataset, config_for(0, 6), Run(tmp_path))
    assert fitted == [[(2, 4, 8, 8, 3)] * 3]


def test_a_sample_depends_on_its_key_alone():
    a, b = (ClipDataset(video_set(), make_pretext(), 3, drawn_frames) for _ in range(2))
    b[0, 1, 0]
    assert (a[2, 5, 0]["clips_VTHWC"] == b[2, 5, 0]["clips_VTHWC"]).all()
    assert (a[2, 5, 0]["clips_VTHWC"] != a[3, 5, 0]["clips_VTHWC"]).any()


def test_an_unreadable_video_is_replaced_and_listed():
    def read(video, frames, each=None):
        if video.path.endswith("/1.mp4"):
            raise VideoError("truncated")
        return drawn_frames(video, frames)

    batch = collate([ClipDataset(video_set(), make_pretext(), 0, read)[0, i, 0] for i in (0, 1)])
    assert [(p.path, p.reason) for p in batch["problems"]] == [("/v/class1/1.mp4", "truncated")]
    assert len(batch["labels_V"]) == 2


def test_a_run_lists_the_videos_that_others_replaced_also_those_of_before_it_was_interrupted(tmp_path):
    (tmp_path / "replaced.json").write_text('{"/v/a.mp4": "truncated"}')
    with Log(Run(tmp_path), Progress(0, 1), TrainingConfig(), first=True) as log:
        log.write({"step": 1, "loss": 0.5}, {"/v/b.mp4": "nothing moves in it"})
    listed = json.loads((tmp_path / "replaced.json").read_text())
    assert listed == {"/v/a.mp4": "truncated", "/v/b.mp4": "nothing moves in it"}


def test_a_video_is_not_replaced_while_other_draws_of_it_serve():
    pretext = make_pretext()
    outcomes = iter([Redraw("unlucky"), Redraw("unlucky"), {"number": 1}])
    pretext.transform = lambda frames_THWC, sample, rng: next(outcomes)
    sample = ClipDataset(video_set(), pretext, 0, drawn_frames)[0, 0, 0]
    assert sample == {"number": 1, "problems": []}


def test_a_program_ends_though_it_still_holds_a_loader_with_workers():
    code = (
        "from ssl_video.train.data import BatchKeys, ClipDataset, batches\n"
        "from tests.nets import drawn_frames, video_set\n"
        "from tests.train_script import make_pretext\n"
        "keys = BatchKeys(6, 1, 2, seed=0)\n"
        "held = iter(batches(ClipDataset(video_set(), make_pretext(), 0, drawn_frames), keys, 2))\n"
        "next(held)\n"
        "import atexit, builtins, __main__\n"
        "builtins.held = held\n"  # outlives the module
        "atexit.unregister(__main__.end)\n"  # Python's own end, of all that there is
        "__main__.gc.unfreeze()\n"
    )
    done = warm.run(["-c", code], cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_the_package_installs_no_exit_hook():
    code = (
        "import atexit, torch\n"
        "hooks = []\n"
        "atexit.register = lambda function, *a, **k: hooks.append(function.__module__)\n"
        "import ssl_video.train.loop, ssl_video.eval.features\n"
        "print([h for h in hooks if h.startswith('ssl_video')], flush=True)\n"
        "import os\n"
        "os._exit(0)\n"  # Python's own end takes a second
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stderr


def _whose_parent_has_ended() -> None:
    os.getppid = lambda: 1  # before it looked for the first time
    end_with_parent()
    threading.Event().wait()


def test_a_process_whose_parent_ended_before_it_looked_ends_too():
    child = multiprocessing.get_context("fork").Process(target=_whose_parent_has_ended)
    child.start()
    child.join(60)
    assert child.exitcode == 1


def test_workers_end_when_their_parent_was_killed():
    code = (
        "import os, signal, sys\n"
        "import numpy as np\n"
        "from torch.utils.data import DataLoader\n"
        "from ssl_video.train.loader import start_worker\n"
        "rows = [np.zeros(10**6) for _ in range(8)]\n"  # more than a pipe holds
        "options = {'num_workers': 2, 'worker_init_fn': start_worker, 'collate_fn': np.copy}\n"
        "loader = iter(DataLoader(rows, batch_size=None, **options))\n"
        "print(*[w.pid for w in loader._workers], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    read, write = os.pipe()
    with open(read) as said, Path(os.devnull).open("w") as nothing:  # noqa: PTH123  (the number of a pipe)
        child = warm.Process(["-c", code], write, nothing.fileno(), cwd=ROOT)
        os.close(write)
        # the pipe is held by the workers too, so that its end is that of the last of them
        assert len(said.read().split()) == 2 and child.wait() == -9


def test_only_unreadable_videos_end_the_run_after_a_bounded_number_of_tries():
    tries = []

    def read(video, frames, each=None):
        tries.append(video.path)
        raise VideoError("truncated")

    with pytest.raises(UserError, match="draws in a row"):
        ClipDataset(video_set(), make_pretext(), 0, read)[0, 0, 0]
    assert len(tries) == MAX_ATTEMPTS


def test_videos_that_cannot_serve_are_counted_before_training():
    short, long = video_set(2, frames=5), video_set(3)
    mixed = type(long)("mixed", short.videos + long.videos)
    kept = usable(mixed, make_pretext())
    assert (len(kept.videos), len(kept.problems)) == (3, 2)
    with pytest.raises(UserError, match="None of the 2 videos"):
        usable(short, make_pretext())


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(tmp_path):
    pretext = make_pretext()
    whole = pretext.forward

    def forward(batch, ctx):
        output = whole(batch, ctx)
        return Output(output.loss * float("nan"), {}, output.features_ND) if ctx.step == 4 else output

    pretext.forward = forward
    dataset = ClipDataset(video_set(), pretext, 0, drawn_frames)
    with pytest.raises(UserError, match="nan at step 4"):
        train(pretext, dataset, config_for(0, 8), Run(tmp_path))
    assert [p.name for p in Run(tmp_path).checkpoints()] == ["step_00000003.pt"]


def spoiled_at(step: int, pretext, value: float = float("nan")):
    """The pretext, weights of which become ``value`` once ``step`` steps are done; no loss shows it before the next."""

    def after_step(progress):
        if progress.step == step:
            with torch.no_grad():
                next(pretext.backbone.parameters())[0] = value

    pretext.after_step = after_step
    return pretext


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("step", [3, 8])
def test_weights_that_are_not_finite_reach_no_checkpoint_no_monitor_and_no_file(tmp_path, step, value):
    pretext, watched = spoiled_at(step, make_pretext(), value), []
    dataset = ClipDataset(video_set(), pretext, 0, drawn_frames)
    with pytest.raises(UserError, match=rf"^After {step} steps there were NaN or infinite numbers in \d+ of [^\n]*$"):
        train(pretext, dataset, config_for(0, 8), Run(tmp_path), monitors=[lambda _task, at: watched.append(at) or {}])
    assert step not in watched
    for path in Run(tmp_path).checkpoints():
        weights = torch.load(path, weights_only=True)
        assert all(v.isfinite().all() for part in ("pretext", "average") for v in weights[part].values())
    assert len(Run(tmp_path).checkpoints()) == (step > 3) * 2


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_gradient_that_is_not_finite_stops_the_run_while_its_loss_still_is(tmp_path, clip_norm):
    pretext = make_pretext()
    whole = pretext.forward

    def forward(batch, ctx):
        output = whole(batch, ctx)
        loss = output.loss
        if ctx.step == 4:
            loss.register_hook(lambda gradient: gradient * float("inf"))
        return Output(loss * 1.0, {}, output.features_ND)

    pretext.forward = forward
    config = config_for(0, 8)
    config = replace(config, optim=replace(config.optim, clip_norm=clip_norm))
    said = "loss became nan at step 5" if clip_norm is None else "norm of the gradient became (nan|inf) at step 4"
    with pytest.raises(UserError, match=rf"^The {said} .*--optim\.clip-norm .*\.$"):
        train(pretext, ClipDataset(video_set(), pretext, 0, drawn_frames), config, Run(tmp_path))
    assert [p.name for p in Run(tmp_path).checkpoints()] == ["step_00000003.pt"]


def test_a_training_is_not_resumed_from_weights_that_are_not_finite(tmp_path):
    pretext = make_pretext()
    dataset = ClipDataset(video_set(), pretext, 0, drawn_frames)
    train(pretext, dataset, config_for(0, 3), Run(tmp_path))
    path = Run(tmp_path).checkpoints()[-1]
    state = torch.load(path, weights_only=True)
    next(v for v in state["pretext"].values() if v.is_floating_point())[0] = float("nan")
    torch.save(state, path)
    with pytest.raises(UserError, match=r"^The checkpoint of step 3 cannot be used: NaN .* in 1 of \d+ tensors"):
        train(make_pretext(), dataset, config_for(0, 8), Run(tmp_path))


def test_records_are_json_that_any_reader_takes_and_say_nothing_of_what_is_not_defined(tmp_path):
    with Log(Run(tmp_path), Progress(0, 1), TrainingConfig(), first=True) as log:
        log.write({"step": 1, "loss": 0.5, "copied": float("nan"), "rank": float("inf")}, {})
    assert Run(tmp_path).records_file.read_text() == '{"step": 1, "loss": 0.5}\n'


def test_the_last_good_checkpoint_survives_a_full_disk(tmp_path, monkeypatch):
    Run(tmp_path).save_checkpoint(1, {"step": 1})

    def full(_state, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"No space left.*step_00000001\.pt"):
        Run(tmp_path).save_checkpoint(2, {"step": 2})
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step_00000001.pt"]
    assert Run(tmp_path).load_checkpoint() == {"step": 1}


def test_what_a_killed_run_left_half_written_is_removed(tmp_path):
    Run(tmp_path).save_checkpoint(1, {"step": 1})
    half = tmp_path / "checkpoints" / ".step_00000002.4194305-0123abcd.tmp.pt"
    half.write_bytes(b"half")
    Run(tmp_path).save_checkpoint(2, {"step": 2})
    assert not half.exists() and len(Run(tmp_path).checkpoints()) == 2


def test_a_truncated_checkpoint_gives_way_to_the_one_before(tmp_path):
    Run(tmp_path).save_checkpoint(1, {"step": 1})
    Run(tmp_path).save_checkpoint(2, {"step": 2})
    newest = Run(tmp_path).checkpoints()[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    with pytest.warns(UserWarning, match=r"step_00000002\.pt is passed over"):
        assert Run(tmp_path).load_checkpoint() == {"step": 1}


def test_a_malicious_pickle_is_not_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step_00000001.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.warns(UserWarning, match="passed over"), pytest.raises(UserError, match="No checkpoint"):
        Run(tmp_path).load_checkpoint()
    (tmp_path / "backbone.safetensors").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_tensors(tmp_path / "backbone.safetensors")
    assert not (tmp_path / "owned").exists()


def test_truncated_weights_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"a": torch.zeros(100)}, {"architecture": "x"})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_tensors(path)


def test_the_average_follows_the_weights_by_its_decay(tmp_path):
    """From the start w0, after steps to w1 and w2: torch's average starts at w1 and is 0.9 w1 + 0.1 w2 then."""
    pretext, seen = make_pretext(), []
    pretext.after_step = lambda _progress: seen.append({k: v.detach().clone() for k, v in pretext.named_parameters()})
    dataset = ClipDataset(video_set(), pretext, 0, drawn_frames)
    average = train(pretext, dataset, config_for(0, 2), Run(tmp_path))
    assert average is not pretext and average.exported() is average.backbone
    for name, value in average.named_parameters():
        assert torch.allclose(value, 0.9 * seen[0][name] + 0.1 * seen[1][name], atol=1e-7), name


def test_features_that_stay_in_one_direction_are_warned_of_once_where_that_is_a_collapse():
    pretext = make_pretext()
    line_ND = torch.arange(256.0)[:, None] * torch.ones(40)  # one direction
    spread_ND = torch.randn(256, 40, generator=torch.Generator().manual_seed(0))
    meter = Meter(8, collapse_below=0.05)
    for step, features_ND in enumerate([line_ND, line_ND, spread_ND, line_ND, line_ND, line_ND, line_ND], 1):
        meter.add(step, Output(torch.tensor(1.0), {}, features_ND), [])
        with pytest.warns(UserWarning, match="effective rank of 1.0 of 40 channels") if step == 6 else nullcontext():
            meter.record(step)
    assert pretext.collapse_below is None  # of others a low rank is no collapse


def test_the_learning_rate_rises_then_falls_to_zero():
    config = OptimConfig(lr=1.0, warmup=0.1)
    rates = [learning_rate(config, Progress(s, 100)) for s in range(100)]
    assert rates[:10] == sorted(rates[:10]) and rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] < 0.001


def test_the_learning_rate_falls_at_milestones():
    config = OptimConfig(lr=1.0, warmup=0.0, schedule="steps", milestones=(0.5, 0.75), gamma=0.1)
    rates = [learning_rate(config, Progress(s, 4)) for s in range(4)]
    assert rates == pytest.approx([1.0, 1.0, 0.1, 0.01])


def test_a_cosine_ends_at_the_rate_that_is_asked_for():
    config = OptimConfig(lr=0.1, lr_end=0.02, warmup=0.0)
    rates = [learning_rate(config, Progress(s, 100)) for s in (0, 50, 100)]
    assert rates == pytest.approx([0.1, 0.06, 0.02])


def test_the_weight_decay_follows_a_cosine_to_its_end_where_it_decays_at_all():
    pretext, config = make_pretext(), OptimConfig(weight_decay=0.04, weight_decay_end=0.4)
    optimizer, decays = build_optimizer(config, pretext), []
    for step in (0, 5, 10):
        set_schedules(optimizer, config, Progress(step, 10))
        decays.append([g["weight_decay"] for g in optimizer.param_groups])
    assert decays == [pytest.approx([x, 0, x, 0]) for x in (0.04, 0.22, 0.4)]


def test_the_backbone_may_learn_slower_than_the_heads_and_norms_may_decay():
    pretext = make_pretext()
    groups = build_optimizer(OptimConfig(backbone_scale=0.1, weight_decay=0.5), pretext).param_groups
    scale_of = {id(p): (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}
    norm = pretext.backbone.stages["stem"][1].weight
    assert scale_of[id(pretext.head.weight)] == (1.0, 0.5)
    assert scale_of[id(pretext.head.bias)] == (1.0, 0.0)
    assert scale_of[id(norm)] == (0.1, 0.0)
    (of_backbone, of_heads) = build_optimizer(OptimConfig(weight_decay=0.5, decay_all=True), pretext).param_groups
    assert {of_backbone["weight_decay"], of_heads["weight_decay"]} == {0.5}


def test_lars_scales_the_step_to_the_norm_of_the_weights():
    w = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    w.grad = torch.tensor([[0.0, 10.0]])
    LARS([{"params": [w], "weight_decay": 0.1}], lr=2.0, momentum=0.0, trust=0.01).step()
    local = 0.01 * 5 / (10 + 0.1 * 5)
    expected = torch.tensor([[3.0, 4.0]]) - 2.0 * local * torch.tensor([[0.3, 10.4]])
    assert torch.allclose(w.data, expected)


def test_collapse_indicators_tell_spread_from_a_point():
    spread = collapse_indicators(torch.randn(256, 16, generator=torch.Generator().manual_seed(0)))
    point = collapse_indicators(torch.ones(256, 16) + 1e-4 * torch.randn(256, 16))
    line = collapse_indicators(torch.randn(256, 1) @ torch.randn(1, 16))
    assert spread["feature_std"] > 0.9 and spread["effective_rank"] > 14
    assert point["feature_std"] < 0.01
    assert line["effective_rank"] < 1.5


def test_the_moving_average_of_a_network_that_stays_as_it_is_is_that_network():
    """With its tables of whole numbers (swin3d's relative positions), which torch's own average cuts."""
    network = nn.BatchNorm1d(3)
    network.register_buffer("places_N", torch.arange(2000))
    averaged = AveragedModel(network, multi_avg_fn=averaging(0.996), use_buffers=True)
    for _ in range(4):
        averaged.update_parameters(network)
    for name, tensor in network.state_dict().items():
        assert torch.equal(averaged.module.state_dict()[name], tensor), name
