"""After kills, beside other processes, on full disks and without a home: what is left, and what is said."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ssl_video import files, processes
from ssl_video.apps import doctor
from ssl_video.cli import main
from ssl_video.cli.memory import others_ended, reading_ended
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.errors import UserError
from ssl_video.files import aside_of, check_new, clear_dead, folder_written_aside, is_empty, new_folder, written_aside
from ssl_video.pretraining import pretrain
from ssl_video.processes import LOCK, held
from ssl_video.run import Run
from ssl_video.train.data import ClipDataset
from ssl_video.train.loop import train
from tests import warm
from tests.killed import command, kill_and_repeat, names
from tests.nets import drawn_frames, video_set
from tests.test_run import config
from tests.test_run import trained as train_run

SET = ["data", "synthesize", "--train=2", "--test=1", "--size=32", "--frames=8", "--workers=1", "--out", "out"]
NO_PROCESS = 2**22 + 1  # above the largest number that Linux gives


def dead(name: str = "config", host: str | None = None) -> str:
    """The name of what a process, dead now, began to write."""
    return f".{name}.{host or processes.this_host()}-1-{NO_PROCESS}-0123abcd.tmp.yaml"


def python(code: str, *words: object, **more) -> "subprocess.Popen[str]":
    """A process that runs ``code``; its output is read here."""
    env = os.environ | {"PYTHONPATH": str(warm.ROOT), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(line, env=env, stdout=subprocess.PIPE, text=True, **more)


# kills


@pytest.mark.parametrize("kill_at", [1, 2, 5, 8])
def test_a_set_whose_drawing_was_killed_within_a_write_is_completed_by_the_same_line(tmp_path, kill_at):
    assert command(SET, tmp_path).returncode == 0
    whole = names(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "undisturbed")
    assert kill_and_repeat(SET, tmp_path, "out", kill_at, whole) == ""


@pytest.mark.parametrize("kill_at", [1, 14])
def test_a_training_that_was_killed_within_a_write_goes_on(tmp_path, kill_at):
    synthesize(tmp_path / "drawn", SyntheticConfig(train=4, test=2, size=32, frames=12), workers=1)
    words = ["pretrain", "--data=drawn", "--out=out", "--backbone.width=2", "--steps=2", "--batch-size=4"]
    words += ["--pretext.frames=4", "--pretext.stride=1", "--pretext.short-side=18", "--pretext.crop=16", "--workers=0"]
    words += ["--pretext.min-size=16", "--pretext.max-size=16", "--checkpoint-every=1", "--log-every=1", "--cache=none"]
    words += ["--device=cpu", "--resume=auto"]
    assert command(words, tmp_path, kill_at).returncode == -9
    again = command(words, tmp_path)
    assert again.returncode == 0, again.stderr
    run = Run(tmp_path / "out")
    assert run.finished and not list(run.folder.rglob(".*"))
    assert [record["step"] for record in run.records()] == [1, 2]


def test_what_the_dead_began_to_write_is_passed_over_and_removed(tmp_path):
    for name in (dead(), f".config.{NO_PROCESS}-0123abcd.tmp.yaml", dead("a\nb")):
        (tmp_path / name).write_text("half")
    (tmp_path / dead("folder")).mkdir()
    assert is_empty(tmp_path) and not list(tmp_path.iterdir())
    assert is_empty(tmp_path / "none")


def test_what_the_living_write_and_what_is_not_ours_fills_a_folder(tmp_path):
    for name in (aside_of(Path("x.txt")).name, ".hidden", "x.txt", ".gitignore.tmp"):
        file = tmp_path / name
        file.write_text("whole")
        assert not is_empty(tmp_path) and file.exists(), name
        with pytest.raises(UserError, match="is not empty"):
            check_new(tmp_path)
        file.unlink()


def test_a_number_that_a_later_process_was_given_is_not_the_dead_one(tmp_path):
    ours = aside_of(tmp_path / "x.txt").name
    started = processes.started(os.getpid())
    (tmp_path / ours.replace(f"-{started}-", f"-{int(started) - 1}-")).write_text("of our predecessor")
    assert is_empty(tmp_path) and not list(tmp_path.iterdir())


def test_of_another_machine_only_what_is_old_is_removed(tmp_path):
    new, old = (tmp_path / dead(name, host="0" * 8) for name in ("new", "old"))
    for file in (new, old):
        file.write_text("half")
    os.utime(old, (0, time.time() - files.DEAD_AFTER_S - 60))
    assert is_empty(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [new.name]


def test_a_folder_is_whole_or_not_there(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / dead("out").removesuffix(".yaml")).mkdir()
    with folder_written_aside(out) as aside:
        (aside / "a").write_text("1")
        (aside / "b").write_text("2")
        assert not list(out.iterdir())
    assert names(tmp_path) == {"out/a", "out/b"} and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_two_that_write_one_folder_do_not_mix(tmp_path):
    with pytest.raises(UserError, match="not empty"), folder_written_aside(tmp_path / "out") as one:
        (one / "one").write_text("")
        with folder_written_aside(tmp_path / "out") as other:
            (other / "other").write_text("")
    assert names(tmp_path) == {"out/other"}


def test_the_folder_is_flushed_after_the_file_and_its_renaming(tmp_path, monkeypatch):
    done = []
    sync, rename = os.fsync, Path.replace
    kind = {True: "folder", False: "file"}
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(kind[Path(f"/proc/self/fd/{fd}").is_dir()]), sync(fd))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (done.append("renamed"), rename(self, to))[1])
    files.write_text(tmp_path / "x", "x")
    assert done == ["file", "renamed", "folder"]


def test_resuming_where_nothing_began_is_a_sentence_and_starts_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for there in (False, True):
        if there:
            (tmp_path / "run" / "checkpoints").mkdir(parents=True)
            (tmp_path / "run" / dead()).write_text("half")
        assert main(["pretrain", "--out", "run", "--resume"]) == 2
        assert "run holds no training to resume" in capsys.readouterr().err


# beside others


def test_new_folders_of_runs_are_made_at_once_and_never_shared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made: list[Path] = []
    threads = [threading.Thread(target=lambda: made.append(new_folder("speediness"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(p.name for p in made) == [f"speediness-{n}" for n in range(1, 9)]


def test_a_folder_that_a_living_process_holds_is_refused_by_its_number_and_free_once_it_is_killed(tmp_path):
    code = (
        "import sys, pathlib; from ssl_video.processes import held\n"
        "with held(pathlib.Path(sys.argv[1]), 'A training'): print('held', flush=True); sys.stdin.read()"
    )
    with python(code, tmp_path / "run", stdin=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=rf"A training \(process {other.pid} on .*\) writes into"),
            held(tmp_path / "run", "A training"),
        ):
            pass
        with pytest.raises(UserError, match=f"process {other.pid}"):
            pretrain(config(steps=2), tmp_path / "run", resume="auto")
        other.kill()
        other.wait()
        with held(tmp_path / "run", "A training"):
            assert str(os.getpid()) in (tmp_path / "run" / LOCK).read_text()
    assert is_empty(tmp_path / "run")


def test_a_worker_that_was_forked_does_not_keep_the_lock_of_its_dead_parent(tmp_path):
    code = (
        "import os, sys, pathlib, time; from ssl_video.processes import held\n"
        "with held(pathlib.Path(sys.argv[1]), 'A training'):\n"
        "    worker = os.fork()\n"
        "    if worker == 0: sys.stdin.read(); os._exit(0)\n"
        "    print(worker, flush=True); sys.stdin.read()"
    )
    with python(code, tmp_path, stdin=subprocess.PIPE) as other:
        assert other.stdout is not None
        worker = int(other.stdout.readline())
        other.kill()
        other.wait()
        assert processes.started(worker)
        with held(tmp_path, "A training"):
            pass
        os.kill(worker, signal.SIGKILL)


def test_a_folder_that_was_made_for_nothing_is_removed_and_one_that_was_there_stays(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("there", "new"):
        with pytest.raises(RuntimeError), held(tmp_path / name, "A training"):
            raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["there"] and is_empty(tmp_path / "there")


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch):
    def no_locks(*_args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(processes.fcntl, "lockf", no_locks)
    with pytest.warns(UserWarning, match="without locks"), held(tmp_path, "A training"):
        (tmp_path / "x").write_text("")
    assert (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "words",
    [
        [*SET[:-1], "busy"],
        ["extract", "--data", "drawn", "--model", "random:r2plus1d_4?width=2", "--clips=1", "--out", "busy"],
        ["index", "--data", "drawn", "--model", "random:r2plus1d_4?width=2", "--clips=1", "--out", "busy"],
        ["benchmark", "small", "--data", "ut=drawn", "--out", "busy"],
    ],
)
def test_what_another_writes_is_refused_by_every_command(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    synthesize(tmp_path / "drawn", SyntheticConfig(train=2, test=1, size=32, frames=16), workers=1)
    place = tmp_path / "busy" / ("train" if words[0] == "extract" else "")
    with held(place, "Another"):
        assert main(words) == 2
    error = capsys.readouterr().err
    assert "writes into busy" in error and "wait for its end" in error


def test_the_second_maker_of_the_embedded_set_waits_for_the_first(tmp_path):
    made, small = tmp_path / "set", SyntheticConfig(train=2, test=1, size=32, frames=8)
    threads = [
        threading.Thread(target=synthesize, args=(made, small), kwargs={"workers": 1, "wait": True}) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (made / "manifest.csv").is_file() and not list(made.glob(".*"))


# processes that outlive others


def test_a_child_at_work_ends_when_its_parent_was_killed(tmp_path):
    child = (
        "from ssl_video.video.scan import answer_requests; import threading\\n"
        "answer_requests(lambda _: (print('busy', flush=True), threading.Event().wait()))"
    )
    parent = (
        "import subprocess, sys, threading\n"
        f"child = subprocess.Popen([sys.executable, '-c', \"{child}\"], stdin=subprocess.PIPE, text=True)\n"
        "child.stdin.write('1\\n'); child.stdin.flush(); threading.Event().wait()"
    )
    with python(parent) as started:
        assert started.stdout is not None
        assert [started.stdout.readline() for _ in range(2)] == ['"ready"\n', "busy\n"]
        started.kill()
        assert started.stdout.read() == ""  # its end: the child, which has it too, is gone


RANK = """
import os, sys, threading
from datetime import timedelta
import torch
from ssl_video.train import distributed
distributed.TIME_OUT = timedelta(seconds=1)
ranks = distributed.join(torch.device("cpu"))
def long():
    print("working", flush=True)
    threading.Event().wait(float(sys.argv[1]))
    return os.getpid()
numbers = [ranks.first_does(long)]
numbers.append(ranks.share(7))
print(f"{numbers[1]} {any(ranks.gathered(ranks.first))}\\n", end="", flush=True)
distributed.leave()
"""


def test_ranks_live_while_the_first_works_longer_than_the_time_out_of_the_group():
    said = warm.run_together(["-c", RANK, "3.0"])
    assert sorted(said.split("\n")) == ["", "7 True", "7 True", "working"]


def test_ranks_end_when_torchrun_was_killed(tmp_path):
    (tmp_path / "rank.py").write_text(RANK)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(tmp_path / "rank.py"), "1e6"]
    env = os.environ | {"PYTHONPATH": str(warm.ROOT), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, *words]
    with subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as started:
        assert started.stdout is not None and started.stdout.readline() == "working\n"
        started.kill()
        assert started.stdout.read() == ""  # the ranks, which have it too, are gone


def test_a_mistake_below_our_torchrun_is_one_sentence(tmp_path):
    words = ["-m", "ssl_video.torchrun", "--standalone", "--nproc-per-node", "2", "-m", "ssl_video", "pretrain"]
    line = [sys.executable, *words, "--data", "nowhere"]
    with warm.interpreter(tmp_path) as python:
        env = os.environ | {"PYTHONPATH": str(warm.ROOT), "OMP_NUM_THREADS": "1", "PYTHON_EXEC": str(python)}
        done = subprocess.run(line, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line] == [
        line for line in done.stderr.splitlines() if line.startswith("ssl-video: There is no file or folder 'nowhere'")
    ]
    assert done.stderr.count("nowhere") == 1 and not list(tmp_path.glob("runs/*"))


# disks, memory, homes


def test_files_are_readable_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        with written_aside(tmp_path / "x.safetensors") as aside:
            save_file({"x": torch.zeros(1)}, aside)
        train_run(Run(tmp_path / "run"), config(steps=2, batch_size=4, workers=0))
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.rglob("*") if path.is_file()}
    assert len(modes) >= 5 and set(modes.values()) == {"0o644"}, modes


@pytest.mark.parametrize("error", [OSError("1000 requested and 12 written"), RuntimeError("enforce fail at inline")])
def test_a_full_disk_has_its_number_whatever_the_library_says(tmp_path, monkeypatch, error):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 0}))
    with pytest.raises(OSError, match="No space left") as raised, written_aside(tmp_path / "x.npy") as aside:
        aside.write_bytes(b"half")
        raise error
    assert raised.value.errno == errno.ENOSPC and raised.value.filename == str(tmp_path / "x.npy")
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_on_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 0}))

    def short(*_args):
        raise OSError("100 requested and 12 written")

    monkeypatch.setattr(torch, "save", short)
    with pytest.raises(UserError, match=r"could not be written \(.*No space left.*make room and use --resume"):
        Run(tmp_path).save_checkpoint(3, {})


def test_a_run_whose_folder_is_removed_while_it_trains_ends_with_a_sentence(tmp_path):
    made = config(steps=4, batch_size=4, workers=0, monitor_every=2)
    from ssl_video.pretraining import untrained

    pretext, run = untrained(made), Run(tmp_path / "run")

    def remove(*_args) -> dict[str, float]:
        run.folder.rename(tmp_path / "elsewhere")
        return {}

    with pytest.raises(UserError, match="was removed or moved while it trained"):
        train(pretext, ClipDataset(video_set(), pretext, 0, drawn_frames), made.training, run, monitors=[remove])
    assert not run.folder.exists()


class Kills(torch.utils.data.Dataset):
    """Its worker is killed, as by a system without memory."""

    def __getitem__(self, number: int) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros(number)

    def __len__(self) -> int:
        return 2


def test_a_killed_worker_is_a_sentence():
    from ssl_video.train.loader import Loader

    with pytest.raises(RuntimeError) as raised:
        list(Loader(Kills(), num_workers=1))
    said = reading_ended(raised.value, "pretrain")
    assert said is not None and all(word in said for word in ("--workers", "--shm-size", "--resume"))


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of",
        "DataLoader worker (pid(s) 7, 8) exited unexpectedly",
        "unable to write to file </torch_7_8_0>: No space left on device (28)",
        "unable to allocate shared memory(shm) for file </torch_1_2_0>: Success (0)",
        "unable to open shared memory object </torch_1> in read-write mode: Too many open files (24)",
        "received 0 items of ancdata",
    ],
)
def test_shared_memory_that_ends_is_a_sentence(text):
    assert "--shm-size" in str(reading_ended(RuntimeError(text), "evaluate"))


def test_another_error_of_a_worker_is_no_matter_of_memory():
    assert reading_ended(RuntimeError("Caught KeyError in DataLoader worker process 0."), "pretrain") is None


def test_without_a_home_the_cache_is_named_by_a_sentence(monkeypatch, capsys):
    def homeless(self):
        raise RuntimeError("Could not determine home directory.")

    for name in ("SSL_VIDEO_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(UserError, match="name a folder for the cache by SSL_VIDEO_CACHE"):
        files.cache_dir()
    cache = next(finding for finding in doctor.findings() if finding.name == "cache")
    assert "SSL_VIDEO_CACHE" in cache.said and not cache.good
    assert main(["pretrain", "--steps", "1"]) == 2
    assert main(["pretrain", "--data", "~/x"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "home folder" in first and "There is no file or folder '~/x'" in second


def test_dead_files_of_one_name_alone_are_cleared(tmp_path):
    for name in ("a", "b"):
        (tmp_path / dead(name)).write_text("half")
    clear_dead(tmp_path, "a")
    assert [p.name for p in tmp_path.iterdir()] == [dead("b")]


@pytest.mark.parametrize(
    "text",
    [
        "[/gloo/transport/tcp/pair.cc:545] Read error [10.7.0.2]:11939: Connection reset by peer.",
        "[/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation to complete",
        "NCCL error: remote process exited or there was a network error\nncclRemoteError: A call failed",
    ],
)
def test_another_process_that_was_lost_is_one_sentence_with_what_to_do(text):
    said = others_ended(RuntimeError(text), "pretrain") or ""
    assert said.startswith("Another process has ended") and "--resume auto" in said
    assert others_ended(RuntimeError("shapes cannot be multiplied"), "pretrain") is None
